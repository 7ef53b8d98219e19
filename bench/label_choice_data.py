"""Cached vectors, draws and the learner of `bench/label_choice.py`. Chooses nothing and writes no results.

Vectors are those of the frozen encoder `minilm`, computed once a data set and stored in one file. The learner is the
product's frozen encoder: the functions of `students.frozen_head` that `training_strategy` calls, on cached vectors.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from potstill.evaluation.calibration import softmax
from potstill.students.base import StudentConfig, TrainingData
from potstill.students.encoder import EncoderStudent
from potstill.students.encoder_options import EncoderOptions, TrainingStrategy
from potstill.students.encoder_training import EncodedBatch
from potstill.students.frozen_head import (
    NameRows,
    fit_head,
    label_names_help,
    name_anchor,
    select_head_c,
    select_named_head_c,
)
from potstill.students.label_head import ZERO_SHOT_SCALE, label_weights
from potstill.students.label_names import label_texts

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
DATA = ("banking77", "ag_news", "trec6", "sst2")
# Texts that pools are drawn from, of a pool, and judged on.
DRAWN_FROM, POOLED, JUDGED = {"banking77": 8000}, {"banking77": 3000}, {"banking77": 1500}
DRAWN_FROM_OTHERS, POOLED_OTHERS, JUDGED_OTHERS = 3000, 1500, 800
MAX_LENGTH = 128  # tokens


@dataclass(frozen=True)
class Vectors:
    """Of one data set: (N, D) unit vectors and (N,) labels of train, validation and test, and the names' vectors.

    `name_columns` (M,): the label of each of the M name vectors; `seconds`: of embedding.
    """

    labels: tuple[str, ...]
    parts: dict[str, Floats]
    gold: dict[str, Ints]
    texts: list[str]
    names: Floats
    name_columns: Ints
    seconds: float


@dataclass(frozen=True)
class Draw:
    """A pool of P texts of which some are chosen, and the texts the student is tested on.

    The labels of the pool are hidden from strategies, but for those they bought.
    """

    data: str
    number: int
    labels: tuple[str, ...]
    texts: list[str]
    pool: Floats
    gold: Ints
    judged: Floats
    judged_gold: Ints
    names: Floats
    name_columns: Ints


def load_vectors(data: Path, name: str, cache: Path) -> Vectors:
    """Read the file of vectors, or embed the texts and write it."""
    path = cache / f"label_choice_{name}.npz"
    parts = {part: _read(data, name, part) for part in ("train", "validation", "test")}
    keep = _new_rows(parts)[: DRAWN_FROM.get(name, DRAWN_FROM_OTHERS)]
    parts["train"] = ([parts["train"][0][row] for row in keep], [parts["train"][1][row] for row in keep])
    for part in ("validation", "test"):
        kept = np.random.default_rng(7).permutation(len(parts[part][0]))[: JUDGED.get(name, JUDGED_OTHERS)]
        parts[part] = ([parts[part][0][row] for row in kept], [parts[part][1][row] for row in kept])
    labels = tuple(sorted(set(parts["train"][1])))
    gold = {part: np.array([labels.index(label) for label in names]) for part, (_, names) in parts.items()}
    about = label_texts(labels)
    if not path.exists():
        began = time.perf_counter()
        student = EncoderStudent(StudentConfig(labels, "minilm", options={"head": "label", "max_length": MAX_LENGTH}))
        student.fit(TrainingData([], np.zeros((0, len(labels)), dtype=np.float32)))
        arrays = {part: student.embed(texts) for part, (texts, _) in parts.items()}
        arrays["names"] = student.embed(about.texts)
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(path, seconds=time.perf_counter() - began, **arrays)
    with np.load(path) as stored:
        vectors = {part: stored[part][: len(texts)] for part, (texts, _) in parts.items()}
        names, seconds = stored["names"], float(stored["seconds"])
    return Vectors(labels, vectors, gold, parts["train"][0], names, np.array(about.columns), seconds)


def _read(data: Path, name: str, part: str) -> tuple[list[str], list[str]]:
    table = pq.read_table(data / name / f"{part}.parquet").to_pydict()
    return table["text"], [str(label) for label in table["label"]]


def _new_rows(parts: dict[str, tuple[list[str], list[str]]]) -> list[int]:
    """Rows of train in a fixed order, without repeats and without texts of validation or test."""
    seen = {_plain(text) for part in ("validation", "test") for text in parts[part][0]}
    rows: list[int] = []
    for row in np.random.default_rng(7).permutation(len(parts["train"][0])).tolist():
        text = _plain(parts["train"][0][row])
        if text not in seen:
            seen.add(text)
            rows.append(row)
    return rows


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().casefold()


def draw(name: str, vectors: Vectors, number: int, judged_on: str) -> Draw:
    """Pool `number` of a data set, and its validation or test texts."""
    rows = np.random.default_rng(3000 + number).permutation(len(vectors.texts))[: POOLED.get(name, POOLED_OTHERS)]
    return Draw(
        name,
        number,
        vectors.labels,
        [vectors.texts[row] for row in rows],
        vectors.parts["train"][rows],
        vectors.gold["train"][rows],
        vectors.parts[judged_on],
        vectors.gold[judged_on],
        vectors.names,
        vectors.name_columns,
    )


@dataclass(frozen=True)
class Learner:
    """A fitted head on the frozen vectors: `logits = x @ weights + bias`."""

    weights: Floats
    bias: Floats

    def probs(self, vectors: Floats) -> Any:
        """(N, K) probabilities."""
        return softmax(vectors @ self.weights + self.bias)


def fit(given: Draw, rows: Ints) -> Learner:
    """The product's frozen encoder on the labels of these rows of the pool; on the names alone without a row."""
    k = len(given.labels)
    name_targets = np.eye(k, dtype=np.float32)[given.name_columns]
    if not len(rows):
        weights = label_weights(given.names, name_targets, ZERO_SHOT_SCALE)
        return Learner(weights, np.zeros(k, dtype=np.float32))
    strategy = TrainingStrategy(EncoderOptions(mode="frozen"))
    x, batch = given.pool[rows], _batch(np.eye(k, dtype=np.float32)[given.gold[rows]])
    names = NameRows(given.names, _batch(name_targets))
    anchor, c = name_anchor(x, batch, names, strategy), None
    if label_names_help(x, batch, names, anchor, strategy):
        c = select_named_head_c(x, batch, names, anchor, strategy)
        x, batch = names.added_to(x, batch)
    else:
        anchor = None
    head = fit_head(x, batch, c or select_head_c(x, batch, strategy), strategy, anchor)
    return Learner(head.weights, head.bias)


def _batch(targets: Floats) -> EncodedBatch:
    """Rows without ids: the head is fitted on vectors."""
    n = len(targets)
    return EncodedBatch([np.zeros(1, dtype=np.int64)] * n, targets, np.ones(n, dtype=np.float32), np.zeros(n, bool))


def accuracy(given: Draw, rows: Ints) -> float:
    """Of the student that learnt the labels of these rows, on the judged texts, in %."""
    learner = fit(given, rows)
    predicted = (given.judged @ learner.weights + learner.bias).argmax(axis=1)
    return 100 * float((predicted == given.judged_gold).mean())
