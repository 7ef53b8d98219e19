"""Texts with answers in words: cells and columns, references, splits, what is counted, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.answered import answered_texts, write_answered

from potstill.data.free_text.build import build_free_text_pool
from potstill.data.free_text.columns import read_references
from potstill.data.pool import PoolOptions
from potstill.data.text2text_rows import UnreadableAnswerError
from potstill.errors import BadData


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("cell", "references"),
    [
        ("Paris", ["Paris"]),
        ("  two\nlines ", ["two\nlines"]),
        ('["Paris", "Paris, France", 3]', ["Paris", "Paris, France", "3"]),
        ("['Paris', None]", ["Paris"]),
        ('{"text": ["Paris"], "answer_start": [3]}', ["Paris"]),
        ("[sic] is no list", ["[sic] is no list"]),
        ("", []),
        ("[]", []),
        ('["", " "]', []),
        (None, []),
    ],
)
def test_a_cell_is_an_answer_or_a_list_of_references(cell: str | None, references: list[str]) -> None:
    assert read_references(cell) == references


@pytest.mark.parametrize("cell", ['[{"a": 1}]', "[[1]]", '{"start": [1]}', "[true]"])
def test_a_list_of_something_else_cannot_be_read(cell: str) -> None:
    with pytest.raises(UnreadableAnswerError, match=r"answers"):
        read_references(cell)


def test_texts_and_answers_are_split_like_labels(tmp_path: Path) -> None:
    file = write_answered(tmp_path / "answered.jsonl", answered_texts(100))
    built = build_free_text_pool(file)
    assert {split: built.report.sizes[split] for split in ("train", "validation", "test")} == {
        "train": 72,
        "validation": 8,
        "test": 20,
    }
    pool = built.pool
    assert pool.labels == ()
    assert pool.counts("train") == {"answered": 72, "references": 72}
    assert all(len(own) == 1 for own in pool.subset("test").references)
    assert build_free_text_pool(file).pool.key == pool.key
    assert pool.take(pool.subset("test").rows[:2]).texts == pool.subset("test").texts[:2]


def test_several_references_come_from_lists_columns_or_rows(tmp_path: Path) -> None:
    options = PoolOptions(test_share=0, validation_share=0)
    listed = write(tmp_path / "a.jsonl", json.dumps({"question": "Where?", "answers": ["here", "there"]}) + "\n")
    (found,) = build_free_text_pool(listed, options=options).pool.subset("train").references
    assert found == ("here", "there")
    table = write(tmp_path / "b.csv", "text,first,second\nWhere is it?,here,there\nAnd who?,you,\n")
    named = PoolOptions(test_share=0, validation_share=0, label="first,second")
    assert build_free_text_pool(table, options=named).pool.subset("train").references == (("here", "there"), ("you",))
    rows = write(tmp_path / "c.csv", "text,answer\nWhere?,here\nWho?,you\nWhere?,there\nWho?,you\n")
    built = build_free_text_pool(rows, options=options)
    assert built.pool.subset("train").references == (("here", "there"), ("you",))
    sentences = " ".join(built.report.sentences())
    assert "1 text stands in several rows with different answers" in sentences
    assert built.report.cleaning.duplicates == 1
    dropped = PoolOptions(test_share=0, validation_share=0, on_conflict="drop")
    assert build_free_text_pool(rows, options=dropped).pool.subset("train").texts == ("Who?",)


def test_a_test_text_in_several_rows_is_measured_once(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", "text,answer\nWho?,you\nWhen?,now\n")
    test = write(tmp_path / "test.csv", "text,answer\nWhere?,here\nWhere?,there\nWhy?,\n")
    built = build_free_text_pool({"train": train, "test": test}, options=PoolOptions(validation_share=0))
    assert built.pool.subset("test").references == (("here", "there"),)
    assert built.report.unlabelled_dropped == 1


def test_rows_without_an_answer_are_counted_and_join_the_pool(tmp_path: Path) -> None:
    table = write(tmp_path / "a.csv", "text,answer\nWho?,you\nWhere?,\nWhen?,now\nWhy?,None\n")
    built = build_free_text_pool(table, options=PoolOptions(test_share=0, validation_share=0))
    assert built.pool.subset("pool").texts == ("Where?",)
    sentences = " ".join(built.report.sentences())
    assert "1 row of a.csv without an answer join the unlabelled texts" in sentences
    assert "answered 'None', which is learnt as an answer; --missing None" in sentences
    none = PoolOptions(test_share=0, validation_share=0, missing=("None",))
    assert build_free_text_pool(table, options=none).pool.subset("pool").texts == ("Where?", "Why?")


def test_what_cannot_be_read_is_refused_or_counted(tmp_path: Path) -> None:
    bad = write(tmp_path / "bad.csv", 'text,answer\nWho?,you\nWhere?,"[[1]]"\n')
    with pytest.raises(BadData, match="1 row with answers that cannot be read") as caught:
        build_free_text_pool(bad)
    assert "--on-bad-row skip" in caught.value.hint
    skipped = build_free_text_pool(bad, options=PoolOptions(test_share=0, validation_share=0, on_bad_row="skip"))
    assert skipped.pool.texts == ("Who?",)
    assert "left out" in " ".join(skipped.report.sentences())
    unanswered = write(tmp_path / "none.csv", "text,topic\nWho is it?,you\nWhere is it?,here\n")
    with pytest.raises(BadData, match="No text has an answer") as caught:
        build_free_text_pool(unanswered)
    assert "--label" in caught.value.hint
    with pytest.raises(BadData, match=r"No column of none.csv \(train\) is called like answers"):
        build_free_text_pool({"train": unanswered})
