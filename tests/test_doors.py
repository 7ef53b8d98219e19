"""What comes in through which door: heavy libraries, registries, the front door; what is committed names no machine.

The rules are those of docs/architecture.md; floors and sizes are in test_house.py.
"""

from __future__ import annotations

import ast
import importlib
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.house import MODULES, ROOT, imports, relative, tree

# The inside of the encoder and of the cloze: torch through and through, imported only by one another or in functions.
TORCH_ROOMS = {
    f"students/{name}.py"
    for name in (
        "backbone",
        "training_strategy",
        "frozen_head",
        "transformers_export",
        "transformers_writing",
        "torch_onnx",
        "encoder_training",
        "network_settings",
        "tagger_network",
        "causal_network",
        "answer_rows",
        "seq2seq_network",
        "tuned_lm",
    )
}
TORCH_ROOMS |= {
    f"students/{name}.py" for name in ("cloze_builder", "cloze_network", "cloze_training", "decoder_network", "lora")
}
TORCH_ROOMS |= {"models/int8_layers.py", "teachers/torch_lines.py"}
# Library -> the files that may import it when they are themselves imported. Everywhere else it waits inside a function.
HEAVY: dict[str, set[str]] = {
    "torch": TORCH_ROOMS,
    "transformers": set(),
    "onnxruntime": set(),
    "onnx": set(),
    "onnxscript": set(),
    "openai": set(),
    "anthropic": set(),
    "xllamacpp": set(),
    "gguf": set(),
    "pandas": set(),
    "pyarrow": set(),
    "python_calamine": set(),
    "sklearn": {"api/sklearn.py"},  # its class is a scikit-learn class, imported by no other module
    "ray": set(),
    "presidio_analyzer": set(),
    "spacy": set(),
    "cleanlab": set(),
    "starlette": set(),
    "uvicorn": set(),
}
# Library -> the only files that may import it at all, at any depth: one door each.
ONE_DOOR: dict[str, set[str]] = {
    "sqlite3": {
        f"ledger/store/{name}.py"
        for name in (
            "sqlite_file",
            "sqlite_errors",
            "run_store",
            "run_lock",
            "answer_cache",
            "annotations",
            "migrations",
        )
    },
    "openai": {"teachers/openai.py"},
    "anthropic": {"teachers/anthropic.py"},
    "ray": {"engines/ray.py"},
    "presidio_analyzer": {"teachers/redact.py"},
    "python_calamine": {"data/tables/workbook.py"},
    "pickle": set(),
}
# What a machine that only serves has to have.
SERVING = {"numpy", "onnxruntime", "tokenizers"}


# --- heavy libraries and the single doors ------------------------------------------------------------------


def test_heavy_libraries_are_imported_only_when_used() -> None:
    early = [
        f"{relative(MODULES[module])}:{found.line} imports {found.module}"
        for module in MODULES
        for found in imports(module)
        if found.at_top
        and (library := found.module.split(".")[0]) in HEAVY
        and relative(MODULES[module]) not in HEAVY[library]
    ]
    assert not early, "move these into the functions that need them:\n" + "\n".join(early)


def test_the_rooms_that_are_torch_through_and_through_are_entered_late() -> None:
    early = [
        f"{relative(MODULES[module])}:{found.line} imports {found.module}"
        for module in MODULES
        for found in imports(module)
        if found.at_top
        and found.module in MODULES
        and relative(MODULES[found.module]) in TORCH_ROOMS
        and relative(MODULES[module]) not in TORCH_ROOMS
    ]
    assert not early, "\n".join(early)


def test_no_module_imports_the_one_that_is_a_scikit_learn_class() -> None:
    assert not [module for module in MODULES for found in imports(module) if found.module == "potstill.api.sklearn"]


def test_each_single_door_is_the_only_one() -> None:
    others = [
        f"{relative(MODULES[module])}:{found.line} imports {found.module}"
        for module in MODULES
        for found in imports(module)
        if (library := found.module.split(".")[0]) in ONE_DOOR and relative(MODULES[module]) not in ONE_DOOR[library]
    ]
    assert not others, "\n".join(others)


