"""The error of a file in another encoding than was expected: its first bad byte, and a guess of the encoding.

charset-normalizer finds the encodings in which the bytes look like text; of these the one whose letters are those of a
language that is written in it is named first. Where a few letters decide, the others are named, too.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from potstill.data.tables.unpack import Source
from potstill.errors import BadData

# The letters beyond ASCII of languages, by the scripts that share encodings.
_WESTERN = (
    *("äöüß", "éèêàçâîôûùëïœ", "áéíóúñü", "áãâàçéêíóôõú", "àèéìòù", "åäöéøæ", "áæéíðóöúýþ", "ëéïöü"),
    "äöõü",
)
_CENTRAL = (
    *("ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "ăâîşţ", "čćđšž", "äöüß"),
    "čšž",
)
_CYRILLIC = (
    "абвгдежзийклмнопрстуфхцчшщъыьэюяё",
    "абвгдежзийклмнопрстуфхцчшщьюяіїєґ",
    "абвгдђежзијклљмнњопрстћуфхцчџшѓќѕ",
)
_GREEK = ("αβγδεζηθικλμνξοπρσςτυφχψωάέήίόύώϊΐϋ",)
_HEBREW = ("\u05d0-\u05ea",)
_ARABIC = ("\u0621-\u0652",)
_JAPANESE = ("\u3040-\u30ff\u4e00-\u9fff、。",)
_KOREAN = ("\uac00-\ud7a3",)
_CHINESE = ("\u4e00-\u9fff，。！？、",)


def _is_korean(syllable: str) -> bool:
    """Whether it is one of the 2,350 syllables that Korean texts use, of 11,172: those of two bytes in EUC-KR."""
    return "\uac00" <= syllable <= "\ud7a3" and len(syllable.encode("euc_kr")) == 2


# Encodings that a guess may name, the most frequent first, and the letters of the languages written in it.
ENCODINGS = {
    "cp1252": _WESTERN,
    "cp1250": _CENTRAL,
    "cp1251": _CYRILLIC,
    "cp1253": _GREEK,
    "cp1254": ("çğıöşüâîû", "äöüß"),
    "cp1255": _HEBREW,
    "cp1256": _ARABIC,
    "cp1257": ("āčēģīķļņšūž", "ąčęėįšųūž", "äöõüšž"),
    "shift_jis": _JAPANESE,
    "cp932": _JAPANESE,
    "gb18030": _CHINESE,
    "big5": _CHINESE,
    "cp949": _KOREAN,
    "euc_jp": _JAPANESE,
    "iso8859_2": _CENTRAL,
    "iso8859_7": _GREEK,
    "iso8859_15": _WESTERN,
    "koi8_r": _CYRILLIC,
    "koi8_u": _CYRILLIC,
    "cp866": _CYRILLIC,
    "cp850": _WESTERN,
    "cp437": _WESTERN,
    "mac_roman": _WESTERN,
    "mac_cyrillic": _CYRILLIC,
    "iso8859_5": _CYRILLIC,
    "cp874": ("\u0e01-\u0e3a\u0e40-\u0e4e",),
}
_RARE = frozenset({"cp850", "cp437", "mac_roman", "mac_cyrillic", "iso8859_5", "cp866", "koi8_u", "cp874"})
_NEUTRAL = re.compile("[\u2010-\u2026€£§°«»¿¡\u00a0]")  # quotation marks, dashes and the like: of any language
_UPPER_INSIDE = re.compile("(?<=[a-zß-öø-ÿ\u0101-\u017e\u0430-\u045f\u03ac-\u03ce])[À-ÖØ-Þ\u0386-\u03a9\u0401-\u042f]")
_ALONE = re.compile(r"(?<![^\W\d_])[\u00c1-\u00c8\u00ca-\u00d2\u00d4-\u00de](?![^\W\d_])")  # À, É and Ó are words
_MIXED = re.compile("(?<=[A-Za-z])[\u0370-\u07ff\u4e00-\ud7a3]|[\u0370-\u07ff](?=[A-Za-z])")
# Of these languages at least so much of the characters are these.
_MARKS = (
    (_JAPANESE, "[\u3040-\u30ff]", 0.1),
    (_CYRILLIC, "(?i)[оеаинтсрвліїё]", 0.45),
    (_GREEK, "(?i)[αοιετσνηυάέήίόύώ]", 0.5),
    (_HEBREW, "[יוהלאתרבמש]", 0.5),
    (_ARABIC, "[اليمونترعب]", 0.5),
    (_CHINESE, "[的一是不了在人有我他这這中大来來上个個国國到们們为為和你也时時就要下会會可没沒还還很好用说說]", 0.05),
)
_LACKING = 0.5
_UNLIKELY = 0.15  # for an encoding that charset-normalizer does not name
_MAX_BAD_SHARE = 0.01  # of the characters may be undefined
_ISO_2022_JP = re.compile(rb"\x1b\$[@B].*?\x1b\([BJ]", re.DOTALL)
_CHUNK = 1 << 20
_BYTES_BEFORE, _BYTES_AFTER = 2_000, 20_000  # around the first bad byte, for the guess
# By how much a guess must be better than another to be named alone, with few letters and with more.
_MIN_SCORE, _MIN_LETTERS, _MARGIN_OF_FEW, _MARGIN = 0.0, 6, 0.6, 0.2
_MAX_SHOWN = 4


@dataclass(frozen=True)
class EncodingGuess:
    """An encoding that a text may have, and others in which it would read otherwise; empty if one is certain enough."""

    name: str
    others: tuple[str, ...] = ()


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
                return _error_at(source, encoding, line, error)
            except UnicodeError:  # UTF-16 and UTF-32 without a byte-order mark
                break
    return BadData(
        f"{source.path.name} is not {encoding.upper()}.",
        "Save the file as UTF-8, or name its encoding, as in: --encoding utf-16-le",
    )


def _error_at(source: Source, encoding: str, line: int, error: UnicodeDecodeError) -> BadData:
    data, at = error.object, error.start
    guess = guess_encoding(data, at, source)
    if guess is None:
        hint, reads = "Save the file as UTF-8, or name its encoding, as in: --encoding cp1252", ""
    else:
        start = data.rfind(b"\n", 0, at) + 1
        raw = next(iter(data[start : start + 200].splitlines()), b"")
        names = (guess.name, *guess.others)
        shown = dict.fromkeys(raw.decode(name, "replace")[:60] for name in names[:2])
        first, *more = shown
        second = f", in {names[1]} {more[0]!r}" if more else ""
        reads = f" In {guess.name} this line reads {first!r}{second}."
        hint = f"Name its encoding; it looks like: --encoding {guess.name}"
        if guess.others:
            hint = (
                f"Name its encoding; few letters decide, and {', '.join(guess.others)} would decode it, too; the most "
                f"likely is: --encoding {guess.name}"
            )
    found = f"line {line:,} has the byte 0x{data[at]:02x}"
    return BadData(f"{source.path.name} is not {encoding.removesuffix('-sig').upper()}: {found}.{reads}", hint)


def check_encoding(source: Source) -> None:
    """Raise BadData if the bytes of a file that is read as UTF-8 are valid there and show another encoding."""
    head = source.head(_BYTES_AFTER)
    if _ISO_2022_JP.search(head):
        raise BadData(
            f"{source.path.name} has the escape sequences of ISO-2022-JP.", "Name its encoding: --encoding iso2022_jp"
        )
    if 0.25 < head.count(0) / len(head) < 0.75:
        name = _utf16_name(head)
        hint = f"Name its encoding; it looks like: --encoding {name}"
        raise BadData(f"{source.path.name} has a NUL byte in most characters, as UTF-16 has without its mark.", hint)


def _utf16_name(data: bytes) -> str:
    return "utf-16-le" if data[1::2].count(0) > data[0::2].count(0) else "utf-16-be"


def guess_encoding(data: bytes, position: int, source: Source | None = None) -> EncodingGuess | None:
    """The most likely encoding of the text around a byte that is not UTF-8; None if none is plausible.

    NUL bytes show UTF-16 without a byte-order mark.

    Args:
        data: bytes of the file.
        position: of the byte.
        source: the file, of which a guess must decode the start.
    """
    around = data[max(0, position - _BYTES_BEFORE) : position + _BYTES_AFTER]
    nuls = around.count(0)
    if nuls > len(around) / 4:
        return EncodingGuess(_utf16_name(around))
    if nuls:
        return None  # not text at all
    # Whole lines, so that no character of several bytes is cut in two.
    start = data.rfind(b"\n", 0, max(0, position - _BYTES_BEFORE)) + 1
    end = data.rfind(b"\n", position, position + _BYTES_AFTER) + 1 or position + _BYTES_AFTER
    ranked = _ranked(data[start:end])
    fitting = (each for each in ranked if source is None or _fits(source, each.name))
    ranked = list(islice(fitting, _MAX_SHOWN + 1))  # each is a pass over the file
    if not ranked or ranked[0].score < _MIN_SCORE:
        return None
    best = ranked[0]
    margin = _MARGIN_OF_FEW if best.n_letters < _MIN_LETTERS else _MARGIN
    near = [
        codecs.lookup(each.name).name
        for each in ranked[1:]
        if best.score - each.score < margin and (each.name not in _RARE or best.name in _RARE)
    ]
    return EncodingGuess(codecs.lookup(best.name).name, tuple(near[:_MAX_SHOWN]))


def _fits(source: Source, name: str) -> bool:
    """Whether most lines of a file are in an encoding; the others are bad rows."""
    n_bad, n_good = count_lines(source, name)
    return n_good >= n_bad


@dataclass(frozen=True)
class _Candidate:
    name: str
    score: float
    n_letters: int


def _ranked(data: bytes) -> list[_Candidate]:
    """The encodings in which the bytes look like text, the most likely first; of equal texts only one."""
    from charset_normalizer import from_bytes

    likely = {
        name: match
        for match in from_bytes(data, cp_isolation=list(ENCODINGS))
        for name in (match.encoding, *match.could_be_from_charset)
    }
    found: dict[str, _Candidate] = {}
    for name, languages in ENCODINGS.items():
        text = data.decode(name, "replace")
        if text.count("\ufffd") > _MAX_BAD_SHARE * len(text) or text in found:
            continue
        share, n = _typical_share(text, languages)
        match = likely.get(name)
        likelihood = -_UNLIKELY if match is None else 0.3 * match.coherence - match.chaos
        found[text] = _Candidate(name, share + likelihood - _UNLIKELY * (name in _RARE), n)
    return sorted(found.values(), key=lambda each: (-round(each.score, 2), [*ENCODINGS].index(each.name)))


def _typical_share(text: str, languages: Sequence[str]) -> tuple[float, int]:
    """How much of the characters beyond ASCII are those of one language, from -1 to 1, and their number.

    Against it count capitals inside a word, letters of another script beside Latin ones, and what a text of the script
    always has and this one lacks: kana in Japanese, the frequent letters of an alphabet.
    """
    beyond = "".join(char for char in text if not char.isascii() and not _NEUTRAL.match(char))
    if not beyond:  # quotation marks, dashes and the like alone
        return float(not text.isascii()), 0
    typical = max(len(re.findall(f"[{letters}]", beyond, re.IGNORECASE)) for letters in languages)
    if languages is _KOREAN:
        typical = sum(map(_is_korean, beyond))
    errors = 2 * sum(len(wrong.findall(text)) for wrong in (_UPPER_INSIDE, _MIXED, _ALONE))
    lacking = any(languages is of and len(re.findall(mark, beyond)) < share * len(beyond) for of, mark, share in _MARKS)
    return (2 * typical - len(beyond) - errors) / len(beyond) - _LACKING * lacking, len(beyond)


def count_lines(source: Source, encoding: str) -> tuple[int, int]:
    """The lines beyond ASCII that are not in an encoding, and those that are; of one whose line ends are ASCII's."""
    n_bad = n_good = 0
    if "\n".encode(encoding) != b"\n":
        return 0, 0
    with source.open() as handle:
        for line in handle:
            if line.isascii():
                continue
            try:
                line.decode(encoding)
                n_good += 1
            except UnicodeDecodeError:
                n_bad += 1
    return n_bad, n_good
