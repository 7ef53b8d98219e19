"""Notes of a run: what happened, as frozen records that the report and `potstill show` read.

A note carries facts; `sentence` words them where they are shown. A plug-in adds a kind of note by a subclass of
`NoteRecord`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Self

from pydantic import TypeAdapter, ValidationError

from potstill.data.task import JsonObject, LabelledText
from potstill.ledger.store import RunStore


class NoteRecord:
    """Base of every note, and of every decision that is stored; a subclass is a frozen dataclass.

    Attributes:
        name: the name it is stored under.
        former_names: names under which older versions stored it.
    """

    name: ClassVar[str]
    former_names: ClassVar[tuple[str, ...]] = ()
    _subclasses: ClassVar[dict[str, type[NoteRecord]]] = {}

    def __init_subclass__(cls) -> None:
        if "name" in cls.__dict__:
            for name in (cls.name, *cls.former_names):
                NoteRecord._subclasses.setdefault(name, cls)

    def to_json(self) -> JsonObject:
        """The fields as JSON values."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]

    @classmethod
    def from_json(cls, record: JsonObject) -> Self:
        """The record that `to_json` wrote. Raises pydantic's ValidationError if a field is missing or invalid."""
        adapter = _adapters.get(cls)
        if adapter is None:
            adapter = _adapters[cls] = TypeAdapter(cls)
        found: Self = adapter.validate_python(record)
        return found

    def sentence(self) -> str:
        """The note as a sentence of the report; empty if it is not shown there."""
        return ""


_adapters: dict[type[NoteRecord], TypeAdapter[Any]] = {}  # built once a class, which takes milliseconds


@dataclass(frozen=True)
class OtherNote(NoteRecord):
    """A note of a kind that is not known here: of a plug-in that is not imported, or of an older version."""

    kind: str
    facts: JsonObject

    def to_json(self) -> JsonObject:
        """Its facts."""
        return self.facts


@dataclass(frozen=True)
class TimedNote:
    """A note and when it was taken, in seconds since 1970."""

    time: float
    record: NoteRecord

    @property
    def name(self) -> str:
        """The name it is stored under."""
        return self.record.kind if isinstance(self.record, OtherNote) else self.record.name


def read_notes(store: RunStore) -> list[TimedNote]:
    """The notes in a run's store, oldest first."""
    return [TimedNote(note.time, _decode(note.name, note.facts)) for note in store.notes()]


def _decode(name: str, facts: JsonObject) -> NoteRecord:
    cls = NoteRecord._subclasses.get(name)
    if cls is None:
        return OtherNote(name, facts)
    try:
        return cls.from_json(facts)
    except ValidationError:  # written by an older version
        return OtherNote(name, facts)


# --- taken by the run itself ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Opened(NoteRecord):
    """The run was started, or resumed."""

    name = "opened"
    budget_usd: float


@dataclass(frozen=True)
class AskFinished(NoteRecord):
    """A teacher was asked about texts whose answers were not in the run's store.

    Attributes:
        purpose: what the answers are for.
        teacher: its name.
        n_new: texts without a stored answer before.
        by_state: answer state -> number of texts, of all that were asked.
        seconds: wall time.
    """

    name = "ask_finished"
    purpose: str
    teacher: str
    n_new: int
    by_state: Mapping[str, int]
    seconds: float


@dataclass(frozen=True)
class UnreadableReplies(NoteRecord):
    """Replies of a language model that name no label of the task.

    Attributes:
        teacher: its name.
        n_unreadable: how many new answers of one `ask`; several notes of a teacher add up.
        replies: the first three that differ, each in one line of at most 200 characters, as the model wrote them.
    """

    name = "unreadable_replies"
    teacher: str
    n_unreadable: int
    replies: tuple[str, ...]


@dataclass(frozen=True)
class Evaluated(NoteRecord):
    """A student was evaluated on `n_texts` labelled texts; `student` is the recipe's label for it."""

    name = "evaluated"
    former_names = ("judged",)
    student: str
    n_texts: int
    accuracy: float


