"""Texts in a pattern: the pattern is complete, whatever the text is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tinylm import write_tinymlm

from potstill.data.pairs import join_pair
from potstill.errors import RunNotFound
from potstill.models.cloze_pattern import PatternLayout, PatternTokenizer, tokenizer_from_json

PREFIX, SEPARATOR, SUFFIX = (2, 7), (8, 4), (9, 4, 3)
TEXT = st.text(st.characters(exclude_categories=()), max_size=200) | st.just("soup " * 500) | st.just("[MASK] [SEP]")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = write_tinymlm(tmp_path_factory.mktemp("mlm"))
    return (folder / "tokenizer.json").read_text(encoding="utf-8")


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXT, max_size=4))
def test_the_pattern_around_any_text_is_complete(tokenizer: str, texts: list[str]) -> None:
    layout = PatternLayout(PREFIX, SUFFIX, " ", 24)
    for row in PatternTokenizer(tokenizer, layout).encode(texts).ids:
        ids = tuple(row.tolist())
        assert ids[:2] == PREFIX
        assert ids[-3:] == SUFFIX
        assert len(ids) <= 24
        assert not set(ids[2:-3]) & {2, 3, 4}  # special tokens in a text are plain text


@settings(max_examples=60, deadline=None)
@given(TEXT, TEXT)
def test_both_texts_of_a_pair_are_encoded(tokenizer: str, first: str, second: str) -> None:
    layout = PatternLayout(PREFIX, SUFFIX, "", 24, separator_ids=SEPARATOR)
    ids = PatternTokenizer(tokenizer, layout).encode([join_pair(first, second)]).ids[0].tolist()
    separator_at = next(i for i in range(len(ids)) if tuple(ids[i : i + 2]) == SEPARATOR)
    assert len(ids) <= 24
    assert separator_at - 2 <= layout.max_text_tokens
    if first.split() == second.split():
        assert abs((separator_at - 2) - (len(ids) - 3 - separator_at - 2)) <= 1


def test_truncated_texts_are_counted(tokenizer: str) -> None:
    ids = PatternTokenizer(tokenizer, PatternLayout(PREFIX, SUFFIX, "", 16))
    assert ids.encode(["soup bread", "soup " * 40, "soup" * 100_000]).truncated == 2


def test_a_layout_survives_json() -> None:
    for layout in (PatternLayout(PREFIX, SUFFIX, " ", 24), PatternLayout(PREFIX, SUFFIX, "", 24, 1, SEPARATOR)):
        assert PatternLayout.from_json(json.loads(json.dumps(layout.to_json()))) == layout


def test_a_damaged_tokenizer_is_a_one_sentence_error() -> None:
    with pytest.raises(RunNotFound, match="readable"):
        tokenizer_from_json("{")
