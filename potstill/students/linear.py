"""The linear student: TF-IDF over words and characters, then logistic regression. Needs no torch.

The baseline of the other students: trains in seconds, predicts tens of thousands of texts per second.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from potstill.errors import BadSpec
from potstill.models.features import NGramVectorizer, PairNGramVectorizer, VectorizerConfig
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
from potstill.students.saved_student import SavedStudent
from potstill.students.training_data import check_training_data, hash_split, probabilities, reject_feature_hint

RECORD_FILE = "student.json"
C_GRID = (1.0, 3.0, 10.0, 30.0)
MAX_WEIGHTS = 12_000_000  # D * K of the weight matrix: 48 MB, whatever the number of labels
CHUNK_SIZE = 2048  # texts vectorized at once


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


class SavedLinear(SavedStudent):
    """`student.json` of a linear student."""

    options: LinearOptions
    c: float


class LinearStudent(Student):
    """TF-IDF n-grams and logistic regression on soft targets.

    Args:
        config: labels and `LinearOptions`.

    Raises:
        BadSpec: an unknown option, or weights, which this kind does not start from.
    """

    capabilities = StudentCapabilities(task_kinds=ALL_TASK_KINDS)
    revision = 2  # scripts without blanks by character, and emoji

    def __init__(self, config: StudentConfig) -> None:
        self.options = read_options(LinearOptions, "student 'linear'", config.options)
        if config.weights:
            raise BadSpec(
                f"The student 'linear' starts from no weights, not {config.weights!r}.", "Write just 'linear'."
            )
        self.labels = tuple(config.labels)
        self.kind = config.kind
        self._vectorizer: NGramVectorizer | PairNGramVectorizer | None = None
        self._weights: Floats = np.zeros((0, len(self.labels)), dtype=np.float32)
        self._bias: Floats = np.zeros(len(self.labels), dtype=np.float32)
        self.c = self.options.c or 0.0

    def check_requirements(self) -> None:
        """Nothing is required."""

    def fit(self, data: TrainingData) -> Self:
        """Train from scratch; see `Student.fit`. The order of the rows does not matter beyond rounding."""
        data = check_training_data(data, len(self.labels), self.kind)
        assert data.sample_weight is not None
        reject_feature_hint(data, "linear")
        deadline = None if data.time_limit_s is None else time.monotonic() + data.time_limit_s
        solver = SolverOptions(
            max_iter=self.options.max_iter, deadline=deadline, progress=data.progress, multi=self.kind == "multi"
        )
        limit = min(self.options.max_features, MAX_WEIGHTS // len(self.labels))
        self._vectorizer = self._vectorizer_class().fit(data.texts, max_features=limit, min_df=self.options.min_df)
        features = to_csr(self._vectorizer.transform(data.texts), self._vectorizer.width)
        self.c = self.options.c or select_c(features, data, solver, C_GRID)
        fitted = fit_regression(features, data.targets, data.sample_weight, replace(solver, c=self.c))
        self._weights, self._bias = fitted.weights, fitted.bias
        if data.progress is not None:
            data.progress(1.0, f"{fitted.steps} steps at C={self.c:g}")
        return self

    def predict_logits(self, texts: Sequence[str]) -> Floats:
        """(N, K) scores in nats."""
        vectorizer = self._fitted()
        out = np.empty((len(texts), len(self.labels)), dtype=np.float32)
        for at in range(0, len(texts), CHUNK_SIZE):
            features = to_csr(vectorizer.transform(texts[at : at + CHUNK_SIZE]), vectorizer.width)
            out[at : at + CHUNK_SIZE] = features @ self._weights + self._bias
        return out

    def predict_proba(self, texts: Sequence[str]) -> Floats:
        """(N, K) probabilities."""
        return probabilities(self.predict_logits(texts), self.kind)

    def embed(self, texts: Sequence[str]) -> Floats:
        """(N, K) logits without the bias; the n-gram features are too many for a dense array."""
        return self.predict_logits(texts) - self._bias

    def save(self, folder: Path) -> None:
        """Write `student.json`, `ngrams.json`, `weights.npy` and `bias.npy`."""
        self._fitted().save(folder)
        record = SavedLinear(labels=self.labels, kind=self.kind, options=self.options, c=self.c)
        record.write(folder / RECORD_FILE)
        np.save(folder / "weights.npy", self._weights, allow_pickle=False)
        np.save(folder / "bias.npy", self._bias, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load what `save` wrote."""
        record = SavedLinear.read(folder / RECORD_FILE)
        student = cls(StudentConfig(record.labels, options=record.options.model_dump(), kind=record.kind))
        student.c = record.c
        student._vectorizer = student._vectorizer_class().load(folder, VectorizerConfig("ngrams"))
        student._weights = np.load(folder / "weights.npy", allow_pickle=False)
        student._bias = np.load(folder / "bias.npy", allow_pickle=False)
        return student

    def export(self, folder: Path) -> ExportedGraph:
        """Write `model.onnx` and `ngrams.json`. The graph is values @ W[ids] + b."""
        vectorizer = self._fitted()
        vectorizer.save(folder)
        nodes = [
            OnnxNode("Gather", ["W", "ids"], ["rows"]),
            OnnxNode("Unsqueeze", ["values", "one"], ["row"]),
            OnnxNode("MatMul", ["row", "rows"], ["sum"]),
            OnnxNode("Squeeze", ["sum", "one"], ["flat"]),
            OnnxNode("Add", ["flat", "b"], ["logits"]),
        ]
        # The vocabulary can be empty (texts of spaces only), but padding needs row 0.
        weights = self._weights if len(self._weights) else np.zeros((1, len(self.labels)), dtype=np.float32)
        constants: dict[str, NDArray[Any]] = {"W": weights, "b": self._bias, "one": np.array([1], dtype=np.int64)}
        inputs = [ValueInfo("ids", "int64", ["n", "t"]), ValueInfo("values", "float32", ["n", "t"])]
        logits = ValueInfo("logits", "float32", ["n", len(self.labels)])
        write_onnx(folder / "model.onnx", nodes, constants, inputs, [logits])
        return ExportedGraph("features", vectorizer.config, quantizable=False)

    def _vectorizer_class(self) -> type[NGramVectorizer | PairNGramVectorizer]:
        return PairNGramVectorizer if self.kind == "pair" else NGramVectorizer

    def _fitted(self) -> NGramVectorizer | PairNGramVectorizer:
        if self._vectorizer is None:
            raise BadSpec("The linear student is not trained.", "Call fit first.")
        return self._vectorizer


