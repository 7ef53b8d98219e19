"""The cross-validated filter of a teacher's labels: which rows it leaves out, and how often the rest is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.tinybert import write_tinybert

pytest.importorskip("torch")
pytest.importorskip("transformers")

from potstill.students.base import Floats, StudentConfig, TrainingData
from potstill.students.encoder import EncoderStudent
from potstill.students.encoder_options import EncoderOptions, TrainingStrategy
from potstill.students.encoder_training import EncodedBatch
from potstill.students.frozen_head import confirmed_rows

N = 200
LABELS = np.arange(N) % 2
WRONG = np.arange(0, N, 20)  # rows whose target is the other label


def embeddings() -> Floats:
    """(N, 4) of length one, in two clusters that a regression tells apart."""
    centre = np.where(LABELS[:, None] == 0, [[3.0, 0, 0, 0]], [[0, 3.0, 0, 0]])
    found = centre + np.random.default_rng(0).normal(size=(N, 4)) * 0.5
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def targets(right: float, wrong: float) -> Floats:
    """(N, 2): `right` is the probability of a right target, `wrong` that of the wrong ones."""
    given = LABELS.copy()
    given[WRONG] = 1 - given[WRONG]
    sure = np.full(N, right)
    sure[WRONG] = wrong
    made = np.repeat(1 - sure[:, None], 2, axis=1)
    made[np.arange(N), given] = sure
    return made.astype(np.float32)


def left_out(given: Floats, noisy: NDArray[np.bool_] | None = None, **options: Any) -> list[int]:
    batch = EncodedBatch(
        [np.array([2, 3])] * N,
        given,
        np.ones(N, dtype=np.float32),
        np.ones(N, dtype=np.bool_) if noisy is None else noisy,
    )
    strategy = TrainingStrategy(EncoderOptions.model_validate(options))
    return np.flatnonzero(~confirmed_rows(embeddings(), batch, strategy)).tolist()


def test_a_doubtful_answer_that_a_regression_contradicts_is_left_out() -> None:
    assert left_out(targets(0.9, wrong=0.55)) == WRONG.tolist()


def test_a_sure_answer_that_a_regression_contradicts_less_surely_is_kept() -> None:
    assert left_out(targets(0.9, wrong=0.995)) == []


def test_a_one_hot_answer_does_not_say_how_sure_it_is_and_any_contradiction_counts() -> None:
    assert left_out(targets(1.0, wrong=1.0)) == WRONG.tolist()


def test_gold_rows_are_never_left_out() -> None:
    assert left_out(targets(0.9, wrong=0.55), noisy=np.zeros(N, dtype=np.bool_)) == []
    half = np.arange(N) >= N // 2
    assert left_out(targets(0.9, wrong=0.55), noisy=half) == [row for row in WRONG.tolist() if half[row]]


def test_trust_labels_keeps_every_answer() -> None:
    assert left_out(targets(0.9, wrong=0.55), trust_labels=True) == []


def test_soft_answers_are_read_more_often_than_one_hot_ones(tmp_path: Path) -> None:
    weights = str(write_tinybert(tmp_path / "bert"))
    texts = [f"the soup and the bread {at}" if label else f"a loan or a bank {at}" for at, label in enumerate(LABELS)]
    epochs = {}
    for name, sure in (("soft", 0.9), ("one-hot", 1.0)):
        student = EncoderStudent(StudentConfig(("money", "food"), weights, options={"mode": "full", "batch_size": 8}))
        data = TrainingData(texts, targets(sure, wrong=sure), noisy=np.ones(N, dtype=np.bool_))
        epochs[name] = student.fit(data).fit_info.epochs
    assert epochs["soft"] == pytest.approx(8.0)  # 200 steps of 8 rows
    assert epochs["one-hot"] is not None
    assert epochs["one-hot"] < 3.0
