"""The benchmark for a GPU, with every step on tiny models on the CPU: it has to work the first time on the real one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench"
STEPS = ["score qwen-0.5b", "train minilm", "write qwen-0.5b"]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Call it with options; returns what is stored. Its modules are forgotten again."""
    monkeypatch.setattr(sys, "path", [str(BENCH), *sys.path])
    import gpu

    def main(*options: str) -> dict[str, Any]:
        out = tmp_path / "gpu.json"
        monkeypatch.setattr(sys, "argv", ["gpu.py", "--small", "--out", str(out), *options])
        gpu.main()
        return json.loads(out.read_text("utf-8")) if out.exists() else {}

    yield main
    for name in ("gpu", "gpu_small", "gpu_table", "sections"):
        sys.modules.pop(name, None)


def test_every_step_is_measured_stored_and_not_measured_again(
    run: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = run("--device", "cpu", "--limit-s", "0")
    assert "no time left" in capsys.readouterr().out
    assert stopped == {}
    first = run("--device", "cpu", "--steps", "score", "--usd-per-hour", "3.6")
    assert list(first["rows"]) == STEPS[:1]
    capsys.readouterr()
    whole = run("--device", "cpu", "--usd-per-hour", "3.6")
    shown = capsys.readouterr().out
    assert list(whole["rows"]) == STEPS
    assert whole["rows"][STEPS[0]] == first["rows"][STEPS[0]]
    assert f"{STEPS[0]}: stored" in shown
    scored, trained, written = (whole["rows"][name] for name in STEPS)
    assert scored["float32"] == {"same_label": 1.0, "max_apart": 0.0}
    assert trained["parity"]["same_label"] == 1.0
    assert trained["parity"]["max_apart"] < 1e-4
    assert trained["accuracy"] > 0.9
    assert written["same_first_tokens"] == written["first_tokens"] == 4
    table = [line for line in shown.splitlines() if line.startswith("| ")]
    assert len(table) == 2 + len(STEPS) + 1  # training has a line for predicting
    assert f"${1000 / scored['texts_per_s']:,.2f}" in table[2]  # a thousandth of a dollar a second
    assert "Tiny random models" in shown


def test_without_a_gpu_it_says_how_to_try_it(run: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(SystemExit, match="--device cpu --small"):
        run()


def test_results_of_another_machine_are_replaced_and_it_is_said(
    run: Callable[..., dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = {"format": 1, "machine": {"gpu": "another"}, "small": True, "rows": {"score qwen-0.5b": {}}}
    (tmp_path / "gpu.json").write_text(json.dumps(there), "utf-8")
    done = run("--device", "cpu", "--steps", "write")
    assert list(done["rows"]) == STEPS[2:]
    assert "of another machine" in capsys.readouterr().out
