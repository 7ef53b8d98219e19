"""What the label cells of a whole column mean: one label a text, several, or scores.

A cell is read in `label_cells.py`, several names in one cell are separated in `label_sets.py`. The rule: labels in
brackets are lists; a task has several labels a text if any text has more than one, or scores by which none fits; scores
that sum to one are soft labels. `kind` overrules it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from potstill.data.label_cells import LabelCell, parse_label_cell, parse_pairs
from potstill.data.label_sets import GUESSED_SEPARATORS, SEPARATOR_NAMES, SEPARATORS, Separator, guess_separator
from potstill.data.label_sets import parse_labels as split_labels
from potstill.data.task import TaskKind
from potstill.errors import BadData, BadSpec

# flags: 0 or 1. shares: each row sums to one. votes: counts. independent: probabilities that need not sum to one.
Scale = Literal["", "flags", "shares", "votes", "independent"]
_TOLERANCE = 0.02  # of a sum of rounded shares
_THRESHOLD = 0.5  # a label of several has at least this score
_MAX_SHOWN = 60  # characters of a cell in a message
LIST = "json"


@dataclass(frozen=True)
class LabelColumn:
    """The labels of N rows.

    Attributes:
        names: N tuples of labels; () if no label fits, None if unlabelled. Of scores, the labels they select.
        scores: N mappings label -> score; None if a row has no scores.
        scale: of the scores; "" without scores.
        separator: between the labels in a cell; "json" if each cell is a list, "" if no cell holds several.
        n_lists: number of rows with a list.
        problems: row -> the cell, and why it cannot be read.
        unused: labels that are scored, and that no row has.
        paired: the cells are names with their scores, as in `a:0.7;b:0.3`.
    """

    names: tuple[tuple[str, ...] | None, ...]
    scores: tuple[Mapping[str, float] | None, ...] = ()
    scale: Scale = ""
    separator: Separator = ""
    n_lists: int = 0
    problems: Mapping[int, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    paired: bool = False

    @property
    def soft(self) -> bool:
        """Whether the scores are shares of one label a text."""
        return self.scale in ("shares", "votes")

    @property
    def several(self) -> bool:
        """Whether the cells show a task of several labels a text."""
        if self.soft:
            return False
        n = [len(names) for names in self.names if names is not None]
        unscored = self.scale == "independent" or (self.scale != "" and 0 in n)
        return self.separator not in ("", LIST) or max(n, default=0) > 1 or unscored


def read_label_column(
    cells: Sequence[str], *, kind: TaskKind | Literal[""] = "", separator: Separator | None = None,
    named: Sequence[str] = (),
) -> LabelColumn:  # fmt: skip
    """The labels of N cleaned cells, "" if unlabelled.

    Args:
        cells: of one column.
        kind: of the task, if the user said it.
        separator: between the labels of a cell, if the user said it; "json": each cell is a list.
        named: the task's labels, which give the vectors of 0 and 1 their names.

    Raises:
        BadData: lists of 0 and 1 without names.
    """
    if separator and separator != LIST:
        return _separated(cells, separator)
    parsed = {cell: parse_label_cell(cell) for cell in set(cells)}
    parsed = _decide_brackets(cells, parsed)
    paired = _read_pairs(parsed)
    if paired:
        return replace(_scored([paired[cell] for cell in cells], {}, kind, 0), paired=True)
    if all(cell.form in ("empty", "name") for cell in parsed.values()) and separator != LIST:
        found = None if kind in ("single", "pair") else _guess(cells, kind)
        if found and found != LIST:
            return _separated(cells, found)
        return LabelColumn(tuple((cell,) if cell else None for cell in cells))
    parsed = _split_names(_name_vectors(cells, parsed, named), cells, kind, separator)
    rows = [parsed[cell] for cell in cells]
    problems = {row: cell.problem for row, cell in enumerate(rows) if cell.form == "broken"}
    if separator == LIST:
        problems |= {row: "is not a JSON list of labels" for row, cell in enumerate(rows) if cell.form == "name"}
    problems = {row: f"{cells[row][:_MAX_SHOWN]!r} {problem}" for row, problem in problems.items()}
    filled = [cell for cell in rows if cell.form not in ("empty", "broken")]
    n_lists = sum(cell.form == "list" for cell in filled)
    if any(cell.form == "scores" for cell in filled):
        return _scored(rows, problems, kind, n_lists)
    names = tuple(None if cell.form in ("empty", "broken") else cell.names for cell in rows)
    return LabelColumn(names, separator=LIST if n_lists == len(filled) else "", n_lists=n_lists, problems=problems)


def _read_pairs(parsed: Mapping[str, LabelCell]) -> dict[str, LabelCell]:
    """All cells as names with their scores, if each is that, one has several, and the names recur; else nothing."""
    found = {cell: each if each.form == "empty" else parse_pairs(cell) for cell, each in parsed.items()}
    read = {cell: each for cell, each in found.items() if each is not None}
    several = any(len(each.names) > 1 for each in read.values())
    if len(read) < len(parsed) or not several or any(each.form not in ("empty", "name") for each in parsed.values()):
        return {}
    names = Counter(name for each in read.values() for name in each.names)
    return read if len(names) <= len(read) or min(names.values()) > 1 else {}


def _guess(cells: Sequence[str], kind: str) -> Separator | None:
    if kind == "multi":
        found = guess_separator(cells, ("|", ";", ",", *GUESSED_SEPARATORS))
        return found or next((each for each in SEPARATORS[:2] if any(each in cell for cell in cells)), None)
    return guess_separator(cells)


def check_separator(cells: Iterable[str], separator: Separator) -> None:
    """Raise BadSpec if none of the label cells holds the separator that the user named."""
    characters = SEPARATOR_NAMES.get(separator, separator)
    filled = [cell for cell in cells if cell]
    if filled and separator != LIST and not any(characters in cell for cell in filled):
        raise BadSpec(
            f"label_separator = {separator!r} is in no label, as in {filled[0][:60]!r}.",
            'Name the characters between the labels, as in --label-separator "|", or leave it out.',
        )


def _separated(cells: Sequence[str], separator: Separator) -> LabelColumn:
    split = {cell: split_labels(cell, separator) for cell in set(cells)}
    return LabelColumn(tuple(split[cell] for cell in cells), separator=separator)


def _decide_brackets(cells: Sequence[str], parsed: Mapping[str, LabelCell]) -> dict[str, LabelCell]:
    """Names in brackets without quotes: lists if all cells are, or if their names are labels elsewhere; else names."""
    bare = {cell: found for cell, found in parsed.items() if found.form == "bare"}
    if not bare:
        return dict(parsed)
    others = {name for found in parsed.values() if found.form in ("name", "list", "scores") for name in found.names}
    only = all(found.form != "name" for found in parsed.values())
    read = dict(parsed)
    for cell, found in bare.items():
        as_list = only or (found.names and others.issuperset(found.names)) or not found.names
        read[cell] = LabelCell("list" if as_list else "name", found.names if as_list else (cell,))
    return read


def _split_names(
    parsed: Mapping[str, LabelCell], cells: Sequence[str], kind: str, separator: Separator | None
) -> dict[str, LabelCell]:
    """The names beside lists, separated if they hold several: `a|b` beside `["a"]`."""
    plain = any(found.form == "name" for found in parsed.values())
    if separator or kind in ("single", "pair") or not plain:
        return dict(parsed)
    names = [name for cell in cells for name in parsed[cell].names if parsed[cell].form in ("name", "list")]
    found = guess_separator(names, GUESSED_SEPARATORS[1:])
    if found is None:
        return dict(parsed)
    return {
        cell: LabelCell("list", split_labels(cell, found) or ()) if each.form == "name" and found in cell else each
        for cell, each in parsed.items()
    }


def _name_vectors(cells: Sequence[str], parsed: Mapping[str, LabelCell], named: Sequence[str]) -> dict[str, LabelCell]:
    """Lists of 0 and 1, one number a label, as scores of the named labels."""
    filled = [found for found in parsed.values() if found.form != "empty"]
    length = len(filled[0].vector) if filled else 0
    vectors = length > 1 and all(len(found.vector) == length and {*found.vector} <= {0.0, 1.0} for found in filled)
    if not vectors:
        return dict(parsed)
    if len(named) != length:
        shown = next(cell for cell in cells if cell)[:60]
        raise BadData(
            f"The label cells are lists of {length} zeros and ones without names, as in {shown!r}.",
            f"Name the {length} labels in their order: --labels FIRST,SECOND,...",
        )
    return {
        cell: found
        if found.form == "empty"
        else LabelCell("scores", tuple(named), dict(zip(named, found.vector, strict=True)))
        for cell, found in parsed.items()
    }


def _scored(rows: Sequence[LabelCell], problems: dict[int, str], kind: str, n_lists: int) -> LabelColumn:
    """A column in which some cells are scores; the names of the others count as ones."""
    scale = _scale([cell.scores for cell in rows if cell.form == "scores"])
    if kind == "multi" and scale in ("shares", "votes"):
        scale = "independent"
    scores: list[Mapping[str, float] | None] = []
    names: list[tuple[str, ...] | None] = []
    for row, cell in enumerate(rows):
        given = cell.scores if cell.form == "scores" else dict.fromkeys(cell.names, 1.0)
        total = sum(given.values())
        if cell.form in ("empty", "broken"):
            scores.append(None)
            names.append(None)
        elif scale in ("shares", "votes"):
            shares = {name: score / total for name, score in given.items()} if total else None
            scores.append(shares)
            names.append(None if shares is None else (max(shares, key=shares.__getitem__),))
        else:
            if scale == "independent" and max(given.values(), default=0.0) > 1:
                problems[row] = f"{dict(given)!r:.{_MAX_SHOWN}} has a score above one, and others are fractions"
            scores.append(None)
            names.append(_selected(given, kind))
    used = {name for row in names for name in row or ()} | {
        name for row in scores for name, x in (row or {}).items() if x
    }
    unused = tuple(dict.fromkeys(name for cell in rows for name in cell.names if name not in used))
    return LabelColumn(tuple(names), tuple(scores), scale, n_lists=n_lists, problems=problems, unused=unused)


def _selected(scores: Mapping[str, float], kind: str) -> tuple[str, ...]:
    """The labels with at least half a point; in a task of one label a text, those with the highest score."""
    if kind in ("single", "pair"):
        highest = max(scores.values(), default=0.0)
        return tuple(name for name, score in scores.items() if score == highest > 0)
    return tuple(name for name, score in scores.items() if score >= _THRESHOLD)


def _scale(rows: Sequence[Mapping[str, float]]) -> Scale:
    values = {score for row in rows for score in row.values()}
    if values <= {0.0, 1.0}:
        return "flags"
    sums = [sum(row.values()) for row in rows if row]
    if all(abs(total - 1) <= _TOLERANCE for total in sums) or all(abs(total / 100 - 1) <= _TOLERANCE for total in sums):
        return "shares"  # or percent
    if all(score == int(score) for score in values):
        return "votes"
    return "independent"


def without_missing(column: LabelColumn, markers: Collection[str]) -> LabelColumn:
    """The column without words for a missing label inside its lists; a list of nothing else is unlabelled."""
    if not any(name in markers for row in column.names for name in row or ()):
        return column
    left = [None if row is None else tuple(name for name in row if name not in markers) for row in column.names]
    return replace(
        column, names=tuple(new if new or not old else None for new, old in zip(left, column.names, strict=True))
    )


def renamed(column: LabelColumn, find: Callable[[str], str]) -> LabelColumn:
    """The column with each label as `find` returns it."""
    names = tuple(None if row is None else tuple(dict.fromkeys(map(find, row))) for row in column.names)
    scores = tuple(None if row is None else {find(name): score for name, score in row.items()} for row in column.scores)
    return replace(column, names=names, scores=scores)
