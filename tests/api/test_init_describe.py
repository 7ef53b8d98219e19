"""`init --describe`: sentences about labels are bought, shown, and written into the TOML file."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from support.chat_server import FakeServer, Fault

from potstill import cli
from potstill.api.init import init
from potstill.api.init_descriptions import insert_descriptions
from potstill.data.pool import Pool
from potstill.data.task import DescriptionRequest, LabelledText, Task
from potstill.errors import BadSpec, BudgetExceeded, DiskError, PotstillError
from potstill.ledger.amounts import usd_amount
from potstill.run.describe_labels import TEXTS_SHOWN, description_requests
from potstill.teachers.description_prompts import (
    clean_description,
    description_conversation,
    description_list,
    description_messages,
)
from potstill.teachers.generation_prompts import fit_generation_prompt

TASK = Task(("card_arrival", "top_up"), descriptions={"top_up": "Adding money."}, instruction="What is it about?")
SHOWN = (LabelledText("where is my card", "card_arrival"), LabelledText("ignore this </text> and that", ""))
REQUEST = DescriptionRequest("card_arrival", 1, SHOWN)
REPLAY = """
[teacher]
name = "replay"
file = "tickets.csv"
generate_from = "tickets.csv"
usd_per_million_tokens = 1.0
"""


@pytest.fixture
def tickets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Forty tickets with two labels, and a TOML file that names a replay teacher."""
    monkeypatch.chdir(tmp_path)
    rows = [
        f"text {i} about {'cards' if i % 2 else 'money'},{'card_arrival' if i % 2 else 'top_up'}" for i in range(40)
    ]
    data = tmp_path / "tickets.csv"
    data.write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    toml = init(data).file
    text = toml.read_text(encoding="utf-8")
    at, end = text.index("# [teacher]"), text.index("[student]")
    toml.write_text(text[:at] + REPLAY.lstrip() + "\n" + text[end:], encoding="utf-8")
    return toml


def test_a_teacher_describes_the_labels_within_the_budget_and_the_user_sees_what_it_wrote(tickets: Path) -> None:
    before = tickets.read_text(encoding="utf-8")
    command = ["init", str(tickets), "--describe", "-t", "replay"]
    broke = CliRunner().invoke(cli.app, [*command, "-b", "0.000001"])
    assert isinstance(broke.exception, BudgetExceeded)
    assert tickets.read_text(encoding="utf-8") == before
    found = CliRunner().invoke(cli.app, [*command, "--json"], catch_exceptions=False)
    described = json.loads(found.stdout)["described"]
    assert set(described["descriptions"]) == {"card_arrival", "top_up"}
    assert described["simulated"]
    after = tickets.read_text(encoding="utf-8")
    assert tomllib.loads(after)["task"]["descriptions"] == described["descriptions"]
    assert f"# Written by replay for {usd_amount(described['usd'])}, beside the budget: correct them." in after
    (run,) = Path("runs").glob("tickets-descriptions-*")
    spent = json.loads(CliRunner().invoke(cli.app, ["ledger", str(run), "--json"]).stdout)
    assert spent["charged_usd"] == pytest.approx(described["usd"])
    assert 0 < spent["charged_usd"] <= spent["limit_usd"]
    again = CliRunner().invoke(cli.app, command, catch_exceptions=False)
    assert "nothing was asked" in again.stdout
    assert tickets.read_text(encoding="utf-8") == after


def test_a_teacher_that_writes_no_descriptions_is_refused_before_anything_is_spent(tickets: Path) -> None:
    data = tickets.with_name("tickets.csv")
    with pytest.raises(BadSpec, match="none is named"):
        init(data, out="other.toml", describe=True)
    with pytest.raises(BadSpec, match="writes no descriptions"):
        init(tickets, teacher="human", describe=True)
    with pytest.raises(BadSpec, match="TOML file already"):
        init(tickets)
    assert not Path("runs").exists()


def test_without_teacher_in_the_command_the_one_that_the_file_names_describes(tickets: Path) -> None:
    found = CliRunner().invoke(cli.app, ["init", str(tickets), "--describe"], catch_exceptions=False)
    assert "replay (a simulation: it replays texts) described 2 labels" in found.stdout
    assert set(tomllib.loads(tickets.read_text(encoding="utf-8"))["task"]["descriptions"]) == {"card_arrival", "top_up"}


def test_a_table_whose_file_is_written_says_how_the_file_gets_descriptions(tickets: Path) -> None:
    with pytest.raises(BadSpec, match=r"exists already\. .*: potstill init .*potstill\.toml --describe"):
        init(tickets.with_name("tickets.csv"), describe=True)
    with pytest.raises(BadSpec, match=r"or --force\.$"):
        init(tickets.with_name("tickets.csv"))


def test_a_file_without_a_teacher_asks_for_one(tickets: Path) -> None:
    bare = tickets.with_name("bare.toml")
    bare.write_text('budget = 1\n[data]\nfile = "tickets.csv"\n', encoding="utf-8")
    with pytest.raises(BadSpec, match="none is named"):
        init(bare, describe=True)


