"""PGKD with labels that have no gold text: their first texts come from the teacher."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.toy_data import LABELS, OpenRun, notes, record_requests, table

from potstill.data.pool import Pool, PoolOptions, build_pool
from potstill.data.tables import Table
from potstill.data.task import Feedback, GenerationRequest, Task
from potstill.evaluation.metrics import compute_metrics
from potstill.procedures.pgkd.generation_request import PgkdOptions, TrainingTexts, make_generation_request
from potstill.procedures.pgkd.recipe import pgkd
from potstill.reports.finish_run import finish_run
from potstill.run.notes import RoundsFinished
from potstill.teachers.generation_prompts import fit_generation_prompt
from potstill.teachers.generation_quotas import label_quotas


def sparse_pool(*, validated: bool) -> Pool:
    """Gold of three labels; "food" has validation texts only if `validated`, and test texts."""
    rows = [*table(12, 1, "train"), *table(8, 2, "validation"), *table(20, 3, "test")]
    dropped = {"train"} if validated else {"train", "validation"}
    rows = [row for row in rows if row["label"] != "food" or row["split"] not in dropped]
    columns = {name: [row[name] for row in rows] for name in ("text", "label", "split")}
    return build_pool(Table.from_columns(columns), labels=LABELS, options=PoolOptions(split="split")).pool


@pytest.mark.parametrize("validated", [True, False])
def test_a_label_without_gold_is_learnt_from_generated_texts(begin: OpenRun, validated: bool) -> None:
    with begin(given=sparse_pool(validated=validated), rounds=3, patience=3) as run:
        report = finish_run(run, pgkd(run))
        (end,) = notes(run, RoundsFinished)
    assert end.labels_without_gold == ("food",)
    assert end.labels_without_validation == (() if validated else ("food",))
    assert "Labels without a training text of yours: 1 ('food')" in end.sentence()
    assert ("without a validation text" in end.sentence()) is not validated
    assert report.student.evaluation is not None
    recall = {each.label: each.recall for each in report.student.evaluation.per_class}
    # Without validation texts the loss would have preferred the student that never predicts the label.
    assert recall["food"] > 0.3
    assert end.best_round > 0


def test_the_first_request_names_the_label_and_a_later_one_does_not(
    begin: OpenRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    with begin(given=sparse_pool(validated=True), rounds=2) as run:
        requests = record_requests(run, monkeypatch)
        pgkd(run)
    feedback = [each.feedback for each in requests]
    assert [None if each is None else tuple(each.untrained_labels) for each in feedback] == [("food",), ()]


@pytest.mark.parametrize("agree", ["student", "pvi"])
def test_a_student_that_never_saw_a_label_cannot_reject_its_texts(begin: OpenRun, agree: str) -> None:
    with begin(given=sparse_pool(validated=True), rounds=1, agree=agree) as run:
        student = pgkd(run)
        rows = run.pool.subset("test")
        predicted = np.asarray(student.predict_proba(rows.texts)).argmax(axis=1)
    assert (predicted == LABELS.index("food")).any()


@pytest.mark.parametrize("label_allocation", ["error", "error_reduction"])
@pytest.mark.parametrize("labels_per_request", [0, 2])
def test_a_request_gives_labels_without_gold_their_share(label_allocation: str, labels_per_request: int) -> None:
    labels = tuple("abcdef")
    gold = np.repeat([0, 1, 2, 3], 5)
    probs = np.full((20, 6), 0.02)
    probs[np.arange(20), gold] = 0.9
    options = PgkdOptions.model_validate(
        {"label_allocation": label_allocation, "labels_per_request": labels_per_request, "texts_per_round": 24}
    )
    evaluation = compute_metrics(gold, probs, labels, n_resamples=1)
    rows = TrainingTexts(tuple(f"text {i}" for i in range(20)), gold, 20)
    feedback = make_generation_request(Task(labels), rows, probs, evaluation, options, (0, 1)).feedback
    assert feedback is not None
    assert tuple(feedback.untrained_labels) == ("e", "f")
    assert set(feedback.label_counts) >= {"e", "f"}
    if labels_per_request:
        assert tuple(feedback.labels) == ("e", "f")


def test_quotas_by_the_report_give_a_label_without_a_training_text_a_full_share() -> None:
    labels = ("a", "b", "c")
    gold = np.array([0] * 50 + [1] * 50)
    report = compute_metrics(gold, np.eye(3)[gold], labels, n_resamples=1).per_class
    feedback = Feedback(report=report, untrained_labels=("c",))
    assert label_quotas(labels, feedback, 10, np.random.default_rng(0))["c"] == 10


def test_the_prompt_asks_for_texts_of_such_a_label_and_keeps_its_description() -> None:
    task = Task(("a", "b"), descriptions={"a": "first " * 200, "b": "meals and restaurants"})
    request = GenerationRequest("", 4, (), feedback=Feedback(untrained_labels=("b",)))
    prompt = fit_generation_prompt(task, request, 400)
    written = "\n".join(each["content"] for each in prompt.messages())
    assert "There is no training text yet of: b." in written
    assert "meals and restaurants" in written
    assert "first first" not in written
    plain = fit_generation_prompt(task, replace(request, feedback=Feedback()), 4000)
    assert "no training text" not in "\n".join(each["content"] for each in plain.messages())