def select_c(features: Any, data: TrainingData, solver: SolverOptions, grid: Sequence[float]) -> float:
    """The C of `grid` under which the predicted labels of held-out rows have the largest target probability.

    With fewer than 100 held-out rows, or under a deadline, the second largest C of the grid.

    Args:
        features: (N, D) float32, scipy CSR or dense.
        data: N checked rows.
        solver: the other options of the regression.
        grid: ascending values.
    """
    assert data.sample_weight is not None
    default = grid[-2] if len(grid) > 1 else grid[0]
    split = hash_split(data.texts, seed=0)
    if split.validation.sum() < 100 or solver.deadline is not None:
        return default
    # 20,000 rows are enough to compare penalties.
    train = np.flatnonzero(split.train)[:20_000]
    validation = np.flatnonzero(split.validation)[:5_000]
    train_features, validation_features = features[train], features[validation]
    previous: Regression | None = None
    best, best_score = default, -1.0
    for c in grid:
        options = replace(solver, c=c, max_iter=min(solver.max_iter, 60), progress=None)
        previous = fit_regression(train_features, data.targets[train], data.sample_weight[train], options, previous)
        predicted = (validation_features @ previous.weights + previous.bias).argmax(axis=1)
        score = float(data.targets[validation, predicted] @ data.sample_weight[validation])
        if score > best_score * 1.002:  # a larger C must be better by more than noise
            best, best_score = c, score
    return best
