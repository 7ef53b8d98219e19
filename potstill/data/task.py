"""The task: its labels and their meaning; a teacher's answer on one text; what a teacher is asked to generate."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from potstill.errors import BadSpec
from potstill.evaluation.metrics import ClassScore
from potstill.evaluation.metrics import JsonObject as JsonObject
from potstill.evaluation.text2text.answer_metrics import DEFAULT_METRIC
from potstill.evaluation.text2text.answer_metrics import AnswerMetric as AnswerMetric

TaskKind = Literal["single", "multi", "pair", "text2text"]
OutputForm = Literal["entities", "free"]
AnswerState = Literal["ok", "unparsable", "refused", "failed"]
Split = Literal["train", "validation", "test", "pool"]
SPLITS: tuple[Split, ...] = get_args(Split)
ANSWERS: Mapping[OutputForm, str] = {"entities": "marked entities", "free": "answers in words"}
ScoreMethod = Literal["gold", "scored", "logprobs", "votes", "stated", "one-hot"]


@dataclass(frozen=True)
class Output:
    """The answers of a text-to-text task.

    Attributes:
        form: `entities`, the spans of a text that have one of its types, or `free`, a text.
        metric: of free texts, what models are compared by; None otherwise.
        max_tokens: of a free text at most, in the student's tokens; None takes that of the longest answer learnt.

    Raises:
        BadSpec: an unknown form or metric, fewer than one token, or a metric or a limit of another form.
    """

    form: OutputForm = "entities"
    metric: AnswerMetric | None = None
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.form not in get_args(OutputForm):
            known = ", ".join(get_args(OutputForm))
            raise BadSpec(f"{self.form!r} is no form of an answer.", f"Take one of {known}.")
        if self.form != "free":
            given = next((name for name in ("metric", "max_tokens") if getattr(self, name) is not None), None)
            if given is not None:
                raise BadSpec(f"Answers of the form {self.form!r} have no {given}.", f"Leave {given} out.")
            return
        if self.metric is None:
            object.__setattr__(self, "metric", DEFAULT_METRIC)
        if self.metric not in get_args(AnswerMetric):
            known = ", ".join(get_args(AnswerMetric))
            raise BadSpec(f"{self.metric!r} is no metric of answers.", f"Take one of {known}.")
        if self.max_tokens is not None and not (type(self.max_tokens) is int and self.max_tokens > 0):
            raise BadSpec(f"max_tokens is {self.max_tokens!r}.", "Give a whole number above zero, or leave it out.")

    def to_json(self) -> JsonObject:
        """A JSON object with the form and what belongs to it; `Output(**record)` reads it."""
        return {name: value for name, value in asdict(self).items() if name == "form" or value is not None}


@dataclass(frozen=True)
class Task:
    """A decision about a text.

    Attributes:
        labels: the K label names, in the order every (N, K) array of this package uses; of entities the K types; none
            if the answers are free texts.
        name: a short name for reports.
        descriptions: label -> one sentence on what belongs there; may cover only some labels.
        instruction: what a teacher has to decide; empty takes a neutral default.
        kind: one label a text (`single`), any number (`multi`), one for two texts (`pair`), or an answer in words or
            spans (`text2text`).
        output: of a text-to-text task, the form of its answers; None for all others.

    Raises:
        BadSpec: fewer than two labels (one type of entities is enough), labels of free texts, an empty or duplicate
            name, a description of no label, or a form of answers in a task of another kind.
    """

    labels: tuple[str, ...]
    name: str = "task"
    descriptions: Mapping[str, str] = field(default_factory=dict)
    instruction: str = ""
    kind: TaskKind = "single"
    output: Output | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        object.__setattr__(self, "descriptions", dict(self.descriptions))
        if self.output is None and self.kind == "text2text":
            object.__setattr__(self, "output", Output())
        if self.output is not None and self.kind != "text2text":
            raise BadSpec(f"A task of the kind {self.kind!r} has no form of answers.", "Take the kind text2text.")
        self._check_number()
        if any(not label.strip() for label in self.labels):
            raise BadSpec("A label is empty.", "Give every label a name.")
        repeated = sorted({label for label in self.labels if self.labels.count(label) > 1})
        if repeated:
            raise BadSpec(f"The label {repeated[0]!r} is named twice.", "Name each label once.")
        unknown = sorted(set(self.descriptions) - set(self.labels))
        if unknown:
            raise BadSpec(f"{unknown[0]!r} is described but is not a label.", "Describe only labels of the task.")

    def _check_number(self) -> None:
        if self.form == "free" and self.labels:
            raise BadSpec("A task of free texts has no labels.", "Leave --labels out, or take another --form.")
        if self.form == "entities" and not self.labels:
            raise BadSpec("A task of entities needs a type, and has none.", "Name every type an entity can have.")
        if self.form is None and len(self.labels) < 2:
            given = repr(self.labels[0]) if self.labels else "none"
            raise BadSpec(f"A task needs at least two labels and has {given}.", "Name every label the texts can get.")

    @property
    def form(self) -> OutputForm | None:
        """The form of a text-to-text task's answers; None in a task of labels."""
        return None if self.output is None else self.output.form

    @property
    def n_labels(self) -> int:
        """K, the number of labels."""
        return len(self.labels)

    @property
    def key(self) -> str:
        """A content hash of everything but the name: equal tasks have equal keys."""
        output = [] if self.output is None else [self.output.to_json()]
        return content_key(self.labels, sorted(self.descriptions.items()), self.instruction, self.kind, *output)

    def index(self, label: str) -> int:
        """The column of `label` in every (N, K) array."""
        return self.labels.index(label)

    def to_json(self) -> JsonObject:
        """A JSON object that `Task.from_json` reads."""
        return {
            "name": self.name,
            "labels": list(self.labels),
            "descriptions": dict(self.descriptions),
            "instruction": self.instruction,
            "kind": self.kind,
            **({} if self.output is None else {"output": self.output.to_json()}),
        }

    @classmethod
    def from_json(cls, record: JsonObject) -> Task:
        """Read what `to_json` returned."""
        output = {"output": Output(**record["output"])} if record.get("output") is not None else {}
        return cls(**{**record, "labels": tuple(record["labels"]), **output})


