"""PGKD on toy data; the teacher is the replay teacher, a simulation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from support.toy_data import LABELS, OpenRun, finished_rounds, notes, record_requests, script_teacher

from potstill.data.pool import Pool
from potstill.data.task import GenerationRequest, LabelledText
from potstill.procedures.pgkd import rounds as rounds_module
from potstill.procedures.pgkd.recipe import pgkd
from potstill.reports.finish_run import finish_run
from potstill.run.notes import Evaluated, RoundsFinished
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec
from potstill.teachers.base import Teacher

# --- the loop ----------------------------------------------------------------------------------------------


def test_generated_texts_make_a_better_student(begin: OpenRun, pool: Pool) -> None:
    with begin(rounds=5) as run:
        report = finish_run(run, pgkd(run))
        rounds = finished_rounds(run)
    base = next(each for each in report.baselines if each.name.startswith("linear"))
    assert report.student.evaluation is not None
    assert base.accuracy is not None
    assert report.student.evaluation.accuracy.value > base.accuracy.value + 0.03
    assert [each.round for each in rounds] == [1, 2, 3, 4, 5]
    assert all(each.n_train <= len(pool.subset("train")) + 32 * each.round for each in rounds)
    assert "imulation" in report.simulation


def test_the_student_with_the_lowest_validation_loss_is_returned(begin: OpenRun, pool: Pool) -> None:
    with begin(rounds=4) as run:
        student = pgkd(run)
        losses = [run.evaluate(student, pool.subset("validation")).log_loss]
        rounds, (end,) = finished_rounds(run), notes(run, RoundsFinished)
        evaluated = {each.student for each in notes(run, Evaluated)}
    assert losses[0] == min(each.validation_loss for each in rounds)
    assert end.best_round == min(rounds, key=lambda each: each.validation_loss).round
    assert evaluated >= {"round 0", "round 1"}


def test_it_stops_when_the_loss_has_not_fallen_for_long_enough(
    begin: OpenRun, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(original: Teacher, request: GenerationRequest) -> list[LabelledText]:
        """Texts with the label that comes next in the list."""
        texts = original.generate(request).texts
        return [LabelledText(each.text, LABELS[(LABELS.index(each.label) + 1) % len(LABELS)]) for each in texts]

    with begin(rounds=8, patience=2) as run:
        script_teacher(run, monkeypatch, wrong)
        student = pgkd(run)
        rounds = finished_rounds(run)
        assert [each.is_best for each in rounds] == [False, False]
        (end,) = notes(run, RoundsFinished)
        assert end.best_round == 0
        gold = pool.subset("train")
        alone = run.learn(gold.texts, np.eye(4, dtype=np.float32)[gold.gold])
        assert run.student_key(student) == run.student_key(alone)


def test_generated_labels_may_be_corrected_with_noisy_labels(
    begin: OpenRun, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for noisy_labels in (False, True):
        seen: list[Any] = []
        with begin(f"noisy {noisy_labels}", rounds=1, noisy_labels=noisy_labels) as run:
            learn = run.learn
            monkeypatch.setattr(
                run, "learn", lambda *a, seen=seen, learn=learn, **b: (seen.append(b), learn(*a, **b))[1]
            )
            pgkd(run)
        assert seen[0]["trust"].noisy is None
        assert (seen[1]["trust"].noisy is not None) is noisy_labels
    assert not seen[1]["trust"].noisy[: len(pool.subset("train"))].any()
    assert seen[1]["trust"].noisy[len(pool.subset("train")) :].all()


def test_with_roll_back_a_harmful_round_is_undone(begin: OpenRun, monkeypatch: pytest.MonkeyPatch) -> None:
    turn: list[int] = []

    def first_wrong(original: Teacher, request: GenerationRequest) -> Sequence[LabelledText]:
        turn.append(1)
        texts = original.generate(request).texts
        return [LabelledText(each.text, "money") for each in texts] if len(turn) == 1 else texts

    with begin(rounds=2, roll_back=True) as run:
        script_teacher(run, monkeypatch, first_wrong)
        pgkd(run)
        first, second = finished_rounds(run)
    assert not first.is_best
    assert second.is_best
    assert second.n_train < first.n_train + second.acquired.n_accepted


def test_the_same_seed_and_stored_answers_give_the_same_student(begin: OpenRun, pool: Pool) -> None:
    texts = pool.subset("test").texts
    with begin("one") as run:
        first = pgkd(run).predict_proba(texts)
        calls = len(run.store.calls())
        np.testing.assert_array_equal(first, pgkd(run).predict_proba(texts))
        assert len(run.store.calls()) == calls
    with begin("two") as run:
        np.testing.assert_array_equal(first, pgkd(run).predict_proba(texts))
        assert run.ledger.totals().by_category["llm"] > 0
        assert not [call for call in run.store.calls() if call.category == "llm" and call.paid]


# --- the request ------------------------------------------------------------------------------------------


def test_a_request_shows_training_texts_alone_and_never_a_validation_or_test_text(
    begin: OpenRun, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with begin(cv_folds=3, label_allocation="error") as run:
        requests = record_requests(run, monkeypatch)
        pgkd(run)
    shown = json.dumps([[str(request), str(request.feedback)] for request in requests])
    assert len(requests) == 3
    assert any(text in shown for text in pool.subset("train").texts)
    for split in ("validation", "test"):
        assert not [text for text in pool.subset(split).texts if text in shown]  # type: ignore[arg-type]


def test_quick_folds_train_the_students_of_the_folds_alone_in_another_way(
    begin: OpenRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = ComponentSpec(name="linear", c=1.0)
    monkeypatch.setattr(rounds_module, "quick_student", lambda student: quick)
    learnt: list[tuple[int, Any]] = []
    learn = Run.learn

    def record(self: Run, texts: Any, targets: Any, **options: Any) -> Any:
        learnt.append((len(texts), options["student"]))
        return learn(self, texts, targets, **options)

    monkeypatch.setattr(Run, "learn", record)
    with begin(cv_folds=3, cv_quick=True, rounds=1) as run:
        pgkd(run)
    n_gold = learnt[0][0]
    assert [student for n, student in learnt if n < n_gold] == [quick] * 3
    assert [student for n, student in learnt if n >= n_gold] == [None, None]


def test_a_request_has_the_report_and_up_to_sixteen_texts_of_each_kind(
    begin: OpenRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    with begin(cv_folds=3, rounds=1) as run:
        requests = record_requests(run, monkeypatch)
        pgkd(run)
    (request,) = requests
    feedback = request.feedback
    assert feedback is not None
    assert (request.n, len(request.examples), len(feedback.incorrect), len(feedback.hard_negatives)) == (32, 16, 16, 16)
    assert 0 < len(feedback.correct) <= 16
    assert [each.label for each in feedback.report] == list(LABELS)
    assert all(each.predicted == each.label for each in feedback.correct)
    assert all(each.predicted != each.label for each in (*feedback.incorrect, *feedback.hard_negatives))
    assert not {each.text for each in feedback.incorrect} & {each.text for each in feedback.hard_negatives}
    confidences = [each.confidence for each in feedback.hard_negatives]
    assert confidences == sorted(confidences, reverse=True)
    assert max(confidences) >= max(each.confidence for each in feedback.incorrect)


@pytest.mark.parametrize(
    ("off", "gone"),
    [
        ({"validation_report": False}, {"report"}),
        ({"hard_negatives": False}, {"hard_negatives"}),
        ({"predictions": False}, {"correct", "incorrect"}),
        (
            {"validation_report": False, "hard_negatives": False, "predictions": False},
            {"report", "hard_negatives", "correct"},
        ),
    ],
)
def test_an_ablation_takes_its_part_out_of_the_request(
    begin: OpenRun, monkeypatch: pytest.MonkeyPatch, off: dict[str, bool], gone: set[str]
) -> None:
    with begin(cv_folds=3, rounds=1, **off) as run:
        requests = record_requests(run, monkeypatch)
        pgkd(run)
    feedback = requests[0].feedback
    assert feedback is not None
    for part in ("report", "correct", "incorrect", "hard_negatives"):
        assert bool(getattr(feedback, part)) is not (part in gone or (part == "incorrect" and "correct" in gone))
    assert (feedback.accuracy is None) is ("report" in gone)


def test_allocation_by_error_sets_the_number_of_texts_of_each_label(
    begin: OpenRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    with begin(label_allocation="error", rounds=1) as run:
        requests = record_requests(run, monkeypatch)
        pgkd(run)
        written = finished_rounds(run)[0].acquired.n_texts
    assert requests[0].feedback is not None
    assert sum(requests[0].feedback.label_counts.values()) == written == 32


def test_a_teacher_that_reads_no_feedback_is_asked_for_a_label_at_a_time(
    begin: OpenRun, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with begin(cv_folds=3, rounds=2) as run:
        script_teacher(
            run, monkeypatch, lambda original, request: original.generate(request).texts, reads_feedback=False
        )
        requests = record_requests(run, monkeypatch)
        finish_run(run, pgkd(run))
    first = [request for request in requests if request.seed == requests[0].seed]
    assert {request.label for request in first} <= set(LABELS)
    assert sum(request.n for request in first) == 32
    shown = {each.text for request in first for each in (*request.examples, *request.counterexamples)}
    assert shown
    assert shown <= set(pool.subset("train").texts)
    assert all(each.label == request.label for request in first for each in request.examples)
    assert all(each.label != request.label for request in first for each in request.counterexamples)
