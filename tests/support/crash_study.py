"""Runs that are killed at random instants and begun again until they are done, and what must be true of them.

Shared by `test_crash.py` (short) and `bench/crash.py` (long). A `potstill distill` in a process of its own asks a
provider (`provider.py`, another process) over HTTP, is killed with SIGKILL, and after each kill its store is read as
any reader would. The provider's books are the other side's truth. Covers one machine and one disk; power loss is not
tried.
"""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from support.commands import Command, start_command
from support.provider import Entry, read_books

from potstill.errors import RunNotFound
from potstill.ledger.prices import LedgerTotals, Rates, Usage
from potstill.ledger.store import CallRecord, RunStore
from potstill.run.ask import CALLS_PER_EXTRA_SLOT

LABELS = {"rain": "rain wind storm", "goal": "match goal team", "bank": "money bank shares", "song": "music song band"}
RATES = Rates("the study", Decimal("0.4"), Decimal("1.6"))
NEVER_S = 1e9
start: Callable[[Sequence[str], int | None], Command] = start_command  # how a process begins; may be set


@dataclass(frozen=True)
class Study:
    """What is distilled again and again: a folder with texts and specs; calls in flight, and how long one may take."""

    folder: Path
    n: int = 1200
    parallel: int = 32
    timeout_s: float = 1.5

    def write(self, url: str, budget: float, name: str) -> Path:
        """A spec with this budget; the texts are written with the first."""
        texts = self.folder / "texts.csv"
        if not texts.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            texts.write_text("\n".join(self._rows()) + "\n", encoding="utf-8")
        spec = self.folder / f"{name}.toml"
        described = "\n".join(f'{label} = "{words}"' for label, words in LABELS.items())
        spec.write_text(
            f'budget = {budget}\nstudent = "linear"\n[task]\nname = "crash"\n[task.descriptions]\n{described}\n'
            f'[data]\nfile = "texts.csv"\ngold = 40\n'
            f'[teacher]\nname = "openai:m"\nbase_url = "{url}"\nparallel = {self.parallel}\n'
            f"timeout_s = {self.timeout_s}\n"
            f"[prices.m]\nusd_per_million_input = {RATES.usd_per_million_input}\n"
            f"usd_per_million_output = {RATES.usd_per_million_output}\n",
            encoding="utf-8",
        )
        return spec

    def out(self, name: str) -> Path:
        """The folder of one run, alone in its workspace: no other's answers are there to be had for nothing."""
        return self.folder / name / "run"

    def _rows(self) -> Iterator[str]:
        luck = random.Random(7)
        fill = "the a of and one day they saw that it was not so when we came here again old new".split()
        yield "text,label"
        for number in range(self.n):
            label = luck.choice(list(LABELS))
            other = luck.choice(list(LABELS))
            words = [luck.choice(fill) for _ in range(10)]
            words += [label, luck.choice(LABELS[label].split()), luck.choice(LABELS[other].split()), f"n{number}"]
            luck.shuffle(words)
            yield f"{' '.join(words)},{label}"


class Life:
    """One process that distils, from its start to its end."""

    def __init__(self, spec: Path, out: Path, most_bytes: int | None = None) -> None:
        self.began = time.time()
        self._process: Command = start(["distill", str(spec), "-o", str(out)], most_bytes)

    def ends_within(self, seconds: float) -> bool:
        """True if it ended by itself before."""
        try:
            self._process.wait(seconds if seconds < NEVER_S else None)
        except subprocess.TimeoutExpired:
            return False
        return True

    def send(self, number: signal.Signals) -> None:
        """A signal to it."""
        self._process.send_signal(number)

    def end(self) -> tuple[int, str]:
        """Its exit code and what it said, once it is over."""
        _, said = self._process.communicate()
        return self._process.returncode, said


@dataclass(frozen=True)
class Look:
    """A run's store as a reader finds it. Micro-dollars; `answers` is key -> value of what a teacher said."""

    totals: LedgerTotals
    calls: tuple[CallRecord, ...]
    answers: Mapping[str, Any]

    @property
    def held_calls(self) -> int:
        """Calls to the teacher whose money is still held."""
        return sum(call.state == "held" and call.category == "llm" for call in self.calls)

    @property
    def booked_llm(self) -> int:
        """What the teacher's calls are booked at, held or charged."""
        return sum(c.held if c.state == "held" else c.charged for c in self.calls if c.category == "llm")

    @property
    def reconciles(self) -> bool:
        """The rows add up to the totals, to the micro-dollar."""
        held = sum(call.held for call in self.calls if call.state == "held")
        charged, paid = sum(call.charged for call in self.calls), sum(call.paid for call in self.calls)
        lost = sum(call.charged for call in self.calls if call.state == "lost")
        totals = self.totals
        return (held, charged, paid, lost) == (totals.held, totals.charged, totals.paid, totals.lost) and (
            sum(totals.by_category.values()) == sum(totals.by_purpose.values()) == charged
        )


