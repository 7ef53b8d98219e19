"""README.md and docs/ against the code: marked blocks run, named commands and options exist, links lead somewhere.

How a block is marked, in the words after the fence's language:

- ``python run``: executed; the blocks of one page share their names and one empty folder.
- ``console run``: each line that starts with ``$ `` is executed in that folder and has to succeed; other lines are
  what a reader sees, and are not compared. The lines are commands of potstill; the first of a page is a process of its
  own, the others are run here, which saves them the start.
- ``toml file=potstill.toml`` (any language): written to that file in the folder first.

A marked block after ``<!-- needs: smollm2 minilm -->`` asks for those carriers, as the fixtures of conftest.py do.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.house import MODULES, ROOT, plan, relative, tree

PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "SECURITY.md")),
    ROOT / "examples" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
FENCE = re.compile(r"^(?P<fence>```+)(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=fence)[ \t]*$", re.MULTILINE | re.DOTALL)
REPOSITORY = "https://github.com/potstill/potstill/blob/main/"
NEEDS = re.compile(r"<!-- needs: ([^>]*?) -->")


@dataclass(frozen=True)
class Block:
    """One fenced block: the words after the fence, what is inside, and the line it starts on."""

    words: tuple[str, ...]
    body: str
    line: int

    @property
    def file(self) -> str | None:
        """The file it is to be written to."""
        return next((word.removeprefix("file=") for word in self.words if word.startswith("file=")), None)

    @property
    def runs(self) -> bool:
        """Whether it is marked as runnable."""
        return "run" in self.words[1:]


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(tuple(found["info"].split()), found["body"], text.count("\n", 0, found.start()) + 1)
        for found in FENCE.finditer(text)
    ]


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", [page for page in PAGES if any(block.runs for block in blocks(page))], ids=named)
def test_what_is_marked_as_runnable_runs(
    page: Path, tmp_path: Path, weights_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for need in NEEDS.findall(page.read_text(encoding="utf-8")):
        for name in need.split():
            weights_of(name)
    monkeypatch.chdir(tmp_path)
    # The `potstill` a block calls is the one of this interpreter.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    module = types.ModuleType("a_page")  # dataclasses look their module up
    monkeypatch.setitem(sys.modules, "a_page", module)
    run = run_in_a_shell
    for block in blocks(page):
        if block.file:
            target = tmp_path / block.file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.body, encoding="utf-8")
        if not block.runs:
            continue
        where = f"{named(page)}:{block.line}"
        if block.words[0] == "python":
            exec(compile("\n" * block.line + block.body, str(page), "exec"), vars(module))
        elif block.words[0] == "console":
            for line in commands(block.body):
                code, printed = run(line)
                assert code == 0, f"{where}: {line}\n{printed}"
                run = run_here
        else:
            pytest.fail(f"{where}: {block.words[0]} cannot be run; mark python or console")


def run_in_a_shell(line: str) -> tuple[int, str]:
    """The exit code of a command line, and what it printed."""
    done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=240, check=False)
    return done.returncode, f"{done.stdout}\n{done.stderr}"


def run_here(line: str) -> tuple[int, str]:
    """The same for a command of potstill, in this process."""
    from click.testing import CliRunner

    from potstill.cli import app

    program, *words = shlex.split(line, comments=True)
    assert program == "potstill", f"{line}: mark the block without run, or run it in a shell"
    done = CliRunner().invoke(app, words)
    return done.exit_code, f"{done.output}\n{done.exception!r}"


def commands(body: str) -> list[str]:
    """The lines after a prompt, a trailing backslash joining the next."""
    joined = body.replace("\\\n", " ")
    return [line.removeprefix("$ ") for line in joined.splitlines() if line.startswith("$ ")]


# --- commands and options ----------------------------------------------------------------------------------


def mentions(page: Path) -> Iterator[str]:
    """Every `potstill ...` command line that a page shows: in blocks after a prompt, and inline in backticks."""
    for block in blocks(page):
        if block.words[:1] and block.words[0] in {"console", "sh", "bash"}:
            yield from (line for line in commands(block.body) if line.startswith("potstill "))
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    yield from (found for found in re.findall(r"`([^`\n]+)`", prose) if found.startswith("potstill "))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_and_option_that_a_page_names_exists(page: Path) -> None:
    import click

    from potstill.cli import app

    wrong = []
    for line in mentions(page):
        words = [word for word in re.split(r"\s+", line)[1:] if word]
        group: Any = app
        while words and isinstance(group, click.Group) and words[0] in group.commands:
            group = group.commands[words.pop(0)]
        if words and isinstance(group, click.Group) and re.fullmatch(r"[a-z][a-z-]*", words[0]):
            wrong.append(f"{line}: there is no command {words[0]!r}")
            continue
        known = {"--help", "-h", *(option for each in group.params for option in (*each.opts, *each.secondary_opts))}
        given = [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]
        wrong += [f"{line}: there is no option {option}" for option in given if option not in known]
    assert not wrong, "\n".join(wrong)


# --- links -------------------------------------------------------------------------------------------------


def _anchors(page: Path) -> set[str]:
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_to_a_file_or_heading_leads_somewhere(page: Path) -> None:
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    broken = []
    for target in [*re.findall(r"\]\(([^)\s]+)\)", prose), *re.findall(r'(?:src|href)="([^"]+)"', prose)]:
        inside = target.removeprefix(REPOSITORY)  # pages of the site link to the repository's other files like this
        if re.match(r"[a-z]+:", inside):
            continue
        path, _, anchor = inside.partition("#")
        file = ((ROOT if inside != target else page.parent) / path).resolve() if path else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in _anchors(file)):
            broken.append(target)
    assert not broken, f"{named(page)}: {broken}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_file_of_the_repository_that_a_page_names_exists(page: Path) -> None:
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    written = re.findall(r"`((?:potstill|tests|docs|demo|examples|bench|studies|\.ci|\.github)/[\w./-]*)`", prose)
    gone = [name for name in written if not (ROOT / name).exists()]
    assert not gone, f"{named(page)}: {gone}"


def test_every_page_is_on_the_site_and_on_the_index() -> None:
    site = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page.is_relative_to(ROOT / "docs")]
    assert not [name for name in pages if f'"{name}"' not in site], "add to nav in zensical.toml"
    linked = [name for name in pages if not name.startswith("reference/") and name != "index.md"]
    assert not [name for name in linked if f"]({name})" not in index], "link it from docs/index.md"


def test_every_room_has_a_page_in_the_reference() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    rooms = [
        room.removesuffix(".py").rstrip("/") for room in plan() if room not in {"__init__.py", "__main__.py", "cli.py"}
    ]
    assert not [room for room in rooms if f"::: potstill.{room}\n" not in pages]


def test_docstrings_document_only_parameters_that_exist() -> None:
    wrong = []
    for path in MODULES.values():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                wrong += [f"{relative(path)}:{node.lineno}: {name}" for name in undocumentable(node)]
    assert not wrong, "\n".join(wrong)


def undocumentable(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> list[str]:
    """The names in the Args section of a function or a class that are no parameters of it."""
    section = re.search(r"^Args:\n((?: .*\n?|\n)*)", ast.get_docstring(node) or "", re.MULTILINE)
    inits = [each for each in ast.walk(node) if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
    function = inits[0] if isinstance(node, ast.ClassDef) and inits else node
    if section is None:
        return []
    if isinstance(function, ast.ClassDef):  # a dataclass: its fields
        names = {
            each.target.id
            for each in function.body
            if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
        }
    else:
        given = function.args
        every = (*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg)
        names = {arg.arg for arg in every if arg}
    return [name for name in re.findall(r"^    \**([^\s:*][^:\n]*):", section[1], re.MULTILINE) if name not in names]


def test_every_target_of_make_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    wrong = [
        f"{named(page)}: make {word}"
        for page in PAGES
        for word in re.findall(r"(?:`|^\$ )make ([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
        if word not in targets
    ]
    assert not wrong, "\n".join(wrong)


def test_a_command_line_is_read_as_a_shell_would() -> None:
    shown = "$ potstill predict runs/demo \\\n  'a text'\nbilling 0.98\n$ make test\n"
    assert [shlex.split(line) for line in commands(shown)] == [
        ["potstill", "predict", "runs/demo", "a text"],
        ["make", "test"],
    ]


def test_every_promise_of_the_security_page_names_tests_that_exist() -> None:
    rows = [line for line in (ROOT / "SECURITY.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    promises = [row for row in rows if not row.startswith("| attack ")]
    assert promises
    for row in promises:
        named = re.findall(r"`(tests/\S+\.py)`", row)
        assert named, row
        assert [name for name in named if not (ROOT / name).is_file()] == [], row
