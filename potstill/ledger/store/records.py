"""The rows that a run's store returns. Sums are micro-dollars, times seconds since 1970."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

from potstill.data.task import JsonObject
from potstill.ledger.prices import CallMode, Category, Purpose, Usage

T = TypeVar("T")
LATEST = 2**37  # seconds since 1970: some four thousand years
UNREADABLE = object()  # returned by `read_json`


@dataclass(frozen=True)
class CallRecord:
    """One row of the ledger. Sums in micro-dollars, times in seconds since 1970; `Purchase` has the other fields."""

    id: int
    category: Category
    purpose: Purpose
    description: str
    n_texts: int
    teacher: str
    mode: CallMode
    state: Literal["held", "settled", "lost", "released"]
    held: int
    charged: int
    paid: int
    usage: Usage
    started_at: float
    ended_at: float | None

    @property
    def seconds(self) -> float:
        """Time from the start to the end; zero if it has not ended, or if the clock was set back meanwhile."""
        return max(0.0, (self.ended_at or self.started_at) - self.started_at)

    def checked(self) -> CallRecord:
        """The row. Raises TypeError if a field is not of its type: the file may be damaged or edited."""
        whole = (self.id, self.n_texts, self.held, self.charged, self.paid)
        words = (self.category, self.purpose, self.description, self.teacher, self.mode, self.state)
        if not all(type(n) is int for n in whole) or not all(isinstance(word, str) for word in words):
            raise TypeError(f"call {self.id} has a field of another type")
        read_time(self.started_at)
        read_time(0 if self.ended_at is None else self.ended_at)
        return self


@dataclass(frozen=True)
class BatchJobRecord:
    """A held call whose answer is fetched later, perhaps by another process.

    Attributes:
        call_id: its row of the ledger.
        client_id: our own id, under which the provider's record of it can be found.
        provider_id: the provider's id; empty as long as it is unknown whether the job arrived.
        keys: the store keys of its answers, in order.
        samples: replies requested for each text.
        max_usage: upper bound of the usage of one of its texts.
        held: micro-dollars.
        started_at: seconds since 1970.
    """

    call_id: int
    client_id: str
    provider_id: str
    keys: tuple[str, ...]
    samples: int
    max_usage: Usage
    held: int
    started_at: float


@dataclass(frozen=True)
class StoredNote:
    """A note as it is stored; `run.notes` reads its facts into a typed record. `time` is seconds since 1970."""

    time: float
    name: str
    facts: JsonObject


@dataclass(frozen=True)
class PaidAnswer:
    """A result that was paid for.

    Attributes:
        key: its store key.
        json: its value as JSON text.
        price_nanos: its price in billionths of a dollar.
        settled_number: 1 for results of the run's first settled call, 2 for the next, and so on.
    """

    key: str
    json: str
    price_nanos: int
    settled_number: int = 0

    @property
    def value(self) -> Any:
        """The value that `json` encodes."""
        return json.loads(self.json)


def read_usage(text: object) -> Usage:
    """The usage of a JSON text. Raises TypeError or ValueError for anything else."""
    found = Usage(**json.loads(text))  # type: ignore[arg-type]
    if not all(type(number) in (int, float) for number in asdict(found).values()):
        raise TypeError(f"{text!r} is no usage")
    return found


def read_time(seconds: object) -> float:
    """A time in seconds since 1970. Raises TypeError for anything else."""
    if not isinstance(seconds, float | int) or not 0 <= seconds < LATEST:
        raise TypeError(f"{seconds!r} is no time")
    return float(seconds)


@dataclass(frozen=True)
class Claim:
    """A run of a workspace is buying an answer.

    Attributes:
        owner: the name of the run's folder.
        by_job: by a job that outlives the process, such as a batch.
        expires_at: seconds since 1970; from then on it counts no more.
    """

    owner: str
    by_job: bool
    expires_at: float


def read_json(text: object) -> Any:
    """The value of a JSON text; `UNREADABLE` for anything else, as a file may be damaged or edited."""
    try:
        return json.loads(text) if isinstance(text, str) else UNREADABLE
    except (ValueError, RecursionError):
        return UNREADABLE


def decoded(read: Callable[[Any], T], value: object) -> T | None:
    """What `read` makes of a stored value; None if it cannot read it, as a file may be damaged or edited."""
    try:
        return read(value)
    except (ValueError, TypeError, LookupError, AttributeError):
        return None
