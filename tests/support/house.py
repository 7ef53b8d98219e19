"""Reading the package's source with `ast`: its modules, their imports however late, and the floor plan.

For test_house.py and test_doors.py. Judges nothing itself.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "potstill"
PLAN = ROOT / "docs" / "architecture.md"


@dataclass(frozen=True)
class Import:
    """One import: the module it names, where, and whether it runs when the file itself is imported."""

    module: str
    line: int
    at_top: bool


def modules() -> dict[str, Path]:
    """Dotted name -> file, for every module of the package."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _names(node: ast.AST, module: str, path: Path) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
            base = ".".join([*package[: len(package) - node.level + 1], *([base] if base else [])])
        inner = [f"{base}.{alias.name}" for alias in node.names]
        yield from (name if name in MODULES else base for name in inner)
    elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in {"import_module", "__import__"} and isinstance(node.args[0].value, str):
            yield node.args[0].value


def _walk(node: ast.AST, at_top: bool) -> Iterator[tuple[ast.AST, bool]]:
    yield node, at_top
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        at_top = False
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        at_top = False
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, at_top)


@cache
def imports(module: str) -> tuple[Import, ...]:
    path = MODULES[module]
    return tuple(
        Import(name, getattr(node, "lineno", 0), at_top)
        for node, at_top in _walk(tree(path), True)
        for name in _names(node, module, path)
    )


def inner_edges() -> dict[str, set[str]]:
    """Module -> the modules of this package that it imports, however late."""
    return {
        module: {found.module for found in imports(module) if found.module in MODULES} - {module} for module in MODULES
    }


@cache
def plan() -> dict[str, int]:
    """Room -> floor, from the one table of docs/architecture.md with the heading 'floor | room | why'."""
    rooms: dict[str, int] = {}
    inside = False
    for line in PLAN.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if [cell.lower() for cell in cells[:3]] == ["floor", "room", "why"]:
            inside = True
        elif not line.startswith("|"):
            inside = False
        elif inside and cells[0].isdigit():
            room = cells[1].strip("`")
            assert room not in rooms, f"{room} stands in the floor plan twice"
            rooms[room] = int(cells[0])
    return rooms


def room_of(path: Path) -> str | None:
    name = relative(path)
    if name in plan():
        return name
    folder = name.split("/")[0] + "/"
    return folder if folder in plan() else None
