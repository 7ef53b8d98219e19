"""The static student: the mean of learnt subword vectors, then a small head. Nearly as fast as counting words.

Starts from static vectors (model2vec) or distils them from an encoder on the spot. With torch the vectors and a hidden
layer are fine-tuned; without, the vectors stay and a regression is learnt on them. Predicts with numpy alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from potstill.errors import BadSpec
from potstill.models.device import check_wish, here
from potstill.models.downloads.fetch import fetched
from potstill.models.features import PairTokens, Ragged, Tokens
from potstill.models.weights import find
from potstill.students.base import Floats, Graph, Lesson, Make
from potstill.students.lesson import carve, check_lesson, in_content_order, probabilities
from potstill.students.linear import choose_c, refuse_options
from potstill.students.regress import Effort, fit_regression, sparse
from potstill.students.staticgraph import write_graph
from potstill.students.tuning import Head, Material, Recipe, tune
from potstill.students.vectors import token_vectors

OF_TUNING = ("epochs", "lr", "hidden", "dropout", "device")
OPTIONS = {"c", "max_length", "dims", *OF_TUNING}
GRID = (10.0, 30.0, 100.0, 300.0)
CAN_SPARE = 2_000  # rows from which some are put aside to stop early by
CHUNK = 4096
PARTS = ("table", "w", "b", "u", "c", "v")


class Static:
    """Mean of subword vectors + head.

    Args:
        make: labels; `weights` (potion-8m if it is here, else minilm); the options `c` (of the first regression;
            chosen on rows put aside if not given), `epochs` (25; 0 keeps the vectors as they are), `lr` (of the
            vectors, 0.01), `hidden` (512), `dropout` (0.2), `max_length` (512 subwords), `dims` (256, if distilled),
            `device` (what it learns on: "auto", "cpu" or "cuda"; it predicts on the CPU).

    Raises:
        BadSpec: an unknown option.
    """

    def __init__(self, make: Make) -> None:
        refuse_options("static", make.options, OPTIONS)
        check_wish(make.options.get("device", "auto"))
        self.labels = tuple(make.labels)
        self.weights = make.weights or ("potion-8m" if fetched("potion-8m") is not None else "minilm")
        self.kind = make.kind
        self.options = dict(make.options)
        self.c = float(make.options.get("c", 0.0))
        self._reader: Tokens | PairTokens | None = None
        self._head: Head | None = None

    def prepare(self) -> None:
        """See that the weights are here; see `Student.prepare`."""
        find(self.weights)

    def fit(self, lesson: Lesson) -> Self:
        """Learn from scratch; see `Student.fit`. The row order does not matter.

        Raises:
            MissingWeights: the weights it starts from are not here.
        """
        lesson = in_content_order(check_lesson(lesson, len(self.labels), self.kind))
        assert lesson.weights is not None
        deadline = None if lesson.deadline_s is None else time.monotonic() + lesson.deadline_s
        texts = lesson.texts
        start = token_vectors(find(self.weights), int(self.options.get("dims", 256)))
        if isinstance(lesson.start, Static) and lesson.start.weights == self.weights:
            start = replace(start, table=lesson.start._fitted().table)
        tokens = Tokens(start.tokenizer, int(self.options.get("max_length", 512)))
        self._reader = PairTokens(tokens) if self.kind == "pair" else tokens
        entries = self._reader.ragged(texts)
        dims = start.table.shape[1] * (4 if self.kind == "pair" else 1)
        none = np.zeros((dims, 0), dtype=np.float32)
        head = Head(start.table, none, none[0], none, none[0], np.zeros((0, len(self.labels)), dtype=np.float32))
        units = _units(entries, head)
        effort = Effort(deadline=deadline, multi=self.kind == "multi")
        given = self.options.get("c")
        self.c = choose_c(units, lesson, effort, GRID) if given is None else float(given)
        judge = carve(texts, lesson.seed, 0.1).judge if len(texts) >= CAN_SPARE else np.zeros(len(texts), dtype=bool)
        tuned = _has_torch() and int(self.options.get("epochs", 25)) > 0
        learn = ~judge if tuned else np.ones(len(texts), dtype=bool)
        weights, effort = lesson.weights, replace(effort, c=self.c)
        fitted = fit_regression(units[learn], lesson.targets[learn], weights[learn], effort)
        head = replace(head, w=fitted.weights, b=fitted.bias)
        if tuned:
            aside = judge if judge.any() else None
            material = Material(entries, lesson.targets, weights, aside, multi=self.kind == "multi")
            if lesson.like is not None:
                material = replace(material, like=lesson.like.teacher.embed(texts), share=lesson.like.share)
            head = tune(head, material, self._recipe(lesson, deadline))
        # Kept and exported in half precision: half the size, and the student predicts exactly as its bundle does.
        self._head = replace(head, table=head.table.astype(np.float16).astype(np.float32))
        if lesson.progress is not None:
            lesson.progress(
                1.0, "vectors and head fine-tuned" if tuned else f"regression on frozen vectors, C={self.c:g}"
            )
        return self

    def predict_logits(self, texts: Sequence[str]) -> Floats:
        """(N, K) natural-log scores."""
        out = np.empty((len(texts), len(self.labels)), dtype=np.float32)
        for at in range(0, len(texts), CHUNK):
            out[at : at + CHUNK] = self._fitted().logits(self.embed(texts[at : at + CHUNK]))
        return out

    def predict_proba(self, texts: Sequence[str]) -> Floats:
        """(N, K) probabilities."""
        return probabilities(self.predict_logits(texts), self.kind)

    def embed(self, texts: Sequence[str]) -> Floats:
        """(N, D) fine-tuned vectors of length one; zero for a text without a known subword.

        Of a pair (N, 4 D): both vectors, their distance and their product, axis by axis.
        """
        head = self._fitted()
        assert self._reader is not None
        return _units(self._reader.ragged(texts), head)

    def save(self, folder: Path) -> None:
        """Write `student.json`, `tokenizer.json` and the parts of the head as .npy."""
        head = self._fitted()
        assert self._reader is not None
        self._reader.save(folder)
        record = {"format": 1, "labels": self.labels, "weights": self.weights, "options": self.options}
        record |= {"c": self.c, "reader": self._reader.settings, "kind": self.kind}
        (folder / "student.json").write_text(json.dumps(record), encoding="utf-8")
        for part in PARTS:
            value = getattr(head, part)
            np.save(folder / f"{part}.npy", value.astype(np.float16) if part == "table" else value, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The student that `save` wrote."""
        record = json.loads((folder / "student.json").read_text(encoding="utf-8"))
        kind = record.get("kind", "single")
        student = cls(Make(tuple(record["labels"]), record["weights"], options=here(record["options"]), kind=kind))
        student.c = float(record["c"])
        student._reader = (PairTokens if kind == "pair" else Tokens).load(folder, record["reader"])
        parts = {part: np.load(folder / f"{part}.npy", allow_pickle=False) for part in PARTS}
        student._head = Head(**{part: value.astype(np.float32) for part, value in parts.items()})
        return student

    def export(self, folder: Path) -> Graph:
        """Write `model.onnx` and `tokenizer.json`."""
        head = self._fitted()
        assert self._reader is not None
        self._reader.save(folder)
        write_graph(head, len(self.labels), folder / "model.onnx", pairs=self.kind == "pair")
        return Graph(kind="bag", settings=self._reader.settings, quantisable=False)

    def _recipe(self, lesson: Lesson, deadline: float | None) -> Recipe:
        names: Mapping[str, str] = {"lr": "lr_vectors"}
        asked: dict[str, Any] = {names.get(key, key): self.options[key] for key in OF_TUNING if key in self.options}
        return Recipe(**asked, seed=lesson.seed, deadline=deadline, progress=lesson.progress)

    def _fitted(self) -> Head:
        if self._head is None:
            raise BadSpec("The static student has not learnt yet.", "Call fit first.")
        return self._head


def _units(entries: Ragged, head: Head) -> Floats:
    """(N, D) unit vectors of the texts, or (N, 4 D) of the pairs."""
    first = np.asarray(sparse(entries, len(head.table)) @ head.table, dtype=np.float32)
    if entries.second is None:
        return head.unit(first)
    beside = replace(entries, values=entries.second)
    return head.pair(first, np.asarray(sparse(beside, len(head.table)) @ head.table, dtype=np.float32))


def _has_torch() -> bool:
    try:
        import torch  # noqa: F401
    except ImportError:
        return False
    return True
