"""Bytes -> lines of text: byte-order marks, encodings, and a good word about the first byte that does not fit.

Does NOT cover: what the lines mean. UTF-8 is tried first, a byte-order mark decides for UTF-8, UTF-16 and UTF-32;
nothing else is ever assumed, because a wrong guess garbles texts in silence. A guess is only offered in the error.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from encodings.aliases import aliases
from pathlib import Path
from typing import TextIO

from potstill.errors import BadData, did_you_mean

_MARKS = (  # UTF-32's mark starts with UTF-16's, so it goes first
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Encodings that a guess may name, the commonest first.
COMMON_ENCODINGS = ("cp1252", "cp1250", "cp1251", "cp1254", "koi8_r", "shift_jis", "gb18030", "big5")
_CHUNK = 1 << 20
_BYTES_BEFORE, _BYTES_AFTER = 2_000, 20_000  # around the first bad byte, for the guess
# A line may hold many cells; past this many times the cell limit it is refused before it is in memory as a whole.
_LINE_PER_CELL = 8


@dataclass
class TextFile:
    """An open text file.

    Attributes:
        path: the file.
        encoding: what its bytes are read as.
        handle: positioned at the start; line ends are kept as they are.
        max_cell: the most characters a cell may have.
    """

    path: Path
    encoding: str
    handle: TextIO
    max_cell: int

    def lines(self) -> Iterator[str]:
        """The lines from where the handle stands, line ends included.

        Raises:
            BadData: bytes that are not text in this encoding, or a line longer than eight cells may be.
        """
        limit = _LINE_PER_CELL * self.max_cell
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
        """The first n characters; the handle stands at the start again."""
        try:
            start = self.handle.read(n)
        except UnicodeError:
            raise decode_error(self.path, self.encoding) from None
        self.handle.seek(0)
        return start


def open_text(path: Path, encoding: str | None, max_cell: int) -> TextFile:
    """Open `path` in `encoding`; None reads the byte-order mark, and takes UTF-8 where there is none.

    Raises:
        BadData: an unknown encoding.
    """
    chosen = _known(encoding) if encoding else _marked(path)
    return TextFile(path, chosen, path.open(encoding=chosen, newline=""), max_cell)


def _known(encoding: str) -> str:
    try:
        "".encode(encoding)  # refuses codecs that are not of text (base64, rot13), too
        name = codecs.lookup(encoding).name
    except (LookupError, ValueError):
        names = {n.replace("_", "-") for n in aliases.values()} | {"cp1252", "utf-8", "latin-1"}
        near = did_you_mean(encoding.lower().replace("_", "-"), names)
        common = "Common ones are utf-8, utf-16, cp1252, latin-1, shift-jis and gb18030."
        mend = near if near.startswith("Did") else common
        raise BadData(f"There is no encoding called {encoding!r}.", mend) from None
    return "utf-8-sig" if name == "utf-8" else name  # a mark is never part of the first column's name


def _marked(path: Path) -> str:
    with path.open("rb") as handle:
        start = handle.read(4)
    return next((name for mark, name in _MARKS if start.startswith(mark)), "utf-8")


def decode_error(path: Path, encoding: str) -> BadData:
    """The error of a file that is not in `encoding`: the first byte that does not fit, its line, and a guess."""
    decoder = codecs.getincrementaldecoder(encoding)()
    line, last = 1, False
    with path.open("rb") as handle:
        while not last:
            chunk = handle.read(_CHUNK)
            last = not chunk
            try:
                line += decoder.decode(chunk, final=last).count("\n")
            except UnicodeDecodeError as error:
                line += error.object[: error.start].decode(encoding, "ignore").count("\n")
                byte = error.object[error.start]
                guess = _guess_encoding(error.object, error.start)
                if guess:
                    mend = f"Say which encoding it is in; it looks like: --encoding {guess}"
                else:
                    mend = "Save the file as UTF-8, or say which encoding it is in, as in: --encoding cp1252"
                shown = encoding.removesuffix("-sig").upper()
                return BadData(f"{path.name} is not {shown}: line {line:,} has the byte 0x{byte:02x}.", mend)
            except UnicodeError:  # UTF-16 and UTF-32 without their mark
                break
    return BadData(f"{path.name} is not {encoding.upper()}.", "Save the file as UTF-8, or name its --encoding.")


def _guess_encoding(data: bytes, position: int) -> str:
    """The likeliest encoding of the text around a byte that is not UTF-8; empty if none is plausible.

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
