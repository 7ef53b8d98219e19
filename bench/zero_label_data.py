"""Label texts, pools and cached embeddings of the benchmark without labels (`zero_label.py`).

The pool is texts of the train part (`POOLED`), less those that are also validation or test texts; a seed draws 80 % of
it. Their labels are read only to count errors. Embeddings are cached in files, since encoding is most of the work.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from folds import read

from potstill.students.label_names import label_texts

SETS = ("banking77", "ag_news", "hwu64", "sst2", "trec6")
STUDENT = "minilm"  # its embeddings are the small student's, and it alone embeds the texts that are tested on
POOLED = {"banking77": 2500, "hwu64": 2000, "ag_news": 1000, "sst2": 1000, "trec6": 1000}
DRAWN, MAX_TOKENS = 0.8, 64
KEPT = {"validation": 500, "test": 1000}
# Written once, before anything was measured, from what the labels' documentation says. The names of BANKING77 and HWU64
# are words, and stay as they are.
DESCRIPTIONS: dict[str, dict[str, str]] = {
    "ag_news": {
        "World": "international news: politics, governments, elections, wars, conflicts and diplomacy",
        "Sports": "sports news: games, teams, players, coaches, leagues, championships and scores",
        "Business": "business news: companies, markets, stocks, the economy, oil prices, profits and trade",
        "Sci/Tech": "science and technology news: computers, software, the internet, gadgets, space and research",
    },
    "sst2": {
        "negative": "a bad movie: dull, boring, disappointing, badly acted, a waste of time",
        "positive": "a good movie: moving, funny, entertaining, well acted, a pleasure to watch",
    },
    "trec6": {
        "ABBR": "What does this abbreviation or acronym stand for?",
        "DESC": "What is the definition or meaning of something, how or why does it happen?",
        "ENTY": "What thing is it: an animal, food, product, colour, work, event or term?",
        "HUM": "Who is the person, group or company?",
        "LOC": "Where is the place: which city, country, state or mountain?",
        "NUM": "How many, how much, when, what date, distance or price?",
    },
}


@dataclass(frozen=True)
class Part:
    """N texts of a part, and their (N,) label columns."""

    texts: list[str]
    gold: Any


@dataclass(frozen=True)
class DataSet:
    """A data set: the K labels, the texts that stand for them, and its parts."""

    name: str
    labels: tuple[str, ...]
    pool: Part
    validation: Part
    test: Part

    def label_texts(self, described: bool) -> tuple[tuple[str, ...], Any]:
        """M names (and descriptions) as words, and (M,) the column of the label of each."""
        found = label_texts(self.labels, DESCRIPTIONS.get(self.name) if described else None)
        return found.texts, np.array(found.columns)


def load(folder: Path, name: str) -> DataSet:
    """All parts of a data set."""
    parts = {part: read(folder, name, part) for part in ("train", "validation", "test")}
    labels = tuple(sorted(set(parts["train"][1])))
    known = {_plain(text) for part in ("validation", "test") for text in parts[part][0]}
    texts, names = parts["train"]
    unseen = [row for row, text in enumerate(texts) if _plain(text) not in known]
    rows = [unseen[i] for i in np.random.default_rng(3000).permutation(len(unseen))[: POOLED[name]]]
    pool = _part([texts[row] for row in rows], [names[row] for row in rows], labels)
    held_out = {}
    for part in ("validation", "test"):
        texts, names = parts[part]
        kept = np.random.default_rng(7).permutation(len(texts))[: KEPT[part]]
        held_out[part] = _part([texts[row] for row in kept], [names[row] for row in kept], labels)
    return DataSet(name, labels, pool, held_out["validation"], held_out["test"])


def draw(seed: int, n: int) -> Any:
    """(M,) rows of a pool of n texts: `DRAWN` of them."""
    return np.sort(np.random.default_rng(4000 + seed).permutation(n)[: round(DRAWN * n)])


class Embedder:
    """An encoder's embeddings of length one, cached in `cache`. The encoder is loaded when a text is not there.

    Attributes:
        seconds: processor seconds spent on encoding.
    """

    def __init__(self, weights: str, cache: Path) -> None:
        self.weights, self.cache = weights, cache
        self.seconds = 0.0
        self._student: Any = None

    def embed(self, name: str, texts: Sequence[str]) -> Any:
        """(N, D) float32 of the texts called `name`; embedded again if the texts are others."""
        file = self.cache / f"{self.weights}-{name}.npz"
        if file.exists():
            with np.load(file) as stored:
                if stored["texts"].tolist() == list(texts):
                    return stored["vectors"]
        began = time.process_time()
        vectors = self._load().embed(list(texts))
        self.seconds += time.process_time() - began
        self.cache.mkdir(parents=True, exist_ok=True)
        np.savez(file, texts=np.array(texts), vectors=vectors)
        return vectors

    def _load(self) -> Any:
        if self._student is None:
            from potstill.students.base import StudentConfig, TrainingData
            from potstill.students.encoder import EncoderStudent

            options: Mapping[str, Any] = {"head": "label", "mode": "frozen", "max_length": MAX_TOKENS}
            labels = ("one", "other")  # the head is not used
            self._student = EncoderStudent(StudentConfig(labels, self.weights, options=options))
            self._student.fit(TrainingData((), np.zeros((0, 2), dtype=np.float32)))
        return self._student


def _part(texts: list[str], names: list[str], labels: tuple[str, ...]) -> Part:
    columns = {label: column for column, label in enumerate(labels)}
    return Part(texts, np.array([columns[name] for name in names]))


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
