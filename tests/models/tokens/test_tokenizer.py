"""Token ids and batches: no row is lost, no batch is too large, and any text is encoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tinybert import write_tinybert

from potstill.errors import BadData, RunNotFound
from potstill.models.tokens.tokenizer import TextTokenizer, length_batches, pad_batch
from potstill.testing import ODD_TEXTS


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    return write_tinybert(tmp_path_factory.mktemp("tinybert")) / "tokenizer.json"


@given(st.lists(st.integers(1, 600)), st.integers(1, 9000), st.integers(1, 70))
def test_batches_contain_every_row_once_and_stay_within_the_budget(lengths: list[int], budget: int, rows: int) -> None:
    batches = list(length_batches(lengths, budget, rows))
    assert sorted(int(row) for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert 1 <= len(batch) <= rows
        assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= budget


def test_padding_is_masked_and_has_the_pad_id() -> None:
    ids, mask = pad_batch([np.array([4, 5, 6]), np.array([7])], pad_id=9)
    assert ids.tolist() == [[4, 5, 6], [7, 9, 9]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_a_long_text_keeps_its_head_and_its_last_special_token(file: Path) -> None:
    encoded = TextTokenizer(file, 6).encode(["soup bread cheese dinner apple", "soup bread cheese dinner", ""])
    long, fits, empty = (own.tolist() for own in encoded.ids)
    assert long == fits
    assert long[0], long[-1] == (2, 3)
    assert empty == [2, 3]
    assert encoded.truncated == 1


def test_texts_that_are_mostly_unknown_tokens_are_counted(file: Path) -> None:
    texts = ["soup bread", "soup 漢", "soup 漢字", "🙂", "", "漢字 " * 50]
    assert TextTokenizer(file, 16).encode(texts).unknown == 3
    assert TextTokenizer(file, 16, long="head+tail").encode(texts).unknown == 3
    assert TextTokenizer(file, 16).encode(texts[:2]).unknown == 0


def test_a_text_of_megabytes_is_cut_and_counted(file: Path) -> None:
    encoded = TextTokenizer(file, 32).encode(["soup " * 4_000_000, "x" * 10_000_000, " " * 1_000_000 + "soup"])
    assert encoded.truncated == 3
    assert len(encoded.ids[0]) == 32


def test_odd_texts_are_encoded(file: Path) -> None:
    encoded = TextTokenizer(file, 32).encode(ODD_TEXTS)
    assert len(encoded.ids) == len(ODD_TEXTS)
    assert all(0 < len(own) <= 32 for own in encoded.ids)


@pytest.mark.parametrize("texts", [["a", None], [3], "one text", [b"bytes"]])
def test_anything_but_a_list_of_strings_is_refused(file: Path, texts: list[str]) -> None:
    with pytest.raises(BadData):
        TextTokenizer(file, 32).encode(texts)


def test_a_damaged_tokenizer_is_a_one_sentence_error(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "model"')
    with pytest.raises(RunNotFound, match="not a readable tokenizer"):
        TextTokenizer(tmp_path / "tokenizer.json", 32)
