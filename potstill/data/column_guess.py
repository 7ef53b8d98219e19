"""Guesses which columns are the text, the label and the split, from their names and contents, and gives reasons.

A column that the user names is not guessed. The separator of several labels is guessed in `label_sets.py`.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from potstill.data.tables import Guess, Table
from potstill.data.task import Split
from potstill.errors import BadData

SPLIT_ALIASES: Mapping[str, Split] = {
    **dict.fromkeys(("train", "training", "tr"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "development"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation", "heldout", "held-out"), "test"),
    **dict.fromkeys(("pool", "unlabelled", "unlabeled", "unsup", "unsupervised"), "pool"),
}
_TEXT_NAMES = (
    "text sentence review content message body utterance query question comment tweet document headline title "
    "description complaint feedback narrative post sms transcript abstract"
)
# A name with one of these words is not that of a text, whatever its other words: message_id, comment_date, text_length.
_FACT_NAMES = frozenset(
    "id ids uuid guid key hash date time timestamp at day year url uri link href lang language locale count length len "
    "size type number num no code source author user name email mail phone status score rating index idx".split()
)
_LABEL_NAMES = (
    "label labels class classes category categories intent intents sentiment target topic topics tag tags gold rating "
    "stars score emotion emotions label_text y"
)
_LABELS = ("label", "labels")  # a column of this name is the label, whatever its cells
_SPLIT_NAMES = "split partition subset fold set part"
NO_COLUMN = "-"  # named in place of a column: there is none, and none is guessed
_MAX_SPLITS = 12  # different values of a column called "split" that are taken for names of splits
_PAIR_NAMES = (("premise", "hypothesis"), ("query", "document"), ("query", "passage"), ("claim", "evidence"))
# Columns whose names differ only in these words: text_a and text_b, sentence1 and sentence2, left_text and right_text.
_PAIR_WORDS = (("a", "b"), ("1", "2"), ("left", "right"), ("first", "second"), ("source", "target"))
_NUMBER = re.compile(r"[-+]?(?=[.,]*\d)[\d.,]++%?")
# A cell that is no text: a date or time, a web or mail address, or an identifier with a digit (MSG-0017, v1.2).
_FACT = re.compile(
    r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T].{1,30})?|\d{1,2}:\d\d(:\d\d)?|\d{1,2}\.? \w{3,9}\.? \d{4}|"
    r"\w{3,9} \d{1,2}, \d{4}|(https?://|www\.)\S+|[\w.+-]+@[\w-]+\.[\w.]+|(?=[^\d\s]*\d)[!-~]{1,80}|"
    r"[-+(]?\d[\d ()/.-]{5,}",
    re.ASCII,
)
_SAMPLE_SIZE = 2000  # non-empty cells of a column that are examined


@dataclass(frozen=True)
class ColumnNames:
    """The columns that the user named; empty to guess, and `NO_COLUMN` as the split if there is none."""

    text: str = ""
    text_b: str = ""
    label: str = ""
    split: str = ""


@dataclass(frozen=True)
class ColumnGuess:
    """The columns of a table.

    Attributes:
        text: the column of the text.
        text_b: the column of the second text of a pair, or None.
        label: the column of the label, or None.
        split: the column with train, validation, test or pool, or None.
        guesses: the columns that the user did not name, and that there is no label, with reasons.
        offered: a column of a model's labels, which is not read unless the user names it; "" if there is none.
    """

    text: str
    text_b: str | None
    label: str | None
    split: str | None
    guesses: tuple[Guess, ...]
    offered: str = ""

    @property
    def reasons(self) -> tuple[str, ...]:
        """One sentence for each guess."""
        return tuple(
            f"{guess.key}: {repr(guess.value) if guess.value else 'none'}, {guess.reason}" for guess in self.guesses
        )


@dataclass(frozen=True)
class _ColumnStats:
    """Statistics of a column's non-empty cells; `length` in characters, `numeric` and `facts` shares in [0, 1].

    A fact is a number, a date, an address or an identifier.
    """

    name: str
    filled: int
    distinct: int
    length: float
    numeric: float
    facts: float
    values: frozenset[str]

    @property
    def repeats(self) -> float:
        """Share of cells that repeat another's value."""
        return 1 - self.distinct / self.filled if self.filled else 0.0


