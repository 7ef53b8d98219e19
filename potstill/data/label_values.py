"""The value of a label cell: equal labels become one string, and words that mean "no label" become an empty one.

Case and white space inside a label stay as they are; the pool warns of labels that differ only in them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from potstill.data.unicode_forms import normalise_unicode

# What pandas reads as missing, and what spreadsheets, labelling tools and databases write for it. Not "none": a class
# of many tasks; "None" is what Python and pandas write for a missing value.
MISSING_MARKERS: tuple[str, ...] = (
    *"nan NaN NAN -nan -NaN NaT <NA> NA N/A n/a N.A. n.a. #N/A #NA 1.#IND 1.#QNAN \\N".split(),
    *"null NULL Null <null> nil None <None> - -- – — ? ???".split(),
    *"unlabeled Unlabeled unlabelled Unlabelled (unlabeled) (unlabelled)".split(),
)
# Missing only beside labels that are not numbers: -1, 0, 1 is a scale.
_NUMERIC_MARKERS = ("-1", "-1.0")
_DOUBTFUL = ("none", "NONE", "-1", "-1.0", "na", "missing", "undefined", "unknown", "Unknown")
# Control characters, too, but for those that are white space.
_INVISIBLE = re.compile(
    "[\u0000-\u0008\u000e-\u001b\u007f-\u0084\u0086-\u009f"
    "\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]"
)
_JOINERS_AT_ENDS = "\u200c\u200d"  # inside a word they are part of Persian, Indic scripts and emoji
_WHOLE = re.compile(r"([-+]?\d+)\.0+")
_NUMERAL = re.compile(r"[-+]?\d{1,30}(?:\.\d{1,30})?", re.ASCII)
_MAX_SHOWN = 5
PATH_SEPARATOR = " / "  # Label Studio's, between the levels of a taxonomy


@dataclass(frozen=True)
class LabelCells:
    """Label cells after `clean_cells`: N values, "" if unlabelled, and a sentence for each kind of change."""

    cells: list[str]
    sentences: tuple[str, ...]


def normalise_label(label: str) -> str:
    """The label in Unicode's composed form (NFC), without invisible characters, trimmed."""
    if label.isascii() and label.isprintable():
        return label.strip()
    return normalise_unicode("NFC", _INVISIBLE.sub("", label).strip()).strip().strip(_JOINERS_AT_ENDS)


def clean_cells(
    cells: Sequence[str | None],
    name: str,
    *,
    missing: Sequence[str] | None = None,
    named: Collection[str] = (),
    advise: bool = True,
) -> LabelCells:
    """Normalise the label cells of a table and empty those that mean "no label".

    Args:
        cells: N cells of the label column.
        name: of the table, for the sentences.
        missing: the words that mean "no label"; None takes `MISSING_MARKERS`. Empty: there is none.
        named: the labels that the user named; they always are labels.
        advise: the sentences name the flag `--missing`, and labels that may mean that there is none.
    """
    original = [(cell or "").strip() for cell in cells]
    forms = {cell: normalise_label(cell) for cell in set(original)}
    values = [forms[cell] for cell in original]
    counts = Counter(value for value in values if value)
    labels = {normalise_label(label) for label in named}
    markers = _markers(counts, missing) - labels
    found = Counter({value: n for value, n in counts.items() if value in markers})
    sentences = []
    altered = [cell for cell in dict.fromkeys(original) if forms[cell] and forms[cell] != cell]
    if altered:
        n = sum(cell in set(altered) for cell in original)
        sentences.append(
            f"{_rows(n)} of {name} had a label with invisible characters or letters composed of several "
            f"characters; read without them: {_shown(Counter(values[original.index(a)] for a in altered))}."
        )
    if found:
        keep = "" if missing is None else " as you named it"
        sentences.append(
            f"{_rows(found.total())} of {name} count as unlabelled{keep}, because the label is "
            f"{_shown(found, counted=True)}"
            + ("; name the words that mean so: --missing WORD,WORD (--missing '' for none)." if advise else ".")
        )
    doubtful = Counter({v: counts[v] for v in _DOUBTFUL if missing is None and counts[v] and v not in markers | labels})
    if doubtful and advise:
        sentences.append(
            f"{name} has the label {_shown(doubtful, counted=True)}, read as a label like the others; "
            f"if it means that there is none: --missing={','.join(doubtful)}"
        )
    return LabelCells(["" if value in found else value for value in values], tuple(sentences))