@dataclass(frozen=True)
class Answer:
    """A teacher's answer on one text.

    Attributes:
        state: `ok`, or why there are no scores; the text is then unanswered and the run continues.
        scores: K natural-log scores in the task's label order (log-probabilities up to a constant);
            None unless `state` is `ok`.
        how: the source of the scores: label scoring by a local model, token log-probabilities, votes of k samples,
            a confidence the model stated, a single label, or a gold label.
        raw: the literal response, shortened; for reading only.
    """

    state: AnswerState
    scores: tuple[float, ...] | None = None
    how: ScoreMethod = "one-hot"
    raw: str = ""

    def to_json(self) -> JsonObject:
        """A JSON object that `Answer.from_json` reads."""
        return {"state": self.state, "scores": self.scores, "how": self.how, "raw": self.raw}

    @classmethod
    def from_json(cls, record: JsonObject) -> Answer:
        """Read what `to_json` returned."""
        scores = record["scores"]
        return cls(record["state"], None if scores is None else tuple(scores), record["how"], record["raw"])

    def checked(self, n_labels: int | None = None) -> Answer:
        """The answer, or a failed one if its scores are not finite or not `n_labels` numbers: neither can be stored."""
        if self.state != "ok":
            return self if self.scores is None else replace(self, scores=None)
        scores = self.scores or ()
        if not scores or (n_labels is not None and len(scores) != n_labels):
            return Answer("failed", raw=f"{len(scores)} scores for {n_labels} labels")
        if not all(math.isfinite(score) for score in scores):
            return Answer("failed", raw="scores that are not finite")
        return self


def read_answer(record: Any, n_labels: int) -> Answer | None:
    """The answer that `Answer.to_json` wrote; None for anything else, as a file may be damaged or edited.

    Scores are `n_labels` finite numbers, and only an answer in the state "ok" has some.
    """
    if not isinstance(record, dict) or record.keys() != {"state", "scores", "how", "raw"}:
        return None
    scores = record["scores"] if record["scores"] is not None else []
    numbers = isinstance(scores, list) and all(type(score) in (int, float) for score in scores)
    named = record["state"] in get_args(AnswerState) and record["how"] in get_args(ScoreMethod)
    if not numbers or not named or not isinstance(record["raw"], str):
        return None
    if record["state"] != "ok":
        return Answer.from_json(record) if not scores else None
    answer = Answer.from_json(record)
    return answer if answer.checked(n_labels) is answer else None


@dataclass(frozen=True)
class LabelledText:
    """A text and its label."""

    text: str
    label: str


@dataclass(frozen=True)
class StudentPrediction:
    """A labelled text, a student's predicted label, and its probability in [0, 1]."""

    text: str
    label: str
    predicted: str
    confidence: float


@dataclass(frozen=True)
class Feedback:
    """A student's performance, shown to a teacher that generates training texts (PGKD: Palo et al. 2024).

    Attributes:
        accuracy: on the validation set, whose texts are never shown; None to leave it out.
        report: precision, recall, F1 and support of each label on the validation set; empty to leave it out.
        correct, incorrect: training texts that the student predicts correctly, and incorrectly.
        hard_negatives: incorrectly predicted training texts with the highest confidence.
        label_counts: label -> number of texts to generate; empty leaves that to the teacher.
        labels: the labels to generate for; empty for all.
        untrained_labels: labels that the student has no training text of.
        style: the texts' style, in a few words; empty leaves that to the teacher.
    """

    accuracy: float | None = None
    report: Sequence[ClassScore] = ()
    correct: Sequence[StudentPrediction] = ()
    incorrect: Sequence[StudentPrediction] = ()
    hard_negatives: Sequence[StudentPrediction] = ()
    label_counts: Mapping[str, int] = field(default_factory=dict)
    labels: Sequence[str] = ()
    untrained_labels: Sequence[str] = ()
    style: str = ""


@dataclass(frozen=True)
class GenerationRequest:
    """A request for generated texts.

    Attributes:
        label: the label of the texts; empty, with `feedback`, for several labels.
        n: how many texts.
        examples: gold examples, whose style the texts should have.
        counterexamples: texts of other labels that are easily confused with this one.
        seed: makes two requests for the same label different.
        feedback: the student's performance; only for teachers that read feedback (see teachers/base.py). With a label
            only its style is used.
        parts: requests for one label each, whose n add up to this one's; then there is no label, example or feedback
            here. Only for teachers that take several at once.
    """

    label: str
    n: int
    examples: Sequence[LabelledText] = ()
    counterexamples: Sequence[LabelledText] = ()
    seed: int = 0
    feedback: Feedback | None = None
    parts: Sequence[GenerationRequest] = ()


@dataclass(frozen=True)
class DescriptionRequest(GenerationRequest):
    """A request for one sentence on what belongs to `label`, in place of a text; n is one.

    Its examples are texts of the label and, with the label "", unlabelled texts of the task. Only for teachers that
    describe labels (see teachers/base.py).
    """


def content_key(*parts: Any) -> str:
    """32 hex digits of a SHA-256 over the parts' canonical JSON: equal content, equal key, on every machine."""
    canonical = json.dumps(parts, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()[:32]
