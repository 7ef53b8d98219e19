"""Remembered words: the same ids as the tokenizers library gives, whatever the text, and no memory without end."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from potstill.models.tokens import cached as pieces
from potstill.models.tokens.cached import cached_tokenizer

tokenizers = pytest.importorskip("tokenizers")
# Pieces enough for most words, and a few that make some words a single token.
VOCABULARY = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "card", "##card", "lost", "Lost", "12", "##34"),
    *(letter for letter in string.ascii_lowercase if letter != "q"),
    *(f"##{letter}" for letter in string.ascii_letters if letter not in "qQ"),
    *("1", "2", "3", "##1", "##2", "!", "?", "-", "'", "[", "]", "é", "##é"),
]
ODD = st.sampled_from([*"abqzAZ129!?-'[] .,_", "\n", "\t", "\x00", "\x0b", "\x7f", "é", "İ", "ſ", "[SEP]", "lost card"])


def tokenizer(*, lowercase: bool = True, **parts: Any) -> Any:
    made = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({piece: i for i, piece in enumerate(VOCABULARY)}, unk_token="[UNK]")
    )
    made.normalizer = parts.get("normalizer", tokenizers.normalizers.BertNormalizer(lowercase=lowercase))
    made.pre_tokenizer = parts.get("pre_tokenizer", tokenizers.pre_tokenizers.BertPreTokenizer())
    made.post_processor = parts.get("frame", tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2)))
    made.add_special_tokens(["[CLS]", "[SEP]"])
    return made


@pytest.mark.parametrize("lowercase", [True, False])
@given(texts=st.lists(st.lists(ODD).map("".join), max_size=5), max_length=st.integers(3, 12))
@example(texts=["a\x01b", "Lost-card!", "[SEP]", "q1234 lost1234", "x" * 150], max_length=12)
def test_the_ids_are_those_of_the_library(lowercase: bool, texts: list[str], max_length: int) -> None:
    made = tokenizer(lowercase=lowercase)
    words = cached_tokenizer(made)
    assert words is not None
    made.enable_truncation(max_length)
    for _ in range(2):  # when the words are new, and when they are known
        for own, real in zip(words.ids(texts, max_length), made.encode_batch(texts), strict=True):
            assert own is None or (own.ids, own.truncated) == (real.ids, bool(real.overflowing))


def test_plain_texts_are_not_left_to_the_library() -> None:
    words = cached_tokenizer(tokenizer())
    assert words is not None
    assert None not in words.ids(["I lost\nmy card!", "", "what's 12 x 34?", "a" * 500], 16)
    assert words.ids(["café", "a [SEP] b", "bell\x07"], 16) == [None] * 3
    assert words.ids(["lost"], 2) == [None]


@pytest.mark.parametrize(
    "other",
    [
        {"normalizer": tokenizers.normalizers.Lowercase()},
        {"pre_tokenizer": tokenizers.pre_tokenizers.Whitespace()},
        {"frame": tokenizers.processors.RobertaProcessing(("[SEP]", 3), ("[CLS]", 2))},
    ],
)
def test_other_tokenizers_are_left_alone(other: dict[str, Any]) -> None:
    assert cached_tokenizer(tokenizer(**other)) is None


def test_an_added_token_that_is_a_word_rules_remembering_out() -> None:
    made = tokenizer()
    made.add_tokens(["lostcard"])
    assert cached_tokenizer(made) is None


def test_words_are_forgotten_before_they_are_too_many_and_long_ones_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "MAX_CACHED_WORDS", 10)
    words = cached_tokenizer(tokenizer())
    assert words is not None
    for i in range(50):
        words.ids([f"word{i} number{i}"], 16)
        assert 2 <= len(words._ids_of_word) <= 12
        words.ids(["y" * 100], 16)
        assert max(map(len, words._ids_of_word), default=0) <= pieces.MAX_WORD_LETTERS
