"""The cache of words: the same ids as the tokenizers library for any text, and a bounded size."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from potstill.models.tokens import cached
from potstill.models.tokens.cached import cached_tokenizer

tokenizers = pytest.importorskip("tokenizers")
# Pieces enough for most words, and a few that make some words a single token.
VOCABULARY = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "card", "##card", "lost", "Lost", "12", "##34"),
    *(letter for letter in string.ascii_lowercase if letter != "q"),
    *(f"##{letter}" for letter in string.ascii_letters if letter not in "qQ"),
    *("1", "2", "3", "##1", "##2", "!", "?", "-", "'", "[", "]", "é", "##é"),
]
FRAGMENT = st.sampled_from(
    [*"abqzAZ129!?-'[] .,_", "\n", "\t", "\x00", "\x0b", "\x7f", "é", "İ", "ſ", "[SEP]", "lost card"]
)


def bert_tokenizer(*, lowercase: bool = True, **parts: Any) -> Any:
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({piece: i for i, piece in enumerate(VOCABULARY)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = parts.get("normalizer", tokenizers.normalizers.BertNormalizer(lowercase=lowercase))
    tokenizer.pre_tokenizer = parts.get("pre_tokenizer", tokenizers.pre_tokenizers.BertPreTokenizer())
    tokenizer.post_processor = parts.get(
        "post_processor", tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    )
    tokenizer.add_special_tokens(["[CLS]", "[SEP]"])
    return tokenizer


@pytest.mark.parametrize("lowercase", [True, False])
@given(texts=st.lists(st.lists(FRAGMENT).map("".join), max_size=5), max_length=st.integers(3, 12))
@example(texts=["a\x01b", "Lost-card!", "[SEP]", "q1234 lost1234", "x" * 150], max_length=12)
def test_the_ids_are_those_of_the_library(lowercase: bool, texts: list[str], max_length: int) -> None:
    tokenizer = bert_tokenizer(lowercase=lowercase)
    cache = cached_tokenizer(tokenizer)
    assert cache is not None
    tokenizer.enable_truncation(max_length)
    for _ in range(2):  # with new words, and with cached ones
        for own, real in zip(cache.ids(texts, max_length), tokenizer.encode_batch(texts), strict=True):
            assert own is None or (own.ids, own.truncated) == (real.ids, bool(real.overflowing))


def test_plain_texts_are_encoded_by_the_cache() -> None:
    cache = cached_tokenizer(bert_tokenizer())
    assert cache is not None
    assert None not in cache.ids(["I lost\nmy card!", "", "what's 12 x 34?", "a" * 500], 16)
    assert cache.ids(["café", "a [SEP] b", "bell\x07"], 16) == [None] * 3
    assert cache.ids(["lost"], 2) == [None]


@pytest.mark.parametrize(
    "other",
    [
        {"normalizer": tokenizers.normalizers.Lowercase()},
        {"pre_tokenizer": tokenizers.pre_tokenizers.Whitespace()},
        {"post_processor": tokenizers.processors.RobertaProcessing(("[SEP]", 3), ("[CLS]", 2))},
    ],
)
def test_other_tokenizers_are_not_cached(other: dict[str, Any]) -> None:
    assert cached_tokenizer(bert_tokenizer(**other)) is None


def test_an_added_token_that_is_a_word_rules_caching_out() -> None:
    tokenizer = bert_tokenizer()
    tokenizer.add_tokens(["lostcard"])
    assert cached_tokenizer(tokenizer) is None


def test_the_cache_is_bounded_and_has_no_long_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached, "MAX_CACHED_WORDS", 10)
    cache = cached_tokenizer(bert_tokenizer())
    assert cache is not None
    for i in range(50):
        cache.ids([f"word{i} number{i}"], 16)
        assert 2 <= len(cache._ids_of_word) <= 12
        cache.ids(["y" * 100], 16)
        assert max(map(len, cache._ids_of_word), default=0) <= cached.MAX_WORD_LETTERS
