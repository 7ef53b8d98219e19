"""Every benchmark explains itself with `--help`, and measures and writes nothing then."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"
SCRIPTS = [path for path in sorted(BENCH.rglob("*.py")) if "__main__" in path.read_text(encoding="utf-8")]


def results() -> dict[Path, int]:
    """When each file of results was written."""
    return {path: path.stat().st_mtime_ns for path in [BENCH / "RESULTS.md", *(BENCH / "results").iterdir()]}


@pytest.fixture
def _own_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a script imports from its own folder is forgotten again, and so is what it adds to the path."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(BENCH)):
            del sys.modules[name]


@pytest.mark.usefixtures("_own_modules")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.relative_to(BENCH).as_posix())
def test_help_is_shown_and_nothing_is_measured(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = results()
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    sys.path.insert(0, str(script.parent))
    code: object = 0
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as ended:
        code = ended.code or 0
    shown = capsys.readouterr().out
    assert not code
    assert "usage:" in shown or "In:" in shown or "->" in shown, shown
    assert results() == before
