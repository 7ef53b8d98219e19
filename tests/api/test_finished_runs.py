"""The command of a finished run, given again: it shows the report and buys nothing, whatever the procedure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.keyword_task import world

from potstill.api import distill
from potstill.ledger.store import CallRecord, RunStore
from potstill.run import SilentReporter

PROCEDURES: dict[str, dict[str, Any]] = {
    "finetune": {},
    "kd": {},
    "selftrain": {},
    "pgkd": {"rounds": 2},
    "allocate": {"pilot_labels": 16, "pilot_seeds": 1, "large_model": ""},
    "ft-kd": {},
}


class Sentences(SilentReporter):
    """Keeps what a run says."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def info(self, sentence: str) -> None:
        self.said.append(sentence)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    table = world(40)
    rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    (tmp_path / "known.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    shown = [{**row, "label": row["label"] if number % 2 else ""} for number, row in enumerate(rows)]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, shown)), encoding="utf-8")
    return tmp_path / "potstill.toml"


def write(spec: Path, name: str, budget: float, failure_rate: float = 0.0) -> None:
    options = "".join(f"{key} = {json.dumps(value)}\n" for key, value in PROCEDURES[name].items())
    spec.write_text(
        f'budget = {budget}\nstudent = "linear"\n[data]\nfile = "data.jsonl"\n'
        f'[procedure]\nname = "{name}"\n{options}'
        f'[teacher]\nname = "{"trained:linear" if name == "ft-kd" else "replay"}"\n'
        + ("" if name == "ft-kd" else 'file = "known.jsonl"\ngenerate_from = "known.jsonl"\nusd_per_label = 0.002\n')
        + (f"batch_size = 1\nfailure_rate = {failure_rate}\n" if name != "ft-kd" else ""),
        encoding="utf-8",
    )


def calls(folder: Path) -> list[CallRecord]:
    store = RunStore(folder, write=False)
    try:
        return store.calls()
    finally:
        store.close()


@pytest.mark.parametrize("name", PROCEDURES)
def test_a_finished_run_reports_and_buys_nothing(spec: Path, name: str) -> None:
    write(spec, name, 0.16, failure_rate=0.1)
    out = spec.parent / "runs" / "one"
    first = distill(spec, out=out)
    bought = calls(out)
    reporter = Sentences()
    again = distill(spec, out=out, reporter=reporter)
    assert calls(out) == bought
    assert again.report == first.report
    assert "finished and buys nothing more" in reporter.said[-1]


@pytest.mark.parametrize("removed", ["report.json", "bundle"])
def test_what_was_removed_of_a_finished_run_is_made_again_with_the_same_student(spec: Path, removed: str) -> None:
    write(spec, "kd", 0.16, failure_rate=0.1)
    out = spec.parent / "runs" / "one"
    first = distill(spec, out=out)
    bought = calls(out)
    (out / removed).rename(spec.parent / "away")
    rebuilt = distill(spec, out=out).report
    assert (out / removed).exists()
    assert calls(out) == bought
    assert rebuilt.student.evaluation == first.report.student.evaluation


def test_a_finished_run_goes_on_with_a_larger_budget_and_stays_finished_with_a_smaller_one(spec: Path) -> None:
    out = spec.parent / "runs" / "one"
    write(spec, "kd", 0.2)
    first = distill(spec, out=out).report
    bought = calls(out)
    assert first.answers is not None
    assert distill(spec, out=out, budget=0.19).report == first
    assert calls(out) == bought
    more = distill(spec, out=out, budget=0.26).report
    assert more.answers is not None
    assert more.answers.by_state["ok"] > first.answers.by_state["ok"]
    bought = calls(out)
    for budget in (0.26, 0.2):
        assert distill(spec, out=out, budget=budget).report == more
        assert calls(out) == bought
