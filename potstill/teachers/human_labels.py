"""Annotators as a teacher: one answer or several for each text, at a price per answer or per hour.

An answer is a label; in a text-to-text task it is what the task's form says (`form_annotations`). Each text is a job of
its own: its money is held when it is added to the run's `labels.sqlite`, and settled when `annotators_per_text` people
have answered. How they do (a page, a file) is not covered here. Generates no texts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path

from pydantic import Field

from potstill.data.form_annotations import find_consensus, form_annotations, is_stored_answer
from potstill.data.task import Answer, Task, content_key
from potstill.errors import BadSpec, TeacherError, UnknownPrice
from potstill.ledger.prices import Category, Price, Rates, Usage
from potstill.ledger.store import Annotation, AnnotationStore
from potstill.teachers.base import (
    BatchJob,
    JobPending,
    JobRejected,
    JobResults,
    JobWording,
    Reply,
    TeacherCapabilities,
    TeacherMetadata,
    TeacherSetup,
    UsageEstimate,
)
from potstill.teachers.labelled_file import LabelledFileOptions
from potstill.teachers.non_generating import NonGeneratingTeacher
from potstill.teachers.price_options import PriceOptions
from potstill.teachers.rate_limit import unbilled_error

MIN_PROBABILITY = 1e-6  # the share of a label without votes
MIN_LABEL_S, MAX_LABEL_S = 2.0, 30.0  # seconds of one label in a plan, at least and at most
MIN_ANSWER_S, MAX_ANSWER_S = 5.0, 90.0  # and of marked entities or an answer in words
HUMAN_CAPABILITIES = TeacherCapabilities(
    human=True,
    soft_labels=False,
    task_kinds=frozenset({"single", "pair", "text2text"}),
    output_forms=frozenset({"entities", "free"}),
)
PER_LABEL, PER_HOUR = "usd_per_label", "usd_per_labelling_hour"


class HumanOptions(LabelledFileOptions):
    """Options of `human`, and of the file of `simulate_from`.

    Attributes:
        annotators_per_text: labels by different people for each text.
        max_seconds: paid time of one label at most, if people are paid by the hour; a label without a measured time
            counts as this, too.
        simulate_from: a labelled file, or several, whose labels are revealed at the same price: a simulation. "pool"
            reveals labels that the procedure holds back.
        error_rate: probability that a simulated annotator gives another label, uniform over the others.
    """

    annotators_per_text: int = Field(default=1, ge=1, le=100)
    max_seconds: float = Field(default=120.0, gt=0)
    simulate_from: str | tuple[str, ...] = ""
    error_rate: float = Field(default=0.0, ge=0, lt=1)


def human_price(prices: PriceOptions) -> Rates:
    """The price of human labels: per label, or per hour (then a label itself costs nothing more).

    Raises:
        UnknownPrice: no price is given.
        BadSpec: two prices are given.
    """
    if prices.usd_per_label is not None and prices.usd_per_labelling_hour is not None:
        raise BadSpec(
            f"Two prices are set for human labels: {PER_LABEL} and {PER_HOUR}.", "Keep one of them under [prices]."
        )
    if prices.usd_per_label is not None:
        return Rates(f"[prices] {PER_LABEL}", usd_per_label=prices.usd_per_label)
    if prices.usd_per_labelling_hour is not None:
        return Rates(f"[prices] {PER_HOUR}", usd_per_hour=prices.usd_per_labelling_hour, usd_per_label=Decimal(0))
    raise UnknownPrice(
        "The price of a human label is not known.",
        f"Give it with --usd-per-label 0.11, or set {PER_HOUR} = 18 under [prices]; 0 is a price, too.",
    )


def label_id(task: Task, text: str) -> str:
    """The id of a text in label files: six characters of the task's hash, then twelve of the text's."""
    return f"{task.key[:6]}-{content_key('label', task.key, text)[:12]}"


class HumanTeacherBase(NonGeneratingTeacher):
    """The base of real and simulated annotators.

    Args:
        setup: the task.
        options: the options, checked.
        price: by the label or by the hour.
    """

    name = "human"
    category: Category = "human"
    parallel = 1
    batch_size = 1
    simulated = False
    needs_prior_correction = False
    greenlet_safe = False
    capabilities = HUMAN_CAPABILITIES

    def __init__(self, setup: TeacherSetup, options: HumanOptions, price: Rates) -> None:
        self._task, self._options = setup.task, options
        # Seconds of one text in a plan, at least and at most: assumed, not measured.
        seconds = (MIN_LABEL_S, MAX_LABEL_S) if setup.task.form is None else (MIN_ANSWER_S, MAX_ANSWER_S)
        self._min_seconds = seconds[0]
        self.seconds_per_text = (seconds[0] * options.annotators_per_text, seconds[1] * options.annotators_per_text)
        self.price: Price = price
        self.paid_by_hour = price.usd_per_hour is not None
        self.key = self.generation_key = content_key("human", 1, setup.task.key, options.annotators_per_text)
        self.metadata = TeacherMetadata(
            price=f"${price.usd_per_hour}/hour" if self.paid_by_hour else f"${price.usd_per_label}/label",
            extra={"annotators a text": options.annotators_per_text},
        )

    def max_usage(self, texts: Sequence[str]) -> Usage:
        """All labels, each with the longest paid time."""
        return self._usage([self._options.max_seconds] * (self._options.annotators_per_text * len(texts)))

    def estimate_usage(self, texts: Sequence[str]) -> UsageEstimate:
        """All labels; by the hour, from `MIN_LABEL_S` or `MIN_ANSWER_S` each to the longest paid time."""
        n = self._options.annotators_per_text * len(texts)
        least = min(self._min_seconds, self._options.max_seconds)
        return UsageEstimate(self._usage([least] * n), self.max_usage(texts))

    def _usage(self, seconds: Sequence[float]) -> Usage:
        if not self.paid_by_hour:
            return Usage(labels=len(seconds))
        return Usage(labels=len(seconds), seconds=math.fsum(seconds))

    def _paid_seconds(self, label: Annotation) -> float:
        longest = self._options.max_seconds
        return min(label.seconds, longest) if label.seconds > 0 else longest


class HumanTeacher(HumanTeacherBase):
    """Real people; a `DeferredTeacher`."""

    samples = 1

    def __init__(self, setup: TeacherSetup, options: HumanOptions, price: Rates) -> None:
        super().__init__(setup, options, price)
        self._folder = setup.run_folder
        self.job_price = price
        where = setup.run_folder or "RUN"
        verb = "label" if setup.task.form is None else form_annotations(setup.task).verb
        self.job_wording = JobWording(
            noun="labels" if setup.task.form is None else "answers",
            probe_first=False,
            waiting_message=f"{{total}} texts wait for people to {verb} them; {{so_far}}.",
            hint=f"{verb.capitalize()} them with: potstill annotate {where}   and then run the same command again.",
            visible_at_once=True,
        )

    def _open(self) -> AnnotationStore:
        if self._folder is None:
            raise unbilled_error("The teacher 'human' needs a run.", "Open the teacher through a run.")
        return AnnotationStore(Path(self._folder))

    def answer(self, texts: Sequence[str]) -> Reply:
        """Raises TeacherError: annotators answer through a run alone."""
        raise unbilled_error(
            "The teacher 'human' cannot be called directly.", "Ask through a run, which queues the texts."
        )

    def max_job_usage(self, text: str) -> Usage:
        """As `max_usage`, for one text."""
        return self.max_usage([text])

    def job_capacity(self, texts: Iterable[str]) -> int:
        """One: each text is settled when its own labels have arrived."""
        return 1

    def submit_job(self, job: BatchJob, texts: Sequence[str]) -> str | JobRejected:
        """Add the text to the run's labels.sqlite."""
        labels = self._open()
        try:
            for text in texts:
                labels.add_request(label_id(self._task, text), text, self._options.annotators_per_text, job.client_id)
        finally:
            labels.close()
        return job.client_id

    def find_job(self, job: BatchJob, exclude: Collection[str]) -> str | JobPending | None:
        """Find a job that may have been submitted."""
        labels = self._open()
        try:
            return job.client_id if labels.find_request(job.client_id) else None
        finally:
            labels.close()

    def fetch_job(self, job: BatchJob) -> JobPending | JobRejected | JobResults:
        """The labels of the text, once all have arrived or its request was closed."""
        labels = self._open()
        try:
            if (request := labels.find_request(job.client_id)) is None:
                raise TeacherError(
                    "The run's labels.sqlite does not have a text that was added to it.", "Put the file back."
                )
            found = labels.collect(job.client_id)
        finally:
            labels.close()
        if found is None:
            return JobPending("open", 0, 1)
        aggregated = aggregate_annotations(self._task, request.text, [label.label for label in found])
        usage = self._usage([self._paid_seconds(label) for label in found])
        return JobResults((aggregated,), (usage,))