@dataclass(frozen=True)
class TeacherRecorded(NoteRecord):
    """The recipe named its teacher and how the scores are calibrated: (K,) `offsets`, then a `temperature`."""

    name = "teacher_recorded"
    teacher: str
    offsets: tuple[float, ...]
    temperature: float


@dataclass(frozen=True)
class Finished(NoteRecord):
    """The student with this key was exported and evaluated."""

    name = "finished"
    student: str


# --- taken by recipes -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Annotated(NoteRecord):
    """People labelled texts.

    Attributes:
        n_annotators: people.
        n_labels: labels by all of them.
        n_complete: texts with every label that was requested.
        median_seconds: seconds a label, median over the people whose time was measured; None without such people.
        alpha: Krippendorff's alpha on the `n_overlapping` texts with two labels or more; None without such texts.
    """

    name = "annotated"
    n_annotators: int
    n_labels: int
    n_complete: int
    median_seconds: float | None = None
    alpha: float | None = None
    n_overlapping: int = 0

    def sentence(self) -> str:
        """How many labels there are and how far the people agree."""
        people = "One person" if self.n_annotators == 1 else f"{self.n_annotators} people"
        pace = "" if self.median_seconds is None else f", {self.median_seconds:.1f} s each"
        words = f"{people} gave {self.n_labels} labels to {self.n_complete} texts{pace}."
        if self.alpha is None:
            return words
        on = f"on the {self.n_overlapping} texts with more than one label"
        return f"{words} Krippendorff's alpha is {self.alpha:.2f} {on}."


@dataclass(frozen=True)
class Allocated(NoteRecord):
    """`allocate` selected a candidate.

    Attributes:
        candidate: the strategy whose student was selected.
        score: its accuracy on the `n_validation` texts.
        n_labels: labels bought.
        n_generated: generated texts that were accepted.
        candidate_scores: strategy -> accuracy, of all candidates.
    """

    name = "allocated"
    candidate: str
    score: float
    n_validation: int
    n_labels: int
    n_generated: int
    candidate_scores: Mapping[str, float]

    def sentence(self) -> str:
        """The candidate that was selected, and all scores."""
        scores = ", ".join(f"{candidate} {score:.1%}" for candidate, score in self.candidate_scores.items())
        return f"The student of {self.candidate!r} was selected on {self.n_validation} validation texts: {scores}."


@dataclass(frozen=True)
class AcquisitionCounts:
    """The texts that a round acquired.

    Attributes:
        source: "generate", or "label" if they are texts of the pool; empty for round 0, which acquires none.
        n_texts, n_accepted: all of them, and those that passed the filters.
        rejected_by_reason: reason -> number of texts.
        usd: their price.
    """

    source: str = ""
    n_texts: int = 0
    n_accepted: int = 0
    rejected_by_reason: Mapping[str, int] = field(default_factory=dict)
    usd: float = 0.0


@dataclass(frozen=True)
class RoundFacts(NoteRecord):
    """The student after a round; round 0 is the student before the first.

    Attributes:
        round: number of the round.
        n_train: texts it was trained on.
        validation_loss: mean negative log-likelihood of the validation labels; None in text-to-text tasks.
        accuracy, accuracy_low, accuracy_high: `metric` on the validation texts, with the bounds of a 95 % interval.
        macro_f1, f1: on the validation texts; `f1` is label -> F1, or group of texts -> score.
        charged_usd: by the whole run, when the round was over.
        is_best: whether the student was the best so far, or more labels had training texts than before.
        acquired: the round's texts.
        metric: what `accuracy` is, in words.
    """

    name = "round"
    round: int
    n_train: int
    validation_loss: float | None
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    macro_f1: float
    f1: Mapping[str, float]
    charged_usd: float
    is_best: bool
    acquired: AcquisitionCounts = AcquisitionCounts()
    metric: str = "accuracy"


@dataclass(frozen=True)
class RejectedExcerpt:
    """The beginning of a rejected text, and the reason."""

    text: str
    reason: str


