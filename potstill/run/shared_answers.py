"""The answers a run shares with the other runs of its workspace: taken, published, and claimed before they are bought.

An answer that another run bought is charged at the price it had then and paid at zero. Two runs never buy the same
answer at once: a run claims it first, and one that needs it as well takes other texts, then waits until the answer is
there or the claim has ended. A claim ends with its process, as the lock of its run is free then; a claim for a batch
ends with the batch, whichever process fetches it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from potstill.data.task import JsonObject
from potstill.engines.greenlets import sleep
from potstill.errors import BudgetExceeded, DiskError, RunBusy
from potstill.ledger.ledger import Ledger
from potstill.ledger.prices import CallMode, Category, Purchase, Purpose
from potstill.ledger.store import RUN_FILE, AnswerCache, Claim, RunStore, is_locked, unshared_answers
from potstill.teachers.base import Teacher

T = TypeVar("T")

# Categories that the workspace shares. A trained model's answers are cheaper to compute than to store.
SHARED_CATEGORIES: tuple[Category, ...] = ("llm", "human")
CHUNK = 1000  # answers taken from the workspace in one step
CLAIM_S = 1800.0  # a process that stands still for so long has no claims any more
JOB_CLAIM_S = 3 * 86400.0  # providers end a batch within a day
PUBLISH_S = 1.0  # how often answers are shared while more are being bought
PUBLISH_SHARE = 0.05  # of the time, at most
RENEW_S = 60.0
POLL_S = 0.25


class Messages(Protocol):
    """Where sentences for the user go."""

    def info(self, sentence: str) -> None:
        """Show one sentence."""


@dataclass(frozen=True)
class TakenAnswers:
    """Results taken from the workspace, by store key, and whether the budget ended before all were taken."""

    values: JsonObject
    budget_ended: bool = False


class SharedAnswers:
    """What one run takes from its workspace and gives to it.

    Args:
        store: the run's store.
        ledger: pays.
        cache: the workspace's answers; None shares nothing.
        reporter: shows sentences to the user.
    """

    def __init__(self, store: RunStore, ledger: Ledger, cache: AnswerCache | None, reporter: Messages) -> None:
        self._store = store
        self._ledger = ledger
        self._cache = cache
        self._reporter = reporter
        self._workspace = store.folder.absolute().parent
        self._owner = store.folder.absolute().name
        self._next_publication = self._next_renewal = 0.0
        self._has_waited = False
        self._claims = cache is not None  # False once claims cannot be stored
        self.publish()

    # --- answers ------------------------------------------------------------------------------------------

    def publish(self) -> None:
        """Share what this run bought, also what a crash prevented it from sharing earlier."""
        if self._cache is not None:
            bought = self._store.paid_answers(SHARED_CATEGORIES, unknown_to=self._cache.path)
            if self._cache.put(bought):
                self._store.mark_shared(bought, to=self._cache.path)

    def publish_now_and_then(self) -> None:
        """Share what was bought while more is being bought, in a small part of the time; and renew the claims."""
        started = time.monotonic()
        if self._cache is None or started < self._next_publication:
            return
        self.publish()
        if started > self._next_renewal:
            self._store_claims(lambda cache: cache.renew_claims(self._owner, time.time() + CLAIM_S))
            self._next_renewal = started + RENEW_S
        now = time.monotonic()
        self._next_publication = now + max(PUBLISH_S, (now - started) / PUBLISH_SHARE)

    def take(
        self,
        keys: Sequence[str],
        teacher: Teacher,
        purpose: Purpose,
        mode: CallMode,
        is_valid: Callable[[object], bool],
    ) -> TakenAnswers:
        """Results that another run bought: charged at the price they had then, paid at zero.

        A row that is not `is_valid` is not taken, and so asked anew.
        """
        if self._cache is None or not keys:
            return TakenAnswers({})
        cached = {key: each for key, each in self._cache.get(keys).items() if is_valid(each.value)}
        taken: dict[str, object] = {}
        budget_ended = False
        for chunk in chunks(list(cached), CHUNK):
            price = -(-sum(cached[key].price_nanos for key in chunk) // 1000)
            description = f"{teacher.name}, bought before: {len(chunk)} texts"
            try:
                with self._ledger.hold(price, purchase_of(teacher, purpose, description, len(chunk), mode)) as hold:
                    results = {key: cached[key].value for key in chunk}
                    hold.settle(price, paid=0, results=results)
            except BudgetExceeded:
                budget_ended = True
                break
            taken |= results
        if taken:
            self._reporter.info(
                f"{len(taken)} answers of {teacher.name} were bought before: charged again, paid nothing."
            )
        return TakenAnswers(taken, budget_ended)

    # --- claims -------------------------------------------------------------------------------------------

    def claim(self, keys: Sequence[str], teacher: Teacher, is_valid: Callable[[object], bool]) -> dict[str, str]:
        """Claim results before they are bought.

        Returns:
            key -> name of the run, of those that another run is buying now; with the name "", of those that one has
            just bought.
        """
        if self._cache is None or not self._claims or teacher.category != "llm":
            return {}
        others = self._claim(keys, by_job=False)
        just_bought = self._cache.get(key for key in keys if key not in others)
        return others | {key: "" for key, each in just_bought.items() if is_valid(each.value)}

    def claim_for_job(self, keys: Sequence[str], teacher: Teacher) -> None:
        """Have claims last as long as a job."""
        if self._claims and teacher.category == "llm":
            self._claim(keys, by_job=True)

    def _claim(self, keys: Sequence[str], *, by_job: bool) -> dict[str, str]:
        checked: dict[tuple[str, bool], bool] = {}

        def is_current(other: Claim) -> bool:
            name = (other.owner, bool(other.by_job))
            if name not in checked:
                folder = self._workspace / other.owner
                checked[name] = (folder / RUN_FILE).is_file() if other.by_job else is_locked(folder)
            return checked[name]

        expires_at = time.time() + (JOB_CLAIM_S if by_job else CLAIM_S)
        claim = Claim(self._owner, by_job, expires_at)
        others = self._store_claims(lambda cache: cache.claim(keys, claim, is_current)) or {}
        # A process that was killed could not share its last answers: they are in its run.
        for owner in {owner for (owner, _), current in checked.items() if not current}:
            if self._cache is not None:
                self._cache.put(unshared_answers(self._workspace / owner, SHARED_CATEGORIES, self._cache.path))
        return others

    def release(self, keys: Iterable[str] | None = None) -> None:
        """End the claims of `keys`; without keys, all of this run but those for jobs."""
        self._store_claims(lambda cache: cache.release_claims(self._owner, keys))

    def _store_claims(self, step: Callable[[AnswerCache], T]) -> T | None:
        """What `step` returns; None if the file of the claims is locked or cannot be written: that stops no run."""
        if self._cache is None or not self._claims:
            return None
        try:
            return step(self._cache)
        except (RunBusy, DiskError) as error:
            self._claims = False
            self._reporter.info(f"{error.message} Another run that works at once may buy the same answers.")
            return None

    def wait_for(self, owners: Iterable[str]) -> None:
        """Wait a moment for other runs; the first time it is said."""
        if not self._has_waited:
            self._has_waited = True
            runs = ", ".join(sorted(set(owners) - {""})) or "just bought"
            self._reporter.info(f"Another run of {self._workspace} is buying answers that this one needs: {runs}.")
        sleep(POLL_S)


def purchase_of(teacher: Teacher, purpose: Purpose, description: str, n_texts: int, mode: CallMode) -> Purchase:
    """A purchase from a teacher."""
    return Purchase(teacher.category, purpose, description, n_texts, teacher=teacher.name, mode=mode)


def chunks(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """The items in parts of `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
