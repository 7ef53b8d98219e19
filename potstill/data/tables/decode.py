"""Decodes text files: byte-order marks and encodings. The guess of an encoding is in `encoding_guess.py`.

A byte-order mark selects UTF-8, UTF-16 or UTF-32, whatever encoding is named, and a file that is UTF-8 by its bytes is
read as that: several files may have different encodings. Otherwise the named encoding is used, or UTF-8. No other
encoding is assumed: a wrong guess garbles texts silently, so a guess is only suggested in the error.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from encodings.aliases import aliases
from pathlib import Path
from typing import TextIO

from potstill.data.tables.encoding_guess import check_encoding, count_lines, decode_error
from potstill.data.tables.layout import Guess, Layout
from potstill.data.tables.unpack import Source
from potstill.errors import BadData, did_you_mean

BYTE_ORDER_MARKS = {  # UTF-32 before UTF-16, whose mark is a prefix of it
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# Codecs of domain names and of Python's source: they read many a file, as something else.
_NOT_OF_FILES = ("idna", "punycode", "unicode-escape", "raw-unicode-escape")
_CHUNK = 1 << 20
# A line of more than this many cell limits is refused before all of it is in memory.
_MAX_CELLS_PER_LINE = 8


@dataclass
class TextFile:
    """An open text file.

    Attributes:
        source: the file and its compression.
        encoding: the encoding of its bytes.
        handle: positioned at the start; line ends are not translated.
        max_cell: most characters of a cell.
        layout: as the user named it; complete when all lines are read.
        guesses: what of the layout the user did not name.
        notes: sentences about what was found while reading; complete when all lines are read.
        header_doubt: see `Table`.
        by_row: rows are numbered, not lines, since all of them are on one line.
        partly_decoded: some lines are not in the encoding; their bytes are lone surrogates, and their rows bad ones.
    """

    source: Source
    encoding: str
    handle: TextIO
    max_cell: int
    layout: Layout = field(default_factory=Layout)
    guesses: list[Guess] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    header_doubt: str = ""
    partly_decoded: bool = False
    by_row: bool = False

    @property
    def path(self) -> Path:
        """The file's path."""
        return self.source.path

    def lines(self) -> Iterator[str]:
        """The lines from the handle's position on, with line ends.

        Raises:
            BadData: bytes that do not fit the encoding, or a line longer than eight times the cell limit.
        """
        limit = _MAX_CELLS_PER_LINE * self.max_cell
        readline, n = self.handle.readline, 0
        try:
            while line := readline(limit):
                n += 1
                if len(line) == limit:
                    raise BadData(
                        f"Line {n:,} of {self.path.name} is longer than {limit / 1e6:g} MB.",
                        "Write it as several rows.",
                    )
                yield line
        except UnicodeError:
            raise decode_error(self.source, self.encoding) from None

    def peek(self, n: int) -> str:
        """The first n characters; the handle is positioned at the start again."""
        try:
            start = self.handle.read(n)
        except UnicodeError:
            raise decode_error(self.source, self.encoding) from None
        self.handle.seek(0)
        return start


def open_text(source: Source, max_cell: int, layout: Layout = Layout()) -> TextFile:  # noqa: B008 - frozen
    """Open a file in the encoding that the layout names; None uses the byte-order mark, or UTF-8 without one.

    Raises:
        BadData: an unknown encoding.
    """
    encoding = layout.encoding
    named = _codec_name(encoding) if encoding else ""
    mark = _detect_mark(source)
    found = mark or ("utf-8" if not named else "utf-8-sig" if _is_utf8(source) else named)
    notes = []
    if named and named != found and {named, found} != {"utf-8", "utf-8-sig"}:
        shown, why = found.removesuffix("-sig").upper(), "by its byte-order mark" if mark else "by its bytes"
        notes.append(f"{source.path.name} is {shown} {why} and is read as that, not as {encoding}.")
    if found.startswith("utf-8") and not mark:
        check_encoding(source)
    n_bad, n_good = count_lines(source, found.removesuffix("-sig"))
    partly = n_good >= n_bad > 0
    errors = "surrogateescape" if partly else "strict"
    handle = io.TextIOWrapper(source.open(), encoding=found, newline="", errors=errors)
    return TextFile(source, found, handle, max_cell, layout, notes=notes, partly_decoded=partly)


def _detect_mark(source: Source) -> str:
    start = source.head(4)
    return next((name for mark, name in BYTE_ORDER_MARKS.items() if start.startswith(mark)), "")


def _is_utf8(source: Source) -> bool:
    """Whether the file is UTF-8 with characters of several bytes; text in another encoding is not."""
    decoder, several = codecs.getincrementaldecoder("utf-8")(), 0
    with source.open() as handle:
        try:
            while chunk := handle.read(_CHUNK):
                decoder.decode(chunk)
                several += not chunk.isascii()
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return several > 0


def _codec_name(encoding: str) -> str:
    try:
        "".encode(encoding)  # also refuses codecs that are not text encodings (base64, rot13)
        name = codecs.lookup(encoding).name
        if name in _NOT_OF_FILES:
            raise LookupError
    except (LookupError, ValueError):
        transforms = ("codec", "rot_13", "mbcs", "oem")
        names = {n.replace("_", "-") for n in aliases.values() if not any(each in n for each in transforms)}
        names |= {"cp1252", "utf-8", "latin-1"}
        common = "Common ones are utf-8, utf-16, cp1252, latin-1, shift-jis and gb18030."
        hint = did_you_mean(encoding.lower().replace("_", "-"), names, otherwise=common)
        raise BadData(f"There is no encoding called {encoding!r}.", hint) from None
    return "utf-8-sig" if name == "utf-8" else name  # the mark must not become part of the first column's name
