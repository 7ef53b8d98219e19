"""The dialect of a CSV or TSV file: the delimiter, whether quotes have a meaning, and what escapes a quote."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, replace
from io import StringIO

from potstill.data.tables.decode import TextFile
from potstill.data.tables.layout import Guess
from potstill.data.tables.row_lines import lines_above_header
from potstill.errors import BadSpec

SAMPLE = 1 << 16  # characters of a file that show its dialect
DECLARATION = re.compile(r"\ufeff?\"?sep=(.)\"?", re.IGNORECASE)  # the first line of Excel's files
_DELIMITERS = (",", "\t", ";", "|")
NO_DELIMITER = "\x1f"  # occurs nowhere: a file of one column may hold commas without quotes
_DELIMITER_NAMES = {
    "tab": "\t",
    "\\t": "\t",
    "comma": ",",
    "semicolon": ";",
    "pipe": "|",
    "none": NO_DELIMITER,
}
_MAX_ROWS = 200
_OF_FORMAT = {"csv": ",", "tsv": "\t"}


@dataclass(frozen=True)
class Dialect:
    """The delimiter between the cells of a line, whether quotes have a meaning, and what escapes one, if anything."""

    delimiter: str
    quoting: bool = True
    escape: str = ""


def delimiter_name(delimiter: str) -> str:
    """The delimiter as an option takes it."""
    return {"\t": "tab", NO_DELIMITER: "none"}.get(delimiter, delimiter)


def delimiter_of(name: str) -> str:
    """The delimiter that an option names: one character, or a word such as "tab"."""
    return _DELIMITER_NAMES.get(name, name)


def find_dialect(file: TextFile, sample: str, declared: str) -> Dialect:
    """The dialect that the layout names, or else the file's own line `sep=;`, or else the sniffed one.

    What is guessed is added to the guesses of the file.

    Args:
        file: its layout is used.
        sample: its start, from the header on.
        declared: the delimiter that a line above the header names; "" without one.

    Raises:
        BadSpec: the delimiter or the escape is not one character.
    """
    layout = file.layout
    delimiter = delimiter_of(layout.delimiter or "")
    if len(delimiter) > 1 or delimiter in ('"', "\n", "\r"):
        raise BadSpec(
            f"The delimiter {delimiter!r} is not one character.", 'Give one, as in --delimiter ";", or "tab".'
        )
    escape = layout.escape
    if escape is not None and (len(escape) > 1 or escape in ('"', "\n", "\r")):
        raise BadSpec(f"The escape {escape!r} is not one character.", "Give one, as in --escape '\\'")
    found = _sniff(sample, layout.format == "tsv", escape)
    if delimiter:
        found = found if found.delimiter == delimiter else _named(sample, delimiter, escape)
    elif declared:
        found = _declared(file, found, declared, sample, escape)
    else:
        if not layout.skip_rows and (n := lines_above_header(sample)):
            first = "line" if n == 1 else f"{n} lines"
            file.header_doubt = (
                f"The first {first} of {file.path.name} {'has' if n == 1 else 'have'} fewer cells than those below, "
                f"as if {'it was' if n == 1 else 'they were'} above the header (--skip-rows {n})"
            )
        _note_delimiter(file, found.delimiter, sample)
    if layout.quotes is not None:
        found = replace(found, quoting=layout.quotes == "cells")
    elif not found.quoting:
        file.guesses.append(Guess("quotes", "text", "as quotes around cells would break its columns"))
    if escape is None and found.escape:
        file.guesses.append(Guess("escape", found.escape, "which stands before quotes inside its quoted cells"))
    return found


def _declared(file: TextFile, found: Dialect, declared: str, sample: str, escape: str | None) -> Dialect:
    header = sample.splitlines()[0] if sample else ""
    if declared not in header and found.delimiter in header:
        why = f"which its lines have; its first line says {declared!r} (sep={declared}), which they have not"
        file.guesses.append(Guess("delimiter", delimiter_name(found.delimiter), why))
        return found
    if declared != _OF_FORMAT.get(file.layout.format or ""):
        file.guesses.append(Guess("delimiter", delimiter_name(declared), "which its first line (sep=) says"))
    return found if found.delimiter == declared else _named(sample, declared, escape)


def _named(sample: str, delimiter: str, escape: str | None) -> Dialect:
    fit = _fit(_whole(sample), delimiter, escape or "")
    return replace(fit.dialect, quoting=not (delimiter == "\t" and fit.broken))


def _note_delimiter(file: TextFile, delimiter: str, sample: str) -> None:
    """Add a guess if the delimiter is not that of the format."""
    if delimiter == _OF_FORMAT.get(file.layout.format or ""):
        return
    if delimiter != NO_DELIMITER:
        file.guesses.append(Guess("delimiter", delimiter_name(delimiter), "with which its lines have as many cells"))
    elif any(each in line for line in sample.splitlines()[1:_MAX_ROWS] for each in ",;\t"):
        file.guesses.append(Guess("delimiter", "none", "one column, as its first line has one cell"))


def _sniff(sample: str, is_tsv: bool, escape: str | None) -> Dialect:
    """The dialect with which most of the sample's lines have as many cells as the header.

    A header without any delimiter means one column. In a TSV whose columns quoting would break, quotes are ordinary
    characters. A backslash escapes quotes where it stands before one and only so the lines can be read.
    """
    lines = _whole(sample)
    best = max(
        (_fit(lines, d, escape or "") for d in _DELIMITERS),
        key=lambda f: (f.share, f.width, is_tsv and f.dialect.delimiter == "\t"),
    )
    if escape is None and '\\"' in sample:
        escaped = max((_fit(lines, d, "\\") for d in _DELIMITERS), key=lambda f: (f.share, f.width))
        if escaped.width > 1 and not escaped.broken and (best.broken or escaped.share > best.share):
            return escaped.dialect
    if best.width < 2:
        return Dialect(NO_DELIMITER, escape=escape or "")
    if best.dialect.delimiter == "\t" and best.broken:
        return Dialect("\t", quoting=False)
    return best.dialect


def _whole(sample: str) -> list[str]:
    """The lines of the sample, without the last one if it may be cut off."""
    lines = list(StringIO(sample, newline=""))
    return lines[:-1] if len(lines) > 1 and len(sample) >= SAMPLE // 2 else lines


@dataclass(frozen=True)
class _Fit:
    dialect: Dialect
    share: float
    width: int
    broken: bool = False


def _fit(lines: list[str], delimiter: str, escape: str) -> _Fit:
    rows: list[list[str]] = []
    broken = False
    reader = csv.reader(lines, delimiter=delimiter, strict=True, escapechar=escape or None)
    while len(rows) < _MAX_ROWS:
        try:
            row = next(reader, None)
        except csv.Error as error:
            broken = broken or "end of data" not in str(error) or len("".join(lines)) < SAMPLE // 2
            continue
        if row is None:
            break
        if row:
            rows.append(row)
    width = len(rows[0]) if rows else 0
    share = sum(len(row) == width for row in rows) / len(rows) if rows else 0.0
    return _Fit(Dialect(delimiter, escape=escape), share if width > 1 else 0.0, width, broken)
