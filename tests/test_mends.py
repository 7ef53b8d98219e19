"""Every mend that an error names works: each error is provoked by the command line, then what its hint says is done.

A hint names flags (`--encoding cp1252`), or keys of a TOML table (`encoding = "cp1252" (under [teacher])`). Each is
tried alone: the command ends well, or with another sentence.
"""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from support.annotation_run import begin, truth
from support.refusals import REFUSALS, SOME, TEXTS

from potstill import cli
from potstill.annotation.spreadsheet import COLUMNS
from potstill.api.table_options import FileOptions, TableOptions
from potstill.errors import BadData, PotstillError, sentence_with_keys, with_keys

FLAG = re.compile(r"--[a-z][a-z-]*(?:[ =](?:\"[^\"]*\"|'[^']*'|[^\s;.()]+))?")
LEFT_OUT = re.compile(r"[Ll]eave (--[a-z-]+) out|leave out (--[a-z-]+)")
KEY = re.compile(r"(\w+) = (\"[^\"]*\"|[\w.]+)")
FAST = ["--procedure", "finetune", "--student", "linear", "--budget", "1"]
WORDS = {"gut": "wunderbar schön großartig fröhlich".split(), "übel": "scheußlich öde lästig trüb".split()}
LINES = [
    f"{words[i % 4]} und {words[(i + 1) % 4]} Nr. {i};{label}" for i in range(30) for label, words in WORDS.items()
]
CSV = "\n".join(["text;label", *LINES]) + "\n"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(each) for each in arguments])


def mends_of(error: PotstillError, values: Mapping[str, str]) -> list[list[str]]:
    """What the hint says to add, as arguments; flags that stand side by side are one mend.

    Args:
        error: the error.
        values: what placeholders such as COLUMN stand for.
    """
    found: list[list[str]] = []
    end = -2
    for flag in FLAG.finditer(LEFT_OUT.sub("", error.hint)):
        name, _, value = flag[0].replace("=", " ", 1).partition(" ")
        value = values.get(name, values.get(value, value)).strip("\"'")
        option = [name, value] if value and value != "-" else [flag[0]]
        if flag.start() == end + 1:
            found[-1] += option
        else:
            found.append(option)
        end = flag.end()
    return found


def without(arguments: Sequence[object], error: PotstillError) -> list[object] | None:
    """The arguments without the option that the hint says to leave out; None if it names none."""
    name = LEFT_OUT.search(error.hint)
    if name is None:
        return None
    at = list(arguments).index(name[1] or name[2])
    is_flag = at + 1 == len(arguments) or str(arguments[at + 1]).startswith("-")
    return [*arguments[:at], *arguments[at + 2 - is_flag :]]


# --- the flags of commands that read a table ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "options"),
    [
        *((command, TableOptions) for command in ("init", "label-errors", "plan", "distill")),
        *((command, FileOptions) for command in ("predict", "bench", "annotate")),
    ],
)
def test_every_command_that_reads_a_table_has_the_shared_flags(command, options):
    names = {parameter.name for parameter in cli.app.commands[command].params}
    assert set(options.__annotations__) <= names


