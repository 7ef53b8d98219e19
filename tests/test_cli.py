"""The command line as a stranger meets it: what it says, what it refuses, what it leaves behind."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from contextlib import nullcontext, suppress
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from potstill import cli
from potstill.errors import PotstillError

LINEAR = ["--procedure", "finetune", "--student", "linear"]


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """Sixty labelled film reviews that words tell apart, and five without a label."""
    good = ["wonderful", "delightful", "brilliant", "moving", "superb"]
    bad = ["dreadful", "tedious", "clumsy", "dull", "painful"]
    path = tmp_path / "reviews.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["review", "sentiment"])
        for i in range(30):
            writer.writerow([f"Film {i} is {good[i % 5]} and {good[(i + 1) % 5]}", "positive"])
            writer.writerow([f"Film {i} is {bad[i % 5]} and {bad[(i + 2) % 5]}", "negative"])
        writer.writerows([[f"Film {i} has no opinion yet", ""] for i in range(5)])
    return path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(each) for each in arguments], catch_exceptions=True)


def refusal(*arguments: object) -> PotstillError:
    """The refusal a command ends with; anything else fails the test."""
    result = call(*arguments)
    assert isinstance(result.exception, PotstillError), (result.output, result.exception)
    assert result.exception.message
    assert result.exception.hint, "a refusal says how to mend it"
    assert result.exception.exit_code == 2
    return result.exception


def test_every_command_is_an_api_function_and_every_option_its_parameter():
    for function in cli.COMMANDS:
        command = cli.app.commands[cli.command_name(function)]
        names = {parameter.name for parameter in command.params} - {"as_json"}
        assert names, function.__name__
        assert all(isinstance(each, click.Argument) or each.help for each in command.params), function.__name__
        assert command.help


def test_the_help_lists_every_command_in_one_group():
    shown = call("--help").output
    assert all(shown.count(f"\n  {name} ") == 1 for name in cli.app.commands)
    assert all(f"{title}:" in shown for title in cli.COMMAND_GROUPS)


def test_a_file_becomes_a_classifier_that_answers(reviews, tmp_path):
    out = tmp_path / "run"
    result = call("distill", reviews, *LINEAR, "--budget", "0.5", "-o", out)
    assert result.exit_code == 0, result.exception
    assert "Next: potstill predict" in result.stdout
    assert (out / "report.html").exists()
    assert (out / "report.json").exists()
    answer = call("predict", out, "a brilliant and moving film", "tedious and dull")
    assert [line.split()[0] for line in answer.stdout.splitlines()] == ["positive", "negative"]


def test_json_holds_the_report_and_nothing_else(reviews, tmp_path):
    result = call("distill", reviews, *LINEAR, "-b", 1, "-o", tmp_path / "run", "--json")
    report = json.loads(result.stdout)
    assert report["format"] == 2
    assert report["student"]["accuracy"]["low"] <= report["student"]["accuracy"]["value"]
    assert 0 < report["money"]["charged_usd"] <= report["money"]["limit_usd"] == 1.0
    assert json.loads(call("report", tmp_path / "run", "--json").stdout) == report


def test_the_same_command_again_does_nothing_twice(reviews, tmp_path):
    first = call("distill", reviews, *LINEAR, "-b", 1, "-o", tmp_path / "run", "--json")
    again = call("distill", reviews, *LINEAR, "-b", 1, "-o", tmp_path / "run", "--json")
    assert json.loads(first.stdout) == json.loads(again.stdout)


def test_a_budget_may_be_raised_later_but_other_options_need_another_folder(reviews, tmp_path):
    assert call("distill", reviews, *LINEAR, "-b", 1, "-o", tmp_path / "run").exit_code == 0
    assert call("distill", reviews, *LINEAR, "-b", 2, "-o", tmp_path / "run").exit_code == 0
    refused = refusal("distill", reviews, *LINEAR, "-b", 1, "--seed", 5, "-o", tmp_path / "run")
    assert "seed was 0 and is 5" in refused.message


def test_init_writes_a_toml_that_distill_takes(reviews, tmp_path):
    result = call("init", reviews, "--budget", "0.25")
    assert "'review'" in result.stdout
    assert "'sentiment'" in result.stdout
    toml = reviews.with_name("potstill.toml")
    assert call("distill", toml, *LINEAR, "-o", tmp_path / "run").exit_code == 0
    assert "--force" in refusal("init", reviews).hint
    assert call("init", reviews, "--force").exit_code == 0


def test_a_plan_without_any_label_says_what_estimates_the_accuracy(reviews, tmp_path):
    bare = tmp_path / "bare.csv"
    bare.write_text("review\nFilm 1 is dull and long\nFilm 2 is superb\n", encoding="utf-8")
    command = ("plan", bare, "--labels", "good,bad", "--procedure", "selftrain", "-b", 1)
    assert "a hint that is mostly too high" in call(*command).stdout
    assert "mostly too high" not in call("plan", reviews, *LINEAR, "-b", 1).stdout


def test_a_file_is_labelled_row_by_row_and_keeps_its_columns(reviews, tmp_path):
    call("distill", reviews, *LINEAR, "-b", 1, "-o", tmp_path / "run")
    todo = tmp_path / "todo.csv"
    todo.write_text("id,review\n1,brilliant film\n2,\n3,tedious film\n", encoding="utf-8")
    result = call("predict", tmp_path / "run", todo, "-o", tmp_path / "done.jsonl")
    assert result.exit_code == 0, result.exception
    assert "1 of the texts were empty" in result.stdout
    rows = [json.loads(line) for line in (tmp_path / "done.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["id"] for row in rows] == ["1", "2", "3"]
    assert [rows[0]["predicted"], rows[2]["predicted"]] == ["positive", "negative"]
    assert set(rows[0]) == {"id", "review", "predicted", "confidence"}


def test_a_prediction_can_be_had_as_json(reviews, tmp_path):
    call("distill", reviews, *LINEAR, "-b", 1, "-o", tmp_path / "run")
    predictions = json.loads(call("predict", tmp_path / "run", "a brilliant film", "--json").stdout)["predictions"]
    assert predictions[0]["label"] == "positive"
    assert predictions[0]["text"] == "a brilliant film"
    assert {"confidence", "confident", "in_scope"} < set(predictions[0])


def test_show_tells_of_an_unfinished_run_too(reviews, tmp_path):
    call("distill", reviews, *LINEAR, "-b", 1, "-o", tmp_path / "run")
    assert "finished" in call("show", tmp_path / "run").stdout
    assert json.loads(call("show", tmp_path / "run", "--json").stdout)["money"]["limit_usd"] == 1.0


def test_the_ledger_adds_up_to_the_micro_dollar(reviews, tmp_path):
    call("distill", reviews, *LINEAR, "-b", 1, "-o", tmp_path / "run")
    money = json.loads(call("ledger", tmp_path / "run", "--json").stdout)
    micros = [round(float(row["charged_usd"]) * 1e6) for row in money["calls"]]
    assert sum(micros) == round(money["charged_usd"] * 1e6) > 0
    assert round((money["charged_usd"] + money["held_usd"] + money["free_usd"]) * 1e6) == 1_000_000
    rows = list(csv.DictReader(call("ledger", tmp_path / "run", "--csv").stdout.splitlines()))
    assert [row["description"] for row in rows] == [row["description"] for row in money["calls"]]
    assert rows[0]["description"] in call("ledger", tmp_path / "run", "--calls").stdout


# --- what is refused: one sentence, a mend, exit code 2, and nothing written --------------------------------------


def spoilt(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


CSV = b"text,label\ngood film,pos\nbad film,neg\nnice film,pos\nawful film,neg\n"
SPOILT = {
    "is empty": b"",
    "no rows": b"text,label\n",
    "NUL": b"text,label\ngood,pos\nb\x00d,neg\n",
    "line 3": b"text,label\ngood,pos\nbad,neg,or,what\n",
    "UTF-8": b"text,label\nsch\xf6n,pos\n\xfcbel,neg\n",
    "at least two labels": b"text,label\ngood,pos\nfine,pos\nnice,pos\nlovely,pos\n",
}


@pytest.mark.parametrize("words", SPOILT)
def test_a_spoilt_file_is_refused_by_name_and_nothing_is_written(words, tmp_path):
    path = spoilt(tmp_path / "spoilt.csv", SPOILT[words])
    refused = refusal("distill", path, *LINEAR, "-b", 1, "-o", tmp_path / "run")
    assert words.lower() in str(refused).lower()
    assert not (tmp_path / "run").exists()


def test_a_missing_file_offers_its_neighbours(reviews, tmp_path):
    assert "reviews.csv" in str(refusal("distill", tmp_path / "review.csv", "-b", 1, "-o", tmp_path / "run"))


def test_a_missing_column_lists_those_there(reviews, tmp_path):
    refused = str(refusal("distill", reviews, "--label", "stars", "-b", 1, "-o", tmp_path / "run"))
    assert "review" in refused
    assert "sentiment" in refused


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    path = spoilt(tmp_path / "bom.csv", b"\xef\xbb\xbf" + CSV * 1)
    assert "'text'" in call("init", path).stdout


def test_test_labels_that_the_task_does_not_have_are_named(reviews, tmp_path):
    test = spoilt(tmp_path / "test.csv", b"review,sentiment\na film,mixed\nanother film,positive\n")
    refused = refusal(
        "distill", reviews, "--test", test, *LINEAR, "-b", 1, "-o", tmp_path / "run", "--labels", "positive,negative"
    )
    assert "mixed" in str(refused)


def test_test_texts_in_train_are_taken_out_and_counted(reviews, tmp_path):
    rows = reviews.read_text(encoding="utf-8").splitlines()
    test = spoilt(tmp_path / "test.csv", "\n".join(rows[:9]).encode())
    result = call("distill", reviews, "--test", test, *LINEAR, "-b", 1, "-o", tmp_path / "run")
    assert "8" in result.stderr
    assert "test" in result.stderr
    refused = refusal("distill", reviews, "--test", test, *LINEAR, "-b", 1, "--on-leak", "error", "-o", tmp_path / "r2")
    assert "test" in str(refused)


def test_a_cell_of_fifty_megabytes_is_refused_with_its_line(tmp_path):
    path = spoilt(tmp_path / "huge.csv", CSV + b'"' + b"x" * 50_000_000 + b'",pos\n')
    assert "line 6" in str(refusal("distill", path, *LINEAR, "-b", 1, "-o", tmp_path / "run"))


@pytest.mark.parametrize("budget", ["0", "-3", "nan", "inf", "20 EUR", "much", "1e30"])
def test_a_budget_that_is_no_sum_is_refused(budget, reviews, tmp_path):
    assert "budget" in str(refusal("distill", reviews, f"--budget={budget}", "-o", tmp_path / "run")).lower()
    assert not (tmp_path / "run").exists()


def test_without_a_budget_nothing_begins(reviews, tmp_path):
    assert "--budget" in refusal("distill", reviews, "-o", tmp_path / "run").hint


@pytest.mark.parametrize(
    ("option", "name", "meant"),
    [("--student", "liner", "linear"), ("--teacher", "locl", "local"), ("--procedure", "finetun", "finetune")],
)
def test_an_unknown_name_gets_the_nearest_one(option, name, meant, reviews, tmp_path):
    refused = refusal(
        "distill",
        reviews,
        "-b",
        1,
        *LINEAR,
        option,
        name,
        "--procedure" if option == "--teacher" else "--seed",
        "kd" if option == "--teacher" else 0,
        "-o",
        tmp_path / "run",
    )
    assert repr(meant) in refused.hint
    assert not (tmp_path / "run").exists()


def test_an_output_folder_that_is_not_a_run_is_left_alone(reviews, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("It was a dark and stormy night.")
    refusal("distill", reviews, *LINEAR, "-b", 1, "-o", tmp_path / "thesis")
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter1.txt"]


def test_commands_on_a_folder_that_is_no_run_say_so(tmp_path):
    for command in (["show"], ["report"], ["predict"]):
        refusal(*command, tmp_path, *(["a text"] if command == ["predict"] else []))


def test_weights_that_are_not_here_come_with_their_install_line(reviews, tmp_path, monkeypatch):
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "empty"))
    refused = refusal(
        "distill", reviews, "--procedure", "finetune", "-s", "encoder:bge-small", "-b", 1, "-o", tmp_path / "run"
    )
    assert "potstill fetch bge-small" in refused.hint
    assert not (tmp_path / "run").exists()


def test_a_missing_key_is_reported_before_anything_is_written(reviews, tmp_path):
    refused = refusal("distill", reviews, "-t", "openai:gpt-6-luna", "-b", 1, "--yes", "-o", tmp_path / "run")
    assert "OPENAI_API_KEY" in str(refused)
    assert not (tmp_path / "run").exists()


def test_a_distillation_without_unlabelled_texts_says_what_to_give(reviews, tmp_path):
    only_gold = spoilt(tmp_path / "gold.csv", CSV)
    assert "--pool" in refusal("distill", only_gold, "-t", "replay", "-b", 1, "-o", tmp_path / "run").hint


def test_an_error_is_two_lines_and_exit_code_2_in_a_real_shell(tmp_path):
    command = [sys.executable, "-m", "potstill", "distill", str(tmp_path / "none.csv"), "-b", "1"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    assert ended.stderr.startswith("potstill: ")
    assert list(tmp_path.iterdir()) == []


def test_names_and_texts_from_elsewhere_never_reach_the_terminal_as_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = "\x1b[2J\x1b]0:owned\x07\x9b31m\u202e"
    data = tmp_path / f"data{hostile}.csv"
    rows = [f'"{word} {i} {hostile}","{word}{hostile}"' for i in range(15) for word in ("good", "bad")]
    data.write_text(f"text,label{hostile}\n" + "\n".join(rows), encoding="utf-8")
    run = tmp_path / f"run{hostile}"
    commands: list[tuple[int, list[object]]] = [
        (0, ["init", data, "-o", tmp_path / "potstill.toml"]),
        (0, ["distill", data, "--budget", "0.05", *LINEAR, "-o", run]),
        (0, ["show", run]),
        (0, ["show", run, "--json"]),
        (0, ["ledger", run, "--calls"]),
        (0, ["predict", run, f"good {hostile}"]),
        (0, ["predict", run, f"good {hostile}", "--json"]),
        (0, ["predict", run, data, "-o", tmp_path / f"out{hostile}.csv"]),
        (0, ["label-errors", data]),
        (2, ["show", tmp_path / f"none{hostile}"]),
        (2, ["predict", run, f"missing{hostile}.csv"]),
        (2, ["show", run, f"--option{hostile}"]),
    ]
    monkeypatch.chdir(tmp_path)
    for code, command in commands:
        monkeypatch.setattr(sys, "argv", ["potstill", *map(str, command)])
        with pytest.raises(SystemExit) if code else nullcontext() as stop:
            cli.main()
        assert code == (stop.value.code if stop else 0)
        output = "".join(capsys.readouterr())
        assert output, command
        assert not [c for c in output if (ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 or c == "\u202e"], command


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems refuse such names")
def test_a_file_whose_name_is_not_utf8_is_read_and_a_toml_file_cannot_name_it(reviews: Path) -> None:
    odd = reviews.with_name("caf\udce9.csv")
    reviews.rename(odd)
    result = call("distill", odd, "--budget", "0.05", *LINEAR, "-o", odd.with_name("run"))
    assert result.exit_code == 0, result.exception
    assert "caf\ufffd" in (odd.with_name("run") / "bundle" / "README.md").read_text(encoding="utf-8")
    assert "not UTF-8" in refusal("init", odd, "-o", odd.with_name("potstill.toml")).message
    assert "not UTF-8" in refusal("distill", odd, "--budget", "0.05", "-o", odd.with_suffix("")).message


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        (None, KeyboardInterrupt(), 130),
        (KeyboardInterrupt(), KeyboardInterrupt(), 130),
        (None, cli.TerminationSignal(1), 129),
        (cli.TerminationSignal(15), cli.TerminationSignal(15), 143),
    ],
)
def test_an_interruption_of_the_wait_for_calls_in_flight_says_what_is_lost(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    first: BaseException | None,
    second: BaseException,
    code: int,
) -> None:
    def work(**_: object) -> None:
        try:
            raise first or ValueError
        except BaseException:  # as while a block ends
            raise second  # noqa: B904

    monkeypatch.setattr(cli, "app", work)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == code
    assert ("booked as lost" in capsys.readouterr().err) == (first is not None)


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no terminals to close here")
def test_what_is_printed_to_a_terminal_that_was_closed_is_lost_and_no_error() -> None:
    master, slave = os.openpty()
    with os.fdopen(slave, "w") as real:
        terminal = cli._terminal(real)
        print("shown", file=terminal, flush=True)
        assert os.read(master, 100).strip() == b"shown"
        os.close(master)
        print("lost", file=terminal, flush=True)
        with suppress(OSError):
            terminal.close()
