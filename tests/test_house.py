"""The house rules of docs/architecture.md, held against the code: floors, circles, sizes, names, signatures.

Lazy and type-only imports count as well. Heavy libraries, single doors and registries are in test_doors.py; names of
kinds and the words of the prose in test_words.py.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.house import MODULES, PACKAGE, ROOT, inner_edges, plan, relative, room_of, tree

MAX_LINES = 400
MAX_PARAMETERS = 7
MAX_ENTRIES = 20
MAX_ARROWS = 130
MAX_UNTYPED = 60
BAD_NAMES = {"utils", "util", "common", "core", "helpers", "helper", "manager", "managers", "misc"}


# --- the plan and the code agree ---------------------------------------------------------------------------


def test_every_module_has_a_floor() -> None:
    homeless = [relative(path) for path in MODULES.values() if room_of(path) is None]
    assert not homeless, f"add to the floor plan of docs/architecture.md: {homeless}"


def test_every_room_of_the_floor_plan_exists() -> None:
    gone = [room for room in plan() if not (PACKAGE / room).exists()]
    assert not gone, f"in the floor plan of docs/architecture.md but not in the package: {gone}"


def test_imports_go_strictly_down() -> None:
    wrong = []
    for module, targets in inner_edges().items():
        here = room_of(MODULES[module])
        for target in sorted(targets):
            there = room_of(MODULES[target])
            if here is None or there is None or here == there or here == "__init__.py":
                continue
            if plan()[there] >= plan()[here]:
                wrong.append(f"{here} (floor {plan()[here]}) imports {there} (floor {plan()[there]})")
    assert not wrong, "\n".join(wrong)


def test_the_front_door_imports_nothing_until_asked() -> None:
    assert not inner_edges()["potstill"]


def test_the_front_of_the_house_has_at_most_twenty_entries() -> None:
    entries = {relative(path).split("/")[0] for path in MODULES.values()} - {"__init__.py", "__main__.py"}
    assert len(entries) <= MAX_ENTRIES, sorted(entries)


def test_few_arrows_lead_from_room_to_room() -> None:
    arrows = {
        (room_of(MODULES[module]), room_of(MODULES[target]))
        for module, targets in inner_edges().items()
        for target in targets
        if room_of(MODULES[module]) != room_of(MODULES[target])
    }
    assert len(arrows) <= MAX_ARROWS


def test_no_import_goes_in_a_circle() -> None:
    edges = inner_edges()
    done: set[str] = set()
    trail: list[str] = []

    def visit(module: str) -> None:
        if module in trail:
            pytest.fail(" -> ".join([*trail[trail.index(module) :], module]))
        if module in done:
            return
        trail.append(module)
        for target in sorted(edges[module]):
            visit(target)
        trail.pop()
        done.add(module)

    for module in edges:
        visit(module)


# --- rooms are small and well named ------------------------------------------------------------------------


def test_no_file_passes_400_lines() -> None:
    long = {
        path.relative_to(ROOT).as_posix(): lines
        for folder in ("potstill", "tests", "bench", "demo")
        for path in (ROOT / folder).rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MAX_LINES
    }
    assert not long, f"these want to be two: {long}"


def test_no_module_has_a_name_that_says_nothing() -> None:
    parts = {part for path in PACKAGE.rglob("*") for part in path.relative_to(PACKAGE).with_suffix("").parts}
    assert not parts & BAD_NAMES


def _public_functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef, bool]]:
    """Name, node and whether it is a method, for each public function of a file."""
    for node in tree(path).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node.name, node, False
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for member in node.body:
                if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) and not (
                    member.name.startswith("_") and member.name != "__init__"
                ):
                    yield f"{node.name}.{member.name}", member, True


def _is_command(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(".command" in ast.unparse(mark) or ".group" in ast.unparse(mark) for mark in node.decorator_list)


def test_no_public_signature_passes_seven_parameters() -> None:
    wide = []
    for path in MODULES.values():
        for name, node, is_method in _public_functions(path):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            count = len(given) - (is_method and bool(given) and given[0].arg in {"self", "cls"})
            if count > MAX_PARAMETERS and not _is_command(node):
                wide.append(f"{relative(path)}: {name} takes {count}")
    assert not wide, "these want an object:\n" + "\n".join(wide)


def test_every_module_and_public_name_says_what_it_is() -> None:
    """A method that fills in an interface is documented where the interface is."""
    documented = {
        member.name
        for path in MODULES.values()
        for owner in ast.walk(tree(path))
        if isinstance(owner, ast.ClassDef) and any("Protocol" in ast.unparse(base) for base in owner.bases)
        for member in owner.body
        if isinstance(member, ast.FunctionDef) and ast.get_docstring(member)
    }
    silent = []
    for path in MODULES.values():
        if ast.get_docstring(tree(path)) is None:
            silent.append(f"{relative(path)}: the module")
        for node in tree(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and ast.get_docstring(node) is None:
                silent.append(f"{relative(path)}: {node.name}")
        for name, node, is_method in _public_functions(path):
            inherited = is_method and (node.name in documented or node.name == "__init__")
            if ast.get_docstring(node) is None and not inherited:
                silent.append(f"{relative(path)}: {name}")
    assert not silent, "no docstring:\n" + "\n".join(silent)


# --- names belong to one place -----------------------------------------------------------------------------


def test_no_public_class_name_stands_twice() -> None:
    places: dict[str, list[str]] = {}
    for path in MODULES.values():
        for node in tree(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(relative(path))
    twice = {name: where for name, where in places.items() if len(where) > 1}
    assert not twice, f"one name, two meanings: {twice}"


def _private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_no_file_uses_the_private_names_of_another() -> None:
    used = []
    for module, path in MODULES.items():
        imported = set()
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("potstill"):
                imported |= {alias.asname or alias.name for alias in node.names}
                used += [f"{module} imports {alias.name}" for alias in node.names if _private(alias.name)]
        used += [
            f"{relative(path)}:{node.lineno} uses {node.value.id}.{node.attr}"
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in imported
            if _private(node.attr)
        ]
    assert not used, "\n".join(used)


def test_records_cross_rooms_not_untyped_mappings() -> None:
    """`dict[str, Any]` stays where a mapping is free-form: a provider's JSON, raw TOML, options of an unknown kind."""
    loose = [
        f"{relative(path)}:{node.lineno}"
        for path in MODULES.values()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Subscript) and ast.unparse(node) in {"dict[str, Any]", "Mapping[str, Any]"}
    ]
    assert len(loose) < MAX_UNTYPED, f"{len(loose)} untyped mappings:\n" + "\n".join(loose)
