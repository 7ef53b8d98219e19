"""The interface of a teacher and the records it exchanges. Imports no ledger and no kind.

The registry leads to a `TeacherKind`, whose `open` builds a teacher from a `TeacherSetup`. Opening may read weights but
sends nothing and spends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from potstill.data.task import Answer, GenerationRequest, LabelledText, OutputForm, Task, TaskKind
from potstill.ledger.prices import Category, ExactPrice, Price, Usage
from potstill.registry import Options
from potstill.teachers.price_options import PriceOptions

# Whether a label bias is removed: always; or as gold decides, and if there is too little gold "unless_worse" removes it
# and "if_better" does not.
PriorCorrection = Literal["always", "unless_worse", "if_better"]


@dataclass(frozen=True)
class TeacherCapabilities:
    """What a teacher can do and what it needs.

    A kind states what any of its teachers may do; an opened teacher states what it can do with its options.

    Attributes:
        remote: texts leave this machine, and a bill comes back; the user is asked before it spends.
        needs_student: it answers with a student that the procedure trains first.
        human: people answer, now or later; no language model.
        generates: it writes texts.
        describes_labels: it writes a sentence about a label, for a `DescriptionRequest`.
        reads_feedback: `generate` reads a request's feedback and returns texts of several labels at once. What it wrote
            and cannot be parsed comes back as a text with the label "". Without it, a request is for one label.
        labels_per_call: requests for one label that one `generate` takes at once, as the `parts` of a request.
        texts_per_label: texts of one label that are best asked for together, if their number is not prescribed.
        task_kinds: tasks it answers.
        output_forms: of text-to-text tasks, the forms of answers it gives.
        picks_examples: it chooses by itself which gold examples to show, so it is given as many as there are.
        soft_labels: its scores can say how unsure it is.
        batch_discount: its provider has a batch queue at a lower price.
        writes_answers: its answers are texts that have to be read, and may be unreadable; a teacher that generates
            counts as one without saying so.
        token_scores: of answers in words, it can say how probable other tokens were.
        prior_correction: when the label bias of a teacher with `needs_prior_correction` is removed.
    """

    remote: bool = False
    needs_student: bool = False
    human: bool = False
    generates: bool = False
    describes_labels: bool = False
    reads_feedback: bool = False
    labels_per_call: int = 1
    texts_per_label: int = 1
    task_kinds: frozenset[TaskKind] = frozenset({"single", "pair"})
    output_forms: frozenset[OutputForm] = frozenset()
    picks_examples: bool = False
    soft_labels: bool = True
    batch_discount: bool = False
    writes_answers: bool = False
    token_scores: bool = False
    prior_correction: PriorCorrection = "always"


class Predictor(Protocol):
    """A student that a teacher can answer with."""

    def predict_logits(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, K) natural-log scores."""


@dataclass(frozen=True)
class TrainedStudent:
    """A fitted student that becomes a teacher.

    Attributes:
        student: the fitted student: a `Predictor`, or in a text-to-text task one of its form.
        key: content of its training; equal keys mean equal answers.
        price: of this machine's time; None takes `[prices]`.
        top_k: of answers in words, the number of most probable tokens that are returned at each token; 0 returns words
            alone. For a `TokenScoringStudent`.
    """

    student: Any
    key: str
    price: Price | None = None
    top_k: int = 0


@dataclass(frozen=True)
class TeacherSetup:
    """What a teacher is opened with.

    Attributes:
        task: what to decide.
        model: what follows the colon of its name: "smollm2" of `local:smollm2`; may be empty.
        examples: gold (text, label) pairs it may show in its prompt, at most a few per label.
        options: the `[teacher]` table of the spec without `name`.
        prices: the `[prices]` table of the spec, parsed.
        workspace: the folder that relative file names in `options` start from.
        seed: of every random draw.
        will_call: False to plan: nothing is sent, so no key is needed.
        run_folder: the folder of the run, for a teacher that stores something in it; None to plan.
        hidden_gold: text -> label column, entities or references; from the procedure, for simulated people.
        student: from the procedure, for a teacher that needs one.
    """

    task: Task
    model: str = ""
    examples: Sequence[LabelledText] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    prices: PriceOptions = field(default_factory=PriceOptions)
    workspace: Path = Path()
    seed: int = 0
    will_call: bool = True
    run_folder: Path | None = None
    hidden_gold: Mapping[str, object] | None = None
    student: TrainedStudent | None = None