@dataclass(frozen=True)
class RoundSamples(NoteRecord):
    """The beginnings of some texts of a round."""

    name = "round_samples"
    round: int
    accepted: tuple[LabelledText, ...]
    rejected: tuple[RejectedExcerpt, ...]


@dataclass(frozen=True)
class RoundsFinished(NoteRecord):
    """A loop of rounds ended.

    Attributes:
        teacher: the name of the teacher that wrote the texts.
        best_round: the round whose student was returned.
        n_rounds: rounds run.
        n_generated, n_labelled: texts the teacher wrote, and texts of the pool it labelled.
        n_accepted: texts of both sorts that passed the filters.
        n_shown: training texts that the teacher's prompts showed.
        rejected_by_reason: reason -> number of texts.
        budget_exhausted: whether the budget ended before the rounds did.
        labels_without_gold: labels whose first training texts the teacher generated.
        labels_without_validation: those of them that have no validation text either.
        selected_by: why that student was returned, in words.
    """

    name = "rounds_finished"
    teacher: str
    best_round: int
    n_rounds: int
    n_generated: int
    n_labelled: int
    n_accepted: int
    n_shown: int
    rejected_by_reason: Mapping[str, int]
    budget_exhausted: bool
    labels_without_gold: tuple[str, ...] = ()
    labels_without_validation: tuple[str, ...] = ()
    selected_by: str = "lowest validation loss"

    def sentence(self) -> str:
        """What was generated, what was rejected and which student was returned."""
        rejected = list_reasons(self.rejected_by_reason) or "none"
        labelled = f" It labelled {self.n_labelled} texts of the pool." if self.n_labelled else ""
        exhausted = " The money ended before the rounds did." if self.budget_exhausted else ""
        among = ", among those with texts of the most labels," if self.labels_without_gold else ""
        return (
            f"{self.teacher} generated {self.n_generated} texts in {self.n_rounds} rounds, guided by the student's "
            f"errors; {self.n_accepted - self.n_labelled} were accepted ({rejected} rejected).{labelled} "
            f"Its prompts showed {self.n_shown} training texts. The student of round {self.best_round} had the "
            f"{self.selected_by}{among} and is the one returned.{exhausted}{self._unmeasured()}"
        )

    def _unmeasured(self) -> str:
        if not self.labels_without_gold:
            return ""
        n, n_unmeasured = len(self.labels_without_gold), len(self.labels_without_validation)
        listed = ", ".join(map(repr, self.labels_without_gold[:3])) + (" and others" if n > 3 else "")
        sentence = f" Labels without a training text of yours: {n} ({listed}); all their texts are generated."
        unmeasured = f" {n_unmeasured} of them without a validation text, so no figure here measures them."
        return sentence + (unmeasured if n_unmeasured else "")


@dataclass(frozen=True)
class PseudoLabelled(NoteRecord):
    """A round of self-training labelled `n_texts`; label propagation changed `changed_share` of the labels."""

    name = "pseudo_labelled"
    round: int
    n_texts: int
    changed_share: float


@dataclass(frozen=True)
class LabelsCorrected(NoteRecord):
    """A teacher's labels were corrected.

    Attributes:
        n_texts: texts it answered.
        changed_share: share of them whose most probable label changed.
        gold_only_accuracy: cross-validated accuracy of a student trained on the gold labels alone.
    """

    name = "labels_corrected"
    n_texts: int
    changed_share: float
    gold_only_accuracy: float

    def sentence(self) -> str:
        """Why, and how many labels changed."""
        return (
            "A student trained on the gold labels alone is more accurate than the teacher, so the teacher's labels "
            f"were corrected with it and with label propagation: {self.changed_share:.1%} of {self.n_texts:,} changed."
        )


def list_reasons(n_by_reason: Mapping[str, int]) -> str:
    """Reasons and their numbers in words, the most frequent first."""
    return ", ".join(f"{n} {reason}" for reason, n in sorted(n_by_reason.items(), key=lambda each: -each[1]))
