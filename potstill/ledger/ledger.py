"""The one door for money: hold -> call -> settle.

Before a call its upper-bound price is held, durably; after it the true price is settled, in the same step as what it
bought. `held + charged <= limit` always. Where the rows are kept is the book's matter (`store.Store` is one); this
file knows neither who spends nor what is bought.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import Event, Thread
from typing import Any, Protocol

from potstill.errors import BoundExceeded, BudgetExceeded, TeacherError
from potstill.ledger.prices import LedgerTotals, Purchase, Rates, Usage, micros_to_usd

HEARTBEAT_S = 1.0


class LedgerStorage(Protocol):
    """Keeps a ledger's rows durably. Each method is one atomic step."""

    def hold(self, purchase: Purchase, micros: int, limit: int, ticket: Mapping[str, Any] | None = None) -> int | None:
        """Write a hold and return its id; None if `held + charged + micros` would pass `limit`.

        With a `ticket` it outlives the process, and both are written in one step.
        """

    def settle(
        self, hold_id: int, *, charged: int, paid: int, usage: Mapping[str, Any], results: Mapping[str, Any]
    ) -> None:
        """Turn a hold into a charge and keep what was bought, in one transaction."""

    def drop_hold(self, hold_id: int, *, lost: bool) -> None:
        """End a hold that bought nothing: booked as lost, at its full price or up to its last beat, else released."""

    def heartbeat(self, hold_id: int) -> None:
        """Say that the time-priced call behind this hold is still running."""

    def abandoned_holds(self) -> Sequence[int]:
        """Holds without a ticket that nobody in this process made and nobody settled: a crash left them."""

    def committed(self) -> int:
        """Held plus charged, in micro-dollars; cheap enough to ask after every call."""

    def totals(self, limit: int) -> LedgerTotals:
        """The sums as they stand."""


class Hold:
    """Money set aside for one call, as handed out by `Ledger.hold`."""

    def __init__(self, ledger: Ledger, hold_id: int, micros: int, purchase: Purchase) -> None:
        self._ledger = ledger
        self.id = hold_id
        self.micros = micros
        self.purchase = purchase
        self.open = True

    def settle(
        self,
        charged: int,
        usage: Usage | None = None,
        *,
        paid: int | None = None,
        results: Mapping[str, Any] | None = None,
    ) -> None:
        """The call came back: charge it, and keep what it bought in the same step.

        Args:
            charged: the true price in micro-dollars.
            usage: what was consumed, for the record.
            paid: the cash that left now; None means all of `charged`.
            bought: key -> JSON value, kept in the same transaction.

        Raises:
            Overcharged: the price passed the hold. It is recorded first, and nothing is lost.
        """
        self.open = False
        self._ledger.storage.settle(
            self.id,
            charged=charged,
            paid=charged if paid is None else paid,
            usage=usage.to_json() if usage else {},
            results=results or {},
        )
        if charged > self.micros:
            raise BoundExceeded(
                f"{self.purchase.description} cost ${micros_to_usd(charged):.6f}, above the ${micros_to_usd(self.micros):.6f} held for it.",
                "Its answers are kept; check the price and the provider before running again.",
            )

    def release(self) -> None:
        """The request never left: the money is free again."""
        self.open = False
        self._ledger.storage.drop_hold(self.id, lost=False)


class ComputeHold:
    """A hold on this machine's time, as handed out by `Ledger.machine_time`: its clock is running."""

    def __init__(self, hold: Hold, rates: Rates) -> None:
        self._hold = hold
        self._rates = rates
        self._began = time.perf_counter()
        per_hour_micros = rates.cost_micros(Usage(seconds=3600))
        self.deadline_s = hold.micros / per_hour_micros * 3600 if per_hour_micros else float("inf")

    @property
    def seconds(self) -> float:
        """Time used so far."""
        return time.perf_counter() - self._began

    def settle(self, results: Mapping[str, Any]) -> None:
        """Charge the time used, at most what was held, and keep what it bought in the same step."""
        usage = Usage(seconds=self.seconds)
        self._hold.settle(min(self._rates.cost_micros(usage), self._hold.micros), usage, results=results)