@dataclass(frozen=True)
class Reply:
    """The result of one call: one answer a text, in order, and the usage of the whole call."""

    answers: tuple[Answer, ...]
    usage: Usage


@dataclass(frozen=True)
class GeneratedTexts:
    """The result of one `generate`: texts with the label they were written for, and the usage of the call."""

    texts: tuple[LabelledText, ...]
    usage: Usage


@dataclass(frozen=True)
class UsageEstimate:
    """What a call will consume when nothing goes wrong, at least and at most. An estimate; `max_usage` is a bound."""

    low: Usage
    high: Usage


Fact = str | int | float | bool


@dataclass(frozen=True)
class TeacherMetadata:
    """What a report says about a teacher.

    Attributes:
        price: where its price comes from.
        model: the model's name.
        host: the machine that texts are sent to; empty if none leaves this one.
        n_examples: gold examples it was given.
        simulation: what it simulates; empty for a real teacher.
        redactions: kind of personal data -> number of removed pieces; None without redaction.
        extra: more facts of its kind, by name.
    """

    price: str
    model: str = ""
    host: str = ""
    n_examples: int = 0
    simulation: str = ""
    redactions: Mapping[str, int] | None = None
    extra: Mapping[str, Fact] = field(default_factory=dict)

    def to_facts(self) -> dict[str, Fact]:
        """The facts that are set, by name."""
        redacted = "" if self.redactions is None else ", ".join(f"{n} {kind}" for kind, n in self.redactions.items())
        named: dict[str, Fact] = {
            "simulation": self.simulation,
            "model": self.model,
            "host": self.host,
            "examples": self.n_examples,
            "redacted": redacted or ("" if self.redactions is None else "nothing"),
        }
        return {name: fact for name, fact in named.items() if fact} | {**self.extra, "price": self.price}


class Teacher(Protocol):
    """Answers for money.

    Attributes:
        name: as the user types it, model included ("local:smollm2").
        key: hash of everything that changes its answers (model content, prompt version, examples, parameters);
            answers are stored under it.
        generation_key: the same for the texts it generates; equal to `key` unless generation has parameters of its own.
        capabilities: what it can do with its options.
        category: the part of the budget that pays for it.
        price: turns its usage into money.
        batch_size: texts in one call, at most.
        parallel: calls in flight, at most.
        greenlet_safe: `answer` mostly waits, by `engines.greenlets` alone, so many calls share one thread.
        simulated: True if it replays labels; every figure made with it is called a simulation.
        needs_prior_correction: True if its scores may carry a label bias that `calibration.match_prior` removes; when,
            its capabilities say.
    """

    name: str
    key: str
    generation_key: str
    capabilities: TeacherCapabilities
    category: Category
    price: Price
    batch_size: int
    parallel: int
    greenlet_safe: bool
    simulated: bool
    needs_prior_correction: bool

    @property
    def metadata(self) -> TeacherMetadata:
        """Facts for the report."""

    def max_usage(self, texts: Sequence[str]) -> Usage:
        """An upper bound of what `answer(texts)` can consume; sends nothing."""

    def estimate_usage(self, texts: Sequence[str]) -> UsageEstimate:
        """What `answer(texts)` will probably consume; sends nothing."""

    def answer(self, texts: Sequence[str]) -> Reply:
        """One call for up to `batch_size` texts. A text that cannot be answered is a state of its answer.

        Raises:
            TeacherError: no call can succeed (wrong key, unreachable server, out of memory).
        """

    def max_generation_usage(self, request: GenerationRequest) -> Usage:
        """An upper bound of what `generate(request)` can consume."""

    def estimate_generation_usage(self, request: GenerationRequest) -> UsageEstimate:
        """What `generate(request)` will probably consume."""

    def generate(self, request: GenerationRequest) -> GeneratedTexts:
        """One call that writes up to `request.n` texts. Raises TeacherError if this teacher cannot write."""