def guess_columns(
    table: Table, named: ColumnNames = ColumnNames(), *, unlabelled: bool = False, pairs: bool = True
) -> ColumnGuess:
    """Guess the columns of `table`.

    Args:
        table: the table.
        named: the columns the user named; they are checked, not guessed.
        unlabelled: the table has no labels; guess no label column.
        pairs: two columns may be the two texts of a pair; otherwise only if both are named.

    Raises:
        BadData: a named column is missing, or no column looks like a text.
    """
    for column in (named.text, named.text_b, named.label, named.split):
        if column and not (column == named.split == NO_COLUMN and NO_COLUMN not in table.columns):
            table.column(column)
    stats = {name: _column_stats(table, name) for name in table.columns}
    free = [c for c in table.columns if c not in (named.text, named.text_b, named.label, named.split)]
    guesses: list[Guess] = []
    split = named.split or _guess_split(stats, free, guesses)
    split = "" if split == NO_COLUMN and NO_COLUMN not in table.columns else split
    pair = _guess_pair(stats, free) if pairs and not named.text and not named.text_b else None
    text, text_b = named.text, named.text_b or None
    if pair:
        text, text_b = pair
        guesses += [Guess("text", text, "a pair by their names"), Guess("text_b", text_b, "a pair by their names")]
    elif not text:
        text = _guess_text(table, stats, [c for c in free if c != split], guesses)
    label = named.label or None
    if not label and not unlabelled:
        label = _guess_label(stats, [c for c in free if c not in (text, text_b, split)], guesses)
    return ColumnGuess(text, text_b, label, split or None, tuple(guesses))


def _column_stats(table: Table, name: str) -> _ColumnStats:
    cells = table.column(name)
    filled = [c for cell in cells if cell and (c := cell.strip())]
    if len(filled) > _SAMPLE_SIZE:  # random: every n-th row may be alike
        filled = random.Random(0).sample(filled, _SAMPLE_SIZE)
    n = max(1, len(filled))
    return _ColumnStats(
        name=name,
        filled=len(filled),
        distinct=len(set(filled)),
        length=sum(map(len, filled)) / n,
        numeric=sum(bool(_NUMBER.fullmatch(c)) for c in filled) / n,
        facts=sum(bool(_NUMBER.fullmatch(c[:100]) or _FACT.fullmatch(c[:200])) for c in filled) / n,
        values=frozenset(c.casefold() for c in filled[:200]),
    )


def _hint(name: str, hints: str) -> int:
    """2 if the name is one of the hints, 1 if one of its words is, else 0."""
    plain = name.casefold().strip()
    words = hints.split()
    if plain in words:
        return 2
    return int(any(word in words for word in re.split(r"[^a-z]+", plain)))


def is_label_name(name: str) -> bool:
    """Whether a column of this name holds labels by its name alone."""
    return _hint(name, _LABEL_NAMES) == 2


def _guess_pair(stats: Mapping[str, _ColumnStats], free: Sequence[str]) -> tuple[str, str] | None:
    lower = {c.casefold(): c for c in stats}
    named = next(((lower[a], lower[b]) for a, b in _PAIR_NAMES if a in lower and b in lower), None)
    if named:
        return named
    stems: dict[tuple[str, ...], str] = {}
    for name in stats:
        column, words = stats[name], re.findall(r"[a-z]+|\d+", name.casefold())
        if not words or not column.filled or column.facts > 0.5 or _hint(name, _LABEL_NAMES):
            continue
        if words[0] == "column" and len(words) == 2:  # a file without a header
            continue
        for first, second in _PAIR_WORDS:
            if first in words:
                stems[tuple(first + second if word == first else word for word in words)] = name
            partner = stems.get(tuple(first + second if word == second else word for word in words))
            if second in words and partner and not _has_better_text(stats, free, (partner, name)):
                return partner, name
    return None


