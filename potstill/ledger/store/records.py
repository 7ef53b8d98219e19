"""The rows that a run's store returns. Sums are micro-dollars, times seconds since 1970."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from potstill.data.task import JsonObject
from potstill.ledger.prices import CallMode, Category, Purpose, Usage

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


def read_json(text: object) -> Any:
    """The value of a JSON text; `UNREADABLE` for anything else, as a file may be damaged or edited."""
    try:
        return json.loads(text) if isinstance(text, str) else UNREADABLE
    except (ValueError, RecursionError):
        return UNREADABLE