@dataclass(frozen=True)
class TeacherKind:
    """A kind of teacher: how it is opened, what its teachers may do, and its options.

    `options` is None where the options are not the kind's own to read.
    """

    open: Callable[[TeacherSetup], Teacher]
    capabilities: TeacherCapabilities
    options: type[Options] | None = None

    def __call__(self, setup: TeacherSetup) -> Teacher:
        """Open a teacher."""
        return self.open(setup)


@dataclass(frozen=True)
class BatchJob:
    """Texts submitted now and answered later.

    Attributes:
        client_id: our own id of the job; it is sent along, so that the job can be found again.
        n_texts: number of texts.
        started_at: when it was decided, in seconds since 1970; it was submitted later than that.
        samples: replies requested for each text.
        job_id: the provider's id of the job; empty while it is unknown whether the job arrived.
    """

    client_id: str
    n_texts: int
    started_at: float
    samples: int = 1
    job_id: str = ""


@dataclass(frozen=True)
class JobWording:
    """How a teacher's jobs are called in messages, and whether the first text is a probe.

    Attributes:
        noun: what a job is called on the bill.
        probe_first: whether the first text is asked directly, so that a wrong key shows now and not in a day.
        waiting_message: the sentence of `Waiting`, with the fields `done`, `total` (texts submitted) and `so_far`;
            empty for the one about batches.
        hint: what to do in the meantime.
        visible_at_once: whether `find_job` finds every job that was submitted; a provider may need a minute.
    """

    noun: str = "by batch"
    probe_first: bool = True
    waiting_message: str = ""
    hint: str = "Run the same command again later; finished answers are stored, and nothing is bought twice."
    visible_at_once: bool = False


@dataclass(frozen=True)
class JobPending:
    """The job is being worked on: `done` of `total` requests have ended. `state` is the provider's word for it."""

    state: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class JobRejected:
    """The job was not accepted and nothing was billed. `queue_full`: a smaller job may be accepted."""

    reason: str
    queue_full: bool = False


@dataclass(frozen=True)
class JobGone:
    """The provider no longer has the job, or its results; it may have been billed. `reason` has no full stop."""

    reason: str


@dataclass(frozen=True)
class JobResults:
    """The job has ended, wholly or in part.

    Attributes:
        answers: one for each text; None if it was not worked on (expired, cancelled) and may be submitted again.
        usages: usage of each reply that reported it.
        n_unreported: number of replies that did not report their usage.
    """

    answers: tuple[Answer | None, ...]
    usages: tuple[Usage, ...]
    n_unreported: int = 0


@runtime_checkable
class DeferredTeacher(Teacher, Protocol):
    """A teacher whose answers are fetched later: a provider's batch queue, or people.

    `answer` and `generate` still ask directly, at `price`; a job costs `job_price`.

    Attributes:
        job_price: turns the usage of one text of a job into money.
        job_wording: how its jobs are called in messages.
    """

    job_price: ExactPrice
    job_wording: JobWording

    @property
    def samples(self) -> int:
        """Replies that a new job requests for each text."""

    def max_job_usage(self, text: str) -> Usage:
        """An upper bound of what one text of a job can consume."""

    def job_capacity(self, texts: Iterable[str]) -> int:
        """How many of the first of `texts` one job takes."""

    def submit_job(self, job: BatchJob, texts: Sequence[str]) -> str | JobRejected:
        """Submit the texts; returns the provider's id of the job.

        Raises:
            TeacherError: with `billed` False it surely was not submitted; otherwise `find_job` finds out.
        """

    def find_job(self, job: BatchJob, exclude: Collection[str]) -> str | JobPending | JobGone | None:
        """Find a job that may have been submitted.

        Returns:
            Its id, never one of `exclude`; None if it surely was not submitted; JobPending while that cannot be known;
            JobGone if the provider has no jobs any more.
        """

    def fetch_job(self, job: BatchJob) -> JobPending | JobRejected | JobGone | JobResults:
        """The state of the job, with its results once it has ended. May be called again with the same result.

        Raises:
            TeacherError: the provider cannot be reached now.
        """


@runtime_checkable
class CleansUp(Protocol):
    """A teacher that can delete what its jobs leave behind at the provider."""

    def clean_up(self, job: BatchJob) -> None:
        """Delete the job's files: its results are stored here, or it never began. Never raises."""