def test_a_bundle_needs_no_more_than_numpy_onnxruntime_and_tokenizers() -> None:
    if "potstill.bundle.bundle" not in MODULES:
        pytest.skip("bundle is not there yet")
    seen: set[str] = set()
    wanted = ["potstill.bundle.bundle"]
    strangers = []
    while wanted:
        module = wanted.pop()
        if module in seen:
            continue
        seen.add(module)
        for found in imports(module):
            library = found.module.split(".")[0]
            if found.module in MODULES:
                wanted.append(found.module)
            elif found.at_top and library not in SERVING and library not in sys.stdlib_module_names:
                strangers.append(f"{relative(MODULES[module])}:{found.line} imports {found.module}")
    assert not strangers, "\n".join(strangers)


def _loaded_by(code: str) -> set[str]:
    probe = f"import sys\n{code}\nprint('\\n'.join(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def test_importing_potstill_loads_no_heavy_library() -> None:
    assert not _loaded_by("import potstill") & {*HEAVY, "numpy", "scipy"}


def test_the_help_page_loads_no_heavy_library() -> None:
    code = """
import contextlib, io, runpy
sys.argv = ["potstill", "--help"]
with contextlib.redirect_stdout(io.StringIO()) as page, contextlib.suppress(SystemExit):
    runpy.run_module("potstill", run_name="__main__")
assert "distill" in page.getvalue(), page.getvalue()
"""
    assert not _loaded_by(code) & set(HEAVY)


# --- registries -------------------------------------------------------------------------------------------------

FOLDERS = ("teachers", "students", "procedures", "engines")
RECORDS = {"teachers": "TeacherKind", "procedures": "Recipe"}  # a kind of these folders is such a record


def _defines_a_kind(folder: str, path: Path) -> bool:
    """Whether a file defines a kind of its folder: the record, or a class with the interface's methods."""
    top = tree(path).body
    if folder in RECORDS:
        values = [node.value for node in top if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None]
        return any(isinstance(value, ast.Call) and ast.unparse(value.func) == RECORDS[folder] for value in values)
    methods = {"students": {"fit", "export"}, "engines": {"map"}}[folder]
    return any(
        methods <= {member.name for member in node.body if isinstance(member, ast.FunctionDef)}
        for node in top
        if isinstance(node, ast.ClassDef) and not any("Protocol" in ast.unparse(base) for base in node.bases)
    )


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_line_of_a_registry_leads_somewhere(folder: str) -> None:
    registry = importlib.import_module(f"potstill.{folder}").REGISTRY
    for name, target in registry.items():
        if target.startswith("potstill."):
            assert registry.resolve(name) is not None


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_kind_is_in_the_registry_of_its_folder(folder: str) -> None:
    listed = {target.partition(":")[0] for target in importlib.import_module(f"potstill.{folder}").REGISTRY.values()}
    missing = [
        relative(path)
        for module, path in MODULES.items()
        if relative(path).startswith(f"{folder}/") and path.name not in {"__init__.py", "base.py"}
        if _defines_a_kind(folder, path) and module not in listed
    ]
    assert not missing, f"not in the registry of {folder}/__init__.py: {missing}"


def test_every_name_of_the_front_door_leads_where_it_says() -> None:
    """Also after every module was imported: a module of the same name would take the name's place."""
    import potstill

    for module in MODULES:
        importlib.import_module(module)
    for name, module in potstill._WHERE.items():
        assert getattr(potstill, name) is getattr(importlib.import_module(module), name), name


# --- what is committed is for everybody --------------------------------------------------------------------


def _committed() -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.stdout.splitlines() if (ROOT / name).is_file()]


def test_no_committed_text_names_a_registry_host_or_a_machine() -> None:
    hosts = re.compile(r"pypi\.org|pythonhosted\.|npmjs\.(?:org|com)|download\.pytorch\.|deb\.debian\.")
    machine = re.compile(r"(?<![\w.$~}-])/(?:work|root|home|Users)/\w")
    found = []
    for path in _committed():
        if path.suffix in {".csv", ".jsonl", ".png", ".svg", ".parquet"}:
            continue
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(lines, 1):
            if hosts.search(line) or machine.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert not found, "\n".join(found)


# --- and the tests themselves ------------------------------------------------------------------------------


def test_no_test_can_reach_beyond_loopback() -> None:
    with pytest.raises(RuntimeError, match="loopback"), socket.socket() as line:
        line.connect(("192.0.2.1", 80))
    with pytest.raises(RuntimeError, match="loopback"):
        socket.getaddrinfo("example.com", 443)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as line:
        line.connect(server.getsockname())


def test_no_test_sees_a_key_that_could_spend() -> None:
    assert not [name for name in os.environ if name.endswith(("_API_KEY", "_TOKEN"))]