def aggregate_annotations(task: Task, text: str, labels: Sequence[str]) -> Answer:
    """Several annotators' stored answers about one text as one answer.

    Labels count by their shares; of answers of a form the one that most people gave counts (`find_consensus`). "" is an
    annotator who was unsure; without any other the answer is a refusal.

    Raises:
        TeacherError: one of them cannot be an answer to this text.
    """
    form = None if task.form is None else form_annotations(task)
    given = [label for label in labels if label]
    fits = task.labels.__contains__ if form is None else partial(is_stored_answer, form, text)
    odd = next((each for each in given if not fits(each)), None)
    if odd is not None:
        what = "label" if form is None else "answer"
        raise TeacherError(
            f"The run's labels.sqlite has the {what} {odd[:200]!r}, which the task does not have.",
            f"Restore a copy of that file: potstill annotate stores no such {what}.",
        )
    if form is None or not given:
        return aggregate_labels(task, labels)
    return form.answer(text, find_consensus(form, given).answer)


def aggregate_labels(task: Task, labels: Sequence[str]) -> Answer:
    """Aggregate several annotators' labels of one text: each label by its share of the votes.

    "" is an annotator who was unsure, and counts for no label; without any label the answer is a refusal.
    """
    votes = Counter(label for label in labels if label)
    if not votes:
        return Answer("refused", raw="unsure" if labels else "no labels")
    total = votes.total()
    shares = [votes.get(label, 0) / total for label in task.labels]
    rest = MIN_PROBABILITY / task.n_labels
    scores = tuple(math.log((1 - MIN_PROBABILITY) * share + rest) for share in shares)
    return Answer("ok", scores, "votes" if total > 1 else "one-hot", ", ".join(labels))
