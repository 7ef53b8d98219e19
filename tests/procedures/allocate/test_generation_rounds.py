"""PGKD rounds as a purchase of `allocate`; the teacher is the replay teacher, a simulation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.toy_data import LABELS, finished_rounds, next_label, notes, script_teacher, table

from potstill.data.pool import Pool, PoolOptions, build_pool
from potstill.data.tables import Table
from potstill.data.task import GenerationRequest, LabelledText, Task
from potstill.errors import BadSpec
from potstill.procedures.allocate.decisions import BuyAnswers, BuyLabels, Decision, GenerateTexts, Stop
from potstill.procedures.allocate.recipe import allocate
from potstill.reports.finish_run import finish_run
from potstill.run.notes import Allocated
from potstill.run.run import Run
from potstill.run.spec import Spec

Opened = Callable[..., Run]
CHEAP = {"usd_per_label": 0.001, "usd_per_hour": 0.1}
DEAR = {"usd_per_label": 5.0, "usd_per_hour": 0.1}


@pytest.fixture(scope="module")
def rows() -> Pool:
    """Twelve training texts a label, a hundred validation texts, and unlabelled ones with hidden labels."""
    there = [*table(12, 1, "train"), *table(25, 2, "validation"), *table(10, 3, "test"), *table(30, 5, "pool")]
    columns = {name: [row[name] for row in there] for name in ("text", "label", "split")}
    return build_pool(Table.from_columns(columns), labels=LABELS, options=PoolOptions(split="split")).pool


@pytest.fixture
def opened(tmp_path: Path, rows: Pool, known: Path) -> Opened:
    def open_run(name: str = "run", prices: Any = None, **over: Any) -> Run:
        replay = {
            "name": "replay",
            "file": str(known),
            "generate_from": str(known),
            "accuracy": 0.95,
            "prompt_tokens": 2000,
        }
        own = {
            "name": "allocate",
            "large_model": "",
            "pilot_labels": 40,
            "pilot_seeds": 1,
            "annotator": {"simulate_from": "pool"},
        }
        record = {
            "budget": over.pop("budget", 1),
            "teacher": {**replay, "usd_per_million_tokens": 5.0, **over.pop("teacher", {})},
            "student": {"name": "linear", "c": 3.0},
            "prices": prices or DEAR,
            "procedure": {**own, **over},
        }
        return Run.open(tmp_path / name, Spec.from_dict(record), Task(rows.labels, name="world"), rows)

    return open_run


def decisions(run: Run) -> list[type[Decision]]:
    return [type(each) for each in notes(run, Decision)]


def test_a_round_that_gains_most_per_dollar_is_run_and_makes_a_better_student(opened: Opened) -> None:
    with opened() as run:
        report = finish_run(run, allocate(run))
        assert decisions(run)[:2] == [GenerateTexts, GenerateTexts]
        (end,) = notes(run, Allocated)
        assert end.n_generated > 0
        assert end.candidate_scores["generated"] > end.candidate_scores["labels only"]
        assert notes(run, GenerateTexts)[0].points_per_usd > 0
        assert any(call.category == "llm" for call in run.store.calls())
        assert run.ledger.free >= 0
    assert report.rounds is not None
    assert "imulation" in report.simulation


def test_labels_are_bought_first_if_they_gain_more_per_dollar(opened: Opened) -> None:
    with opened(prices=CHEAP, teacher={"usd_per_million_tokens": 5000.0}) as run:
        allocate(run)
        assert decisions(run)[0] is BuyLabels


def test_the_gain_of_a_round_updates_the_expectation_of_the_next(opened: Opened) -> None:
    with opened() as run:
        allocate(run)
        first, second = (each.basis.sources.generation for each in notes(run, Decision)[:2])
    assert "prior" in first
    assert "prior and 1 measured" in second
    assert first.split(",")[0] != second.split(",")[0]


def test_a_teacher_that_cannot_generate_is_not_asked_to(opened: Opened) -> None:
    with opened(teacher={"generate_from": ""}) as run:
        allocate(run)
        assert GenerateTexts not in decisions(run)
        assert all(each.basis.sources.generation == "" for each in notes(run, Decision))


def test_rounds_can_be_switched_off(opened: Opened) -> None:
    with opened(generation={"rounds": 0}) as run:
        allocate(run)
        assert GenerateTexts not in decisions(run)


@pytest.mark.parametrize("budget", [0.005, 0.02, 0.05])
def test_it_ends_within_any_budget(opened: Opened, budget: float) -> None:
    with opened(budget=budget, teacher={"usd_per_million_tokens": 10.0}) as run:
        allocate(run)
        assert run.ledger.totals().charged <= run.ledger.limit
        assert run.ledger.free >= 0


def test_min_gain_ends_generation_as_it_ends_all_purchases(opened: Opened) -> None:
    with opened(min_gain=1e6) as run:
        allocate(run)
        assert decisions(run) == [Stop]


def test_a_run_that_is_killed_in_a_round_and_resumed_ends_the_same(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["bank loan", *(row["text"] for row in table(5, 9, ""))]
    with opened("uncut/run") as run:
        whole, actions = allocate(run).predict_logits(asked), decisions(run)
    with opened("cut/run") as run:
        generate, calls = run.generate, []

        def cut(*args: Any, **more: Any) -> Any:
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return generate(*args, **more)

        monkeypatch.setattr(run, "generate", cut)
        with pytest.raises(KeyboardInterrupt):
            allocate(run)
    with opened("cut/run") as run:
        again = allocate(run).predict_logits(asked)
        assert decisions(run) == actions
    assert np.array_equal(whole, again)


def test_a_round_that_does_not_lower_the_loss_is_undone_and_patience_ends_it(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(original: Any, request: GenerationRequest) -> list[LabelledText]:
        return [next_label(each) for each in original.generate(request).texts]

    with opened(generation={"patience": 2}) as run:
        script_teacher(run, monkeypatch, wrong)
        allocate(run)
        rounds, (end,) = finished_rounds(run), notes(run, Allocated)
    assert 1 <= len(rounds) <= 2
    assert end.n_generated == 0
    assert "generated" not in end.candidate_scores


def test_a_copy_of_a_validation_text_is_not_trained_on(
    opened: Opened, rows: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = rows.subset("validation")

    def copies(original: Any, request: GenerationRequest) -> list[LabelledText]:
        return [LabelledText(text, LABELS[k]) for text, k in zip(held.texts[:20], held.gold[:20], strict=True)]

    with opened() as run:
        script_teacher(run, monkeypatch, copies)
        allocate(run)
        rounds = [each.acquired for each in finished_rounds(run)]
        assert rounds[0].rejected_by_reason["copies validation"] == 20
        assert all(each.n_accepted == 0 for each in rounds)


def test_the_option_real_is_refused(opened: Opened) -> None:
    with opened(generation={"query_strategy": "margin"}) as run, pytest.raises(BadSpec, match="strategy of its own"):
        allocate(run)


def test_answers_are_bought_a_part_at_a_time_and_then_measured(opened: Opened, tmp_path: Path) -> None:
    there = [*table(25, 2, ""), *table(30, 5, "")]
    (tmp_path / "there.jsonl").write_text("\n".join(map(json.dumps, there)), encoding="utf-8")
    with opened(teacher={"prompt_tokens": 20, "file": str(tmp_path / "there.jsonl")}) as run:
        allocate(run)
        first = next(each for each in notes(run, Decision) if not isinstance(each, GenerateTexts))
        assert isinstance(first, BuyAnswers)
        assert first.n_texts <= 120
        measured = notes(run, Decision)[-1].basis.findings.llm.accuracy
        assert measured is not None
        assert 0.7 < measured <= 1
        (end,) = notes(run, Allocated)
        assert end.candidate_scores["answers"] > end.candidate_scores["labels only"]


def test_every_decision_has_a_reason(opened: Opened) -> None:
    with opened() as run:
        allocate(run)
        assert all(len(each.reason) > 20 for each in notes(run, Decision))
