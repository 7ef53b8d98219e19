"""What every teacher is: the interface, and the records it exchanges. Knows no ledger and no other teacher.

A teacher is opened by the function its menu line names: `open_teacher(setup: Setup) -> Teacher`. Opening may read
weights but asks nothing and spends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from potstill.data.task import Answer, GenerationRequest, LabelledText, Task, TaskKind
from potstill.ledger.prices import Category, ExactPrice, Price, Usage
from potstill.registry import Options


@dataclass(frozen=True)
class TeacherSetup:
    """All a teacher is given when it is opened.

    Attributes:
        task: what to decide.
        model: what follows the colon of its name: `local:smollm2` -> "smollm2"; may be empty.
        examples: gold (text, label) pairs it may show in its prompt, at most a few per class.
        options: the `[teacher]` table of the spec, less `name`.
        prices: the `[prices]` table of the spec.
        workspace: a folder relative file names in `options` are looked up from.
        seed: draws whatever the teacher draws.
        asks: False for a plan: nobody will be asked, so no key is needed.
        folder: the run's folder, for a teacher that leaves something in it; None for a plan.
    """

    task: Task
    model: str = ""
    examples: Sequence[LabelledText] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    prices: Mapping[str, Any] = field(default_factory=dict)
    workspace: Path = Path()
    seed: int = 0
    will_call: bool = True
    run_folder: Path | None = None


@dataclass(frozen=True)
class Reply:
    """What one call brought: one answer a text, in order, and what the call consumed in all."""

    answers: tuple[Answer, ...]
    usage: Usage


@dataclass(frozen=True)
class GeneratedTexts:
    """What one call of `write` brought: texts with the label they were written for, and what it consumed."""

    texts: tuple[LabelledText, ...]
    usage: Usage


@dataclass(frozen=True)
class UsageEstimate:
    """What `answer` will consume, at least and at most, when nothing goes wrong. A guess; `bound` is a promise."""

    low: Usage
    high: Usage


@dataclass(frozen=True)
class TeacherCapabilities:
    """What every teacher of a kind can do, and what it needs.

    Attributes:
        remote: texts are sent to another machine, and a bill comes back: asked about before it spends.
        needs_student: it answers with a student that the procedure trains first.
        human: people answer.
        generates: it can write texts.
        reads_feedback: generating, it reads a request's feedback and returns texts of several labels at once.
        task_kinds: the kinds of task it can do.
        picks_examples: it can pick the examples in its prompt for each text, and then wants all gold.
        soft_labels: its answers carry a score for each label.
        batch_discount: its provider's batch queue is cheaper.
    """

    remote: bool = False
    needs_student: bool = False
    human: bool = False
    generates: bool = False
    reads_feedback: bool = False
    task_kinds: frozenset[TaskKind] = frozenset({"single", "pair"})
    picks_examples: bool = False
    soft_labels: bool = True
    batch_discount: bool = False


@dataclass(frozen=True)
class TeacherKind:
    """A kind of teacher, as a registry line leads to it.

    Attributes:
        open: opens a teacher of the kind; asks nothing and spends nothing.
        capabilities: what it can do.
        options: what `[teacher]` may say beside `name`; None if the kind checks that itself.
    """

    open: Callable[[TeacherSetup], Teacher]
    capabilities: TeacherCapabilities
    options: type[Options] | None = None

    def __call__(self, setup: TeacherSetup) -> Teacher:
        """Open a teacher of this kind."""
        return self.open(setup)


class Teacher(Protocol):
    """Answers for money.

    Attributes:
        name: as the user types it, model included ("local:smollm2").
        key: everything that changes its answers (model content, prompt version, examples, parameters), hashed;
            answers are kept under it.
        category: which money pays for it.
        price: turns its usage into money.
        batch: how many texts one call takes at most.
        parallel: how many calls may be in flight.
        simulated: True if it only replays labels; every figure made with it is called a simulation.
        needs_prior_correction: True if its scores carry a label bias that `calibrate.match_prior` should remove.
    """

    name: str
    key: str
    category: Category
    price: Price
    batch_size: int
    parallel: int
    simulated: bool
    needs_prior_correction: bool

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Facts for the report (model, licence, size, runtime)."""

    def max_usage(self, texts: Sequence[str]) -> Usage:
        """An upper bound of what `answer(texts)` can consume; computed without asking anybody."""

    def estimate_usage(self, texts: Sequence[str]) -> UsageEstimate:
        """What `answer(texts)` will probably consume; computed without asking anybody."""

    def answer(self, texts: Sequence[str]) -> Reply:
        """One call for up to `batch` texts. A text that cannot be answered is a state of its answer.

        Raises:
            TeacherError: the teacher as a whole is out of order (wrong key, unreachable, out of memory).
        """

    def max_generation_usage(self, brief: GenerationRequest) -> Usage:
        """An upper bound of what `write(brief)` can consume."""

    def generate(self, brief: GenerationRequest) -> GeneratedTexts:
        """One call that writes up to `brief.n` texts. Raises TeacherError if this teacher cannot write."""


