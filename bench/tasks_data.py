"""The data of `tasks.py`: seven difficult tasks, each limited to what one core trains in minutes.

All samples use a fixed seed. `threads` is synthetic: one to three GoEmotions comments joined, with all their labels,
because the rows available have one label each. `many` is the union of three data sets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from potstill.data.pairs import join_pair
from potstill.data.task import TaskKind


@dataclass(frozen=True)
class Rows:
    """N texts; (N,) label columns, or (N, K) of 0 and 1; (N,) languages, if known."""

    texts: list[str]
    gold: NDArray[Any]
    langs: list[str] = field(default_factory=list)

    def sample(self, n: int, seed: int = 0) -> Rows:
        """At most n rows, drawn."""
        rows = np.random.default_rng(seed).permutation(len(self.texts))[:n]
        return self.take(rows)

    def sample_per_label(self, n: int) -> Rows:
        """At most n rows of each label."""
        order = np.random.default_rng(1).permutation(len(self.texts))
        counts: dict[int, int] = {}
        rows = []
        for row in order:
            label = int(self.gold[row])
            counts[label] = counts.get(label, 0) + 1
            if counts[label] <= n:
                rows.append(row)
        return self.take(np.array(rows))

    def take(self, rows: NDArray[np.intp]) -> Rows:
        """These rows."""
        langs = [self.langs[row] for row in rows] if self.langs else []
        return Rows([self.texts[row] for row in rows], self.gold[rows], langs)

    def targets(self, k: int) -> NDArray[np.float32]:
        """(N, K) float32."""
        return self.gold.astype(np.float32) if self.gold.ndim == 2 else np.eye(k, dtype=np.float32)[self.gold]


@dataclass(frozen=True)
class Data:
    """Train, validation and test rows of a task of the labels."""

    labels: tuple[str, ...]
    train: Rows
    validation: Rows
    test: Rows
    kind: TaskKind = "single"


def reuters(folder: Path) -> Data:
    """52 topics, the largest 43 % of the rows, the smallest one row; all test texts, since most labels are rare."""
    return _single(folder, "reuters_r52", validation=400)


def sib(folder: Path) -> Data:
    """Seven topics in 30 languages; trained on 100 texts a language."""
    data = _single(folder, "sib200", validation=600)
    test = data.test.sample(3000)
    return Data(data.labels, data.train.sample(3000), data.validation, test)


def threads(folder: Path) -> Data:
    """28 emotions, several a text: one to three comments joined, with the labels of all."""
    data = _single(folder, "goemotions", validation=4000)
    parts = [_joined(part, len(data.labels), n) for part, n in _sized(data, 2000, 500, 1000)]
    return Data(data.labels, *parts, kind="multi")


def snli(folder: Path) -> Data:
    """Two sentences: does the second follow, contradict, or neither?"""
    data = _single(folder, "snli_small", validation=500)
    return Data(data.labels, data.train.sample(3000), data.validation, data.test.sample(1000), kind="pair")


def complaints(folder: Path) -> Data:
    """Eight products; letters of 180 tokens, some of thousands."""
    data = _single(folder, "cfpb_complaints", validation=300)
    return Data(data.labels, data.train.sample(2000), data.validation, data.test.sample(600))


def dbpedia(folder: Path) -> Data:
    """219 classes with a long tail."""
    data = _single(folder, "dbpedia219", validation=500)
    return Data(data.labels, data.train.sample(5000), data.validation, data.test.sample(1000))


def many(folder: Path) -> Data:
    """360 classes: BANKING77, HWU64 and DBpedia219 together, at most ten texts a class."""
    parts = {name: _single(folder, name, validation=300) for name in ("banking77", "hwu64", "dbpedia219")}
    labels = tuple(f"{name}: {label}" for name, data in parts.items() for label in data.labels)
    starts = np.cumsum([0, *[len(data.labels) for data in parts.values()]])

    def union(which: str) -> Rows:
        each = [getattr(data, which) for data in parts.values()]
        gold = np.concatenate([part.gold + start for part, start in zip(each, starts, strict=False)])
        return Rows([text for part in each for text in part.texts], gold)

    return Data(labels, union("train").sample_per_label(10), union("validation"), union("test").sample(2000))


LOAD: dict[str, Callable[[Path], Data]] = {
    "reuters_r52": reuters,
    "sib200": sib,
    "goemotions threads": threads,
    "snli": snli,
    "cfpb_complaints": complaints,
    "dbpedia219": dbpedia,
    "360 classes": many,
}


def _single(folder: Path, name: str, validation: int) -> Data:
    columns = {part: pq.read_table(folder / name / f"{part}.parquet").to_pydict() for part in PARTS}
    labels = tuple(sorted({label for table in columns.values() for label in table["label"]}))
    splits = []
    for table in columns.values():
        texts = table.get("text") or [join_pair(*two) for two in zip(table["text_a"], table["text_b"], strict=True)]
        gold = np.array([labels.index(label) for label in table["label"]])
        splits.append(Rows(texts, gold, table.get("lang", [])))
    return Data(labels, splits[0], splits[1].sample(validation), splits[2])


PARTS = ("train", "validation", "test")


def _sized(data: Data, *sizes: int) -> list[tuple[Rows, int]]:
    return list(zip((data.train, data.validation, data.test), sizes, strict=True))


def _joined(part: Rows, k: int, n: int) -> Rows:
    """N texts of one to three rows each."""
    generator = np.random.default_rng(3)
    order = iter(generator.permutation(len(part.texts)))
    texts, gold = [], np.zeros((n, k), dtype=np.int64)
    for row in range(n):
        picked = [next(order) for _ in range(int(generator.integers(1, 4)))]
        texts.append(" ".join(part.texts[i] for i in picked))
        gold[row, part.gold[picked]] = 1
    return Rows(texts, gold)
