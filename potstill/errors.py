"""Every error potstill raises on purpose: one tree, drawn here.

    PotstillError                a message and a hint; the command line prints both and exits with 2
    |- BadInput                  the user gave something that cannot be used
    |  |- BadData                a file, a column, a row, a label
    |  |- BadSpec                an option, a TOML key, a budget
    |  |- UnknownName            an unknown teacher, student, procedure, set of weights or column
    |  |- MissingExtra           a library that an optional part needs is not installed
    |  |- MissingWeights         a model's weights are not on this machine
    |  |- RunNotFound            the folder is not a run, or not a bundle
    |  `- SpendingDeclined       asked before spending, the user said no
    |- RunConflict               the run exists and does not fit what is asked of it
    |  |- RunBusy                another process holds its lock
    |  `- SpecMismatch           it was started with other options
    |- MoneyError
    |  |- BudgetExceeded         the next hold does not fit under the limit
    |  |- UnknownPrice           no price is known; unknown is refused, never zero
    |  `- BoundExceeded          a provider reported more usage than the bound it was held to
    |- DiskError                 a file cannot be written: the disk is full, or the place is read-only
    |- TeacherError              the teacher cannot answer at all (one bad row is a state of its answer, not an error)
    `- Waiting                   not a failure: people or a batch queue have to finish first; run the command again

`PotstillWarning` is no error: what works, though not as well as it could.

Any other exception is a bug and keeps its traceback. Imports nothing of the package.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import TypeVar

_FLAG = re.compile(r"--(no-)?([a-z][a-z-]*)(?:[ =](?!overrules)(\"[^\"]*\"|[^\s,;.:)]+))?")


class PotstillError(Exception):
    """An error with a message and a hint.

    Args:
        message: one sentence: what was found and what was expected.
        hint: one sentence in the imperative: how to mend it; empty if the message already says it.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class PotstillWarning(UserWarning):
    """What works, though not as well as it could; the command line prints the sentence alone."""


class BadInput(PotstillError):
    """The user gave something that cannot be used."""


class BadData(BadInput):
    """A file, a column, a row or a label cannot be used."""


class BadSpec(BadInput):
    """An option, a key of the TOML file or a budget cannot be used."""


class UnknownName(BadInput):
    """A name that is in no registry. Built by `unknown_name`, which finds the nearest names."""


class MissingExtra(BadInput):
    """An optional library is not installed. Built by `missing_extra`."""


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
    """The budget or a price does not allow to go on."""


class BudgetExceeded(MoneyError):
    """The next hold does not fit under the limit."""


class UnknownPrice(MoneyError):
    """No price is known; unknown is refused, never taken as zero."""


class BoundExceeded(MoneyError):
    """A provider reported more usage than the bound it was held to."""


class DiskError(PotstillError):
    """A file cannot be written: the disk is full, or the place is read-only."""


class TeacherError(PotstillError):
    """The teacher cannot answer at all. `billed` is False if certainly nothing was charged: the hold is released."""

    billed = True


class RequestRefused(PotstillError):
    """A request to a served model is not answered.

    Args:
        reason: a key of `serving.refusals.STATUS`.
        message: one sentence.
        hint: how to mend the request.
        retry_after_s: whole seconds after which the same request may succeed; None if it never will.
    """

    def __init__(self, reason: str, message: str, hint: str = "", retry_after_s: int | None = None) -> None:
        super().__init__(message, hint)
        self.reason = reason
        self.retry_after_s = retry_after_s


class Waiting(PotstillError):
    """People or a batch queue have to finish first; run the same command again later."""

    exit_code = 75


ErrorT = TypeVar("ErrorT", bound=PotstillError)


def with_keys(error: ErrorT, table: str) -> ErrorT:
    """The error with its flags as keys of a TOML table: `--encoding cp1252` as `encoding = "cp1252"` (under [teacher]).

    For files that a TOML file names, which the flags of the command line do not reach.
    """
    return type(error)(_FLAG.sub(_as_key, error.message), sentence_with_keys(error.hint, table))


def sentence_with_keys(sentence: str, table: str) -> str:
    """The sentence with its flags as keys of a TOML table; as it is if it names none."""
    named = _FLAG.sub(_as_key, sentence)
    if named == sentence:
        return sentence
    stop = "." * named.endswith(".")
    return f"{named.removesuffix('.')} (under [{table}]){stop}"


def _as_key(flag: re.Match[str]) -> str:
    negated, name, value = flag.groups()
    if negated or value is None:
        return f"{name.replace('-', '_')} = {'false' if negated else '...'}"
    quoted = value if value.startswith('"') or value.isdecimal() or value == "N" else f'"{value}"'
    return f"{name.replace('-', '_')} = {quoted}"


def did_you_mean(name: str, names: Iterable[str], otherwise: str | None = None) -> str:
    """The nearest of `names`, or those with the word `name` in them, as a sentence; without any `otherwise`, or all."""
    names = sorted(names)
    near = get_close_matches(name, names, n=3, cutoff=0.6) or [each for each in names if name in each.split("_")][:3]
    if near:
        return f"Did you mean {' or '.join(repr(n) for n in near)}?"
    if otherwise is not None:
        return otherwise
    return f"There are: {', '.join(names)}." if names else ""


def unknown_name(kind: str, name: str, names: Iterable[str]) -> UnknownName:
    """An `UnknownName` for `name`, a `kind` such as "teacher", with the nearest of `names` in its hint."""
    there = "There are" if kind.endswith("s") else "There is"
    return UnknownName(f"{there} no {kind} called {name!r}.", did_you_mean(name, names))


def missing_extra(library: str, extra: str, why: str) -> MissingExtra:
    """A `MissingExtra` whose hint is the command that installs the extra."""
    return MissingExtra(
        f"{why} needs {library}, which is not installed.",
        f"Install it with: pip install 'potstill[{extra}]'",
    )
