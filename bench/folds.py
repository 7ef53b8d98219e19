"""The folds of the few-shot benchmarks: training texts, an unlabelled pool, and test texts.

Seed 0 is the published few-shot file where there is one; it is a single fixed draw. Every other seed draws as many
texts a class from the train part, 5 nested in 10. The pool is the rest of the train part without its labels, less
every text that is also a training or test text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq


@dataclass(frozen=True)
class Setting:
    """A data set and how many texts a class; `tested`: at most so many test texts, `pooled`: pool texts."""

    data: str
    per_class: int
    tested: int = 10_000
    pooled: int = 10_000

    @property
    def name(self) -> str:
        return f"{self.data} {self.per_class}/class"


@dataclass(frozen=True)
class Fold:
    """N training texts with (N,) labels as columns of `labels`, a pool, and (M,) gold of the texts tested on."""

    setting: Setting
    seed: int
    labels: tuple[str, ...]
    texts: list[str]
    gold: Any
    pool: list[str]
    test_texts: list[str]
    test_gold: Any

    @property
    def targets(self) -> Any:
        """(N, K) float32, one-hot."""
        return np.eye(len(self.labels), dtype=np.float32)[self.gold]


SETTINGS = (
    Setting("banking77", 5, pooled=4000),
    Setting("banking77", 10, pooled=4000),
    Setting("hwu64", 5, pooled=4000),
    Setting("sst2", 16, pooled=2000),
    Setting("ag_news", 8, tested=2000, pooled=2000),
)


def fold(folder: Path, setting: Setting, seed: int, judged_on: str = "test") -> Fold:
    """One fold; `judged_on` "validation" is what defaults may be chosen on."""
    train_texts, train_names = read(folder, setting.data, "train")
    test_texts, test_names = read(folder, setting.data, judged_on)
    labels = tuple(sorted(set(train_names)))
    official = folder / setting.data / f"few_shot_{setting.per_class}.parquet"
    if seed == 0 and official.exists():
        texts, names = read(folder, setting.data, f"few_shot_{setting.per_class}")
    else:
        order = np.random.default_rng(1000 + seed).permutation(len(train_texts))
        by_label: dict[str, list[int]] = {label: [] for label in labels}
        for row in order:
            by_label[train_names[row]].append(int(row))
        rows = [row for label in labels for row in by_label[label][: setting.per_class]]
        texts, names = [train_texts[row] for row in rows], [train_names[row] for row in rows]
    test_order = np.random.default_rng(7).permutation(len(test_texts))[: setting.tested]
    known = {_plain(text) for text in [*texts, *test_texts]}
    pool = [text for text in dict.fromkeys(train_texts) if _plain(text) not in known]
    kept = np.random.default_rng(2000 + seed).permutation(len(pool))[: setting.pooled]
    return Fold(
        setting=setting,
        seed=seed,
        labels=labels,
        texts=texts,
        gold=np.array([labels.index(name) for name in names]),
        pool=[pool[row] for row in kept],
        test_texts=[test_texts[row] for row in test_order],
        test_gold=np.array([labels.index(test_names[row]) for row in test_order]),
    )


def read(folder: Path, data: str, part: str) -> tuple[list[str], list[str]]:
    """The texts and labels of a part."""
    table = pq.read_table(folder / data / f"{part}.parquet").to_pydict()
    return table["text"], table["label"]


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().casefold()
