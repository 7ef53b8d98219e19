"""What every student is: the interface and the records it exchanges. Knows no teacher and no money.

A kind is a class that is made from a `Make`. `name` is what the user types, `encoder:minilm`: the kind, then the
weights it starts from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from potstill.data.task import TaskKind

Floats = NDArray[np.float32]
CLASS_WEIGHTS = "class_weights"
# Types of options: numbers above zero; True is no number and "3" neither.
PositiveInt = Annotated[int, Field(strict=True, gt=0)]
PositiveFloat = Annotated[float, Field(strict=True, gt=0)]


@dataclass(frozen=True)
class StudentCapabilities:
    """What every student of a kind can do; read by recipes, planning and studies.

    Attributes:
        task_kinds: the kinds of task it can learn.
        vectors: whether `embed` places texts of similar meaning near each other.
        quick_options: options under which it trains in seconds, without fine-tuning; empty if it always does.
        pseudo_label_options: options for training on mostly pseudo-labels.
        language_head: whether it predicts label words with a language-model head.
        zero_shot: whether it can predict from label names alone, under `zero_shot_options`.
        zero_shot_options: options under which `fit` needs no rows.
        pretrained: whether it starts from weights, named after the colon.
        exports: formats `export` writes: "onnx", "transformers".
    """

    task_kinds: frozenset[TaskKind] = frozenset({"single"})
    vectors: bool = False
    quick_options: Mapping[str, Any] = field(default_factory=dict)
    pseudo_label_options: Mapping[str, Any] = field(default_factory=dict)
    language_head: bool = False
    zero_shot: bool = False
    zero_shot_options: Mapping[str, Any] = field(default_factory=dict)
    pretrained: bool = False
    exports: tuple[str, ...] = ("onnx",)


ALL_TASK_KINDS: frozenset[TaskKind] = frozenset({"single", "pair", "multi"})


def own_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options a kind reads itself: the `[student]` table less `class_weights`, which every kind has."""
    return {name: value for name, value in options.items() if name != CLASS_WEIGHTS}


@dataclass(frozen=True)
class StudentConfig:
    """All a student is made from.

    Attributes:
        labels: the K label names.
        weights: short name or path of the weights it starts from; empty takes the kind's default.
        descriptions: label -> one sentence, for kinds that read them.
        options: the `[student]` table of the spec, less `name` (learning rate, epochs, max_length, ...), and less
            `class_weights`, which are in the row weights of a lesson (`lesson.class_weighted`).
        kind: of the task. In a `pair` task each text is two, as `pairs.join_pair` joins them.
    """

    labels: tuple[str, ...]
    weights: str = ""
    descriptions: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    kind: TaskKind = "single"

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", own_options(self.options))


@dataclass(frozen=True)
class FeatureHint:
    """A larger student whose vectors the learner's are to be like: the hint of a distillation (Romero et al. 2015).

    Attributes:
        teacher: fitted; its `embed` is asked while the learner learns.
        share: of the loss that is 1 - cosine(A v, teacher's vector), with v the learner's own vector and A learnt, in
            (0, 1); the rest is the loss on the targets.
    """

    teacher: Student
    loss_weight: float


@dataclass(frozen=True)
class TrainingData:
    """What a student learns from.

    Attributes:
        texts: N texts.
        targets: (N, K) float32, rows sum to one; one-hot for gold, soft for a teacher's answers.
        weights: (N,) float32, how much each row counts; None means one each.
        doubtful: (N,) bool, the rows whose target a teacher gave and may be wrong; None means no row.
        start: a student of the same kind whose learnt representation this one goes on from, where the kind learns one
            (encoder, static); its head is fitted anew. None starts from the kind's own weights.
        like: whose vectors the learner's are to be like, where the kind learns any (encoder, static).
        seed: draws the initialisation, the order and the dropout.
        deadline_s: stop learning cleanly after this many seconds and keep what is learnt.
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
class ExportedGraph:
    """What `Student.export` wrote, and what the runtime needs to know to run it.

    Attributes:
        kind: which reader of `bundle` prepares the texts: "encoder" (token ids and mask), "bag" (ids and values).
        settings: what that reader needs (max_length, pad id, ...), JSON values only.
        quantisable: True if an int8 graph is worth trying.
    """

    preprocessor: str
    preprocessor_config: Mapping[str, Any]
    quantizable: bool


class Student(Protocol):
    """A trainable classifier. Every array is float32 and its columns are in the order of `labels`.

    Attributes:
        capabilities: of the kind.
        revision: raised when equal options and data lead to other weights than before.
        labels: the K label names.
    """

    capabilities: ClassVar[StudentCapabilities] = StudentCapabilities()
    revision: ClassVar[int] = 1

    labels: tuple[str, ...]

    def __init__(self, config: StudentConfig) -> None: ...

    @classmethod
    def training_passes(cls, options: Mapping[str, Any], n_rows: int) -> float | None:
        """Passes of gradient descent over `n_rows` rows that `fit` will make under `options`.

        None for kinds whose training time is not proportional to passes.
        """
        return None

    def check_requirements(self) -> None:
        """See that `fit` will find all it needs; learns nothing and costs nothing.

        Raises:
            MissingWeights, UnknownName, MissingExtra: it will not.
        """

    def fit(self, data: TrainingData) -> Self:
        """Learn from scratch. Equal lessons give equal students on a CPU.

        Raises:
            BadData: no rows, targets that are not (N, K), not finite, negative, or do not sum to one.
        """

    def predict_logits(self, texts: Sequence[str]) -> Floats:
        """(N, K) natural-log scores; their softmax is `predict_proba`."""

    def predict_proba(self, texts: Sequence[str]) -> Floats:
        """(N, K) probabilities, rows sum to one."""

    def embed(self, texts: Sequence[str]) -> Floats:
        """(N, D) representations under the head."""

    def save(self, folder: Path) -> None:
        """Write all that `load` needs into the empty folder; nothing is pickled."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The student that `save` wrote, predicting exactly the same."""

    def export(self, folder: Path) -> ExportedGraph:
        """Write `model.onnx` (and `tokenizer.json` where one is used) into the folder, for `bundle` to run."""
