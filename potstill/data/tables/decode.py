"""Decodes text files: byte-order marks, encodings, and errors that name the first bad byte and guess the encoding.

A byte-order mark selects UTF-8, UTF-16 or UTF-32, whatever encoding is named, and a file that is UTF-8 by its bytes is
read as that: several files may have different encodings. Otherwise the named encoding is used, or UTF-8. No other
encoding is assumed: a wrong guess garbles texts silently, so a guess is only suggested in the error.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass, field
from encodings.aliases import aliases
from pathlib import Path
from typing import TextIO

from potstill.data.tables.base import Layout
from potstill.errors import BadData, did_you_mean

_BYTE_ORDER_MARKS = (  # UTF-32 before UTF-16, whose mark is a prefix of it
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Encodings that a guess may name, the most frequent first.
COMMON_ENCODINGS = ("cp1252", "cp1250", "cp1251", "cp1254", "koi8_r", "shift_jis", "gb18030", "big5")
_CHUNK = 1 << 20
_BYTES_BEFORE, _BYTES_AFTER = 2_000, 20_000  # around the first bad byte, for the guess
# A line of more than this many cell limits is refused before all of it is in memory.
_MAX_CELLS_PER_LINE = 8


@dataclass
class TextFile:
    """An open text file.

    Attributes:
        path: the file.
        encoding: the encoding of its bytes.
        handle: positioned at the start; line ends are not translated.
        max_cell: most characters of a cell.
        layout: of a CSV or TSV file, as far as it is known.
        notes: sentences about what was found while reading; complete when all lines are read.
        header_doubt: see `Table`.
        partly_decoded: some lines are not UTF-8; their bytes are lone surrogates, and their rows bad ones.
    """

    path: Path
    encoding: str
    handle: TextIO
    max_cell: int
    layout: Layout = field(default_factory=Layout)
    notes: list[str] = field(default_factory=list)
    header_doubt: str = ""
    partly_decoded: bool = False

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
                        "Split it, or allow larger cells.",
                    )
                yield line
        except UnicodeError:
            raise decode_error(self.path, self.encoding) from None

    def peek(self, n: int) -> str:
        """The first n characters; the handle is positioned at the start again."""
        try:
            start = self.handle.read(n)
        except UnicodeError:
            raise decode_error(self.path, self.encoding) from None
        self.handle.seek(0)
        return start


def open_text(path: Path, encoding: str | None, max_cell: int, layout: Layout = Layout()) -> TextFile:  # noqa: B008
    """Open `path` in `encoding`; None uses the byte-order mark, or UTF-8 without one.

    Raises:
        BadData: an unknown encoding.
    """
    named = _codec_name(encoding) if encoding else ""
    found = _detect_mark(path) if not named or _has_mark(path) else "utf-8-sig" if _is_utf8(path) else named
    notes = []
    if named and named != found and {named, found} != {"utf-8", "utf-8-sig"}:
        shown = found.removesuffix("-sig").upper()
        notes.append(f"{path.name} is {shown} by its bytes and is read as that, not as {encoding}.")
    partly = found.startswith("utf-8") and _is_mostly_utf8(path)
    handle = path.open(encoding=found, newline="", errors="surrogateescape" if partly else "strict")
    return TextFile(path, found, handle, max_cell, layout, notes, partly_decoded=partly)


def _has_mark(path: Path) -> bool:
    with path.open("rb") as handle:
        start = handle.read(4)
    return any(start.startswith(mark) for mark, _ in _BYTE_ORDER_MARKS)


def _is_utf8(path: Path) -> bool:
    """Whether the file is UTF-8 with characters of several bytes; text in another encoding is not."""
    decoder, several = codecs.getincrementaldecoder("utf-8")(), 0
    with path.open("rb") as handle:
        try:
            while chunk := handle.read(_CHUNK):
                decoder.decode(chunk)
                several += not chunk.isascii()
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return several > 0


def _is_mostly_utf8(path: Path) -> bool:
    """Whether some lines of a file are not UTF-8, and as many at least show that the others are."""
    n_bad = n_utf8 = 0
    with path.open("rb") as handle:
        for line in handle:
            if line.isascii():
                continue
            try:
                line.decode("utf-8")
                n_utf8 += 1
            except UnicodeDecodeError:
                n_bad += 1
    return n_utf8 >= n_bad > 0


def _codec_name(encoding: str) -> str:
    try:
        "".encode(encoding)  # also refuses codecs that are not text encodings (base64, rot13)
        name = codecs.lookup(encoding).name
    except (LookupError, ValueError):
        names = {n.replace("_", "-") for n in aliases.values()} | {"cp1252", "utf-8", "latin-1"}
        common = "Common ones are utf-8, utf-16, cp1252, latin-1, shift-jis and gb18030."
        hint = did_you_mean(encoding.lower().replace("_", "-"), names, otherwise=common)
        raise BadData(f"There is no encoding called {encoding!r}.", hint) from None
    return "utf-8-sig" if name == "utf-8" else name  # the mark must not become part of the first column's name


def _detect_mark(path: Path) -> str:
    with path.open("rb") as handle:
        start = handle.read(4)
    return next((name for mark, name in _BYTE_ORDER_MARKS if start.startswith(mark)), "utf-8")


def decode_error(path: Path, encoding: str) -> BadData:
    """The error of a file that is not in `encoding`: the first bad byte, its line, and a guess of the encoding."""
    decoder = codecs.getincrementaldecoder(encoding)()
    line, at_end = 1, False
    with path.open("rb") as handle:
        while not at_end:
            chunk = handle.read(_CHUNK)
            at_end = not chunk
            try:
                line += decoder.decode(chunk, final=at_end).count("\n")
            except UnicodeDecodeError as error:
                line += error.object[: error.start].decode(encoding, "ignore").count("\n")
                byte = error.object[error.start]
                guess = _guess_encoding(error.object, error.start)
                if guess:
                    hint = f"Name its encoding; it looks like: --encoding {guess}"
                else:
                    hint = "Save the file as UTF-8, or name its encoding, as in: --encoding cp1252"
                shown = encoding.removesuffix("-sig").upper()
                start = error.object.rfind(b"\n", 0, error.start) + 1
                cell = error.object[start : start + 60].splitlines()[0]
                reads = f" In {guess} this line reads {cell.decode(guess, 'replace')!r}." if guess else ""
                return BadData(f"{path.name} is not {shown}: line {line:,} has the byte 0x{byte:02x}.{reads}", hint)
            except UnicodeError:  # UTF-16 and UTF-32 without a byte-order mark
                break
    return BadData(f"{path.name} is not {encoding.upper()}.", "Save the file as UTF-8, or name its --encoding.")


def _guess_encoding(data: bytes, position: int) -> str:
    """The most likely encoding of the text around a byte that is not UTF-8; empty if none is plausible.

    NUL bytes show UTF-16 without a byte-order mark. All else is decided by charset-normalizer, and between encodings
    that it finds equally likely by the order of `COMMON_ENCODINGS`.
    """
    around = data[max(0, position - _BYTES_BEFORE) : position + _BYTES_AFTER]
    nuls = around.count(0)
    if nuls > len(around) / 4:
        return "utf-16-le" if around[1::2].count(0) > around[0::2].count(0) else "utf-16-be"
    if nuls:
        return ""  # not text at all
    # Whole lines, so that no character of several bytes is cut in two.
    start = data.rfind(b"\n", 0, max(0, position - _BYTES_BEFORE)) + 1
    end = data.rfind(b"\n", position, position + _BYTES_AFTER) + 1 or position + _BYTES_AFTER
    from charset_normalizer import from_bytes

    matches = list(from_bytes(data[start:end], cp_isolation=list(COMMON_ENCODINGS)))
    best = [match for match in matches if (match.chaos, match.coherence) == (matches[0].chaos, matches[0].coherence)]
    names = {name for match in best for name in match.could_be_from_charset if name in COMMON_ENCODINGS}
    return codecs.lookup(min(names, key=COMMON_ENCODINGS.index)).name if names else ""