def can_generate(teacher: Teacher) -> bool:
    """Whether `write` can succeed at all; a teacher that says nothing of it (no attribute `writes`) is believed to."""
    return bool(getattr(teacher, "generates", True))


def reads_feedback(teacher: Teacher) -> bool:
    """Whether `write` reads a brief's guide and returns texts of several labels at once.

    A teacher says so with the attribute `reads_feedback`; without it, it is asked for one label at a time. What it wrote
    that cannot be read comes back as a text with the label "".
    """
    return bool(getattr(teacher, "reads_feedback", False))


def is_greenlet_safe(teacher: Teacher) -> bool:
    """Whether `answer` does little but wait, by `engines.greenlets` alone, so that many share a thread.

    A teacher says so with the attribute `light`.
    """
    return bool(getattr(teacher, "greenlet_safe", False))


@dataclass(frozen=True)
class BatchJob:
    """Texts to be left with somebody who answers them later.

    Attributes:
        mark: our own name for it; goes along, so that it can be found again where it was left.
        n: how many texts.
        began: when it was decided, in seconds since 1970; it was left later than that.
        samples: replies asked for each text.
        place: the other side's name for it; empty while nobody knows whether it arrived.
    """

    client_id: str
    n_texts: int
    started_at: float
    samples: int = 1
    job_id: str = ""


@dataclass(frozen=True)
class JobWording:
    """How a teacher's tickets are treated and spoken of; a teacher has its own in the attribute `manner`.

    Attributes:
        what: what a ticket is called on the bill.
        tries_first: whether the first text is asked directly, so that a wrong key shows now and not in a day.
        waiting: the sentence of `Waiting`, with the fields `done`, `total` (of what was left) and `so_far`; empty for
            the one about batches.
        mend: what to do in the meantime.
    """

    noun: str = "by batch"
    probe_first: bool = True
    waiting_message: str = ""
    hint: str = "Run the same command again later; what came back is kept, and nothing is bought twice."


def job_wording_of(teacher: Teacher) -> JobWording:
    """The manner of a teacher's tickets; a provider's batches where it does not say."""
    manner: JobWording = getattr(teacher, "job_wording", JobWording())
    return manner


def generation_key_of(teacher: Teacher) -> str:
    """What a teacher's drafts are kept under: its attribute `write_key` where writing heeds more than answering does,
    else its key."""
    key: str = getattr(teacher, "generation_key", teacher.key)
    return key


@dataclass(frozen=True)
class JobPending:
    """It is being worked on: `done` of `total` requests have ended. `state` is the other side's word for it."""

    state: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class JobRejected:
    """It was not taken and nothing was billed. `full`: too much is waiting there already, so less may be taken."""

    reason: str
    queue_full: bool = False


@dataclass(frozen=True)
class JobResults:
    """It is over, wholly or in part.

    Attributes:
        answers: for each text its answer; None where it was not worked on (expired, cancelled) and may be left again.
        usages: what each reply consumed, where that was said.
        unsaid: how many replies came without a word on what they consumed.
    """

    answers: tuple[Answer | None, ...]
    usages: tuple[Usage, ...]
    n_unreported: int = 0


@runtime_checkable
class DeferredTeacher(Teacher, Protocol):
    """A teacher whose answers are fetched later: a provider's batch queue, or people.

    `answer` and `write` still ask directly, at `price`; what is left on a ticket costs `ticket_price`.

    Attributes:
        ticket_price: turns the usage of one text on a ticket into money.
        samples: replies a new ticket asks for each text.
    """

    job_price: ExactPrice

    @property
    def samples(self) -> int:
        """Replies a new ticket asks for each text."""

    def max_job_usage(self, text: str) -> Usage:
        """An upper bound of what one text on a ticket can consume."""

    def job_capacity(self, texts: Iterable[str]) -> int:
        """How many of the first of `texts` one ticket takes."""

    def submit_job(self, ticket: BatchJob, texts: Sequence[str]) -> str | JobRejected:
        """Leave the texts; returns the other side's name for them.

        Raises:
            TeacherError: with `billed` False it surely was not left; otherwise nobody knows, and `find` will tell.
        """

    def find_job(self, ticket: BatchJob, exclude: Collection[str]) -> str | JobPending | None:
        """The place of a ticket that may have been left, never one of `taken`; None if it surely was not; Pending
        while nobody can tell."""

    def fetch_job(self, ticket: BatchJob) -> JobPending | JobRejected | JobResults:
        """How it stands, and once it is over what it brought. May be called again: nothing is forgotten.

        Raises:
            TeacherError: it cannot be asked now, or what was left is gone.
        """


@runtime_checkable
class CleansUp(Protocol):
    """A teacher that can take away what its tickets leave behind on the other side."""

    def clean_up(self, ticket: BatchJob) -> None:
        """What the ticket brought is safe here, or it never began: take away there what nobody needs. Never raises."""
