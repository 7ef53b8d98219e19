"""Every error potstill raises on purpose: one tree, drawn here.

    PotstillError                what happened + how to mend it; the command line prints both and exits with 2
    |- BadInput                  something the user gave cannot be used
    |  |- BadData                a file, a column, a row, a label
    |  |- BadSpec                an option, a TOML key, a budget
    |  |- UnknownName            a teacher, student, procedure, weights or column nobody has heard of
    |  |- MissingExtra           a library that an optional part needs is not installed
    |  |- MissingWeights         a model's weights are not on this machine
    |  |- NotARun                a folder that is no run, or no bundle
    |  `- Declined               asked before spending, the user said no
    |- RunConflict               the run exists and does not fit what is asked of it
    |  |- RunBusy                another process holds it
    |  `- SpecChanged            it was started with other options
    |- MoneyError
    |  |- OverBudget             the next hold does not fit under the limit
    |  |- UnknownPrice           nobody said what this costs; unknown is never zero
    |  `- Overcharged            a provider used more than the bound it was held to
    |- TeacherError              the teacher cannot answer at all (one bad row is a state of its answer, not an error)
    `- Waiting                   not a failure: somebody else has to act, then call again

A bug is any other exception; it keeps its traceback. This file knows no other room.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class PotstillError(Exception):
    """What happened, in one sentence, and what the reader can do about it.

    Args:
        happened: one sentence, saying what was found and what was expected.
        mend: one sentence in the imperative; may be empty where `happened` already says it.
    """

    exit_code = 2

    def __init__(self, happened: str, mend: str = "") -> None:
        super().__init__(happened, mend)
        self.message = happened
        self.hint = mend

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class BadInput(PotstillError):
    """Something the user gave cannot be used."""


class BadData(BadInput):
    """A file, a column, a row or a label cannot be used."""


class BadSpec(BadInput):
    """An option, a key of the TOML file or a budget cannot be used."""


class UnknownName(BadInput):
    """A name that is on no menu. Build it with `unknown` to get the nearest names."""


class MissingExtra(BadInput):
    """An optional library is not installed. Build it with `missing_extra`."""


class MissingWeights(BadInput):
    """A model's weights are not on this machine."""


class RunNotFound(BadInput):
    """A folder that is not a run, or not a bundle."""


class SpendingDeclined(BadInput):
    """The user was asked before money was spent, and said no."""


class RunConflict(PotstillError):
    """The run exists and does not fit what is asked of it."""


class RunBusy(RunConflict):
    """Another process is working in this run."""


class SpecMismatch(RunConflict):
    """The run was started with other options."""


class MoneyError(PotstillError):
    """Something about money forbids going on."""


class BudgetExceeded(MoneyError):
    """The next hold does not fit under the limit."""


class UnknownPrice(MoneyError):
    """No price is known; unknown is refused, never taken as zero."""


class BoundExceeded(MoneyError):
    """A provider reported more usage than the bound it was held to."""


class TeacherError(PotstillError):
    """The teacher cannot answer at all. `billed` is False if surely nothing was bought: the hold may be released."""

    billed = True


class Waiting(PotstillError):
    """Somebody else (a human, a batch queue) has to act first; call the same command again later."""

    exit_code = 75


def did_you_mean(name: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """The nearest known names as a sentence; if none is near, `otherwise`, or else all of them."""
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.6)
    if near:
        return f"Did you mean {' or '.join(repr(n) for n in near)}?"
    if otherwise is not None:
        return otherwise
    return f"There are: {', '.join(names)}." if names else ""


def unknown_name(what: str, name: str, known: Iterable[str]) -> UnknownName:
    """An `UnknownName` for `name`, with the nearest of the `known` names as its mend."""
    return UnknownName(f"There is no {what} called {name!r}.", did_you_mean(name, known))


def missing_extra(library: str, extra: str, why: str) -> MissingExtra:
    """A `MissingExtra` that carries its own install line."""
    return MissingExtra(
        f"{why} needs {library}, which is not installed.",
        f"Install it with: pip install 'potstill[{extra}]'",
    )
