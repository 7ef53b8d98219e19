"""Texts into bags: what is counted, how it is scaled, and that what is saved reads the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.models.features import MAX_CHARS, NGramVectorizer, PaddedFeatures, SubwordVectorizer, load_vectorizer

CORPUS = [
    "How do I reset my PIN?",
    "My card has not arrived.",
    "Top-up failed, twice!",
    "reset the card's pin",
    "ΑΒΓ déjà",
]


def tokens(max_length: int = 8, weights: list[float] | None = None) -> SubwordVectorizer:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "b": 2, "c": 3}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return SubwordVectorizer(tokenizer.to_str(), max_length, weights)


def grams(reader: NGramVectorizer, bag: PaddedFeatures, row: int) -> set[str]:
    names = reader.words + reader.chars
    return {names[i] for i, value in zip(bag.ids[row], bag.values[row], strict=True) if value}


def test_words_pairs_of_words_and_pieces_of_words_are_counted() -> None:
    reader = NGramVectorizer.fit(CORPUS)
    found = grams(reader, reader(["reset my PIN"]), 0)
    assert {"reset", "my pin", "reset my", " re", "eset ", " pin "} <= found
    assert "t my" not in found


def test_pairs_of_words_do_not_reach_over_texts() -> None:
    reader = NGramVectorizer.fit(["one two", "two one"])
    assert "two one" not in grams(reader, reader(["one two", "one"]), 0)
    assert "two one" not in grams(reader, reader(["two", "one"]), 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=60), max_size=6))
def test_any_text_becomes_a_finite_bag_of_length_one_or_zero(texts: list[str]) -> None:
    reader = NGramVectorizer.fit(CORPUS)
    bag = reader(texts)
    assert bag.ids.shape == bag.values.shape
    assert bag.ids.shape[0] == len(texts)
    assert bag.ids.shape[1] >= 1
    assert bag.ids.dtype == np.int64
    assert bag.values.dtype == np.float32
    assert ((bag.ids >= 0) & (bag.ids < reader.width)).all()
    lengths = np.sqrt((bag.values.astype(np.float64) ** 2).sum(axis=1))
    assert (np.isclose(lengths, 1, atol=1e-5) | (lengths == 0)).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(alphabet="abc xyz\u00e9\ud800\x00", max_size=40), min_size=1, max_size=6))
def test_a_text_reads_the_same_alone_as_among_others(texts: list[str]) -> None:
    for reader in (NGramVectorizer.fit(CORPUS), tokens()):
        together = reader.transform(texts)
        for i, text in enumerate(texts):
            alone, own = reader.transform([text]), slice(together.starts[i], together.starts[i + 1])
            assert np.array_equal(alone.ids, together.ids[own])
            assert np.array_equal(alone.values, together.values[own])


def test_the_vocabulary_does_not_depend_on_the_order_of_the_texts() -> None:
    one, other = NGramVectorizer.fit(CORPUS, max_features=50), NGramVectorizer.fit(CORPUS[::-1], max_features=50)
    assert (one.words, one.chars) == (other.words, other.chars)
    assert one.width == 50


def test_letter_case_and_compatibility_forms_are_one() -> None:
    reader = NGramVectorizer.fit(CORPUS)
    assert np.array_equal(reader(["RESET ﬁ"]).ids, reader(["reset fi"]).ids)


def test_a_huge_text_is_read_up_to_a_limit() -> None:
    reader = NGramVectorizer.fit(CORPUS)
    assert np.array_equal(reader(["x" * MAX_CHARS + " pin"]).ids, reader(["x" * MAX_CHARS]).ids)


def test_no_texts_and_no_vocabulary_give_an_empty_bag() -> None:
    assert NGramVectorizer.fit(CORPUS)([]).ids.shape == (0, 1)
    blank = NGramVectorizer.fit(["", " "])
    assert blank.width == 0
    assert blank(["word", ""]).values.tolist() == [[0.0], [0.0]]


def test_tokens_count_one_over_the_known_ones() -> None:
    bag = tokens()(["a b huh", "c", "", "huh"])
    assert bag.ids.tolist() == [[1, 2], [3, 0], [0, 0], [0, 0]]
    assert bag.values.tolist() == [[0.5, 0.5], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]


def test_tokens_are_cut_at_max_length() -> None:
    assert tokens(max_length=2)(["a b c"]).ids.tolist() == [[1, 2]]


def test_token_weights_multiply() -> None:
    assert tokens(weights=[0, 1, 4, 8])(["a b"]).values.tolist() == [[0.5, 2.0]]


@pytest.mark.parametrize("reader", [NGramVectorizer.fit(CORPUS), tokens(), tokens(weights=[0.1, 0.2, 0.3, 0.7])])
def test_what_was_saved_reads_exactly_the_same(reader: NGramVectorizer | SubwordVectorizer, tmp_path: Path) -> None:
    reader.save(tmp_path)
    again = load_vectorizer(tmp_path, reader.config)
    texts = [*CORPUS, "a b c"]
    assert np.array_equal(again(texts).ids, reader(texts).ids)
    assert np.array_equal(again(texts).values, reader(texts).values)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json"}
