"""Each file of examples/ runs as a reader would run it: a process of its own, from an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.house import ROOT

EXAMPLES = ROOT / "examples"


def run_example(name: str, folder: Path) -> str:
    """What the example prints; it has to succeed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"{name}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_labels_in_a_table_become_a_classifier(tmp_path: Path) -> None:
    printed = run_example("own_csv.py", tmp_path)
    assert "delivery" in printed.splitlines()[-3], printed
    assert (tmp_path / "runs" / "own-csv" / "report.html").exists()


def test_without_a_key_a_stand_in_server_teaches_and_the_example_says_so(tmp_path: Path) -> None:
    printed = run_example("api_teacher.py", tmp_path)
    assert "stand-in server on this machine answers" in printed
    assert "openai:stand-in" in printed


def test_pgkd_with_a_replay_teacher_is_called_a_simulation(tmp_path: Path) -> None:
    printed = run_example("pgkd.py", tmp_path)
    assert printed.lower().count("simulation") >= 2, "the example and the report both say so"


@pytest.mark.nightly  # a minute of training and export; `tests/bundle/export/test_portable.py` has its class daily
def test_a_bundle_predicts_in_a_program_without_potstill(tmp_path: Path, minilm: Path) -> None:
    printed = run_example("bundle_elsewhere.py", tmp_path)
    assert "potstill and this program agree" in printed


def test_the_program_that_uses_a_bundle_needs_three_libraries_only() -> None:
    source = (EXAMPLES / "bundle_elsewhere.py").read_text(encoding="utf-8")
    serving = source.partition("# --- ")[0]
    imported = {
        line.split()[1].partition(".")[0] for line in serving.splitlines() if line.startswith(("import ", "from "))
    }
    assert imported - set(sys.stdlib_module_names) == {"numpy", "onnxruntime", "tokenizers"}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_every_example_is_on_the_page_that_lists_them(path: Path) -> None:
    assert f"]({path.name})" in (EXAMPLES / "README.md").read_text(encoding="utf-8")