def _has_better_text(stats: Mapping[str, _ColumnStats], free: Sequence[str], pair: tuple[str, str]) -> bool:
    """Whether another column is a text by its name and content, and the two of the pair are none by their names."""
    if any(_hint(name, _TEXT_NAMES) for name in pair):
        return False
    others = (stats[name] for name in free if name not in pair)
    return any(_hint(other.name, _TEXT_NAMES) and other.filled and other.facts < 0.5 for other in others)


def _guess_split(stats: Mapping[str, _ColumnStats], free: Sequence[str], guesses: list[Guess]) -> str:
    for name in sorted(free, key=lambda c: -_hint(c, _SPLIT_NAMES)):
        column = stats[name]
        if column.filled and _is_split(column):
            guesses.append(Guess("split", name, f"its values are {', '.join(sorted(column.values)[:_MAX_SPLITS])}"))
            return name
    return ""


def _is_split(column: _ColumnStats) -> bool:
    """Whether a column divides the rows; a value that is no known split is refused when the column is read."""
    hint = _hint(column.name, _SPLIT_NAMES)
    known = {SPLIT_ALIASES[value] for value in column.values & SPLIT_ALIASES.keys()}
    if column.values <= SPLIT_ALIASES.keys():
        return column.distinct > 1 or hint > 0
    if column.distinct > _MAX_SPLITS or column.numeric > 0.5:
        return False
    # Some are known. Without a name for a split it takes two of them, or a class called "test" would be one.
    return (hint > 0 and bool(known)) or len(known) > 1 or column.name.casefold().strip() in ("split", "partition")


def _guess_text(table: Table, stats: Mapping[str, _ColumnStats], free: Sequence[str], guesses: list[Guess]) -> str:
    def score(name: str) -> float:
        column, hint = stats[name], _text_hint(name)
        # Content weighs more than the name: facts are a text only where nothing else is. Labels are short and repeat.
        return (
            3 * hint
            + min(column.length, 200) / 40
            - 2 * column.repeats
            - 3 * (_hint(name, _LABEL_NAMES) == 2)
            - 20 * (column.facts > 0.5)
            - 20 * (name.casefold().strip() in _LABELS)
        )

    filled = [name for name in free if stats[name].filled]
    best = max(filled, key=score, default=None)
    if best is None or (score(best) < 0 and _text_hint(best) < 2):
        columns = ", ".join(repr(c) for c in table.columns)
        raise BadData(f"No column of {table.name} looks like a text; it has {columns}.", "Name it: --text COLUMN")
    why = "by its name" if _text_hint(best) else "the longest and least repeated"
    guesses.append(Guess("text", best, f"{why} ({stats[best].length:.0f} characters a row)"))
    return best


def _text_hint(name: str) -> int:
    """As `_hint` for names of texts; 0 for names of facts on a text."""
    facts = _FACT_NAMES.intersection(re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).casefold()))
    return 0 if facts else _hint(name, _TEXT_NAMES)


def _guess_label(stats: Mapping[str, _ColumnStats], free: Sequence[str], guesses: list[Guess]) -> str | None:
    def score(name: str) -> float:
        column, hint = stats[name], _hint(name, _LABEL_NAMES)
        if name.casefold().strip() in _LABELS and column.filled:
            return 10.0
        if column.length > 60 or not column.filled:
            return 0.0
        categorical = column.distinct >= 2 and column.filled >= 10 and column.distinct <= max(2, 0.2 * column.filled)
        return 2 * hint + (1.5 if categorical and not 0 < column.numeric < 1 else 0.0) - (column.numeric > 0.9) * 0.4

    best = max(free, key=score, default=None)
    if best is None or score(best) < 1.0:
        guesses.append(Guess("label", "", "no column has a label's name or few different short values"))
        return None
    column = stats[best]
    why = "by its name" if _hint(best, _LABEL_NAMES) else "few different short values"
    guesses.append(Guess("label", best, f"{why} ({column.distinct:,} different)"))
    return best


def format_values(cells: Sequence[str | None], n_max: int = 8) -> str:
    """The most frequent values with their counts, for messages."""
    counts = Counter((c or "").strip() for c in cells if (c or "").strip()).most_common(n_max + 1)
    return ", ".join(f"{v!r} ({n:,})" for v, n in counts[:n_max]) + (", ..." if len(counts) > n_max else "")
