"""Splits texts into words and n-grams of characters, by script.

A word is a run of letters with their marks, a character of a script without blanks, or an emoji.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

# Vowel signs and accents that are no letters of their own; a word goes on over them.
_MARKS = (
    "\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670"
    "\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed\u0711\u0730-\u074a\u0900-\u0903\u093a-\u094f\u0955-\u0957"
    "\u0962\u0963\u0981-\u0983\u09bc-\u09cd\u09d7\u09e2\u09e3\u0a01-\u0a03\u0a3c-\u0a4d\u0a70\u0a71\u0a75"
    "\u0a81-\u0a83\u0abc-\u0acd\u0b01-\u0b03\u0b3c-\u0b57\u0b82\u0bbe-\u0bcd\u0bd7\u0c00-\u0c04\u0c3c-\u0c56"
    "\u0c81-\u0c83\u0cbc-\u0cd6\u0d00-\u0d03\u0d3b-\u0d4d\u0d57\u0d81-\u0d83\u0dca-\u0ddf\u0f71-\u0f84\u0f90-\u0fbc"
    "\u20d0-\u20f0"
)
# Thai, Lao, Myanmar, Khmer: their vowel signs and tones follow the consonant.
_UNSPACED_MARKS = (
    "\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ecd\u102b-\u103e\u1056-\u1059\u105e-\u1060"
    "\u1062-\u1064\u1067-\u106d\u1071-\u1074\u1082-\u108d\u108f\u109a-\u109d\u17b4-\u17d3\u17dd\u3099\u309a"
)
# Scripts written without blanks between words: Thai, Lao, Myanmar, Khmer, Chinese, Japanese and their relatives.
_UNSPACED = (
    "\u0e01-\u0e30\u0e32\u0e33\u0e40-\u0e46\u0e81-\u0eb0\u0eb2\u0eb3\u0ebd-\u0ec6\u0edc-\u0edf\u1000-\u102a\u103f"
    "\u1050-\u1055\u105a-\u105d\u1061\u1065\u1066\u106e-\u1070\u1075-\u1081\u108e\u1780-\u17b3\u1950-\u19c9"
    "\u1a00-\u1a16\u1a20-\u1a54\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c\u3041-\u3096\u309d-\u309f"
    "\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua48c"
    "\uaa60-\uaa7a\uf900-\ufaff\U0001b000-\U0001b16f\U00020000-\U000323af"
)
_VARIATION = "\ufe0e\ufe0f\U0001f3fb-\U0001f3ff"  # text or picture, and skin tones: the same emoji
_PICTURE = (
    "\u00a9\u00ae\u2190-\u21ff\u2300-\u23ff\u2460-\u24ff\u25a0-\u27bf\u2934\u2935\u2b00-\u2bff\u3030\u303d"
    "\U0001f000-\U0001f1e5\U0001f200-\U0001f3fa\U0001f400-\U0001faff"
)
_EMOJI = (
    "[\U0001f1e6-\U0001f1ff]{2}|[0-9#*]\ufe0f?\u20e3"  # flags and keycaps
    f"|[{_PICTURE}][{_VARIATION}]*(?:\u200d[{_PICTURE}][{_VARIATION}]*)*"
)
_UNIT = f"[{_UNSPACED}][{_UNSPACED_MARKS}]*"
_WORD = re.compile(f"{_EMOJI}|{_UNIT}|(?:[^\\W{_UNSPACED}]|[{_MARKS}])+|[{_UNSPACED_MARKS}]+")
_PIECE = re.compile(f"({_EMOJI})|(?:{_UNIT})+|[{_UNSPACED_MARKS}]+")
_IGNORED = re.compile(f"[{_VARIATION}\u200d]+")
_LETTERS = re.compile(r"\w+")


@dataclass(frozen=True)
class TextSplitting:
    """How a normalised text becomes n-grams.

    Attributes:
        words: text -> its words, in order.
        grams: token (what is between two blanks) -> its n-grams of characters.
    """

    words: Callable[[str], list[str]]
    grams: Callable[[str], list[str]]


def find_words(text: str) -> list[str]:
    """The words of a text.

    A character of a script without blanks is a word with the signs that belong to it, so that pairs of words are pairs
    of characters. An emoji is a word, without skin tones.
    """
    if text.isascii():
        return _LETTERS.findall(text)
    return [word if word.isalnum() else _IGNORED.sub("", word) for word in _WORD.findall(text)]


def char_grams(token: str) -> list[str]:
    """The n-grams of 3, 4 and 5 characters of a token with a space on either side; shorter tokens whole."""
    padded = f" {token} "
    size = len(padded)
    grams = [padded[i : i + n] for n in (3, 4, 5) if n <= size for i in range(size - n + 1)]
    return grams or [padded]


def script_grams(token: str) -> list[str]:
    """The n-grams of the parts of a token; an emoji is one.

    Scripts without blanks have none here, as their words are characters already: longer n-grams only dilute them.
    """
    if token.isascii():
        return char_grams(token)
    grams, end = [], 0
    for piece in _PIECE.finditer(token):
        if piece.start() > end:
            grams += char_grams(token[end : piece.start()])
        if piece[1]:
            grams.append(_IGNORED.sub("", piece[1]))
        end = piece.end()
    return grams if end == len(token) else grams + char_grams(token[end:])


# Format of a stored vectorizer -> its splitting, so that its features never change.
SPLITTINGS = {1: TextSplitting(_LETTERS.findall, char_grams), 2: TextSplitting(find_words, script_grams)}
