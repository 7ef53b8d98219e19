"""Vectorizers: which n-grams and subwords are counted, how they are scaled, and that saving changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.errors import RunNotFound
from potstill.models.features import (
    MAX_CHARS,
    NGramVectorizer,
    PaddedFeatures,
    SubwordVectorizer,
    VectorizerConfig,
    load_vectorizer,
)

CORPUS = [
    "How do I reset my PIN?",
    "My card has not arrived.",
    "Top-up failed, twice!",
    "reset the card's pin",
    "ΑΒΓ déjà",
]


def subwords(max_length: int = 8, weights: list[float] | None = None) -> SubwordVectorizer:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "b": 2, "c": 3}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return SubwordVectorizer(tokenizer.to_str(), max_length, weights)


def ngrams_of(vectorizer: NGramVectorizer, features: PaddedFeatures, row: int) -> set[str]:
    names = vectorizer.words + vectorizer.chars
    return {names[i] for i, value in zip(features.ids[row], features.values[row], strict=True) if value}


def test_words_bigrams_and_character_ngrams_are_counted() -> None:
    vectorizer = NGramVectorizer.fit(CORPUS)
    ngrams = ngrams_of(vectorizer, vectorizer(["reset my PIN"]), 0)
    assert {"reset", "my pin", "reset my", " re", "eset ", " pin "} <= ngrams
    assert "t my" not in ngrams


def test_bigrams_do_not_cross_texts() -> None:
    vectorizer = NGramVectorizer.fit(["one two", "two one"])
    assert "two one" not in ngrams_of(vectorizer, vectorizer(["one two", "one"]), 0)
    assert "two one" not in ngrams_of(vectorizer, vectorizer(["two", "one"]), 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=60), max_size=6))
def test_features_of_any_text_are_finite_and_of_norm_one_or_zero(texts: list[str]) -> None:
    vectorizer = NGramVectorizer.fit(CORPUS)
    features = vectorizer(texts)
    assert features.ids.shape == features.values.shape
    assert features.ids.shape[0] == len(texts)
    assert features.ids.shape[1] >= 1
    assert features.ids.dtype == np.int64
    assert features.values.dtype == np.float32
    assert ((features.ids >= 0) & (features.ids < vectorizer.width)).all()
    lengths = np.sqrt((features.values.astype(np.float64) ** 2).sum(axis=1))
    assert (np.isclose(lengths, 1, atol=1e-5) | (lengths == 0)).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(alphabet="abc xyz\u00e9\ud800\x00", max_size=40), min_size=1, max_size=6))
def test_features_of_a_text_do_not_depend_on_the_other_texts(texts: list[str]) -> None:
    for vectorizer in (NGramVectorizer.fit(CORPUS), subwords()):
        together = vectorizer.transform(texts)
        for i, text in enumerate(texts):
            alone, entries = vectorizer.transform([text]), slice(together.starts[i], together.starts[i + 1])
            assert np.array_equal(alone.ids, together.ids[entries])
            assert np.array_equal(alone.values, together.values[entries])


def test_the_vocabulary_does_not_depend_on_the_order_of_the_texts() -> None:
    one, other = NGramVectorizer.fit(CORPUS, max_features=50), NGramVectorizer.fit(CORPUS[::-1], max_features=50)
    assert (one.words, one.chars) == (other.words, other.chars)
    assert one.width == 50


def test_letter_case_and_compatibility_forms_are_normalized() -> None:
    vectorizer = NGramVectorizer.fit(CORPUS)
    assert np.array_equal(vectorizer(["RESET ﬁ"]).ids, vectorizer(["reset fi"]).ids)


def test_a_huge_text_is_read_up_to_a_limit() -> None:
    vectorizer = NGramVectorizer.fit(CORPUS)
    assert np.array_equal(vectorizer(["x" * MAX_CHARS + " pin"]).ids, vectorizer(["x" * MAX_CHARS]).ids)


def test_no_texts_and_no_vocabulary_give_no_features() -> None:
    assert NGramVectorizer.fit(CORPUS)([]).ids.shape == (0, 1)
    blank = NGramVectorizer.fit(["", " "])
    assert blank.width == 0
    assert blank(["word", ""]).values.tolist() == [[0.0], [0.0]]


def test_a_subword_counts_one_over_the_number_of_known_ones() -> None:
    features = subwords()(["a b huh", "c", "", "huh"])
    assert features.ids.tolist() == [[1, 2], [3, 0], [0, 0], [0, 0]]
    assert features.values.tolist() == [[0.5, 0.5], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]


def test_texts_of_mostly_unknown_subwords_are_counted() -> None:
    assert subwords().transform(["a b huh", "huh hm c", "", "huh"]).unknown == 2
    assert subwords().transform(["a b"]).unknown == 0


def test_subwords_are_cut_at_max_length() -> None:
    assert subwords(max_length=2)(["a b c"]).ids.tolist() == [[1, 2]]


def test_subword_weights_multiply() -> None:
    assert subwords(weights=[0, 1, 4, 8])(["a b"]).values.tolist() == [[0.5, 2.0]]


@pytest.mark.parametrize(
    "vectorizer", [NGramVectorizer.fit(CORPUS), subwords(), subwords(weights=[0.1, 0.2, 0.3, 0.7])]
)
def test_a_loaded_vectorizer_gives_the_same_features(
    vectorizer: NGramVectorizer | SubwordVectorizer, tmp_path: Path
) -> None:
    vectorizer.save(tmp_path)
    loaded = load_vectorizer(tmp_path, vectorizer.config)
    texts = [*CORPUS, "a b c"]
    assert np.array_equal(loaded(texts).ids, vectorizer(texts).ids)
    assert np.array_equal(loaded(texts).values, vectorizer(texts).values)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json"}


def test_a_vectorizer_stored_in_format_1_keeps_its_features(tmp_path: Path) -> None:
    words, chars = ["很好", "good"], [" 很好", "很好 ", "很好🙂", "好🙂 "]
    (tmp_path / "ngrams.json").write_text(
        json.dumps({"format": 1, "words": words, "chars": chars, "idf": [1.0] * 6}), encoding="utf-8"
    )
    loaded = load_vectorizer(tmp_path, VectorizerConfig("ngrams"))
    assert isinstance(loaded, NGramVectorizer)
    assert ngrams_of(loaded, loaded(["很好🙂"]), 0) == {"很好", " 很好", "很好🙂", "好🙂 "}
    loaded.save(tmp_path)
    assert json.loads((tmp_path / "ngrams.json").read_text(encoding="utf-8"))["format"] == 1


def test_a_vectorizer_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ngrams.json").write_text('{"format": 99, "words": [], "chars": [], "idf": []}', encoding="utf-8")
    with pytest.raises(RunNotFound, match="format 99"):
        load_vectorizer(tmp_path, VectorizerConfig("ngrams"))
