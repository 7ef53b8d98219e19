"""How a CSV or TSV file is written: like the file its rows come from.

Kept are the delimiter, quotes and escapes, the line end, a line `sep=;`, the byte-order mark and the encoding.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from potstill.data.tables.dialect import DECLARATION, NO_DELIMITER, delimiter_of
from potstill.data.tables.layout import Layout
from potstill.data.tables.unpack import file_head

_HEAD_BYTES = 65_536
_UNICODE = ("utf-8", "utf-16", "utf-32")


@dataclass(frozen=True)
class OutputDialect:
    """How a CSV or TSV file is written.

    Attributes:
        delimiter: one character.
        quoting: False: quotes are text, and no cell is quoted.
        escape: the character before a quote in a quoted cell; "" doubles the quote.
        quotes_all: whether cells are quoted that need no quotes.
        line_end: at the end of each row.
        encoding: of the file; "utf-8-sig" and "utf-16" write a byte-order mark.
        declares: whether the first line names the delimiter, as in `sep=;`.
        note: a sentence, if it is not as in the source.
    """

    delimiter: str = ","
    quoting: bool = True
    escape: str = ""
    quotes_all: bool = False
    line_end: str = "\r\n"
    encoding: str = "utf-8"
    declares: bool = False
    note: str = ""

    def row_writer(self, handle: TextIO) -> Callable[[Iterable[Any]], Any]:
        """A function that writes one row; the line that names the delimiter is written at once."""
        if self.declares:
            handle.write(f"sep={self.delimiter}{self.line_end}")
        # Escapes are found by their quotes around the cell, which the writer leaves out where it may.
        where_needed: Literal[0, 1] = csv.QUOTE_ALL if self.escape or self.quotes_all else csv.QUOTE_MINIMAL
        # With "\r\n" the writer quotes cells with either character; readers take it as one line end.
        return csv.writer(
            _LineEnds(handle, self.line_end),
            delimiter=self.delimiter,
            lineterminator="\r\n",
            quoting=where_needed if self.quoting else csv.QUOTE_NONE,
            quotechar='"' if self.quoting else None,
            escapechar=self.escape or None,
            doublequote=not self.escape,
        ).writerow


@dataclass(frozen=True)
class _LineEnds:
    """A file whose rows end differently; the writer calls `write` once a row."""

    handle: TextIO
    line_end: str

    def write(self, row: str) -> int:
        return self.handle.write(row.removesuffix("\r\n") + self.line_end)


def dialect_for(suffix: str) -> OutputDialect:
    """The dialect of a new file."""
    return OutputDialect("\t" if suffix.lower() == ".tsv" else ",")


def dialect_like(
    source: Path, layout: Layout, suffix: str, added: Sequence[str], *, added_have: str = "labels have"
) -> OutputDialect:
    """The dialect of a file with the rows of `source` and more columns.

    Args:
        source: a table.
        layout: of it, complete.
        suffix: of the file to write; .tsv has tabs, and .csv commas if the source is a TSV file.
        added: what the new cells may hold. If it has characters that the encoding of the source lacks, the file is
            written as UTF-8; if it has the delimiter, cells are quoted.
        added_have: the new cells in the note that says so.
    """
    new = dialect_for(suffix)
    if layout.format not in ("csv", "tsv"):
        return new
    head = file_head(source, _HEAD_BYTES)
    encoding = "utf-8-sig" if head.startswith(codecs.BOM_UTF8) else layout.encoding or "utf-8"
    start = head.decode(encoding, "ignore")
    delimiter = delimiter_of(layout.delimiter or "")
    if suffix.lower() == ".tsv" or layout.format == "tsv" or delimiter in ("", NO_DELIMITER):
        delimiter = "\t" if layout.format == "tsv" and suffix.lower() == ".tsv" else new.delimiter
    note = ""
    if not encoding.startswith(_UNICODE) and not all(map(_encodes(encoding), added)):
        note = f"Written as UTF-8, because {added_have} characters that {encoding.upper()} lacks."
        encoding = "utf-8-sig"
    plain = layout.quotes == "text" and not any(set(text) & {delimiter, "\r", "\n"} for text in added)
    first, _, rest = start.partition("\n")
    line_end = "\n" if rest and not first.endswith("\r") else "\r" if not rest and "\r" in first else "\r\n"
    declared = DECLARATION.fullmatch(first.split("\r")[0]) is not None and not layout.skip_rows
    return OutputDialect(
        delimiter,
        quoting=not plain,
        escape=layout.escape or "",
        quotes_all=_quotes_all(start.splitlines()[layout.skip_rows + declared :][:2], layout),
        line_end=line_end,
        encoding=encoding,
        declares=declared,
        note=note,
    )


def _quotes_all(lines: Sequence[str], layout: Layout) -> bool:
    """Whether each cell of the first two lines is quoted."""
    delimiter = re.escape(delimiter_of(layout.delimiter or ","))
    quoted = re.compile(f'"(?:[^"]|"")*"(?:{delimiter}"(?:[^"]|"")*")*')
    return len(lines) == 2 and all(quoted.fullmatch(line.removeprefix("\ufeff")) for line in lines)


def _encodes(encoding: str) -> Callable[[str], bool]:
    def encodes(text: str) -> bool:
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            return False
        return True

    return encodes
