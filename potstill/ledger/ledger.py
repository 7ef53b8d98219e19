"""Holds the upper-bound price before each call and settles the true price after it.

Before a call its upper-bound price is held, durably; after it the true price is settled, in the same step as its
results. `held + charged <= limit` always. Money for later is kept back by a named reserve. The rows are stored by a
`LedgerStorage` (`ledger.store.RunStore`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from threading import Event, Thread
from typing import Any, Protocol

from potstill.errors import BoundExceeded, BudgetExceeded, PotstillError, TeacherError
from potstill.ledger.in_flight import HoldsInFlight
from potstill.ledger.prices import LedgerTotals, NewBatchJob, Purchase, Rates, Usage, micros_to_usd

HEARTBEAT_S = 1.0
WARNING_SHARES = (0.5, 0.8)  # parts of the budget at which the user is warned
# A price that is so many times its upper bound, or beyond every budget, is a mistake of the provider's report.
MAX_OVERCHARGE, MAX_CHARGE = 10_000, 2**53
NOT_BELIEVED = "the reported usage cannot be true, charged at its bound"


class LedgerStorage(Protocol):
    """Stores a ledger's rows durably. Each method is one atomic step."""

    def hold(self, purchase: Purchase, micros: int, limit: int, job: NewBatchJob | None = None) -> int | None:
        """Write a hold and return its id; None if `held + charged + micros` would pass `limit`.

        The hold of a `job` outlives the process; hold and job are written in one step.
        """

    def settle(
        self, hold_id: int, *, charged: int, paid: int, usage: Usage, results: Mapping[str, Any], remark: str = ""
    ) -> None:
        """Turn a hold into a charge and store its results (key -> JSON value), in one transaction.

        A `remark` is added to the call's description.
        """

    def drop_hold(self, hold_id: int, *, lost: bool) -> None:
        """End a hold without results: release it, or book it as lost.

        Lost is the full price, or with a heartbeat the price of the time up to the last one.
        """

    def heartbeat(self, hold_id: int) -> None:
        """Record that the machine time behind this hold is still being used."""

    def abandoned_holds(self) -> Sequence[int]:
        """Ids of the open holds without a batch job that this process did not make: a crash left them."""

    def committed(self) -> int:
        """Held plus charged, in micro-dollars; cheap enough to read after every call."""

    def totals(self, limit: int) -> LedgerTotals:
        """The current sums."""


class Hold:
    """Money held for one call; made by `Ledger.hold`."""

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
        n_unbelievable: int = 0,
    ) -> None:
        """Charge a call that returned, and store its results in the same step.

        Args:
            charged: the true price in micro-dollars.
            usage: what was consumed, for the record.
            paid: the cash that left now, in micro-dollars; None means all of `charged`.
            results: key -> JSON value, stored in the same transaction.
            n_unbelievable: replies in a batch whose usage cannot be true; they are charged at their bound.

        A price that cannot be true is charged at the hold, and the row says so.

        Raises:
            BoundExceeded: the price is above the hold. The charge and the results are stored first, and nothing more
                can be held.
        """
        self.open = False
        believed = charged <= min(MAX_OVERCHARGE * max(self.micros, 1), MAX_CHARGE)
        booked = charged if believed else self.micros
        doubted = n_unbelievable > 0 or not believed
        exceeded = doubted or charged > self.micros
        if exceeded:
            cost = "came back with a usage that cannot be true" if doubted else f"cost ${micros_to_usd(charged):,.6f}"
            self._ledger.overcharge = (
                f"{self.purchase.description} {cost}, above the ${micros_to_usd(self.micros):.6f} held for it"
            )
        self._ledger.storage.settle(
            self.id,
            charged=booked,
            paid=booked if paid is None else min(paid, booked),
            usage=(usage or Usage()) if believed else Usage(),
            results=results or {},
            remark=NOT_BELIEVED if doubted else "",
        )
        if exceeded:
            raise self._ledger.bound_exceeded()

    def release(self) -> None:
        """Free the money of a request that was not sent."""
        self.open = False
        self._ledger.storage.drop_hold(self.id, lost=False)


