"""People who label: one label or several for each text, at a price a label or an hour, fetched when they are there.

Each text is a ticket of its own: its money is held when it is put into the run's `labels.sqlite`, and settled when as
many people as were ordered have labelled it. How they label (a page, a file) is not known here. Cannot write.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from potstill.data.task import Answer, Brief, Task, content_key
from potstill.errors import BadSpec, TeacherError, UnknownPrice
from potstill.ledger.prices import Category, Price, Rates, Usage
from potstill.ledger.store import Label, Labels
from potstill.teachers.base import (
    Collected,
    Draft,
    Expected,
    Manner,
    Pending,
    Rejected,
    Reply,
    Setup,
    Ticket,
)
from potstill.teachers.options import Options
from potstill.teachers.tariff import rates

LEAST = 1e-6  # the share of a label that nobody said
QUICKEST_S, LONGEST_S = 2.0, 30.0  # what a plan takes a person to look at a text, at least and at most
PER_LABEL, PER_HOUR = "usd_per_label", "usd_per_labelling_hour"


class HumanOptions(Options):
    """Options of `human`.

    Attributes:
        annotators: labels by different people for each text.
        seconds_at_most: time that is paid for one label, where people are paid by the hour; longer looks count as this,
            and so does a label whose time nobody measured.
        reveals: a labelled file, or several: nobody is asked, its labels are revealed at the same price. A simulation.
            "pool" where the procedure hands over labels it holds back.
        error_rate: how often a simulated person gives another label, drawn evenly.
        text, text_b, label: the columns of `reveals`.
    """

    annotators: int = Field(default=1, ge=1, le=100)
    seconds_at_most: float = Field(default=120.0, gt=0)
    reveals: str | tuple[str, ...] = ""
    error_rate: float = Field(default=0.0, ge=0, lt=1)
    text: str = "text"
    text_b: str = ""
    label: str = "label"


def price_of_people(prices: Mapping[str, Any]) -> Rates:
    """What people cost: by the label, or by the hour they label (then a label itself costs nothing more).

    Raises:
        UnknownPrice: nobody said.
        BadSpec: it is said twice, or is no sum.
    """
    if PER_LABEL in prices and PER_HOUR in prices:
        raise BadSpec(f"People are priced twice: {PER_LABEL} and {PER_HOUR}.", "Keep one of them under [prices].")
    if PER_LABEL in prices:
        return rates({"usd_per_label": prices[PER_LABEL]}, f"[prices] {PER_LABEL}")
    if PER_HOUR in prices:
        return rates({"usd_per_hour": prices[PER_HOUR], "usd_per_label": 0}, f"[prices] {PER_HOUR}")
    raise UnknownPrice(
        "Nobody said what a person's label costs.",
        f"Set [prices] {PER_LABEL} = 0.11, or {PER_HOUR} = 18; 0 is a price, too.",
    )


def label_id(task: Task, text: str) -> str:
    """What a text is called in label files: six letters of the task's hash, then twelve of the text's."""
    return f"{task.key[:6]}-{content_key('label', task.key, text)[:12]}"


class People:
    """What people and simulated people have in common.

    Args:
        setup: the task.
        options: the options, checked.
        price: by the label or by the hour.
    """

    name = "human"
    category: Category = "human"
    parallel = 1
    batch = 1
    simulated = False
    scores_need_prior = False
    writes = False

    def __init__(self, setup: Setup, options: HumanOptions, price: Rates) -> None:
        self._task, self._options = setup.task, options
        # A text, at least and at most, for a plan; nobody has measured these people.
        self.looks_s = (QUICKEST_S * options.annotators, LONGEST_S * options.annotators)
        self.price: Price = price
        self.by_hour = price.usd_per_hour is not None
        self.key = content_key("human", 1, setup.task.key, options.annotators)
        self.about: Mapping[str, Any] = {
            "annotators a text": options.annotators,
            "price": f"${price.usd_per_hour}/hour" if self.by_hour else f"${price.usd_per_label}/label",
        }

    def bound(self, texts: Sequence[str]) -> Usage:
        """Every label that is ordered, each taking the longest that is paid for."""
        return self._usage([self._options.seconds_at_most] * (self._options.annotators * len(texts)))

    def expect(self, texts: Sequence[str]) -> Expected:
        """Every label that is ordered; by the hour from `QUICKEST_S` each to the longest that is paid for."""
        n = self._options.annotators * len(texts)
        return Expected(self._usage([QUICKEST_S] * n), self.bound(texts))

    def _usage(self, seconds: Sequence[float]) -> Usage:
        if not self.by_hour:
            return Usage(labels=len(seconds))
        return Usage(labels=len(seconds), seconds=math.fsum(seconds))

    def _paid_seconds(self, label: Label) -> float:
        most = self._options.seconds_at_most
        return min(label.seconds, most) if label.seconds > 0 else most

    def write_bound(self, brief: Brief) -> Usage:
        """Nothing: people are not asked to write."""
        return Usage()

    def write(self, brief: Brief) -> Draft:
        """Raises TeacherError: people are not asked to write."""
        raise _not_asked("People are asked for labels here, not for texts.", "Take an LLM, or replay.")


class Human(People):
    """Real people. A `Ticketed` teacher; see `teachers/base.py`."""

    samples = 1

    def __init__(self, setup: Setup, options: HumanOptions, price: Rates) -> None:
        super().__init__(setup, options, price)
        self._folder = setup.folder
        self.ticket_price = price
        where = setup.folder or "RUN"
        self.manner = Manner(
            what="labels",
            tries_first=False,
            waiting="{total} texts wait for people to label them; {so_far}.",
            mend=f"Label them with: potstill annotate {where}   and then run the same command again.",
        )

    def _open(self) -> Labels:
        if self._folder is None:
            raise _not_asked("Nobody can be asked without a run.", "Open the teacher through a run.")
        return Labels(Path(self._folder))

    def answer(self, texts: Sequence[str]) -> Reply:
        """Raises TeacherError: people are not at the other end of a line."""
        raise _not_asked("People cannot be asked directly.", "Ask through a run, which leaves them the texts.")

    def ticket_bound(self, text: str) -> Usage:
        """As `bound`, for one text."""
        return self.bound([text])

    def fits(self, texts: Iterable[str]) -> int:
        """One: a text is settled when its own labels are there."""
        return 1

    def leave(self, ticket: Ticket, texts: Sequence[str]) -> str | Rejected:
        """Put the text where people find it."""
        labels = self._open()
        try:
            for text in texts:
                labels.ask(label_id(self._task, text), text, self._options.annotators, ticket.mark)
        finally:
            labels.close()
        return ticket.mark

    def find(self, ticket: Ticket, taken: Collection[str]) -> str | Pending | None:
        """Where a ticket is that may have been left."""
        labels = self._open()
        try:
            return ticket.mark if labels.asked_as(ticket.mark) else None
        finally:
            labels.close()

    def collect(self, ticket: Ticket) -> Pending | Rejected | Collected:
        """The labels of the text, once as many are there as were ordered, or nobody is asked any more."""
        labels = self._open()
        try:
            if labels.asked_as(ticket.mark) is None:
                raise TeacherError(
                    "The run's labels.sqlite does not have a text that was put into it.", "Put the file back."
                )
            found = labels.take(ticket.mark)
        finally:
            labels.close()
        if found is None:
            return Pending("open", 0, 1)
        usage = self._usage([self._paid_seconds(label) for label in found])
        return Collected((answer_of(self._task, [label.label for label in found]),), (usage,))


def answer_of(task: Task, said: Sequence[str]) -> Answer:
    """What several people's labels of one text come to: each label by the share of those who said it.

    "" is a person who could not tell, and counts for no label; nobody who could is a refusal.
    """
    votes = Counter(label for label in said if label)
    if not votes:
        return Answer("refused", raw="unsure" if said else "nobody labelled it")
    total = votes.total()
    shares = [votes.get(label, 0) / total for label in task.labels]
    rest = LEAST / task.n_labels
    scores = tuple(math.log((1 - LEAST) * share + rest) for share in shares)
    return Answer("ok", scores, "votes" if total > 1 else "one-hot", ", ".join(said))


def _not_asked(happened: str, mend: str) -> TeacherError:
    error = TeacherError(happened, mend)
    error.billed = False
    return error
