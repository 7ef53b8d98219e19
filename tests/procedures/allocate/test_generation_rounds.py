"""A round of PGKD as one of the things that `allocate` can buy; the teacher is the replay teacher, a simulation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.toy_data import LABELS, notes, pretend, table

from potstill.data.pool import Pool, PoolOptions, build_pool
from potstill.data.tables import Table
from potstill.data.task import GenerationRequest, LabelledText, Task
from potstill.errors import BadSpec
from potstill.procedures.allocate.recipe import allocate
from potstill.reports.finish_run import finish_run
from potstill.run.run import Run
from potstill.run.spec import Spec

Opened = Callable[..., Run]
CHEAP = {"usd_per_label": 0.001, "usd_per_hour": 0.1}
DEAR = {"usd_per_label": 5.0, "usd_per_hour": 0.1}


@pytest.fixture(scope="module")
def rows() -> Pool:
    """Twelve gold texts a label, a hundred to measure on, and unlabelled ones whose labels people could say."""
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


def decisions(run: Run) -> list[str]:
    return [each["action"] for each in notes(run, "planned")]


def test_a_round_is_taken_where_a_dollar_gains_most_in_it_and_makes_a_better_student(opened: Opened) -> None:
    with opened() as run:
        report = finish_run(run, allocate(run))
        assert decisions(run)[:2] == ["generate_texts", "generate_texts"]
        (end,) = notes(run, "allocated")
        assert end["written"] > 0
        assert end["tried"]["written"] > end["tried"]["labels only"]
        assert notes(run, "planned")[0]["points_per_usd"] > 0
        assert any(call.category == "llm" for call in run.store.calls())
        assert run.ledger.free >= 0
    assert report.rounds is not None
    assert "imulation" in report.simulation


def test_people_are_paid_first_where_their_labels_gain_more_a_dollar(opened: Opened) -> None:
    with opened(prices=CHEAP, teacher={"usd_per_million_tokens": 5000.0}) as run:
        allocate(run)
        assert decisions(run)[0] == "buy_labels"
        assert "generate_texts" not in decisions(run)[:1]


def test_what_a_round_gained_corrects_what_the_next_is_expected_to(opened: Opened) -> None:
    with opened() as run:
        allocate(run)
        told = notes(run, "planned")
    assert "prior" in told[0]["basis"]["sources"]["generation"]
    assert "prior and 1 measured" in told[1]["basis"]["sources"]["generation"]
    assert (
        told[0]["basis"]["sources"]["generation"].split(",")[0]
        != told[1]["basis"]["sources"]["generation"].split(",")[0]
    )


def test_a_teacher_that_cannot_write_is_not_asked_to(opened: Opened) -> None:
    with opened(teacher={"generate_from": ""}) as run:
        allocate(run)
        assert "generate_texts" not in decisions(run)
        assert all(each["basis"]["sources"]["generation"] == "" for each in notes(run, "planned"))


def test_rounds_can_be_done_without(opened: Opened) -> None:
    with opened(generation={"rounds": 0}) as run:
        allocate(run)
        assert "generate_texts" not in decisions(run)


@pytest.mark.parametrize("budget", [0.005, 0.02, 0.05])
def test_it_ends_within_any_budget(opened: Opened, budget: float) -> None:
    with opened(budget=budget, teacher={"usd_per_million_tokens": 10.0}) as run:
        allocate(run)
        assert run.ledger.totals().charged <= run.ledger.limit
        assert run.ledger.free >= 0


def test_a_least_gain_ends_the_writing_as_it_ends_all_else(opened: Opened) -> None:
    with opened(min_gain=1e6) as run:
        allocate(run)
        assert decisions(run) == ["stop"]


def test_killed_in_a_round_and_taken_up_again_it_ends_as_if_never_cut(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["bank loan", *(row["text"] for row in table(5, 9, ""))]
    with opened("uncut/run") as run:
        whole, way = allocate(run).predict_logits(asked), decisions(run)
    with opened("cut/run") as run:
        write, calls = run.write, []

        def cut(*args: Any, **more: Any) -> Any:
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return write(*args, **more)

        monkeypatch.setattr(run, "write", cut)
        with pytest.raises(KeyboardInterrupt):
            allocate(run)
    with opened("cut/run") as run:
        again = allocate(run).predict_logits(asked)
        assert decisions(run) == way
    assert np.array_equal(whole, again)


def test_a_round_that_does_not_lower_the_loss_is_undone_and_patience_ends_it(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(real: Any, brief: GenerationRequest) -> list[LabelledText]:
        return [
            LabelledText(each.text, LABELS[(LABELS.index(each.label) + 1) % len(LABELS)])
            for each in real.generate(brief).texts
        ]

    with opened(generation={"patience": 2}) as run:
        pretend(run, monkeypatch, wrong)
        allocate(run)
        rounds, (end,) = notes(run, "round"), notes(run, "allocated")
    assert 1 <= len(rounds) <= 2
    assert end["written"] == 0
    assert "written" not in end["tried"]


def test_a_text_to_measure_on_is_not_learnt_though_the_teacher_writes_it(
    opened: Opened, rows: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = rows.subset("validation")

    def copies(real: Any, brief: GenerationRequest) -> list[LabelledText]:
        return [LabelledText(text, LABELS[k]) for text, k in zip(held.texts[:20], held.gold[:20], strict=True)]

    with opened() as run:
        pretend(run, monkeypatch, copies)
        allocate(run)
        told = notes(run, "round")
        assert told[0]["rejected"]["copies validation"] == 20
        assert all(each["accepted"] == 0 for each in told)


def test_real_texts_are_labelled_by_a_way_of_its_own(opened: Opened) -> None:
    with opened(generation={"real": "margin"}) as run, pytest.raises(BadSpec, match="strategy of its own"):
        allocate(run)


def test_answers_are_bought_at_once_a_slice_at_a_time_and_then_measured(opened: Opened, tmp_path: Path) -> None:
    there = [*table(25, 2, ""), *table(30, 5, "")]
    (tmp_path / "there.jsonl").write_text("\n".join(map(json.dumps, there)), encoding="utf-8")
    with opened(teacher={"prompt_tokens": 20, "file": str(tmp_path / "there.jsonl")}) as run:
        allocate(run)
        told = [each for each in notes(run, "planned") if each["action"] != "generate_texts"]
        assert told[0]["action"] == "buy_answers"
        assert told[0]["n_texts"] <= 120
        measured = told[-1]["basis"]["findings"]["llm"]["accuracy"]
        assert 0.7 < measured <= 1
        (end,) = notes(run, "allocated")
        assert end["tried"]["answers"] > end["tried"]["labels only"]


def test_every_decision_says_why(opened: Opened) -> None:
    with opened() as run:
        allocate(run)
        assert all(len(each["reason"]) > 20 for each in notes(run, "planned"))
