"""The interface of students, and the records it exchanges. Independent of teachers and prices.

A kind is a class that is made from a `StudentConfig`. In `encoder:minilm`, as users write it, the kind is followed by
the weights that training starts from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from potstill.data.task import JsonObject, Output, OutputForm, TaskKind

Floats = NDArray[np.float32]
OptionTable = Mapping[str, Any]  # option -> value, as in the spec; each kind has its own model of it
CLASS_WEIGHTS = "class_weights"
ALL_TASK_KINDS: frozenset[TaskKind] = frozenset({"single", "pair", "multi"})
# Types of options: numbers above zero, neither True nor "3".
PositiveInt = Annotated[int, Field(strict=True, gt=0)]
PositiveFloat = Annotated[float, Field(strict=True, gt=0)]


@dataclass(frozen=True)
class StudentCapabilities:
    """What every student of a kind can do; read by recipes, planning and studies.

    Attributes:
        task_kinds: the kinds of task it can learn.
        output_forms: of text-to-text tasks, the forms of answers it can give.
        vectors: whether `embed` places texts of similar meaning near each other.
        quick_options: options under which it trains in seconds, without fine-tuning; empty if it always does.
        pseudo_label_options: options for training on mostly pseudo-labels.
        language_head: whether it predicts label words with a language-model head.
        zero_shot: whether it can predict from the label names alone, under `zero_shot_options`.
        zero_shot_options: options under which `fit` needs no rows.
        pretrained: whether it starts from weights, named after the colon.
        token_scores: of texts that it writes, whether it says how probable other tokens were: `TokenScoringStudent`.
        exports: formats that `export` writes: "onnx", "transformers".
    """

    task_kinds: frozenset[TaskKind] = frozenset({"single"})
    output_forms: frozenset[OutputForm] = frozenset()
    vectors: bool = False
    quick_options: OptionTable = field(default_factory=dict)
    pseudo_label_options: OptionTable = field(default_factory=dict)
    language_head: bool = False
    zero_shot: bool = False
    zero_shot_options: OptionTable = field(default_factory=dict)
    pretrained: bool = False
    token_scores: bool = False
    exports: tuple[str, ...] = ("onnx",)


def own_options(options: OptionTable) -> OptionTable:
    """The options a kind reads itself: the `[student]` table less `class_weights`, which every kind has."""
    return {name: value for name, value in options.items() if name != CLASS_WEIGHTS}


@dataclass(frozen=True)
class StudentConfig:
    """What a student is made from.

    Attributes:
        labels: the K label names.
        weights: short name or path of the pretrained weights; empty takes the kind's default.
        descriptions: label -> one sentence, for kinds that use them.
        options: the `[student]` table of the spec, without `name` and `class_weights`; the latter become row weights
            (`training_data.apply_class_weights`).
        kind: of the task. In a `pair` task each text is two, joined by `pairs.join_pair`.
        instruction: of the task, for kinds that read it.
        output: of a text-to-text task, its answers.
    """

    labels: tuple[str, ...]
    weights: str = ""
    descriptions: Mapping[str, str] = field(default_factory=dict)
    options: OptionTable = field(default_factory=dict)
    kind: TaskKind = "single"
    instruction: str = ""
    output: Output | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", own_options(self.options))


@dataclass(frozen=True)
class RowTrust:
    """How far each of N training rows is trusted.

    Attributes:
        weights: (N,) sample weights; None weighs all alike.
        noisy: (N,) True where the target may be wrong, as a teacher's; None trusts all.
    """

    weights: Floats | None = None
    noisy: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class FeatureHint:
    """A larger student whose embeddings the trained student's are to match (hints: Romero et al. 2015).

    Attributes:
        teacher: a fitted student; its `embed` gives the (N, D') targets.
        loss_weight: in (0, 1), weight of the loss 1 - cosine(A v, teacher's vector), with v the student's own vector
            and A a trained matrix; the remaining weight is on the loss of the labels.
    """

    teacher: Student
    loss_weight: float


@dataclass(frozen=True)
class TrainingData:
    """What a student is fitted on.

    Attributes:
        texts: N texts.
        targets: (N, K) float32, rows sum to one (multi-label tasks: each in [0, 1]); one-hot for gold labels, soft for
            a teacher's answers.
        sample_weight: (N,) float32 weight of each row; None means ones.
        noisy: (N,) bool, rows whose target a teacher gave and may be wrong; None means no row.
        init_from: a fitted student of the same kind whose encoder or embeddings training starts from, for kinds that
            train any; the head is fitted anew. None starts from the kind's own weights.
        hint: embeddings to match, for kinds that train any.
        seed: seeds initialisation, order and dropout.
        time_limit_s: seconds after which training stops cleanly.
        progress: called with (share done in [0, 1], a few words).
    """

    texts: Sequence[str]
    targets: Floats
    sample_weight: Floats | None = None
    noisy: NDArray[np.bool_] | None = None
    init_from: Student | None = None
    hint: FeatureHint | None = None
    seed: int = 0
    time_limit_s: float | None = None
    progress: Callable[[float, str], None] | None = None


@dataclass(frozen=True)
class FitInfo:
    """What the last `fit` did. None means: does not apply.

    Attributes:
        mode: "frozen", "full", "lora" or "zero-shot"; empty before `fit`, and for kinds with one mode.
        rows: number of rows given.
        steps: optimiser steps.
        epochs: epochs of fine-tuning.
        stop_reason: why training ended.
        validation_rows: rows held out for early stopping and for choosing between frozen and fine-tuned weights.
        dropped_noisy: noisy rows that cross-validation contradicted.
        label_name_rows: label names that were added as rows.
        anchored_at_names: whether the head's penalty was on the distance to the weights that the label names give.
        c: inverse L2 penalty of the head.
        frozen_loss, tuned_loss: cross-entropy on the validation rows, in nats.
        averaged: number of fine-tunings whose weights were averaged.
        trainable_layers: number of top layers that were trained.
        cached_states: whether the states of the frozen layers were computed once.
    """

    mode: str = ""
    rows: int = 0
    steps: int | None = None
    epochs: float | None = None
    stop_reason: str | None = None
    validation_rows: int | None = None
    dropped_noisy: int | None = None
    label_name_rows: int | None = None
    anchored_at_names: bool | None = None
    c: float | None = None
    frozen_loss: float | None = None
    tuned_loss: float | None = None
    averaged: int | None = None
    trainable_layers: int | None = None
    cached_states: bool | None = None

    def to_json(self) -> JsonObject:
        """What applies, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class PreprocessorConfig(Protocol):
    """What an exported graph's preprocessor needs beside its files: a record of `models`."""

    def to_json(self) -> JsonObject:
        """JSON values, which the preprocessor reads."""


@dataclass(frozen=True)
class ExportedGraph:
    """What `Student.export` wrote.

    Attributes:
        preprocessor: what turns texts into the graph's inputs, a key of `bundle.preprocessors.PREPROCESSORS`: "tokens"
            (token ids and mask), "pattern" (the same, of texts in a pattern), "units" (of words), "prompts" (of texts
            that are answered), "features" (ids and values).
        preprocessor_config: its config.
        quantizable: whether to try an int8 graph.
    """

    preprocessor: str
    preprocessor_config: PreprocessorConfig
    quantizable: bool


class TrainedModel(Protocol):
    """What all students have in common, whatever they predict.

    Attributes:
        capabilities: of the kind.
        revision: of the kind's training; raised when equal options and data lead to other weights than before.
        labels: the K label names.
    """

    capabilities: ClassVar[StudentCapabilities] = StudentCapabilities()
    revision: ClassVar[int] = 1

    labels: tuple[str, ...]

    def __init__(self, config: StudentConfig) -> None: ...

    @classmethod
    def training_passes(cls, options: OptionTable, n_rows: int) -> float | None:
        """Passes of gradient descent over `n_rows` rows that `fit` will make under `options`.

        None for kinds whose training time is not proportional to passes.
        """
        return None

    @property
    def metadata(self) -> JsonObject:
        """Facts for the report and the model card, such as weights, licence and what `fit` did."""
        return {}

    def check_requirements(self) -> None:
        """Check that `fit` finds its libraries and weights; costs nothing.

        Raises:
            MissingWeights, UnknownName, MissingExtra: it does not.
        """

    def save(self, folder: Path) -> None:
        """Write everything `load` needs into an empty folder; nothing is pickled."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load what `save` wrote; predictions are exactly the same.

        Raises:
            RunNotFound: the record in `folder` is damaged or of another format.
        """

    def export(self, folder: Path) -> ExportedGraph:
        """Write `model.onnx` and the files of its preprocessor into the folder."""


class Student(TrainedModel, Protocol):
    """A trainable text classifier. Arrays are float32, their columns in the order of `labels`."""

    def fit(self, data: TrainingData) -> Self:
        """Train from scratch. Equal data give equal students on a CPU.

        Raises:
            BadData: no rows, or targets that are not (N, K), not finite, negative, or do not sum to one.
        """

    def load_pretrained(self) -> bool:
        """Load the pretrained weights, so that `embed` works before `fit`; False for kinds whose `embed` needs `fit`.

        Raises:
            MissingWeights, MissingExtra: the weights, or a library for them, are not on this machine.
        """
        return False

    def predict_logits(self, texts: Sequence[str]) -> Floats:
        """(N, K) scores in nats; `predict_proba` is their softmax (multi-label tasks: sigmoid)."""

    def predict_proba(self, texts: Sequence[str]) -> Floats:
        """(N, K) probabilities; rows sum to one, except in multi-label tasks."""

    def embed(self, texts: Sequence[str]) -> Floats:
        """(N, D) inputs of the head."""
