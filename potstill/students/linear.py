"""The linear student: TF-IDF over words and characters, then multinomial logistic regression. Needs no torch, ever.

The floor every other student has to beat; learns in seconds, answers tens of thousands of texts a second.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from potstill.errors import BadSpec
from potstill.models.features import NGramVectorizer, PairNGramVectorizer
from potstill.registry import Options, read_options
from potstill.students.base import (
    ALL_TASK_KINDS,
    ExportedGraph,
    Floats,
    PositiveFloat,
    PositiveInt,
    Student,
    StudentCapabilities,
    StudentConfig,
    TrainingData,
)
from potstill.students.logistic_regression import Regression, SolverOptions, fit_regression, to_csr
from potstill.students.onnx_writer import OnnxNode, ValueInfo, write_onnx
from potstill.students.training_data import check_training_data, hash_split, probabilities, reject_feature_hint

C_GRID = (1.0, 3.0, 10.0, 30.0)
MAX_CELLS = 12_000_000  # of the weight table: 48 MB, whatever the number of labels
CHUNK = 2048


class LinearOptions(Options):
    """The `[student]` table of a linear student.

    Attributes:
        c: inverse strength of the L2 penalty; None selects one on held-out rows.
        max_features: number of n-grams at most; fewer if there are many labels.
        min_df: number of texts an n-gram must be in; None takes 1 below 2,000 texts, else 2.
        max_iter: L-BFGS steps at most.
    """

    c: PositiveFloat | None = None
    max_features: PositiveInt = 60_000
    min_df: PositiveInt | None = None
    max_iter: PositiveInt = 200


class LinearStudent(Student):
    """TF-IDF n-grams + logistic regression on soft targets.

    Args:
        config: labels and `LinearOptions`.

    Raises:
        BadSpec: an unknown option, or weights, which this kind does not start from.
    """

    capabilities = StudentCapabilities(task_kinds=ALL_TASK_KINDS)

    def __init__(self, config: StudentConfig) -> None:
        self.options = read_options(LinearOptions, "student 'linear'", config.options)
        if config.weights:
            raise BadSpec(
                f"The student 'linear' starts from no weights, not {config.weights!r}.", "Write just 'linear'."
            )
        self.labels = tuple(config.labels)
        self.kind = config.kind
        self._reader: NGramVectorizer | PairNGramVectorizer | None = None
        self._weights: Floats = np.zeros((0, len(self.labels)), dtype=np.float32)
        self._bias: Floats = np.zeros(len(self.labels), dtype=np.float32)
        self.c = self.options.c or 0.0

    def check_requirements(self) -> None:
        """It needs nothing but its texts."""

    def fit(self, data: TrainingData) -> Self:
        """Learn from scratch; see `Student.fit`. The row order does not matter beyond rounding."""
        data = check_training_data(data, len(self.labels), self.kind)
        assert data.sample_weight is not None
        reject_feature_hint(data, "linear")
        deadline = None if data.time_limit_s is None else time.monotonic() + data.time_limit_s
        effort = SolverOptions(
            max_iter=self.options.max_iter, deadline=deadline, progress=data.progress, multi=self.kind == "multi"
        )
        limit = min(self.options.max_features, MAX_CELLS // len(self.labels))
        reads = PairNGramVectorizer if self.kind == "pair" else NGramVectorizer
        self._reader = reads.fit(data.texts, max_features=limit, min_df=self.options.min_df)
        features = to_csr(self._reader.transform(data.texts), self._reader.width)
        self.c = self.options.c or select_c(features, data, effort, C_GRID)
        fitted = fit_regression(features, data.targets, data.sample_weight, replace(effort, c=self.c))
        self._weights, self._bias = fitted.weights, fitted.bias
        if data.progress is not None:
            data.progress(1.0, f"{fitted.steps} steps at C={self.c:g}")
        return self

    def predict_logits(self, texts: Sequence[str]) -> Floats:
        """(N, K) natural-log scores."""
        reader = self._fitted()
        out = np.empty((len(texts), len(self.labels)), dtype=np.float32)
        for at in range(0, len(texts), CHUNK):
            features = to_csr(reader.transform(texts[at : at + CHUNK]), reader.width)
            out[at : at + CHUNK] = features @ self._weights + self._bias
        return out

    def predict_proba(self, texts: Sequence[str]) -> Floats:
        """(N, K) probabilities."""
        return probabilities(self.predict_logits(texts), self.kind)

    def embed(self, texts: Sequence[str]) -> Floats:
        """(N, K) logits less the bias: the n-grams themselves are too many to hand out densely."""
        return self.predict_logits(texts) - self._bias

    def save(self, folder: Path) -> None:
        """Write `student.json`, `ngrams.json`, `weights.npy` and `bias.npy`."""
        self._fitted().save(folder)
        record = {
            "format": 1,
            "labels": self.labels,
            "options": self.options.model_dump(),
            "c": self.c,
            "kind": self.kind,
        }
        (folder / "student.json").write_text(json.dumps(record), encoding="utf-8")
        np.save(folder / "weights.npy", self._weights, allow_pickle=False)
        np.save(folder / "bias.npy", self._bias, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The student that `save` wrote."""
        record = json.loads((folder / "student.json").read_text(encoding="utf-8"))
        kind = record.get("kind", "single")
        student = cls(StudentConfig(labels=tuple(record["labels"]), options=record["options"], kind=kind))
        student.c = float(record["c"])
        student._reader = (PairNGramVectorizer if kind == "pair" else NGramVectorizer).load(folder, {})
        student._weights = np.load(folder / "weights.npy", allow_pickle=False)
        student._bias = np.load(folder / "bias.npy", allow_pickle=False)
        return student

    def export(self, folder: Path) -> ExportedGraph:
        """Write `model.onnx` and `ngrams.json`: gathered rows of W, weighted and summed, plus b."""
        reader = self._fitted()
        reader.save(folder)
        nodes = [
            OnnxNode("Gather", ["W", "ids"], ["rows"]),
            OnnxNode("Unsqueeze", ["values", "one"], ["row"]),
            OnnxNode("MatMul", ["row", "rows"], ["sum"]),
            OnnxNode("Squeeze", ["sum", "one"], ["flat"]),
            OnnxNode("Add", ["flat", "b"], ["logits"]),
        ]
        # A vocabulary can be empty (texts of blanks only); a table cannot: padding reads its row 0.
        table = self._weights if len(self._weights) else np.zeros((1, len(self.labels)), dtype=np.float32)
        constants: dict[str, NDArray[Any]] = {"W": table, "b": self._bias, "one": np.array([1], dtype=np.int64)}
        inputs = [ValueInfo("ids", "int64", ["n", "t"]), ValueInfo("values", "float32", ["n", "t"])]
        logits = ValueInfo("logits", "float32", ["n", len(self.labels)])
        write_onnx(folder / "model.onnx", nodes, constants, inputs, [logits])
        return ExportedGraph(preprocessor="bag", preprocessor_config=reader.settings, quantizable=False)

    def _fitted(self) -> NGramVectorizer | PairNGramVectorizer:
        if self._reader is None:
            raise BadSpec("The linear student has not learnt yet.", "Call fit first.")
        return self._reader


def select_c(features: Any, data: TrainingData, effort: SolverOptions, grid: Sequence[float]) -> float:
    """The C of `grid` (ascending) that gives the likeliest label of the rows put aside the most target mass.

    Below 100 rows put aside, or where they cost too much time, the choice would be noise: then the second largest.
    """
    assert data.sample_weight is not None
    default = grid[-2] if len(grid) > 1 else grid[0]
    carved = hash_split(data.texts, seed=0)
    if carved.validation.sum() < 100 or effort.deadline is not None:
        return default
    # 20,000 rows tell the penalties apart as well as a million.
    learn = np.flatnonzero(carved.train)[:20_000]
    judge = np.flatnonzero(carved.validation)[:5_000]
    aside, seen = features[learn], features[judge]
    start: Regression | None = None
    best, best_score = default, -1.0
    for c in grid:
        trial = replace(effort, c=c, max_iter=min(effort.max_iter, 60), progress=None)
        start = fit_regression(aside, data.targets[learn], data.sample_weight[learn], trial, start)
        said = (seen @ start.weights + start.bias).argmax(axis=1)
        score = float(data.targets[judge, said] @ data.sample_weight[judge])
        if score > best_score * 1.002:  # a larger C has to earn it
            best, best_score = c, score
    return best
