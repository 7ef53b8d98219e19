"""Every flag, command and key that a message names exists, on each command that can show the message."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.house import MODULES, relative, tree

from potstill import cli
from potstill.api.table_options import FileOptions, TableOptions
from potstill.registry import Options
from potstill.run.spec import DataSpec, Spec, TaskSpec
from potstill.study.spec_tables import StudyDataSpec
from potstill.teachers.human_labels import PER_HOUR, PER_LABEL, HumanOptions
from potstill.teachers.replay import ReplayOptions

FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
COMMAND = re.compile(r"potstill ([a-z][a-z-]+)")
ALL_COMMANDS = frozenset(cli.app.commands)
LABELLED = frozenset({"init", "label-errors", "plan", "distill"})
TABLES = LABELLED | {"predict", "bench"}
RUNS = frozenset({"plan", "distill"})
# Start of a file's path -> the commands that can show its messages. The longest start counts.
SHOWN_BY = {
    "": RUNS,
    "annotation/": frozenset({"annotate"}),
    "api/show.py": frozenset({"ledger"}),
    "annotation/label_errors.py": frozenset({"label-errors"}),
    "api/annotate.py": frozenset({"annotate"}),
    "api/init.py": frozenset({"init"}),
    "api/init_descriptions.py": frozenset({"init"}),
    "api/init_template.py": frozenset({"init"}),
    "run/describe_labels.py": frozenset({"init"}),
    "bundle/": frozenset({"predict", "bench"}),
    "bundle/push.py": frozenset({"push"}),
    "data/": LABELLED,
    "data/column_guess.py": TABLES,
    "data/tables/": TABLES | {"annotate"},
    "models/downloads/": frozenset({"fetch"}),
    "models/weights.py": frozenset({"fetch"}),
    "planning/": frozenset({"plan"}),
    "reports/serving_benchmark.py": frozenset({"bench"}),
    "serving/": frozenset({"serve"}),
    "api/push.py": frozenset({"push"}),
    "api/serve.py": frozenset({"serve"}),
    "study/": frozenset({"compare"}),
}
# (file, flag) -> why it is not one of its commands': the message names another command for it, or is no advice.
ELSEWHERE = {
    ("annotation/session.py", "--teacher"): "potstill distill",
    ("annotation/session.py", "--usd-per-label"): "potstill distill",
    ("annotation/session.py", "--budget"): "potstill distill",
    ("api/annotate.py", "--teacher"): "potstill distill",
    ("api/distill.py", "--measure"): "said by plan",
    ("api/distill.py", "--page"): "said by plan",
    ("api/distill.py", "--yes"): "said by distill",
    ("run/batch_jobs.py", "--give-up-batch"): "said by distill",
    ("api/annotate.py", "--guard-formulas"): "an option of label-errors",
    ("api/annotate.py", "--kind"): "an option of label-errors",
    ("bundle/form_bundle.py", "--coverage"): "an option of predict",
    ("api/annotate.py", "--no-guard-formulas"): "an option of label-errors",
    ("annotation/spreadsheet.py", "--export"): "potstill annotate",
    ("bundle/bundle.py", "--validation"): "distill again",
    ("bundle/export/export.py", "--student"): "a note in the report: distill again",
    ("bundle/record.py", "--upgrade"): "pip",
    ("data/tables/base.py", "--pool"): "potstill distill",
    ("data/tables/base.py", "--train"): "potstill distill",
    ("data/tables/base.py", "--test"): "potstill distill",
    ("data/tables/base.py", "--text"): "only said by commands that look for the column of the texts",
    ("models/features/ngrams.py", "--upgrade"): "pip",
    ("planning/compare_options.py", "--measure"): "",
    ("planning/cost.py", "--describe"): "an option of init",
    ("reports/serving_benchmark.py", "--gpu-usd-per-hour"): "",
    ("study/dataset.py", "--on-leak"): "found in the message of another file",
    ("reports/charts.py", "--ink"): "a colour of the style sheet",
    ("reports/charts.py", "--soft"): "a colour of the style sheet",
    ("reports/charts.py", "--track"): "a colour of the style sheet",
    ("reports/charts.py", "--paper"): "a colour of the style sheet",
}
OWN_COMMANDS = "models/downloads/registries.py"  # holds the command lines of pip and npm
TABLE_KEYS: dict[str, type[Options]] = {"task": TaskSpec, "data": DataSpec}


def messages(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of the strings of a file, the parts of an f-string joined; without documentation."""
    nodes = list(ast.walk(tree(path)))
    parts = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    documentation = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts | documentation:
            yield node.lineno, node.value
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)


def commands_of(file: str) -> frozenset[str]:
    return SHOWN_BY[max((start for start in SHOWN_BY if file.startswith(start)), key=len)]


def flags(command: str) -> set[str]:
    return {
        flag for parameter in cli.app.commands[command].params for flag in [*parameter.opts, *parameter.secondary_opts]
    }


def test_every_flag_that_a_message_names_exists_on_the_commands_that_can_show_it() -> None:
    missing, used = [], set()
    for path in MODULES.values():
        file = relative(path)
        if file.startswith("cli") or file == OWN_COMMANDS:
            continue
        for line, text in messages(path):
            for flag in FLAG.findall(text):
                used.add((file, flag))
                if (file, flag) in ELSEWHERE:
                    continue
                missing += [f"{file}:{line}: {c} has no {flag}" for c in commands_of(file) if flag not in flags(c)]
    assert not missing, "\n".join(missing)
    unused = set(ELSEWHERE) - used
    assert not unused, f"no message names these any more: {unused}"


def test_every_command_that_a_message_names_exists() -> None:
    unknown = [
        f"{relative(path)}:{line}: potstill {name}"
        for path in MODULES.values()
        for line, text in messages(path)
        for name in re.findall(r"(?:`|: |then: |[Rr]un |after: |\| )potstill ([a-z][a-z-]+)", text)
        if name not in ALL_COMMANDS
    ]
    assert not unknown


@pytest.mark.parametrize("table", TABLE_KEYS)
def test_every_key_that_a_message_names_under_a_table_exists(table: str) -> None:
    named = {
        key
        for path in MODULES.values()
        for _, text in messages(path)
        for key in re.findall(rf"(\w+)(?: = \S+)? under \[{table}\]", text)
    }
    assert named <= set(TABLE_KEYS[table].model_fields)


def test_flags_about_reading_are_keys_of_every_table_that_names_a_file() -> None:
    """`with_keys` turns the flags of an error into keys of these tables."""
    keys = {"text", "label", "header", *FileOptions.__annotations__} - {"no_header"}
    for model in (DataSpec, StudyDataSpec, ReplayOptions, HumanOptions):
        assert keys <= set(model.model_fields), model


def test_the_prices_that_messages_name_are_keys() -> None:
    assert Spec(budget=1, prices={PER_LABEL: 1, PER_HOUR: 2}).prices


def test_the_flag_of_every_guess_exists() -> None:
    """A `Guess` makes its flag of its key."""
    for path in MODULES.values():
        options = FileOptions if relative(path).startswith("data/tables/") else TableOptions
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Guess":
                key = node.args[0]
                assert isinstance(key, ast.Constant)
                assert key.value in options.__annotations__, f"{relative(path)}:{node.lineno}"
