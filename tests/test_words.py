"""The words: no kind's name outside its folder, and prose in the field's plain English.

Rule 10 and the section "Words" of docs/architecture.md. Only what a program can check; taste is for the reader.
"""

from __future__ import annotations

import ast
import importlib
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.house import MODULES, PACKAGE, ROOT, relative, tree

FOLDERS = ("teachers", "students", "procedures", "engines")
# A kind's name that means something else where it stands: (file, word) -> what it means there.
OTHER_MEANINGS = {
    **dict.fromkeys(
        [
            ("ledger/prices.py", "human"),
            ("procedures/annotators.py", "human"),
            ("reports/charts.py", "human"),
            ("reports/html.py", "human"),
            ("reports/text.py", "human"),
            ("run/shared_answers.py", "human"),
            ("run/batch_jobs.py", "human"),
        ],
        "a category of money",
    ),
    **dict.fromkeys(
        [
            ("models/downloads/catalogue.py", "encoder"),
            ("models/downloads/catalogue.py", "static"),
            ("models/weights.py", "encoder"),
            ("models/weights.py", "static"),
            ("models/weights.py", "causal"),
            ("models/weights.py", "seq2seq"),
            ("models/causal_lm.py", "causal"),
            ("study/backbones.py", "causal"),
            ("study/backbones.py", "encoder"),
            ("teachers/shortlist.py", "static"),
        ],
        "a kind of weights",
    ),
    ("bundle/upgrade.py", "encoder"): "a preprocessor of format 1",
    ("bundle/upgrade.py", "cloze"): "a preprocessor of format 1",
    ("models/causal_lm.py", "local"): "an extra of the package",
    ("__init__.py", "annotate"): "a command",
    ("planning/compare_options.py", "annotate"): "a strategy that is compared",
    ("planning/records.py", "annotate"): "a strategy that is compared",
    ("planning/records.py", "pgkd"): "a strategy that is compared",
    ("teachers/llamacpp.py", "prompt"): "a field of llama.cpp's requests",
    # Recipes lie above the run, so it cannot ask them; these three are its defaults, on one line.
    ("run/spec.py", "kd"): "the default",
    ("run/spec.py", "finetune"): "the default of a text-to-text task",
    ("run/spec.py", "annotate"): "the default with people as the teacher",
    ("run/spec.py", "pgkd"): "the default with a flag of PGKD's ablations",
    ("run/spec.py", "selftrain"): "the default with a peer",
}
FORBIDDEN = re.compile(r"\b(nobody|somebody|whoever|whom|told|hears|listens to|is heard)\b", re.IGNORECASE)
PAGES = [
    path
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "SECURITY.md",
        *sorted((ROOT / "docs").glob("*.md")),
    )
    if path.name != "log.md"
]


def _docstrings(path: Path) -> set[int]:
    """The ids of the nodes that are docstrings."""
    return {
        id(node.body[0].value)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }


def _kind_names(path: Path, names: set[str]) -> Iterator[tuple[int, str]]:
    """(line, name) of each string in the code that is a kind's name, or one with a model behind it ("encoder:x")."""
    documentation = _docstrings(path)
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            name = node.value.partition(":")[0]
            if name in names and re.fullmatch(r"[\w+-]+(:[\w./:-]*)?", node.value):
                yield node.lineno, name


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_kind_is_named_outside_its_folder(folder: str) -> None:
    registries = {each: set(importlib.import_module(f"potstill.{each}").REGISTRY) for each in FOLDERS}
    names = registries[folder]
    outside = [
        f"{relative(path)}:{line} {name!r}"
        for path in MODULES.values()
        if not relative(path).startswith(f"{folder}/")
        for line, name in _kind_names(path, names)
        if (relative(path), name) not in OTHER_MEANINGS
        and name not in registries.get(relative(path).split("/")[0], set())  # "local" is a teacher and an engine
    ]
    assert not outside, f"what a kind can do belongs into its capabilities, in {folder}/:\n" + "\n".join(outside)


def test_every_exception_to_the_rule_is_needed() -> None:
    names = {name for folder in FOLDERS for name in importlib.import_module(f"potstill.{folder}").REGISTRY}
    found = {(relative(path), name) for path in MODULES.values() for _, name in _kind_names(path, names)}
    assert not set(OTHER_MEANINGS) - found


def _prose(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of the comments and strings of a Python file; the lines of any other file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from enumerate(text.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1)):
            for i, line in enumerate(token.string.splitlines()):
                yield token.start[0] + i, line


def test_prose_names_who_does_what() -> None:
    files = [*MODULES.values(), *sorted((PACKAGE / "reports" / "templates").glob("*")), *PAGES]
    odd = [
        f"{path.relative_to(ROOT).as_posix()}:{line}: {found.group()}: {text.strip()[:80]}"
        for path in files
        for line, text in _prose(path)
        if (found := FORBIDDEN.search(text))
    ]
    assert not odd, f"{len(odd)} lines in a private manner:\n" + "\n".join(odd)
