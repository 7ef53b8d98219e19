"""A text inside a pattern: what stands around it stays whole, whatever the text is."""

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

BEGIN, BETWEEN, END = (2, 7), (8, 4), (9, 4, 3)
TEXT = st.text(st.characters(exclude_categories=()), max_size=200) | st.just("soup " * 500) | st.just("[MASK] [SEP]")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = write_tinymlm(tmp_path_factory.mktemp("mlm"))
    return (folder / "tokenizer.json").read_text(encoding="utf-8")


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXT, max_size=4))
def test_what_stands_around_a_text_stays_whole(tokenizer: str, texts: list[str]) -> None:
    around = PatternLayout(BEGIN, END, " ", 24)
    for row in PatternTokenizer(tokenizer, around).encode(texts).ids:
        ids = tuple(row.tolist())
        assert ids[:2] == BEGIN
        assert ids[-3:] == END
        assert len(ids) <= 24
        assert not set(ids[2:-3]) & {2, 3, 4}  # nobody types a special token


@settings(max_examples=60, deadline=None)
@given(TEXT, TEXT)
def test_of_a_pair_both_texts_are_read(tokenizer: str, first: str, second: str) -> None:
    around = PatternLayout(BEGIN, END, "", 24, separator_ids=BETWEEN)
    ids = PatternTokenizer(tokenizer, around).encode([join_pair(first, second)]).ids[0].tolist()
    where = next(i for i in range(len(ids)) if tuple(ids[i : i + 2]) == BETWEEN)
    assert len(ids) <= 24
    assert where - 2 <= around.max_text_tokens
    if first.split() == second.split():
        assert abs((where - 2) - (len(ids) - 3 - where - 2)) <= 1


def test_texts_that_lose_their_tail_are_counted(tokenizer: str) -> None:
    ids = PatternTokenizer(tokenizer, PatternLayout(BEGIN, END, "", 16))
    assert ids.encode(["soup bread", "soup " * 40, "soup" * 100_000]).truncated == 2


def test_the_surroundings_survive_json() -> None:
    for around in (PatternLayout(BEGIN, END, " ", 24), PatternLayout(BEGIN, END, "", 24, 1, BETWEEN)):
        assert PatternLayout.from_json(json.loads(json.dumps(around.to_json()))) == around


def test_a_damaged_tokenizer_is_no_traceback() -> None:
    with pytest.raises(RunNotFound, match="readable"):
        tokenizer_from_json("{")
