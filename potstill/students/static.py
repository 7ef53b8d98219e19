"""The static student: the mean of learnt subword vectors, then a small head. Nearly as fast as counting words.

Starts from static vectors (model2vec) or distils them from an encoder on the spot. With torch the vectors and a hidden
layer are fine-tuned; without, the vectors stay and a regression is learnt on them. Predicts with numpy alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import Field

from potstill.errors import BadSpec
from potstill.models.device import DeviceName, check_device, portable_options
from potstill.models.downloads.fetch import cached_path
from potstill.models.features import PairSubwordVectorizer, SparseFeatures, SubwordVectorizer
from potstill.models.weights import find_weights
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
from potstill.students.distill_embeddings import load_token_embeddings
from potstill.students.linear import select_c
from potstill.students.logistic_regression import SolverOptions, fit_regression, to_csr
from potstill.students.static_onnx import write_static_onnx
from potstill.students.static_training import FeatureBatch, StaticClassifier, StaticTrainingConfig, fine_tune_static
from potstill.students.training_data import check_training_data, hash_split, probabilities, sort_by_content

C_GRID = (10.0, 30.0, 100.0, 300.0)
MIN_ROWS_FOR_VALIDATION = 2_000  # rows from which some are put aside to stop early by
CHUNK = 4096
HEAD_ARRAYS = ("embeddings", "w", "b", "u", "c", "v")


class StaticOptions(Options):
    """The `[student]` table of a static student.

    Attributes:
        c: inverse strength of the L2 penalty of the first regression; None selects one on held-out rows.
        epochs: epochs of fine-tuning at most; 0 keeps the vectors as they are.
        lr: learning rate of the vectors.
        hidden: units of the hidden layer.
        dropout: on the text's vector and on the hidden layer, in [0, 1).
        max_length: subwords of a text at most.
        dims: dimensions at most, if the vectors are distilled from an encoder.
        device: device for training; predictions run on the CPU.
    """

    c: PositiveFloat | None = None
    epochs: Annotated[int, Field(strict=True, ge=0)] = 25
    lr: PositiveFloat = 1e-2
    hidden: PositiveInt = 512
    dropout: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.2
    max_length: PositiveInt = 512
    dims: PositiveInt = 256
    device: DeviceName = "auto"


class StaticStudent(Student):
    """Mean of subword vectors + head.

    Args:
        config: labels; `weights` (potion-8m if it was fetched, else minilm); `StaticOptions`.

    Raises:
        BadSpec: an unknown option or an invalid value.
    """

    capabilities = StudentCapabilities(
        task_kinds=ALL_TASK_KINDS, vectors=True, pretrained=True, quick_options={"epochs": 0}
    )

    def __init__(self, config: StudentConfig) -> None:
        self.options = read_options(StaticOptions, "student 'static'", config.options)
        check_device(self.options.device)
        self.labels = tuple(config.labels)
        self.weights = config.weights or ("potion-8m" if cached_path("potion-8m") is not None else "minilm")
        self.kind = config.kind
        self.c = self.options.c or 0.0
        self._reader: SubwordVectorizer | PairSubwordVectorizer | None = None
        self._head: StaticClassifier | None = None

    def check_requirements(self) -> None:
        """See that the weights are here; see `Student.prepare`."""
        find_weights(self.weights)

    def fit(self, data: TrainingData) -> Self:
        """Learn from scratch; see `Student.fit`. The row order does not matter.

        Raises:
            MissingWeights: the weights it starts from are not here.
        """
        data = sort_by_content(check_training_data(data, len(self.labels), self.kind))
        assert data.sample_weight is not None
        deadline = None if data.time_limit_s is None else time.monotonic() + data.time_limit_s
        texts = data.texts
        start = load_token_embeddings(find_weights(self.weights), self.options.dims)
        if isinstance(data.init_from, StaticStudent) and data.init_from.weights == self.weights:
            start = replace(start, embeddings=data.init_from._fitted().embeddings)
        tokens = SubwordVectorizer(start.tokenizer, self.options.max_length)
        self._reader = PairSubwordVectorizer(tokens) if self.kind == "pair" else tokens
        entries = self._reader.transform(texts)
        dims = start.embeddings.shape[1] * (4 if self.kind == "pair" else 1)
        none = np.zeros((dims, 0), dtype=np.float32)
        head = StaticClassifier(
            start.embeddings, none, none[0], none, none[0], np.zeros((0, len(self.labels)), dtype=np.float32)
        )
        units = _units(entries, head)
        effort = SolverOptions(deadline=deadline, multi=self.kind == "multi")
        self.c = self.options.c or select_c(units, data, effort, C_GRID)
        judge = (
            hash_split(texts, data.seed, 0.1).validation
            if len(texts) >= MIN_ROWS_FOR_VALIDATION
            else np.zeros(len(texts), dtype=bool)
        )
        tuned = _has_torch() and self.options.epochs > 0
        learn = ~judge if tuned else np.ones(len(texts), dtype=bool)
        weights, effort = data.sample_weight, replace(effort, c=self.c)
        fitted = fit_regression(units[learn], data.targets[learn], weights[learn], effort)
        head = replace(head, w=fitted.weights, b=fitted.bias)
        if tuned:
            aside = judge if judge.any() else None
            material = FeatureBatch(entries, data.targets, weights, aside, multi=self.kind == "multi")
            if data.hint is not None:
                material = replace(
                    material, hint_features=data.hint.teacher.embed(texts), hint_weight=data.hint.loss_weight
                )
            head = fine_tune_static(head, material, self._training_config(data, deadline))
        # Kept and exported in half precision: half the size, and the student predicts exactly as its bundle does.
        self._head = replace(head, embeddings=head.embeddings.astype(np.float16).astype(np.float32))
        if data.progress is not None:
            data.progress(
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
        return _units(self._reader.transform(texts), head)

    def save(self, folder: Path) -> None:
        """Write `student.json`, `tokenizer.json` and the parts of the head as .npy."""
        head = self._fitted()
        assert self._reader is not None
        self._reader.save(folder)
        record = {"format": 1, "labels": self.labels, "weights": self.weights, "options": self.options.model_dump()}
        record |= {"c": self.c, "reader": self._reader.settings, "kind": self.kind}
        (folder / "student.json").write_text(json.dumps(record), encoding="utf-8")
        for part in HEAD_ARRAYS:
            value = getattr(head, part)
            np.save(
                folder / f"{part}.npy", value.astype(np.float16) if part == "embeddings" else value, allow_pickle=False
            )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The student that `save` wrote."""
        record = json.loads((folder / "student.json").read_text(encoding="utf-8"))
        kind = record.get("kind", "single")
        student = cls(
            StudentConfig(
                tuple(record["labels"]), record["weights"], options=portable_options(record["options"]), kind=kind
            )
        )
        student.c = float(record["c"])
        student._reader = (PairSubwordVectorizer if kind == "pair" else SubwordVectorizer).load(
            folder, record["reader"]
        )
        parts = {part: np.load(folder / f"{part}.npy", allow_pickle=False) for part in HEAD_ARRAYS}
        student._head = StaticClassifier(**{part: value.astype(np.float32) for part, value in parts.items()})
        return student

    def export(self, folder: Path) -> ExportedGraph:
        """Write `model.onnx` and `tokenizer.json`."""
        head = self._fitted()
        assert self._reader is not None
        self._reader.save(folder)
        write_static_onnx(head, len(self.labels), folder / "model.onnx", pairs=self.kind == "pair")
        return ExportedGraph(preprocessor="bag", preprocessor_config=self._reader.settings, quantizable=False)

    def _training_config(self, data: TrainingData, deadline: float | None) -> StaticTrainingConfig:
        return StaticTrainingConfig(
            epochs=self.options.epochs,
            lr_vectors=self.options.lr,
            hidden=self.options.hidden,
            dropout=self.options.dropout,
            seed=data.seed,
            device=self.options.device,
            deadline=deadline,
            progress=data.progress,
        )

    def _fitted(self) -> StaticClassifier:
        if self._head is None:
            raise BadSpec("The static student has not learnt yet.", "Call fit first.")
        return self._head


def _units(entries: SparseFeatures, head: StaticClassifier) -> Floats:
    """(N, D) unit vectors of the texts, or (N, 4 D) of the pairs."""
    first = np.asarray(to_csr(entries, len(head.embeddings)) @ head.embeddings, dtype=np.float32)
    if entries.second is None:
        return head.normalize(first)
    beside = replace(entries, values=entries.second)
    return head.pair_features(
        first, np.asarray(to_csr(beside, len(head.embeddings)) @ head.embeddings, dtype=np.float32)
    )


def _has_torch() -> bool:
    try:
        import torch  # noqa: F401
    except ImportError:
        return False
    return True