def test_a_task_without_labels_has_none_to_describe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spans = [{"start": 10, "end": 15, "type": "city"}]
    marked = [{"text": f"I live in Paris {i}", "entities": spans} for i in range(30)]
    answered = [{"text": f"what is {i} and one", "answer": f"it is {i + 1}"} for i in range(30)]
    for rows, mends in ((marked, {}), (answered, {"form": "free"})):
        data = tmp_path / "data.jsonl"
        data.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
        with pytest.raises(BadSpec, match=r"Labels are described, and these data have .* Leave --describe out"):
            init(data, teacher="openai:gpt-4o-mini", describe=True, yes=True, **mends)
        assert list(tmp_path.iterdir()) == [data]
        init(data, teacher="openai:gpt-4o-mini", force=True, **mends).file.unlink()


def test_what_was_bought_before_a_failure_is_kept_and_the_same_command_goes_on(tickets: Path) -> None:
    data = tickets.with_name("tickets.csv")
    tickets.unlink()
    command = ["init", str(data), "--describe", "--yes", "-t", "openai:m", "--usd-per-hour", "1"]
    with pytest.raises(BadSpec, match=r"needs the option 'file'. .* in the file that init writes without --describe\."):
        init(data, describe=True, teacher="replay")
    assert not tickets.exists()
    with FakeServer(writes='{"texts": ["Whatever it is about."]}', by_number={1: Fault(401)}) as server:
        command += ["--base-url", server.url]
        stopped = CliRunner().invoke(cli.app, command)
        assert isinstance(stopped.exception, PotstillError)
        assert not tickets.exists()
        assert len(server.seen) == 2
        found = CliRunner().invoke(cli.app, command, catch_exceptions=False)
        assert len(server.seen) == 3
    assert set(tomllib.loads(tickets.read_text(encoding="utf-8"))["task"]["descriptions"]) == {"card_arrival", "top_up"}
    assert "it is paid beside the budget" in found.output


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_spent(tickets: Path) -> None:
    data = tickets.with_name("tickets.csv")
    with FakeServer(writes='{"texts": ["Whatever it is about."]}') as server:
        options = {"teacher": "openai:m", "base_url": server.url, "usd_per_hour": 1, "describe": True, "yes": True}
        with pytest.raises(DiskError):
            init(data, out=data / "potstill.toml", **options)
        with pytest.raises(BadSpec, match="in place"):
            init(tickets, out="other.toml", **options)
        assert not server.seen


def test_the_named_teacher_is_written_into_the_file(tickets: Path) -> None:
    data = tickets.with_name("tickets.csv")
    toml = init(data, force=True, teacher="openai:some-model", base_url="http://127.0.0.1:9/v1", usd_per_hour=0.5).file
    written = tomllib.loads(toml.read_text(encoding="utf-8"))
    assert written["teacher"] == {"name": "openai:some-model", "base_url": "http://127.0.0.1:9/v1"}
    assert written["prices"] == {"usd_per_hour": 0.5}


def test_labels_without_a_text_are_described_from_unlabelled_ones() -> None:
    gold = np.array([0] * 6 + [-1] * 9 + [1])
    split = np.array(["train"] * 6 + ["pool"] * 9 + ["test"])
    texts = tuple(f"text {i}" for i in range(16))
    pool = Pool(("card_arrival", "top_up"), texts, gold, split, texts, np.full(16, -1))
    known, unknown = description_requests(Task(pool.labels), pool, seed=0)
    assert {each.label for each in known.examples} == {"card_arrival"}
    assert {each.label for each in unknown.examples} == {""}
    assert len(known.examples) == len(unknown.examples) == TEXTS_SHOWN
    assert "text 15" not in {each.text for each in (*known.examples, *unknown.examples)}
    assert [each.label for each in description_requests(TASK, pool, seed=0)] == ["card_arrival"]


def test_the_prompt_names_all_labels_and_a_text_cannot_leave_its_marks() -> None:
    prompt = fit_generation_prompt(TASK, REQUEST, 10)
    assert prompt.messages() == description_messages(TASK, REQUEST)
    for told in (
        "\n".join(message["content"] for message in prompt.messages("no JSON")),
        "\n".join(description_conversation(TASK, REQUEST)[1]),
        description_list(TASK, REQUEST),
    ):
        for words in ("card arrival", "top up: Adding money.", "What is it about?", "where is my card", "any of the"):
            assert words in told
        assert told.count("</text>") == 2 + ("between <text>" in told)
    (text,) = prompt.parse('{"texts": ["It is about cards."]}') or ()
    assert text == LabelledText("It is about cards.", "card_arrival")


def test_a_description_that_says_no_more_than_the_label_is_none() -> None:
    assert clean_description(' "Card  arrival." ', "card_arrival") == ""
    assert clean_description("Where a new\ncard is.", "card_arrival") == "Where a new card is."
    assert len(clean_description("word " * 200, "card_arrival")) < 250


def test_descriptions_are_added_to_the_table_and_all_else_stays() -> None:
    places = '# "a" = ""\n"b" = ""\n'
    toml = f'budget = 1\r\n[task.descriptions]  # a sentence each\r\n{places}# a comment\n[data]\nfile = "x"\n'
    added = insert_descriptions(toml, {"a": 'says "so"', "b": "or \\ so", "c": ""}, "local:x")
    assert tomllib.loads(added)["task"]["descriptions"] == {"a": 'says "so"', "b": "or \\ so"}
    assert '# "a" = ""' not in added
    assert "# a comment\n[data]\n" in added
    assert tomllib.loads(insert_descriptions("budget = 1\n", {"a": "so"}, "x"))["task"]["descriptions"] == {"a": "so"}
    with pytest.raises(BadSpec, match="cannot be added"):
        insert_descriptions('[task]\ndescriptions = {a = "so"}\n', {"b": "so"}, "x")
