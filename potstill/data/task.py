"""What to decide: the labels, what they mean, and what a teacher said of one text. Knows no model and no money."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from potstill.errors import BadSpec
from potstill.evaluation.metrics import ClassScore

TaskKind = Literal["single", "multi", "pair", "text2text"]
AnswerState = Literal["ok", "unparsable", "refused", "failed"]
JsonObject = Mapping[str, Any]  # what `to_json` returns and `from_json` reads
ScoreMethod = Literal["gold", "scored", "logprobs", "votes", "stated", "one-hot"]


@dataclass(frozen=True)
class Task:
    """A decision about a text.

    Attributes:
        labels: the K label names, in the order every (N, K) array of this package uses.
        name: a short name for reports.
        descriptions: label -> one sentence on what belongs there; may cover only some labels.
        instruction: what a teacher is told to decide; empty takes a neutral default.
        kind: one label a text (`single`), several (`multi`), one for two texts (`pair`), or free text.

    Raises:
        BadSpec: fewer than two labels, an empty or duplicate name, a description of no label.
    """

    labels: tuple[str, ...]
    name: str = "task"
    descriptions: Mapping[str, str] = field(default_factory=dict)
    instruction: str = ""
    kind: TaskKind = "single"

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        object.__setattr__(self, "descriptions", dict(self.descriptions))
        if len(self.labels) < 2:
            found = repr(self.labels[0]) if self.labels else "none"
            raise BadSpec(f"A task needs at least two labels and has {found}.", "Name every label the texts can get.")
        if any(not label.strip() for label in self.labels):
            raise BadSpec("A label is empty.", "Give every label a name.")
        twice = sorted({label for label in self.labels if self.labels.count(label) > 1})
        if twice:
            raise BadSpec(f"The label {twice[0]!r} is named twice.", "Name each label once.")
        strangers = sorted(set(self.descriptions) - set(self.labels))
        if strangers:
            raise BadSpec(f"{strangers[0]!r} is described but is not a label.", "Describe only labels of the task.")

    @property
    def n_labels(self) -> int:
        """K, the number of labels."""
        return len(self.labels)

    @property
    def key(self) -> str:
        """A content hash: two tasks that ask the same have the same key, whatever they are called."""
        return content_key(self.labels, sorted(self.descriptions.items()), self.instruction, self.kind)

    def index(self, label: str) -> int:
        """The column of `label` in every (N, K) array."""
        return self.labels.index(label)

    def to_json(self) -> JsonObject:
        """A plain dictionary that `Task.from_json` reads back."""
        return {
            "name": self.name,
            "labels": list(self.labels),
            "descriptions": dict(self.descriptions),
            "instruction": self.instruction,
            "kind": self.kind,
        }

    @classmethod
    def from_json(cls, record: JsonObject) -> Task:
        """The task that `to_json` wrote."""
        return cls(**{**record, "labels": tuple(record["labels"])})


@dataclass(frozen=True)
class Answer:
    """What a teacher said of one text.

    Attributes:
        state: `ok`, or why there are no scores: the row stays unanswered, the job goes on.
        scores: K natural-log scores in the task's label order (log-probabilities up to a constant);
            None unless `state` is `ok`.
        how: where the softness comes from: full label scoring by a local model, token log-probabilities,
            k-sample votes, a confidence the model stated, a single label, or a gold label.
        raw: what was literally returned, shortened; for reading, never parsed again.
    """

    state: AnswerState
    scores: tuple[float, ...] | None = None
    how: ScoreMethod = "one-hot"
    raw: str = ""

    def to_json(self) -> JsonObject:
        """A plain dictionary that `Answer.from_json` reads back."""
        return {"state": self.state, "scores": self.scores, "how": self.how, "raw": self.raw}

    @classmethod
    def from_json(cls, record: JsonObject) -> Answer:
        """The answer that `to_json` wrote."""
        scores = record["scores"]
        return cls(record["state"], None if scores is None else tuple(scores), record["how"], record["raw"])


@dataclass(frozen=True)
class LabelledText:
    """A text that a teacher wrote for a label."""

    text: str
    label: str


@dataclass(frozen=True)
class StudentPrediction:
    """A labelled text and what a student takes it for, with its probability in [0, 1]."""

    text: str
    label: str
    predicted: str
    confidence: float


@dataclass(frozen=True)
class Feedback:
    """How a student does, for a teacher that writes what it needs (PGKD: Palo et al. 2024).

    Attributes:
        accuracy: on validation texts, which are themselves never shown; None if it is not told.
        report: precision, recall, F1 and support of labels on those texts; empty if it is not told.
        correct, incorrect: training texts that the student gets right, and wrong.
        hard_negatives: training texts that it gets wrong and is surest of.
        wanted: label -> how many texts of it; empty leaves that to the teacher.
        labels: those the brief is about; empty is all of them.
        manner: how the texts should be, in a few words; empty leaves that to the teacher.
    """

    accuracy: float | None = None
    report: Sequence[ClassScore] = ()
    correct: Sequence[StudentPrediction] = ()
    incorrect: Sequence[StudentPrediction] = ()
    hard_negatives: Sequence[StudentPrediction] = ()
    label_counts: Mapping[str, int] = field(default_factory=dict)
    labels: Sequence[str] = ()
    style: str = ""


@dataclass(frozen=True)
class GenerationRequest:
    """What a teacher is asked to write.

    Attributes:
        label: the class wanted; empty, with a guide, for several.
        n: how many texts.
        examples: gold (text, label) examples to write in the manner of.
        avoid: texts of other classes that are easily confused with this one.
        seed: makes two briefs for the same label different.
        guide: what a student needs; only for a teacher that `takes_guides` (see teachers/base.py). With a label only
            its manner counts.
    """

    label: str
    n: int
    examples: Sequence[LabelledText] = ()
    counterexamples: Sequence[LabelledText] = ()
    seed: int = 0
    feedback: Feedback | None = None


def content_key(*parts: Any) -> str:
    """32 hex digits of a SHA-256 over the parts' canonical JSON: equal content, equal key, on every machine."""
    canonical = json.dumps(parts, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()[:32]