def look(out: Path) -> Look:
    """What the run's store says; nothing where there is none yet."""
    try:
        store = RunStore(out, write=False)
    except RunNotFound:
        return Look(LedgerTotals(0, 0, 0, 0, {}, {}, 0, 0), (), {})
    try:
        limit = store.get_meta("limit_micros") or 0
        totals, calls = store.totals(limit), tuple(store.calls())
    finally:
        store.close()
    with sqlite3.connect(f"{(out / 'run.sqlite').absolute().as_uri()}?mode=ro", uri=True) as db:
        rows = db.execute("SELECT key, value FROM results WHERE call_id IS NOT NULL").fetchall()
    db.close()
    kept = {key: json.loads(value) for key, value in rows}
    return Look(totals, calls, {key: value for key, value in kept.items() if "state" in value})


@dataclass(frozen=True)
class Kill:
    """What was found after one process was killed, in calls and micro-dollars.

    Attributes:
        after_s: how long it lived.
        phase: what it was doing.
        held_calls: calls in flight.
        bought, kept: texts the provider answered well in this life, and answers that are in the store because of it.
        limit, committed: the budget, and held plus charged.
        booked, billed: what the teacher's calls are booked at, and what the provider billed for the run so far.
        reconciles: the rows add up.
    """

    after_s: float
    phase: str
    held_calls: int
    bought: int
    kept: int
    limit: int
    committed: int
    booked: int
    billed: int
    reconciles: bool

    @property
    def lost(self) -> int:
        """Answers that were bought and are gone: they are bought again."""
        return self.bought - self.kept


@dataclass
class Ended:
    """A run that was killed and begun again until it was done.

    Attributes:
        kills: one record each.
        end: the store at the end.
        books: what the provider wrote down meanwhile.
        began: when the last process was begun, in seconds since 1970.
        code, said: how it ended.
    """

    kills: list[Kill]
    end: Look
    books: list[Entry]
    began: float = 0.0
    code: int = 0
    said: str = ""
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bought_twice(self) -> int:
        """Good answers beyond the first of each text."""
        texts = Counter(entry.text for entry in self.books if entry.good)
        return sum(texts.values()) - len(texts)

    @property
    def billed(self) -> int:
        """What the provider billed in all, in micro-dollars."""
        return billed_micros(self.books)


def billed_micros(books: list[Entry]) -> int:
    """What the entries cost, rounded up once."""
    usage = sum((Usage(entry.prompt, 0, entry.output) for entry in books), Usage())
    return RATES.cost_micros(usage)


def distil(
    spec: Path,
    out: Path,
    url: str,
    instants: Callable[[], float],
    most: int = 10**6,
    before: int | None = None,
    since_asking: bool = False,
) -> Ended:
    """Begin the run, kill it after `instants()` seconds, begin it again, `most` times; then let it finish.

    The books are read from entry `before` on, or from now on. With `since_asking` the seconds count from when a life
    has money held for a call, however slowly the machine begins.
    """
    before = len(read_books(url)) if before is None else before
    lives: list[tuple[float, float, str, Look]] = []
    while True:
        life = Life(spec, out)
        after = instants() if len(lives) < most else NEVER_S
        if since_asking and after < NEVER_S:
            _until_held(out, life)
        if life.ends_within(after):
            code, said = life.end()
            break
        life.send(signal.SIGKILL)
        life.end()
        found = look(out)
        lives.append((life.began, time.time() - life.began, phase_of(out, found), found))
    books = read_books(url)[before:]
    report = out / "report.json"
    record = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
    return Ended(list(_kills(lives, life.began, books)), look(out), books, life.began, code, said, record)


def _kills(lives: list[tuple[float, float, str, Look]], last: float, books: list[Entry]) -> Iterator[Kill]:
    kept_before = 0
    begins = [began for began, *_ in lives] + [last]
    for number, (began, lived, phase, found) in enumerate(lives):
        # Everything it sent has arrived before the next one was begun.
        until = begins[number + 1]
        bought = {entry.text for entry in books if began <= entry.arrived < until and entry.good}
        yield Kill(
            after_s=round(lived, 3),
            phase=phase,
            held_calls=found.held_calls,
            bought=len(bought),
            kept=len(found.answers) - kept_before,
            limit=found.totals.limit,
            committed=found.totals.held + found.totals.charged,
            booked=found.booked_llm,
            billed=billed_micros([entry for entry in books if entry.arrived < until]),
            reconciles=found.reconciles,
        )
        kept_before = len(found.answers)


