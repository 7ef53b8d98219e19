"""The rows a run's store gives out. Sums are micro-dollars, times seconds since 1970."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

JsonObject: TypeAlias = Mapping[str, Any]  # a JSON object whose keys another room knows


@dataclass(frozen=True)
class CallRecord:
    """One row of the ledger, in micro-dollars; times are seconds since 1970."""

    id: int
    category: str
    purpose: str
    what: str
    n_texts: int
    state: str
    held: int
    charged: int
    paid: int
    usage: Mapping[str, Any]
    started_at: float
    ended_at: float | None


@dataclass(frozen=True)
class BatchJobRecord:
    """A held call whose answer is fetched later, perhaps by another process.

    Attributes:
        call: its row of the ledger.
        mark: our own name for it, under which it can be found again where it was left.
        place: the provider's name for it; empty while nobody knows whether it arrived.
        keys: what its answers are kept under, in order.
        facts: what else whoever left it needs to read it again.
        held: micro-dollars.
        began: seconds since 1970.
    """

    call: int
    client_id: str
    provider_id: str
    keys: tuple[str, ...]
    facts: Mapping[str, Any]
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
    """Something that was paid for: its key, its value as JSON, its price in billionths of a dollar, and when."""

    key: str
    json: str
    price_nanos: int
    settled_at: float = 0.0

    @property
    def value(self) -> Any:
        """The value."""
        return json.loads(self.json)