class Ledger:
    """Every micro-dollar of one run: a limit, what is held, what was charged, what was paid.

    Args:
        book: keeps the rows.
        limit: the budget in micro-dollars.
        tell: called with a sentence when half and four fifths of the limit are gone.
    """

    def __init__(self, book: LedgerStorage, limit: int, tell: Callable[[str], None] | None = None) -> None:
        self.storage = book
        self.limit = limit
        self._tell = tell
        for hold_id in book.abandoned_holds():
            book.drop_hold(hold_id, lost=True)
        self._told = self._share()

    @contextmanager
    def hold(self, micros: int, purchase: Purchase, *, reserve: int = 0) -> Iterator[Hold]:
        """Set `micros` aside for the call made inside the `with` block, and have `leave` more free beside it.

        Left without `settle` or `release` the hold is booked as lost at its full price: nobody can
        know whether the provider will charge for it. Only an error that is sure nothing was bought
        (`billed` is False) sets it free.

        Raises:
            OverBudget: it does not fit under the limit; nothing was held.
        """
        hold = self._set_aside(micros, purchase, reserve)
        sure = False
        try:
            yield hold
        except TeacherError as error:
            sure = not error.billed
            raise
        finally:
            if hold.open:
                self.storage.drop_hold(hold.id, lost=not sure)
            self._warn()

    def _set_aside(
        self, micros: int, purchase: Purchase, reserve: int, ticket: Mapping[str, Any] | None = None
    ) -> Hold:
        hold_id = self.storage.hold(purchase, micros, self.limit - reserve, ticket)
        if hold_id is None:
            totals = self.totals()
            raise BudgetExceeded(
                f"{purchase.description} can cost ${micros_to_usd(micros):.6f} and ${micros_to_usd(totals.free):.6f} "
                f"of the ${micros_to_usd(self.limit):.2f} budget is free.",
                "Raise the budget, or take a cheaper teacher or fewer texts.",
            )
        return Hold(self, hold_id, micros, purchase)

    def hold_ticket(self, ticket: Mapping[str, Any], micros: int, purchase: Purchase, *, reserve: int = 0) -> Hold:
        """Set `micros` aside for something that is left elsewhere and fetched later, by whatever process.

        The hold stays until somebody settles or releases it; `ticket` (teacher, mark, keys, facts) is written with
        it, before anything leaves, so that what was left can be found again. Raises OverBudget as `hold` does.
        """
        hold = self._set_aside(micros, purchase, reserve, ticket)
        self._warn()
        return hold

    def resume_hold(self, call: int, micros: int, purchase: Purchase) -> Hold:
        """The hold of a ticket, made earlier by `hold_for`."""
        return Hold(self, call, micros, purchase)

    @contextmanager
    def hold_compute(self, micros: int, rates: Rates, purchase: Purchase) -> Iterator[ComputeHold]:
        """`hold` for work on this machine: it beats every second and is charged the time it really took.

        The block must keep within `micros` by itself (a student stops at its deadline). It may settle the
        hold, with what it bought; otherwise the measured time is settled here, also when it raises.
        """
        per_second = rates.cost_micros(Usage(seconds=3600)) / 3600
        over = Event()
        with self.hold(micros, replace(purchase, micros_per_second=per_second)) as held:
            hold = ComputeHold(held, rates)

            def beat() -> None:
                while not over.wait(HEARTBEAT_S):
                    self.storage.heartbeat(held.id)

            beating = Thread(target=beat, daemon=True, name="potstill-beat")
            beating.start()
            try:
                yield hold
            finally:
                over.set()
                beating.join()
                if held.open:
                    hold.settle({})

    def totals(self) -> LedgerTotals:
        """The sums as they stand."""
        return self.storage.totals(self.limit)

    def _share(self) -> float:
        return self.storage.committed() / self.limit

    @property
    def free(self) -> int:
        """What can still be held, in micro-dollars."""
        return self.limit - self.storage.committed()

    def _warn(self) -> None:
        if self._tell is None:
            return
        share = self._share()
        for mark in (0.5, 0.8):
            if self._told < mark <= share:
                self._tell(f"{mark:.0%} of the ${micros_to_usd(self.limit):.2f} budget is spent.")
        self._told = max(self._told, share)