@dataclass(frozen=True)
class Second:
    """What became of a second process that opened the same run: its exit code and what it said; and of the first."""

    code: int
    said: str
    first_code: int


def open_twice(spec: Path, out: Path) -> Second:
    """A second process opens a run while the first works in it."""
    first = Life(spec, out)
    _until_asking(out, first)
    first.send(signal.SIGSTOP)  # or it might have ended by then
    code, said = Life(spec, out).end()
    first.send(signal.SIGCONT)
    return Second(code, said, first.end()[0])


@dataclass(frozen=True)
class Stopped:
    """A run that was stopped from outside, what was found, and what it came to when it was run again.

    Attributes:
        code, said: how the process ended.
        seconds: from the signal, or from the start, to its end.
        found: the store right after.
        again: the same command without the trouble.
    """

    code: int
    said: str
    seconds: float
    found: Look
    again: Ended


def interrupt(spec: Path, out: Path, url: str, after_s: float = 0.5, by: signal.Signals = signal.SIGINT) -> Stopped:
    """Ctrl-C in the middle of asking, or another signal that asks to end."""
    before, life = len(read_books(url)), Life(spec, out)
    _until_held(out, life)
    life.ends_within(after_s)
    began = time.time()
    life.send(by)
    code, said = life.end()
    seconds = time.time() - began
    return Stopped(code, said, seconds, look(out), distil(spec, out, url, lambda: NEVER_S, before=before))


def fill_disk(spec: Path, out: Path, url: str, most_bytes: int) -> Stopped:
    """No file of the process may grow beyond `most_bytes`; then it runs again without that limit."""
    before, life = len(read_books(url)), Life(spec, out, most_bytes)
    code, said = life.end()
    seconds = time.time() - life.began
    return Stopped(code, said, seconds, look(out), distil(spec, out, url, lambda: NEVER_S, before=before))


def _until_asking(out: Path, life: Life) -> None:
    while not any(call.state == "settled" for call in look(out).calls):
        if life.ends_within(0.02):
            raise RuntimeError(f"it ended before it asked: {life.end()}")


def _until_held(out: Path, life: Life) -> None:
    """Until this life holds money for a call of its own, or is over."""
    while not any(call.state == "held" and call.started_at >= life.began for call in look(out).calls):
        if life.ends_within(0.01):
            return


def phase_of(out: Path, found: Look) -> str:
    """What a process was doing when it was killed, as far as its store tells."""
    if any(call.state == "held" and call.category == "compute" for call in found.calls):
        return "training"
    if found.held_calls:
        return "asking"
    if (out / "bundle").exists():
        return "finishing"
    return "between steps" if found.calls else "starting"


def worth(ended: Ended) -> Any:
    """What the report says student and teacher are worth: figures that must not depend on kills."""
    student, teacher = ended.report["student"], ended.report["teacher"]
    return [student["accuracy"], student["macro_f1"], teacher["accuracy"]]


def broken(ended: Ended, parallel: int, held_calls: int = 0) -> list[str]:
    """What is wrong with a run that was killed and finished: a sentence each.

    `held_calls` were in flight when it was stopped by something else than a kill.
    """
    wrong = []
    for number, kill in enumerate(ended.kills):
        at = f"kill {number} ({kill.phase}, after {kill.after_s} s)"
        if kill.committed > kill.limit:
            wrong.append(f"{at}: {kill.committed} of {kill.limit} micro-dollars are held or charged")
        if not 0 <= kill.lost <= kill.held_calls <= parallel + parallel // CALLS_PER_EXTRA_SLOT:  # the next few, too
            wrong.append(f"{at}: {kill.lost} answers are lost and {kill.held_calls} calls were in flight")
        if kill.billed > kill.booked:
            wrong.append(f"{at}: {kill.billed} micro-dollars are billed and {kill.booked} booked")
        if not kill.reconciles:
            wrong.append(f"{at}: the rows do not add up")
    end, in_flight = ended.end, held_calls + sum(kill.held_calls for kill in ended.kills)
    if end.totals.held or end.totals.charged > end.totals.limit or not end.reconciles:
        wrong.append(f"at the end: {end.totals}")
    if ended.bought_twice > in_flight:
        wrong.append(f"{ended.bought_twice} answers were bought twice and {in_flight} calls were in flight at kills")
    if ended.billed > end.booked_llm:
        wrong.append(f"{ended.billed} micro-dollars are billed and {end.booked_llm} booked")
    return wrong
