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
from potstill.procedures.label_propagation import propagate_labels
from potstill.procedures.selftrain import SelfTrainOptions, pseudo_label_spec, selftrain
from potstill.registry import read_options
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
