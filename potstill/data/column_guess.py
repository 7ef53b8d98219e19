"""Which column is the text, which the label, which the split: guessed from names and contents, with reasons in words.

A column that the user names is never guessed. Does NOT cover: the labels' meaning, or several labels a text.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from potstill.data.tables import Table
from potstill.errors import BadData

Split = Literal["train", "validation", "test", "pool"]

SPLIT_ALIASES: Mapping[str, Split] = {
    **dict.fromkeys(("train", "training", "tr"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "development"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation", "heldout", "held-out"), "test"),
    **dict.fromkeys(("pool", "unlabelled", "unlabeled", "unsup", "unsupervised"), "pool"),
}
_TEXT = "text sentence review content message body utterance query question comment tweet document headline title"
_LABEL = (
    "label labels class classes category categories intent intents sentiment target topic topics tag tags gold rating "
    "stars score emotion emotions label_text y"
)
_SPLIT = "split partition subset fold set part"
_PAIRS = (("premise", "hypothesis"), ("query", "document"), ("query", "passage"), ("claim", "evidence"))
# Two columns whose names differ in these alone: text_a and text_b, sentence1 and sentence2, left_text and right_text.
_ENDS = (("a", "b"), ("1", "2"), ("left", "right"), ("first", "second"), ("source", "target"))
_NUMBER = re.compile(r"[-+]?[\d.,]*\d[\d.,]*%?")
_SEEN = 2000  # filled cells looked at


@dataclass(frozen=True)
class ColumnNames:
    """The columns that the user named; empty ones are guessed."""

    text: str = ""
    text_b: str = ""
    label: str = ""
    split: str = ""


@dataclass(frozen=True)
class ColumnGuess:
    """What the columns are taken for.

    Attributes:
        text: the column of the text.
        text_b: the column of the second text of a pair, or None.
        label: the column of the label, or None if none looks like one.
        split: the column that says train, validation, test or pool, or None.
        reasons: one sentence for each, why.
    """

    text: str
    text_b: str | None
    label: str | None
    split: str | None
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class _Look:
    """What a column looks like: shares in [0, 1] over the cells that are not empty."""

    name: str
    filled: int
    distinct: int
    length: float
    numeric: float
    values: frozenset[str]

    @property
    def repeats(self) -> float:
        return 1 - self.distinct / self.filled if self.filled else 0.0


def guess_columns(
    table: Table, named: ColumnNames = ColumnNames(), *, unlabelled: bool = False, pairs: bool = True
) -> ColumnGuess:
    """What each column of `table` is.

    Args:
        table: what was read.
        named: the columns the user named; they are checked, not guessed.
        unlabelled: the table is known to have no labels; none is looked for unless named.
        pairs: two columns may be the two texts of a pair; else only if both are named.

    Raises:
        BadData: a named column is not there (lists those there), or no column looks like a text.
    """
    for column in (named.text, named.text_b, named.label, named.split):
        if column:
            table.column(column)
    looks = {name: _look(table, name) for name in table.columns}
    free = [c for c in table.columns if c not in (named.text, named.text_b, named.label, named.split)]
    reasons: list[str] = []
    split = named.split or _split(looks, free, reasons)
    pair = _pair(looks) if pairs and not named.text and not named.text_b else None
    text, text_b = named.text, named.text_b or None
    if pair:
        text, text_b = pair
        reasons.append(f"texts: {text!r} and {text_b!r}, a pair by their names")
    elif not text:
        text = _text(table, looks, [c for c in free if c != split], reasons)
    label = named.label or None
    if not label and not unlabelled:
        label = _label(looks, [c for c in free if c not in (text, text_b, split)], reasons)
    return ColumnGuess(text, text_b, label, split or None, tuple(reasons))


def _look(table: Table, name: str) -> _Look:
    cells = table.column(name)
    filled = [c for cell in cells if cell and (c := cell.strip())]
    if len(filled) > _SEEN:  # drawn, not every n-th: files have rhythms
        filled = random.Random(0).sample(filled, _SEEN)
    n = max(1, len(filled))
    return _Look(
        name=name,
        filled=len(filled),
        distinct=len(set(filled)),
        length=sum(map(len, filled)) / n,
        numeric=sum(bool(_NUMBER.fullmatch(c)) for c in filled) / n,
        values=frozenset(c.casefold() for c in filled[:200]),
    )


def _hint(name: str, hints: str) -> int:
    """2 if the name is a hint, 1 if one of its words is, else 0."""
    plain = name.casefold().strip()
    known = hints.split()
    if plain in known:
        return 2
    return int(any(word in known for word in re.split(r"[^a-z]+", plain)))


def _pair(looks: Mapping[str, _Look]) -> tuple[str, str] | None:
    lower = {c.casefold(): c for c in looks}
    known = next(((lower[a], lower[b]) for a, b in _PAIRS if a in lower and b in lower), None)
    if known:
        return known
    stems: dict[tuple[str, ...], str] = {}
    for name in looks:
        look, words = looks[name], re.findall(r"[a-z]+|\d+", name.casefold())
        if not words or not look.filled or look.numeric > 0.5 or _hint(name, _LABEL):
            continue
        for one, other in _ENDS:
            stems |= {tuple(one + other if word == one else word for word in words): name} if one in words else {}
            twin = stems.get(tuple(one + other if word == other else word for word in words))
            if other in words and twin:
                return twin, name
    return None


def _split(looks: Mapping[str, _Look], free: Sequence[str], reasons: list[str]) -> str:
    for name in sorted(free, key=lambda c: -_hint(c, _SPLIT)):
        look = looks[name]
        if look.filled and look.values <= SPLIT_ALIASES.keys() and (look.distinct > 1 or _hint(name, _SPLIT)):
            reasons.append(f"split: {name!r}, it says {', '.join(sorted(look.values))}")
            return name
    return ""


def _text(table: Table, looks: Mapping[str, _Look], free: Sequence[str], reasons: list[str]) -> str:
    def score(name: str) -> float:
        look = looks[name]
        if not look.filled or (look.numeric > 0.9 and _hint(name, _TEXT) < 2):
            return -1.0
        # a label's column repeats itself and is short; a text's name is the best witness
        return 3 * _hint(name, _TEXT) + min(look.length, 200) / 40 - 2 * look.repeats - 3 * (_hint(name, _LABEL) == 2)

    best = max(free, key=score, default=None)
    if best is None or score(best) < 0:
        there = ", ".join(repr(c) for c in table.columns)
        raise BadData(f"No column of {table.name} looks like a text; it has {there}.", "Name it: --text COLUMN")
    why = "by its name" if _hint(best, _TEXT) else "the longest and least repeated"
    reasons.append(f"text: {best!r}, {why} ({looks[best].length:.0f} characters a row)")
    return best


def _label(looks: Mapping[str, _Look], free: Sequence[str], reasons: list[str]) -> str | None:
    def score(name: str) -> float:
        look, hint = looks[name], _hint(name, _LABEL)
        if look.length > 60 or not look.filled:
            return 0.0
        few = look.distinct >= 2 and look.filled >= 10 and look.distinct <= max(2, 0.2 * look.filled)
        return 2 * hint + (1.5 if few and not 0 < look.numeric < 1 else 0.0) - (look.numeric > 0.9) * 0.4

    best = max(free, key=score, default=None)
    if best is None or score(best) < 1.0:
        reasons.append("label: none, no column has a label's name or few different short values")
        return None
    look = looks[best]
    why = "by its name" if _hint(best, _LABEL) else "few different short values"
    reasons.append(f"label: {best!r}, {why} ({look.distinct:,} different)")
    return best


def format_values(cells: Sequence[str | None], most: int = 8) -> str:
    """The commonest values with their counts, for messages."""
    counts = Counter((c or "").strip() for c in cells if (c or "").strip()).most_common(most + 1)
    return ", ".join(f"{v!r} ({n:,})" for v, n in counts[:most]) + (", ..." if len(counts) > most else "")
