"""KD as papers write it, on a small world: a given temperature, a gold term, a match of hidden vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tinybert import write_tinybert
from support.toy_data import LABELS, table

from potstill.data.pool import Pool, PoolOptions, build_pool
from potstill.data.tables import Table
from potstill.data.task import Task
from potstill.errors import BadSpec
from potstill.procedures.kd import KdOptions, kd
from potstill.registry import read_options
from potstill.run.run import Run
from potstill.run.spec import Spec
from potstill.students.base import FeatureHint, StudentConfig, TrainingData
from potstill.students.encoder import EncoderStudent
from potstill.students.linear import LinearStudent
from potstill.students.static import StaticStudent
from potstill.testing import StudentContract


@pytest.fixture(scope="module")
def pool() -> Pool:
    """12 gold texts a label, 30 unlabelled, 20 of the test."""
    gold, test = table(12, 1, ""), table(20, 3, "")
    sources = {
        "train": Table.from_columns({key: [row[key] for row in gold] for key in ("text", "label")}),
        "pool": Table.from_columns({"text": [row["text"] for row in table(30, 2, "")]}),
        "test": Table.from_columns({key: [row[key] for row in test] for key in ("text", "label")}),
    }
    return build_pool(sources, labels=LABELS, options=PoolOptions(validation_share=0.0)).pool


def train_inputs(folder: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch, **procedure: Any) -> dict[str, Any]:
    """What the student of one distillation is trained on, and the teacher's raw scores of it."""
    spec = Spec.from_dict(
        {
            "budget": 1,
            "teacher": {"name": "trained:linear", "c": 3.0},
            "student": {"name": "linear", "c": 3.0},
            "procedure": {"name": "kd", **procedure},
        }
    )
    given: dict[str, Any] = {}
    with Run.open(folder, spec, Task(pool.labels), pool) as run:
        learn = run.learn

        def record(texts: Any, targets: Any, **more: Any) -> Any:
            if "trust" in more:  # the student's training data, not the teacher's
                given.update(texts=texts, targets=targets, **more)
            return learn(texts, targets, **more)

        monkeypatch.setattr(run, "learn", record)
        kd(run)
        assert run.teacher_record is not None
        given |= {
            "scores": run.teacher_record.answers.scores,
            "temperature": run.teacher_record.calibration.temperature,
        }
    return given


def test_a_given_temperature_softens_the_teachers_scores(
    tmp_path: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = train_inputs(tmp_path / "run", pool, monkeypatch, temperature=4, gold_weight=0)
    scores = given["scores"] / 4
    soft = np.exp(scores - scores.max(1, keepdims=True))
    np.testing.assert_allclose(given["targets"], soft / soft.sum(1, keepdims=True), atol=1e-5)
    assert given["temperature"] == 4


def test_without_a_gold_term_no_gold_text_is_trained_on(
    tmp_path: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = train_inputs(tmp_path / "run", pool, monkeypatch, gold_weight=0)
    assert not set(given["texts"]) & set(pool.subset("train").texts)
    assert given["trust"].noisy.all()


@pytest.mark.parametrize(("temperature", "share"), [("fitted", 3.0), (2, 3.0 / 4), (5, 3.0 / 25)])
def test_the_gold_term_has_the_given_weight_beside_t_squared(
    tmp_path: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch, temperature: Any, share: float
) -> None:
    given = train_inputs(tmp_path / "run", pool, monkeypatch, temperature=temperature, gold_weight=3)
    gold = ~given["trust"].noisy
    assert given["trust"].weights[gold].sum() / given["trust"].weights[~gold].sum() == pytest.approx(share, rel=1e-5)
    assert set(np.array(given["texts"])[gold]) == set(pool.subset("train").texts)


@pytest.mark.parametrize(
    "options", [{"temperature": 0}, {"temperature": "warm"}, {"gold_weight": -1}, {"hint_weight": 1}, {"temprature": 2}]
)
def test_an_invalid_option_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(BadSpec, match=next(iter(options))):
        read_options(KdOptions, "procedure 'kd'", options)


def test_a_hint_of_a_teacher_without_vectors_is_refused(tmp_path: Path, pool: Pool) -> None:
    known = tmp_path / "known.csv"
    known.write_text("text,label\n" + "\n".join(f"{row['text']},{row['label']}" for row in table(30, 2, "")))
    spec = Spec.from_dict(
        {
            "budget": 1,
            "teacher": {"name": "replay", "file": str(known), "usd_per_million_tokens": 1},
            "student": "linear",
            "procedure": {"name": "kd", "hint_weight": 0.5},
        }
    )
    with (
        Run.open(tmp_path / "run", spec, Task(pool.labels), pool) as run,
        pytest.raises(BadSpec, match="asks for the vectors"),
    ):
        kd(run)


# --- students that match -------------------------------------------------------------------------------------------


class Twins:
    """A teacher whose vectors say only which of two groups a text is in, whatever its label."""

    def __init__(self, texts: Any) -> None:
        self.group = {text: i // 2 % 2 for i, text in enumerate(texts)}

    def embed(self, texts: Any) -> np.ndarray:
        return np.array([[1, 0, 0] if self.group[text] else [0, 1, 0] for text in texts], dtype=np.float32)


def apart(vectors: np.ndarray, group: np.ndarray) -> float:
    """How far the two groups' means are from each other, in spreads."""
    one, other = vectors[group == 0], vectors[group == 1]
    return float(np.linalg.norm(one.mean(0) - other.mean(0)) / vectors.std())


@pytest.mark.parametrize("kind", ["encoder", "static"])
def test_a_students_vectors_move_to_the_teachers(kind: str, tmp_path: Path) -> None:
    folder = write_tinybert(tmp_path / "tinybert")
    rows = StudentContract().training_data()
    teacher: Any = Twins(rows.texts)
    group = np.array([teacher.group[text] for text in rows.texts])

    def vectors(share: float) -> np.ndarray:
        like = FeatureHint(teacher, share) if share else None
        lesson = TrainingData(rows.texts, rows.targets, hint=like, seed=1)
        if kind == "encoder":
            options = {"mode": "full", "epochs": 25, "lr": 3e-3, "batch_size": 8, "c": 1.0}
            return (
                EncoderStudent(StudentConfig(StudentContract.labels, str(folder), options=options))
                .fit(lesson)
                .embed(rows.texts)
            )
        options = {"epochs": 25, "c": 1.0, "pca_dims": 16}
        return (
            StaticStudent(StudentConfig(StudentContract.labels, str(folder), options=options))
            .fit(lesson)
            .embed(rows.texts)
        )

    assert apart(vectors(0.9), group) > 1.3 * apart(vectors(0.0), group)


def test_a_student_without_vectors_refuses_a_hint() -> None:
    rows = StudentContract().training_data()
    like = FeatureHint(Twins(rows.texts), 0.5)  # type: ignore[arg-type]
    with pytest.raises(BadSpec, match="no embeddings of its own"):
        LinearStudent(StudentConfig(StudentContract.labels)).fit(TrainingData(rows.texts, rows.targets, hint=like))