def _markers(counts: Mapping[str, int], missing: Sequence[str] | None) -> frozenset[str]:
    if missing is not None:
        return frozenset(normalise_label(word) for word in missing)
    others = [value for value in counts if value not in MISSING_MARKERS and value not in _NUMERIC_MARKERS]
    words = others and not any(_is_number(value) for value in others)
    return frozenset((*MISSING_MARKERS, *(_NUMERIC_MARKERS if words else ())))


def whole_numbers(labels: Iterable[str], named: Collection[str] = ()) -> dict[str, str]:
    """The form to replace -> the form to take, where "1" and "1.0" are both labels: the named one, or "1"."""
    present = {*labels, *named}
    pairs = [(label, match[1]) for label in sorted(present) if (match := _WHOLE.fullmatch(label))]
    return {
        number if label in named and number not in named else label: label
        if label in named and number not in named
        else number
        for label, number in pairs
        if number in present
    }


class LabelMatcher:
    """Finds the task's label that a file spells otherwise, and counts what it read so.

    Spreadsheets change `delivery ` and `01` and `True`. Another spelling counts if exactly one label of the task has
    it, in this order: the label itself; without invisible characters and blanks at its ends; in any case and white
    space; as the same number; as the last level of a taxonomy's path.

    Attributes:
        respelled: (cell, label) -> number of cells.
    """

    def __init__(self, labels: Iterable[str]) -> None:
        self.labels = tuple(labels)
        self.respelled: Counter[tuple[str, str]] = Counter()
        self._by_form: dict[str, list[str]] = {}
        for label in self.labels:
            for form in _forms(normalise_label(label)):
                self._by_form.setdefault(form, []).append(label)

    def find(self, cell: str) -> str | None:
        """The label; None if the task has none, or several, of this spelling."""
        if cell in self.labels:
            return cell
        label = normalise_label(cell)
        forms = [*_forms(label), *_forms(label.rpartition(PATH_SEPARATOR)[2])]
        found = next((labels for form in forms if (labels := self._by_form.get(form))), [])
        if len(found) != 1:
            return None
        self.respelled[cell.strip(), found[0]] += cell.strip() != found[0]
        return found[0]

    def found(self, cell: str) -> str:
        """The label of the task, or the cell if the task has none of this spelling."""
        return self.find(cell) or cell

    def sentences(self, name: str) -> tuple[str, ...]:
        """What was read as a label of another spelling, in one sentence; empty if nothing was."""
        changed = +self.respelled
        if not changed:
            return ()
        shown = ", ".join(f"{cell!r} as {label!r} ({n:,})" for (cell, label), n in changed.most_common(_MAX_SHOWN))
        more = f" and {len(changed) - _MAX_SHOWN:,} more" if len(changed) > _MAX_SHOWN else ""
        return (f"{name} spells labels otherwise than the task; read {shown}{more}.",)


def _forms(label: str) -> Iterator[str]:
    """The spellings under which a label is found, the strictest first."""
    yield f"={label}"
    yield f"~{' '.join(label.casefold().split())}"
    if _NUMERAL.fullmatch(label):
        yield f"#{Decimal(label).normalize()}"


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _rows(n: int) -> str:
    return f"{n:,} row{'s' * (n != 1)}"


def _shown(counts: Counter[str], *, counted: bool = False) -> str:
    shown = ", ".join(f"{v!r} ({n:,})" if counted else repr(v) for v, n in counts.most_common(_MAX_SHOWN))
    return shown + (f" and {len(counts) - _MAX_SHOWN:,} more" if len(counts) > _MAX_SHOWN else "")
