"""Words and n-grams by script: letters with their marks, characters of scripts without blanks, emoji."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.models.features.words import SPLITTINGS, char_grams, find_words, script_grams


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("how do i reset my pin?", ["how", "do", "i", "reset", "my", "pin"]),
        ("naïve café_x", ["naïve", "café_x"]),
        ("手机很好", ["手", "机", "很", "好"]),
        ("東京タワーは高い", ["東", "京", "タ", "ワ", "ー", "は", "高", "い"]),
        ("ดีมาก", ["ดี", "ม", "า", "ก"]),
        ("ភាសាខ្មែរ", ["ភា", "សា", "ខ្", "មែ", "រ"]),
        ("한국어 좋아요", ["한국어", "좋아요"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("iphone很好", ["iphone", "很", "好"]),
        ("good🙂", ["good", "🙂"]),
        ("👍🏽👍", ["👍", "👍"]),
        ("❤️ ❤", ["❤", "❤"]),
        ("👨‍👩‍👧", ["👨👩👧"]),
        ("🇩🇪🇫🇷", ["🇩🇪", "🇫🇷"]),
        ("★★☆", ["★", "★", "☆"]),
    ],
)
def test_words_of_many_scripts(text: str, words: list[str]) -> None:
    assert find_words(text) == words


def test_characters_of_scripts_without_blanks_have_no_longer_ngrams_and_emoji_are_one() -> None:
    assert script_grams("手机很好") == []
    assert script_grams("good🙂🙂") == [*char_grams("good"), "🙂", "🙂"]
    assert script_grams("a好b") == [*char_grams("a"), *char_grams("b")]


@given(st.text(alphabet=st.characters(max_codepoint=0x24F, exclude_characters="©®"), max_size=30))
def test_latin_texts_are_split_as_in_format_1(text: str) -> None:
    assert find_words(text) == SPLITTINGS[1].words(text)
    assert script_grams(text) == char_grams(text)


@given(st.text(max_size=30))
def test_no_letter_is_lost(text: str) -> None:
    letters = set(chain.from_iterable(SPLITTINGS[1].words(text)))
    assert letters <= set("".join(find_words(text)))
