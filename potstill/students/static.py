"""The static student: the mean of subword embeddings, then a small head. Nearly as fast as the linear student.

Starts from static embeddings (model2vec), or distils them from an encoder. With torch, embeddings and a hidden layer
are fine-tuned; without, the embeddings stay fixed under a logistic regression. Predicts with numpy alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import Field, StrictBool

from potstill.data.task import JsonObject
from potstill.errors import BadSpec
from potstill.models.device import DeviceName, check_device, portable_device
from potstill.models.downloads.fetch import cached_path
from potstill.models.features import PairSubwordVectorizer, SparseFeatures, SubwordVectorizer, VectorizerConfig
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
from potstill.students.label_head import ZERO_SHOT_SCALE, label_weights, name_evidence
from potstill.students.label_names import LabelTexts, label_texts
from potstill.students.linear import select_c
from potstill.students.logistic_regression import SolverOptions, fit_regression, to_csr
from potstill.students.saved_student import SavedStudent
from potstill.students.static_onnx import write_static_onnx
from potstill.students.static_training import FeatureBatch, StaticClassifier, StaticTrainingConfig, fine_tune_static
from potstill.students.training_data import check_training_data, hash_split, probabilities, sort_by_content

C_GRID = (10.0, 30.0, 100.0, 300.0)
# With few rows the label names are rows, too, and the first regression is pulled to them, if they fit the rows by so
# many standard deviations (`label_head.name_evidence`). Chosen on validation texts of five data sets (docs/log.md).
MAX_ROWS_PER_LABEL_FOR_NAMES, MIN_NAME_EVIDENCE, ANCHOR_SCALE, NAMED_C = 50, 1.0, 10.0, 30.0
MIN_ROWS_FOR_VALIDATION = 2_000  # with fewer, all are trained on, without early stopping
CHUNK_SIZE = 4096  # texts embedded at once
RECORD_FILE = "student.json"
CLASSIFIER_ARRAYS = ("embeddings", "w", "b", "u", "c", "v")


class StaticOptions(Options):
    """The `[student]` table of a static student.

    Attributes:
        c: inverse strength of the L2 penalty of the first regression; None selects one on held-out rows.
        label_names: add the label names and descriptions as rows and pull the first regression to them; with true, also
            without any row. None does so if there are few rows, which they fit better than chance.
        epochs: epochs of fine-tuning at most; 0 keeps the vectors as they are.
        lr: learning rate of the vectors.
        hidden_units: units of the hidden layer.
        dropout: on the text's vector and on the hidden layer, in [0, 1).
        max_length: subwords of a text at most.
        pca_dims: dimensions kept by PCA, if the vectors are distilled from an encoder.
        device: device for training; predictions run on the CPU.
    """

    c: PositiveFloat | None = None
    label_names: StrictBool | None = None
    epochs: Annotated[int, Field(strict=True, ge=0)] = 25
    lr: PositiveFloat = 1e-2
    hidden_units: PositiveInt = 512
    dropout: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.2
    max_length: PositiveInt = 512
    pca_dims: PositiveInt = 256
    device: DeviceName = "auto"


class SavedStatic(SavedStudent):
    """`student.json` of a static student."""

    weights: str
    options: StaticOptions
    c: float
    vectorizer: VectorizerConfig
    unknown: float = 0.0
    label_name_rows: int = 0


class StaticStudent(Student):
    """Mean of subword embeddings, and a head: linear plus a hidden layer.

    Args:
        config: labels; `weights` (potion-8m if it was fetched, else minilm); `StaticOptions`.

    Raises:
        BadSpec: an unknown option or an invalid value.
    """

    capabilities = StudentCapabilities(
        task_kinds=ALL_TASK_KINDS,
        vectors=True,
        pretrained=True,
        quick_options={"epochs": 0},
        zero_shot=True,
        zero_shot_options={"label_names": True},
    )
    revision = 2  # few rows: the label names are rows, and the first regression is pulled to them

    def __init__(self, config: StudentConfig) -> None:
        self.options = read_options(StaticOptions, "student 'static'", config.options)
        check_device(self.options.device)
        self.labels = tuple(config.labels)
        self.weights = config.weights or ("potion-8m" if cached_path("potion-8m") is not None else "minilm")
        self.descriptions = dict(config.descriptions)
        self.kind = config.kind
        self.c = self.options.c or 0.0
        self.unknown, self.label_name_rows = 0.0, 0
        self._vectorizer: SubwordVectorizer | PairSubwordVectorizer | None = None
        self._classifier: StaticClassifier | None = None

    @property
    def metadata(self) -> JsonObject:
        """`unknown`: share of the training texts that are mostly unknown subwords; `label_name_rows`: see `FitInfo`.

        Either is there only above zero.
        """
        facts: JsonObject = {"unknown": self.unknown, "label_name_rows": self.label_name_rows}
        return {name: value for name, value in facts.items() if value}

    def check_requirements(self) -> None:
        """Check that the weights are on this machine."""
        find_weights(self.weights)

    def fit(self, data: TrainingData) -> Self:
        """Train from scratch; see `Student.fit`. The order of the rows does not matter.

        With `label_names = true` there may be no rows: the head is then made of the label names.

        Raises:
            BadSpec: there are no rows, and a label has neither a name in words nor a description.
            MissingWeights: the weights it starts from are not on this machine.
        """
        if self.options.label_names and not len(data.texts):
            return self._fit_label_names()
        data = sort_by_content(check_training_data(data, len(self.labels), self.kind))
        assert data.sample_weight is not None
        deadline = None if data.time_limit_s is None else time.monotonic() + data.time_limit_s
        classifier, features = self._untrained(data)
        inputs = _embed(features, classifier)
        solver = SolverOptions(deadline=deadline, multi=self.kind == "multi")
        if (named := self._with_label_names(data, inputs, classifier)) is not None:
            data, anchor = named
            assert self._vectorizer is not None
            features = self._vectorizer.transform(data.texts)
            inputs = _embed(features, classifier)
            solver = replace(solver, anchor_weights=anchor)
            self.c = self.options.c or NAMED_C
        else:
            self.c = self.options.c or select_c(inputs, data, solver, C_GRID)
        assert data.sample_weight is not None
        fine_tunes = _has_torch() and self.options.epochs > 0
        validation = np.zeros(len(data.texts), dtype=bool)
        if len(data.texts) >= MIN_ROWS_FOR_VALIDATION:
            validation = hash_split(data.texts, data.seed, 0.1).validation
        train = ~validation if fine_tunes else np.ones(len(data.texts), dtype=bool)
        fitted = fit_regression(
            inputs[train], data.targets[train], data.sample_weight[train], replace(solver, c=self.c)
        )
        classifier = replace(classifier, w=fitted.weights, b=fitted.bias)
        if fine_tunes:
            batch = FeatureBatch(
                features,
                data.targets,
                data.sample_weight,
                validation if validation.any() else None,
                multi=self.kind == "multi",
            )
            if data.hint is not None:
                vectors = data.hint.teacher.embed(data.texts)
                batch = replace(batch, hint_features=vectors, hint_weight=data.hint.loss_weight)
            classifier = fine_tune_static(classifier, batch, self._training_config(data, deadline))
        # Stored and exported in half precision, so that the student predicts exactly as its bundle does.
        embeddings = classifier.embeddings.astype(np.float16).astype(np.float32)
        self._classifier = replace(classifier, embeddings=embeddings)
        if data.progress is not None:
            words = "embeddings and head fine-tuned" if fine_tunes else f"regression on fixed embeddings, C={self.c:g}"
            data.progress(1.0, words)
        return self

    def load_pretrained(self) -> bool:
        """See `Student.load_pretrained`."""
        self._classifier = self._pretrained_classifier(None)
        return True

    def _untrained(self, data: TrainingData) -> tuple[StaticClassifier, SparseFeatures]:
        """The classifier with pretrained embeddings and an empty head, and the features of the texts."""
        classifier = self._pretrained_classifier(data.init_from)
        assert self._vectorizer is not None
        features = self._vectorizer.transform(data.texts)
        self.unknown = features.unknown / len(data.texts)
        return classifier, features

    def _fit_label_names(self) -> Self:
        """A head that scores texts by their similarity to the label names, without any row."""
        names = label_texts(self.labels, self.descriptions)
        if self.kind != "single" or not names.covers_all(len(self.labels)):
            why = "not every label has one in words" if self.kind == "single" else f"this is a {self.kind} task"
            raise BadSpec(
                f"Without a row a student starts from the names of the labels, and {why}.", "Describe the labels."
            )
        classifier = self._pretrained_classifier(None)
        weights = self._name_weights(names, classifier, ZERO_SHOT_SCALE)
        self.label_name_rows = len(names.texts)
        embeddings = classifier.embeddings.astype(np.float16).astype(np.float32)
        self._classifier = replace(
            classifier, embeddings=embeddings, w=weights, b=np.zeros(len(self.labels), dtype=np.float32)
        )
        return self

    def _name_weights(self, names: LabelTexts, classifier: StaticClassifier, scale: float) -> Floats:
        """(D, K) weights of the label names; see `label_weights`."""
        assert self._vectorizer is not None
        targets = np.eye(len(self.labels), dtype=np.float32)[list(names.columns)]
        return label_weights(_embed(self._vectorizer.transform(names.texts), classifier), targets, scale)

    def _with_label_names(
        self, data: TrainingData, inputs: Floats, classifier: StaticClassifier
    ) -> tuple[TrainingData, Floats] | None:
        """The rows with the label names as further ones, and the (D, K) weights that the names give.

        None if there are many rows, or noisy ones, or names that do not fit them: they may be mere codes.
        """
        self.label_name_rows = 0
        n, k = data.targets.shape
        names = label_texts(self.labels, self.descriptions)
        noisy = data.noisy is not None and bool(data.noisy.any())
        wanted, readable = self.options.label_names, self.kind == "single" and bool(names.texts)
        few = not noisy and n <= MAX_ROWS_PER_LABEL_FOR_NAMES * k
        if not readable or wanted is False or not (wanted or few):
            return None
        assert data.sample_weight is not None
        weights, counted = self._name_weights(names, classifier, ANCHOR_SCALE), data.sample_weight > 0
        if not wanted and name_evidence(inputs[counted] @ weights, data.targets[counted]) <= MIN_NAME_EVIDENCE:
            return None
        targets = np.eye(k, dtype=np.float32)[list(names.columns)]
        self.label_name_rows = len(names.texts)
        more = replace(
            data,
            texts=[*data.texts, *names.texts],
            targets=np.concatenate([data.targets, targets]),
            sample_weight=np.concatenate([data.sample_weight, np.ones(len(targets), dtype=np.float32)]),
            noisy=None if data.noisy is None else np.append(data.noisy, np.zeros(len(targets), dtype=np.bool_)),
        )
        return more, weights

    def _pretrained_classifier(self, init_from: Student | None) -> StaticClassifier:
        """Pretrained embeddings, or those of another student, and an empty head; sets the vectorizer."""
        pretrained = load_token_embeddings(find_weights(self.weights), self.options.pca_dims)
        if isinstance(init_from, StaticStudent) and init_from.weights == self.weights:
            pretrained = replace(pretrained, embeddings=init_from._fitted().embeddings)
        subwords = SubwordVectorizer(pretrained.tokenizer, self.options.max_length)
        self._vectorizer = PairSubwordVectorizer(subwords) if self.kind == "pair" else subwords
        width = pretrained.embeddings.shape[1] * (4 if self.kind == "pair" else 1)
        empty = np.zeros((width, 0), dtype=np.float32)
        v = np.zeros((0, len(self.labels)), dtype=np.float32)
        return StaticClassifier(pretrained.embeddings, w=empty, b=empty[0], u=empty, c=empty[0], v=v)

    def predict_logits(self, texts: Sequence[str]) -> Floats:
        """(N, K) scores in nats."""
        out = np.empty((len(texts), len(self.labels)), dtype=np.float32)
        for at in range(0, len(texts), CHUNK_SIZE):
            out[at : at + CHUNK_SIZE] = self._fitted().logits(self.embed(texts[at : at + CHUNK_SIZE]))
        return out

    def predict_proba(self, texts: Sequence[str]) -> Floats:
        """(N, K) probabilities."""
        return probabilities(self.predict_logits(texts), self.kind)

    def embed(self, texts: Sequence[str]) -> Floats:
        """(N, D) embeddings of length one; zero for a text without a known subword.

        Of pairs (N, 4 D): both embeddings, their absolute difference and their product, elementwise.
        """
        classifier = self._fitted()
        assert self._vectorizer is not None
        return _embed(self._vectorizer.transform(texts), classifier)

    def save(self, folder: Path) -> None:
        """Write `student.json`, `tokenizer.json` and the arrays as .npy."""
        classifier = self._fitted()
        assert self._vectorizer is not None
        self._vectorizer.save(folder)
        SavedStatic(
            labels=self.labels,
            kind=self.kind,
            weights=self.weights,
            options=self.options,
            c=self.c,
            vectorizer=self._vectorizer.config,
            unknown=self.unknown,
            label_name_rows=self.label_name_rows,
        ).write(folder / RECORD_FILE)
        for name in CLASSIFIER_ARRAYS:
            array = getattr(classifier, name)
            half = array.astype(np.float16) if name == "embeddings" else array
            np.save(folder / f"{name}.npy", half, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load what `save` wrote."""
        record = SavedStatic.read(folder / RECORD_FILE)
        options = {**record.options.model_dump(), "device": portable_device(record.options.device)}
        student = cls(StudentConfig(record.labels, record.weights, options=options, kind=record.kind))
        student.c, student.unknown, student.label_name_rows = record.c, record.unknown, record.label_name_rows
        vectorizer = PairSubwordVectorizer if record.kind == "pair" else SubwordVectorizer
        student._vectorizer = vectorizer.load(folder, record.vectorizer)
        arrays = {name: np.load(folder / f"{name}.npy", allow_pickle=False) for name in CLASSIFIER_ARRAYS}
        student._classifier = StaticClassifier(**{name: array.astype(np.float32) for name, array in arrays.items()})
        return student

    def export(self, folder: Path) -> ExportedGraph:
        """Write `model.onnx` and `tokenizer.json`."""
        classifier = self._fitted()
        assert self._vectorizer is not None
        self._vectorizer.save(folder)
        write_static_onnx(classifier, len(self.labels), folder / "model.onnx", pairs=self.kind == "pair")
        return ExportedGraph("features", self._vectorizer.config, quantizable=False)

    def _training_config(self, data: TrainingData, deadline: float | None) -> StaticTrainingConfig:
        return StaticTrainingConfig(
            epochs=self.options.epochs,
            lr_embeddings=self.options.lr,
            hidden=self.options.hidden_units,
            dropout=self.options.dropout,
            seed=data.seed,
            device=self.options.device,
            deadline=deadline,
            progress=data.progress,
        )

    def _fitted(self) -> StaticClassifier:
        if self._classifier is None:
            raise BadSpec("The static student is not trained.", "Call fit first.")
        return self._classifier


def _embed(features: SparseFeatures, classifier: StaticClassifier) -> Floats:
    """(N, D) embeddings of texts, or (N, 4 D) features of pairs."""
    embeddings = classifier.embeddings
    first = np.asarray(to_csr(features, len(embeddings)) @ embeddings, dtype=np.float32)
    if features.second is None:
        return classifier.normalize(first)
    second_text = replace(features, values=features.second)
    second = np.asarray(to_csr(second_text, len(embeddings)) @ embeddings, dtype=np.float32)
    return classifier.pair_features(first, second)


def _has_torch() -> bool:
    try:
        import torch  # noqa: F401
    except ImportError:
        return False
    return True