class ComputeHold:
    """A hold on this machine's time, with a running clock; made by `Ledger.hold_compute`."""

    def __init__(self, hold: Hold, rates: Rates) -> None:
        self._hold = hold
        self._rates = rates
        self._started = time.perf_counter()
        per_hour_micros = rates.cost_micros(Usage(seconds=3600))
        self.deadline_s = hold.micros / per_hour_micros * 3600 if per_hour_micros else float("inf")

    @property
    def seconds(self) -> float:
        """Time used so far."""
        return time.perf_counter() - self._started

    def settle(self, results: Mapping[str, Any]) -> None:
        """Charge the time used, at most the money held, and store the results in the same step."""
        usage = Usage(seconds=self.seconds)
        self._hold.settle(min(self._rates.cost_micros(usage), self._hold.micros), usage, results=results)


class Ledger:
    """Every micro-dollar of one run: the limit, and what is held, charged and paid.

    Args:
        storage: stores the rows.
        limit: the budget in micro-dollars.
        warn: called with a sentence at each of `WARNING_SHARES`.
    """

    def __init__(self, storage: LedgerStorage, limit: int, warn: Callable[[str], None] | None = None) -> None:
        self.storage = storage
        self.limit = limit
        self._warn = warn
        self.overcharge = ""  # the first call of this process that cost more than was held for it
        self.is_closed = False  # a finished run, which buys nothing more
        self._reserves: Mapping[str, int] = {}
        self._in_flight = HoldsInFlight()
        for hold_id in storage.abandoned_holds():
            storage.drop_hold(hold_id, lost=True)
        self._lost_before = self.totals().lost
        self._warned_share = self._share()

    @contextmanager
    def reserve(self, name: str, micros: int) -> Iterator[None]:
        """Keep `micros` back for a later purpose: inside the block every hold has to leave them free.

        Reserves of different names add up. A reserve of a name that is already in force replaces it inside the block.
        A reserve does not outlive the process: a resumed run sets it again.
        """
        before = self._reserves
        self._reserves = {**before, name: max(micros, 0)}  # replaced, not changed: other threads may be reading it
        try:
            yield
        finally:
            self._reserves = before

    @contextmanager
    def hold(self, micros: int, purchase: Purchase, *, wait: bool = False) -> Iterator[Hold]:
        """Hold `micros` for the call that is made inside the block.

        With `wait` a hold that does not fit only because of others in flight waits for them; a caller that is inside
        the block of another hold must not wait.

        Without `settle` or `release` the hold is booked as lost at its full price, because the provider may charge for
        the call. It is freed only by an error that is known to have bought nothing (`billed` is False).

        Raises:
            BudgetExceeded: it does not fit under the limit less the reserves; nothing was held.
            BoundExceeded: an earlier call cost more than was held for it; nothing was held.
        """
        hold = self._hold_in_flight(micros, purchase, wait)
        billed = True
        try:
            yield hold
        except TeacherError as error:
            billed = error.billed
            raise
        finally:
            try:
                if hold.open:
                    self.storage.drop_hold(hold.id, lost=billed)
            finally:
                self._in_flight.end(micros)
            self._warn_of_spending()

    def check_charges(self, hold: Hold) -> None:
        """Release the hold of a call that was not begun, and raise BoundExceeded, if an earlier call cost too much."""
        if self.overcharge:
            hold.release()
            raise self.bound_exceeded()

    def bound_exceeded(self) -> BoundExceeded:
        """The error of an overcharge."""
        return BoundExceeded(
            f"{self.overcharge}.", "Its answers are kept; check the price and the provider before running again."
        )

    def _hold_in_flight(self, micros: int, purchase: Purchase, wait: bool) -> Hold:
        in_flight = self._in_flight
        if not wait:
            return self._begin(micros, purchase)
        if not in_flight.is_awaited and micros <= self.available:
            with suppress(BudgetExceeded):
                self._check_open()
                return self._begin(micros, purchase)
        with in_flight.turn():  # the calls that wait are served in the order they came
            while True:
                self._check_open()
                n_ended = in_flight.n_ended
                if micros <= self.available:
                    with suppress(BudgetExceeded):  # another call took it meanwhile
                        return self._begin(micros, purchase)
                elif micros > self.available + in_flight.micros or not in_flight.wait(n_ended):
                    return self._begin(micros, purchase)

    def _begin(self, micros: int, purchase: Purchase) -> Hold:
        self._in_flight.begin(micros)
        try:
            return self._hold(micros, purchase)
        except BaseException:
            self._in_flight.end(micros)
            raise

    def _check_open(self) -> None:
        if self.overcharge:
            raise self.bound_exceeded()
        if self.is_closed:
            raise BudgetExceeded(
                "This run is finished and buys nothing more.", "Raise the budget, or give a new folder with -o."
            )

    def _hold(self, micros: int, purchase: Purchase, job: NewBatchJob | None = None) -> Hold:
        self._check_open()
        reserved = self.reserved
        hold_id = self.storage.hold(purchase, micros, self.limit - reserved, job)
        if hold_id is None:
            also = f", and ${micros_to_usd(reserved):.6f} of that is reserved" if reserved else ""
            raise BudgetExceeded(
                f"{purchase.description} can cost ${micros_to_usd(micros):.6f} and ${micros_to_usd(self.free):.6f} "
                f"of the ${micros_to_usd(self.limit):.2f} budget is free{also}.",
                "Raise the budget (--budget USD), or take a cheaper teacher or fewer texts.",
            )
        return Hold(self, hold_id, micros, purchase)

    def hold_job(self, job: NewBatchJob, micros: int, purchase: Purchase) -> Hold:
        """Hold `micros` for a job whose answers are fetched later, perhaps by another process.

        The hold stays until it is settled or released. The job is stored with it, before it is submitted, so that it
        can be found again. Raises BudgetExceeded as `hold` does.
        """
        hold = self._hold(micros, purchase, job)
        self._warn_of_spending()
        return hold

    def drop_job(self, hold_id: int, *, lost: bool) -> None:
        """End the hold of a job without results: release it, or book it as lost at its full price."""
        self.storage.drop_hold(hold_id, lost=lost)
        self._warn_of_spending()

    def resume_hold(self, hold_id: int, micros: int, purchase: Purchase) -> Hold:
        """The hold of a job, made earlier by `hold_job`."""
        return Hold(self, hold_id, micros, purchase)

    @contextmanager
    def hold_compute(self, micros: int, rates: Rates, purchase: Purchase) -> Iterator[ComputeHold]:
        """`hold` for work on this machine: with a heartbeat every second, and charged by the time it took.

        The block has to stop by itself at the hold's `deadline_s`. It may settle the hold with its results; otherwise
        the measured time is settled here, also if the block raises.
        """
        per_second = rates.cost_micros(Usage(seconds=3600)) / 3600
        over = Event()
        with self.hold(micros, replace(purchase, micros_per_second=per_second)) as hold:
            compute = ComputeHold(hold, rates)

            def send_heartbeats() -> None:
                while not over.wait(HEARTBEAT_S):
                    with suppress(PotstillError):  # a full or locked file: the next one may be written
                        self.storage.heartbeat(hold.id)

            thread = Thread(target=send_heartbeats, daemon=True, name="potstill-heartbeat")
            thread.start()
            try:
                yield compute
            finally:
                over.set()
                thread.join()
                if hold.open:
                    compute.settle({})

    def totals(self) -> LedgerTotals:
        """The current sums."""
        return self.storage.totals(self.limit)

    def interruption(self) -> str:
        """A sentence on what is lost if the process ends now: calls that were broken off or have no answer yet."""
        n, lost, held = len(self.storage.abandoned_holds()), self.totals().lost - self._lost_before, self.totals().held
        parts = [f"${micros_to_usd(lost):.6f} of calls that were broken off is booked as lost"] if lost else []
        if n:
            parts.append(
                f"{n} call{'s' * (n > 1)} had no answer yet: the next start books what is held for "
                f"{'them' if n > 1 else 'it'} (${micros_to_usd(held):.6f} is held in all) as lost"
            )
        return f"{'; '.join(parts)}. All else is kept: the same command goes on from here." if parts else ""

    @property
    def free(self) -> int:
        """Micro-dollars that are neither held nor charged."""
        return self.limit - self.storage.committed()

    @property
    def reserved(self) -> int:
        """Micro-dollars that are kept back by the reserves in force."""
        return sum(self._reserves.values())

    @property
    def available(self) -> int:
        """Micro-dollars that can be held now: the free ones without the reserves; negative if less is free."""
        return self.free - self.reserved

    def _share(self) -> float:
        return self.storage.committed() / self.limit

    def _warn_of_spending(self) -> None:
        if self._warn is None:
            return
        share = self._share()
        for mark in WARNING_SHARES:
            if self._warned_share < mark <= share:
                self._warn(f"{mark:.0%} of the ${micros_to_usd(self.limit):.2f} budget is spent.")
        self._warned_share = max(self._warned_share, share)