@pytest.mark.parametrize("command", cli.app.commands)
def test_help_is_grouped_and_no_line_is_lost(command):
    shown = call(command, "--help").output
    for parameter in cli.app.commands[command].params:
        if isinstance(parameter, click.Option):
            assert len(re.findall(rf"(?<![\w-]){parameter.opts[-1]}(?![\w-])", shown)) >= 1
    assert shown.index("Options:") < shown.find("Reading files:") or "Reading files:" not in shown


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a trained student, and a run that waits for people."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "data.csv").write_text(CSV, encoding="utf-8")
    assert call("distill", folder / "data.csv", *FAST, "-o", folder / "run").exit_code == 0
    (folder / "people").mkdir()
    begin(folder / "people")
    assert call("annotate", folder / "people" / "run", "--export", folder / "labels.csv").exit_code == 0
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of it, which the test may change."""
    return Path(shutil.copytree(trained, tmp_path / "copy"))


def other_encoding(folder: Path) -> None:
    (folder / "data.csv").write_text(CSV, encoding="cp1252")


TABLE_COMMANDS = {
    "distill": ["data.csv", *FAST, "-o", "new"],
    "plan": ["data.csv", *FAST],
    "init": ["data.csv"],
    "label-errors": ["data.csv"],
    "predict": ["run", "data.csv"],
    "bench": ["run", "--texts", "data.csv"],
}


def run_in(folder: Path, command: str, arguments: Sequence[object]) -> Result:
    here = [folder / each if (folder / str(each)).exists() or str(each) == "new" else each for each in arguments]
    return call(command, *here)


def error_of(result: Result) -> PotstillError:
    assert isinstance(result.exception, PotstillError), (result.output, result.exception)
    assert result.exception.hint
    return result.exception


@pytest.mark.parametrize("command", TABLE_COMMANDS)
def test_a_file_in_another_encoding_is_read_with_the_flag_that_the_error_names(command, folder):
    other_encoding(folder)
    arguments = TABLE_COMMANDS[command]
    (mend,) = mends_of(error_of(run_in(folder, command, arguments)), {})
    assert mend[0] == "--encoding"
    mended = run_in(folder, command, [*arguments, *mend])
    assert mended.exit_code == 0, mended.exception


def test_labels_from_a_spreadsheet_in_another_encoding_are_imported_with_the_flag_that_the_error_names(folder):
    sheet = folder / "labels.csv"
    lines = sheet.read_text(encoding="utf-8").splitlines()
    rows = [line.split(",") for line in lines[1:]]
    for row in rows:
        row[2:] = [truth(row[1]), "Jörg", ""]
    sheet.write_text("\n".join([",".join(COLUMNS), *map(",".join, rows)]), encoding="cp1252")
    arguments = [folder / "people" / "run", "--import", sheet]
    (mend,) = mends_of(error_of(call("annotate", *arguments)), {})
    assert call("annotate", *arguments, *mend).exit_code == 0


def with_key(toml: str, error: PotstillError) -> str:
    """The TOML text with the keys that the hint names in the table that it names."""
    table = re.search(r"\(under \[([\w.]+)\]\)", error.hint)
    assert table, error.hint
    keys = "\n".join(f"{name} = {value}" for name, value in KEY.findall(error.hint))
    mended = toml.replace(f"[{table[1]}]\n", f"[{table[1]}]\n{keys}\n")
    tomllib.loads(mended)
    return mended


REPLAY = 'name = "replay"\nfile = "more.csv"\nusd_per_label = 0'
HUMAN = 'name = "human"\nsimulate_from = "more.csv"'


@pytest.mark.parametrize("teacher", [REPLAY, HUMAN], ids=["replay", "human"])
def test_a_replayed_file_is_read_with_the_key_that_the_error_names(teacher, folder):
    (folder / "more.csv").write_text(CSV, encoding="cp1252")
    lines = CSV.splitlines()
    (folder / "data.csv").write_text(
        "\n".join([*lines[:41], *(f"{line.partition(';')[0]};" for line in lines[41:])]), encoding="utf-8"
    )
    toml = folder / "potstill.toml"
    start = 'budget = 1\nstudent = "linear"\n[data]\nfile = "data.csv"\n[prices]\nusd_per_label = 0\n'
    text = f"{start}[teacher]\n{teacher}\n"
    toml.write_text(text, encoding="utf-8")
    error = error_of(call("distill", toml, "-o", folder / "new"))
    assert "--" not in error.hint
    toml.write_text(with_key(text, error), encoding="utf-8")
    mended = call("distill", toml, "-o", folder / "new")
    assert mended.exit_code == 0, mended.exception


def test_a_teacher_that_answered_nothing_says_whether_money_would_help(folder):
    (folder / "more.csv").write_text(CSV.replace("und", "oder"), encoding="utf-8")
    (folder / "pool.csv").write_text(TEXTS, encoding="utf-8")
    toml = folder / "potstill.toml"
    start = 'budget = 1\nstudent = "linear"\n[data]\ntrain = "data.csv"\npool = "pool.csv"\n'
    toml.write_text(f"{start}[teacher]\n{REPLAY}\n", encoding="utf-8")
    error = error_of(call("distill", toml, "-o", folder / "new"))
    assert "9 unparsable" in error.message
    assert error.hint == "No reply names a label, and more money changes nothing: take another with --teacher NAME"


def test_a_data_set_of_a_study_in_another_encoding_is_read_with_the_key_that_the_error_names(folder):
    other_encoding(folder)
    text = (
        'name = "small"\nbudget = 1\nprocedures = ["ft"]\nsizes = [4]\nseeds = 1\n'
        '[[backbones]]\nname = "tiny"\nstudent = "linear"\n[data.words]\nfile = "data.csv"\n'
    )
    toml = folder / "study.toml"
    toml.write_text(text, encoding="utf-8")
    error = error_of(call("compare", toml, "-o", folder / "compared"))
    toml.write_text(with_key(text, error), encoding="utf-8")
    mended = call("compare", toml, "-o", folder / "compared")
    assert mended.exit_code == 0, mended.exception


# --- errors of each command, by what is wrong with the data or the options ---------------------------------


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS)
def test_what_the_error_names_is_a_way_on(case, folder):
    content = case.content if isinstance(case.content, bytes) else case.content.encode()
    (folder / "data.csv").write_bytes(content)
    (folder / "more.csv").write_text(TEXTS, encoding="utf-8")
    (folder / "some.csv").write_text(SOME, encoding="utf-8")
    (folder / "exists.toml").write_text("", encoding="utf-8")
    start = TABLE_COMMANDS[case.command]
    arguments = [*start, *case.arguments]
    error = error_of(run_in(folder, case.command, arguments))
    tried = [[*arguments, *mend] for mend in mends_of(error, case.values)]
    tried += [] if (fewer := without(arguments, error)) is None else [fewer]
    assert tried, error
    results = [run_in(folder, case.command, each) for each in tried]
    for each, result in zip(tried, results, strict=True):
        assert result.exception is None or isinstance(result.exception, PotstillError), (each, result.exception)
        assert str(result.exception) != str(error), f"{each} changes nothing"
    assert not case.ends or 0 in [result.exit_code for result in results], [result.exception for result in results]


def test_a_damaged_bundle_is_exported_again_once_it_is_deleted(folder):
    graph = folder / "run" / "bundle" / "onnx" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    error = error_of(call("predict", folder / "run", "wunderbar"))
    assert "delete its folder and run the same distill command again" in error.hint
    shutil.rmtree(folder / "run" / "bundle")
    before = call("ledger", folder / "run", "--json").output
    assert call("distill", folder / "data.csv", *FAST, "-o", folder / "run").exit_code == 0
    assert call("ledger", folder / "run", "--json").output == before
    assert call("predict", folder / "run", "wunderbar").exit_code == 0


def test_flags_become_keys():
    error = with_keys(
        BadData("x (--skip-rows N)", "If it has none: --no-header. Else: --text COLUMN, or --split=-."), "data.x"
    )
    assert error.message == "x (skip_rows = N)"
    assert sentence_with_keys("Nothing to say.", "data") == "Nothing to say."
    said = sentence_with_keys("a.csv: delimiter ';', by its lines; --delimiter overrules this.", "data.x")
    assert said == "a.csv: delimiter ';', by its lines; delimiter = ... overrules this (under [data.x])."
    assert error.hint == 'If it has none: header = false. Else: text = "COLUMN", or split = "-" (under [data.x]).'
