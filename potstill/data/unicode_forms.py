"""Unicode normal forms in linear time."""

from __future__ import annotations

import unicodedata
from typing import Literal

# Python sorts the combining marks after a letter by insertion, whose time is quadratic: a megabyte of marks would take
# minutes. No script needs as many.
PART_CHARS = 256
_JOIN_TO_THE_LEFT = (("\u1160", "\u11ff"), ("\u3130", "\u318f"), ("\ud7b0", "\ud7ff"), ("\uff00", "\uffef"))


def normalise_unicode(form: Literal["NFC", "NFKC"], text: str) -> str:
    """The text in a Unicode normal form; more than 256 combining marks in a row are composed in parts."""
    if text.isascii():
        return text
    if len(text) <= PART_CHARS:
        return unicodedata.normalize(form, text)
    parts, start = [], 0
    while start < len(text):
        end = min(start + PART_CHARS, len(text))
        cut = end
        while cut > start and cut < len(text) and not _begins_anew(text[cut]):
            cut -= 1
        end = cut if cut > start else end
        parts.append(unicodedata.normalize(form, text[start:end]))
        start = end
    return "".join(parts)


def _begins_anew(character: str) -> bool:
    """Whether no normal form joins the character to the one before it."""
    if character.isascii():
        return True
    joins = any(first <= character <= last for first, last in _JOIN_TO_THE_LEFT)
    return character.isalpha() and not joins and not unicodedata.combining(character)
