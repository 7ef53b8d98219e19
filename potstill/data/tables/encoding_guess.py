"""The error of a file in another encoding than was expected: its first bad byte, and a guess of the encoding."""

from __future__ import annotations

import codecs

from potstill.data.tables.unpack import Source
from potstill.errors import BadData

# Encodings that a guess may name, the most frequent first.
COMMON_ENCODINGS = ("cp1252", "cp1250", "cp1251", "cp1254", "koi8_r", "shift_jis", "gb18030", "big5")
_CHUNK = 1 << 20
_BYTES_BEFORE, _BYTES_AFTER = 2_000, 20_000  # around the first bad byte, for the guess


def decode_error(source: Source, encoding: str) -> BadData:
    """The error of a file that is not in `encoding`: the first bad byte, its line, and a guess of the encoding."""
    decoder = codecs.getincrementaldecoder(encoding)()
    line, at_end = 1, False
    with source.open() as handle:
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
                return BadData(
                    f"{source.path.name} is not {shown}: line {line:,} has the byte 0x{byte:02x}.{reads}", hint
                )
            except UnicodeError:  # UTF-16 and UTF-32 without a byte-order mark
                break
    return BadData(
        f"{source.path.name} is not {encoding.upper()}.",
        "Save the file as UTF-8, or name its encoding, as in: --encoding utf-16-le",
    )


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
