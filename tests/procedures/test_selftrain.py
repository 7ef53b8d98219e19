"""Self-training on a small world where words tell the labels apart: no teacher, only machine time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.keyword_task import world
from support.tinybert import write_tinybert

from potstill.data.pool import Pool, PoolOptions, build_pool
from potstill.data.tables import Table
from potstill.data.task import Task
from potstill.errors import BadData, BadSpec
from potstill.evaluation.calibration import log_softmax
from potstill.planning.cost_estimate import estimate_cost
from potstill.procedures.label_propagation import propagate_labels
from potstill.procedures.opinions import Opinion, combine_opinions, refit_heads
from potstill.procedures.selftrain import SelfTrainOptions, pseudo_label_spec, selftrain
from potstill.registry import read_options
from potstill.run.inputs import RunInputs, spec_overrides
from potstill.run.notes import PseudoLabelled
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec, Spec


@pytest.fixture(scope="module")
def pool() -> Pool:
    return build_pool(Table.from_columns(world(120)), options=PoolOptions(gold=9, validation_share=0)).pool


def begin(folder: Path, pool: Pool, student: object = "static", **options: object) -> Run:
    spec = Spec.from_dict({"budget": 1, "student": student, "procedure": {"name": "selftrain", **options}})
    return Run.open(folder, spec, Task(pool.labels, name="world"), pool)


@pytest.fixture
def tiny(tmp_path: Path) -> dict[str, object]:
    return {"name": f"encoder:{write_tinybert(tmp_path / 'tinybert')}", "mode": "frozen"}


def test_it_trains_on_the_pool_and_pays_no_teacher(tmp_path: Path, pool: Pool) -> None:
    student = {"name": "linear", "c": 3.0}
    with begin(tmp_path / "run", pool, student, rounds=2) as run:
        student = selftrain(run)
        test = run.pool.subset("test")
        alone = run.learn(run.pool.subset("train").texts, np.eye(3, dtype=np.float32)[run.pool.subset("train").gold])
        better = run.evaluate(student, test).accuracy.value
        assert better > run.evaluate(alone, test).accuracy.value
        rounds = [note.record.round for note in run.notes() if isinstance(note.record, PseudoLabelled)]
        assert rounds == [1, 2]
        bought = run.ledger.totals().by_category
        assert bought["llm"] == bought["human"] == 0
        assert bought["compute"] > 0


def test_the_same_run_again_trains_nothing(tmp_path: Path, pool: Pool) -> None:
    texts = list(pool.subset("test").texts)
    with begin(tmp_path / "run", pool, {"name": "linear"}) as run:
        first, spent = selftrain(run).predict_proba(texts), run.ledger.totals().charged
    with begin(tmp_path / "run", pool, {"name": "linear"}) as run:
        np.testing.assert_array_equal(selftrain(run).predict_proba(texts), first)
        assert run.ledger.totals().charged == spent


def test_without_gold_an_encoder_begins_from_the_label_names(tmp_path: Path, tiny: dict[str, object]) -> None:
    columns = {"text": world(30)["text"]}
    bare = build_pool(Table.from_columns(columns), labels=("soup", "tennis", "loan")).pool
    with begin(tmp_path / "run", bare, tiny) as run:
        student = selftrain(run)
        assert student.predict_proba(["a loan"]).shape == (1, 3)
        assert len(run.student_keys) == 2
    with (
        begin(tmp_path / "other", bare, "linear") as run,
        pytest.raises(BadSpec, match="linear cannot begin without a labelled text"),
    ):
        selftrain(run)


def test_no_pool_is_an_error_with_a_hint(tmp_path: Path) -> None:
    gold_only = build_pool(Table.from_columns(world(20)), options=PoolOptions(validation_share=0)).pool
    with begin(tmp_path / "run", gold_only, "linear") as run, pytest.raises(BadData, match="--procedure finetune"):
        selftrain(run)


def test_label_propagation_makes_probabilities_surer_near_gold_texts() -> None:
    towards = np.eye(2, dtype=np.float32)[[0, 0, 1, 1, 0, 1]]
    vectors = towards + np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32) * 0.02
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    beliefs = np.array([[0.6, 0.4], [0.4, 0.6], [0.5, 0.5], [0.3, 0.7], [1, 0], [0, 1]], dtype=np.float32)
    propagated = propagate_labels(beliefs, vectors, 4, n_neighbors=2)
    np.testing.assert_allclose(propagated.sum(axis=1), 1, atol=1e-5)
    assert propagated.argmax(axis=1).tolist() == [0, 0, 1, 1]
    assert propagated.max(axis=1).min() > 0.7


def test_an_encoder_trains_on_pseudo_labels_with_its_kinds_options(
    tmp_path: Path, pool: Pool, tiny: dict[str, object]
) -> None:
    with begin(tmp_path / "run", pool, {**tiny, "mode": "full", "epochs": 1}) as run:
        student = selftrain(run)
        assert student.fit_info.validation_rows == 0
    frozen = ComponentSpec.model_validate({"name": "encoder:minilm", "few_shot": False})
    assert pseudo_label_spec(frozen) is frozen
    linear = ComponentSpec.model_validate({"name": "linear"})
    assert pseudo_label_spec(linear) is linear


def test_a_trained_teacher_s_opinion_is_asked_combined_and_charged(tmp_path: Path, pool: Pool) -> None:
    spec = Spec.from_dict(
        {"budget": 1, "student": {"name": "linear", "c": 3.0}, "procedure": "selftrain", "teacher": "trained:static"}
    )
    with Run.open(tmp_path / "run", spec, Task(pool.labels, name="world"), pool) as run:
        student = selftrain(run)
        assert len(run.student_keys) == 3  # the student of the gold, the teacher, and the student of both
        assert run.teacher_record is not None
        assert run.teacher_record.teacher.name == "trained:static"
        spent = run.ledger.totals().by_purpose
        assert spent["teach"] > 0
        assert student.predict_proba(["a loan"]).shape == (1, 3)
        with pytest.raises(BadSpec, match="teacher_weight"):
            read_options(SelfTrainOptions, "procedure 'selftrain'", {"teacher_weight": 1.5})


def test_a_peer_labels_the_texts_in_the_student_s_place(tmp_path: Path, pool: Pool) -> None:
    overrides = spec_overrides("trained:linear", "static", 1, {"peer": "linear"})
    assert overrides["procedure"] == {"name": "selftrain", "peer": "linear"}
    with Run.open(tmp_path / "run", Spec.from_dict(overrides), Task(pool.labels, name="world"), pool) as run:
        student = selftrain(run)
        names = [record.student for record in run.learn_records(run.student_keys).values()]
        assert sorted(names) == ["linear", "static"]  # peer and teacher are one linear student
        assert run.learn_records([run.student_key(student)])[run.student_key(student)].student == "static"


def test_a_plan_prices_a_trained_teacher_and_no_other(pool: Pool) -> None:
    given = {"budget": 1, "student": "linear", "procedure": "selftrain"}
    for teacher, asked in (("trained:static", True), ("local", False), (None, False)):
        spec = Spec.from_dict(given if teacher is None else {**given, "teacher": teacher})
        inputs = RunInputs(spec, Task(pool.labels, name="world"), pool, "world", "", (), {})
        plan = estimate_cost(inputs)
        assert (plan is not None) == asked
        if plan is not None:
            assert plan.n_texts == len(pool.subset("pool").texts)
            assert "training it takes" in plan.to_text()


def test_opinions_that_err_apart_are_better_together() -> None:
    rng = np.random.default_rng(0)
    gold, n = rng.integers(0, 4, 400), 400
    vectors = np.eye(4, 8, dtype=np.float32)[gold] + 0.4 * rng.normal(size=(n, 8)).astype(np.float32)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def opinion() -> Opinion:
        logits = 1.2 * np.eye(4)[gold] + rng.normal(size=(n, 4))
        return Opinion(log_softmax(logits)[:380].astype(np.float32), vectors)

    one, other = opinion(), opinion()
    targets = np.eye(4, dtype=np.float32)[gold[380:]]

    def accuracy(opinions: list[Opinion], neighbors: int) -> float:
        weights = [1 / len(opinions)] * len(opinions)
        probs = combine_opinions(opinions, weights, targets, 0.5, neighbors)
        np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-5)
        return float((probs.argmax(axis=1) == gold[:380]).mean())

    alone = max(accuracy([one], 0), accuracy([other], 0))
    assert accuracy([one, other], 0) > alone + 0.05
    assert accuracy([one, other], 10) > accuracy([one, other], 0)
    probs = combine_opinions([one, other], [0.5, 0.5], targets, 0.5, 0)
    refitted = refit_heads([one, other], probs, targets)
    assert [each.vectors is vectors for each in refitted] == [True, True]
    assert accuracy(refitted, 0) > accuracy([one, other], 0)  # the vectors tell more than the opinions did


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"round": 2}, "no option 'round'"),
        ({"rounds": 0}, "rounds = 0"),
        ({"n_neighbors": -1}, "n_neighbors = -1"),
        ({"temperature": 0}, "temperature = 0"),
        ({"max_texts": 2.5}, "max_texts = 2.5"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(BadSpec, match=says):
        read_options(SelfTrainOptions, "procedure 'selftrain'", options)
