"""Which labels the local teacher scores for a text where there are many, on a tiny model with random weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from potstill.data.task import LabelledText, Task
from potstill.errors import BadSpec, MissingWeights
from potstill.teachers.base import TeacherSetup
from potstill.teachers.local import LocalTeacher, open_teacher
from potstill.teachers.local_shortlist import MANY_LABELS, UNLISTED, LocalShortlist

MANY = Task(tuple(f"topic_{n:02}_of_{word}" for n in range(15) for word in ("money", "news", "match")))
TEXTS = ("the match of the day", "bank money", "news of the world", "", "late card fee")


def opened(folder: Path, task: Task = MANY, examples: Sequence[LabelledText] = (), **options: Any) -> LocalTeacher:
    return open_teacher(TeacherSetup(task, str(folder), examples, {"dtype": "float32", "threads": 1, **options}))


def scores(teacher: LocalTeacher) -> Any:
    return np.array([answer.scores for answer in teacher.answer(TEXTS).answers])


def test_of_many_labels_the_similar_ones_get_the_score_that_they_have_among_all(tiny_folder: Path) -> None:
    full, some = scores(opened(tiny_folder, shortlist=0)), scores(opened(tiny_folder))
    columns = LocalShortlist(MANY, (), "auto", "tfidf").columns(TEXTS)
    assert columns is not None
    assert [len(set(own)) for own in columns] == [20, 20, 20, 45, 45]  # the last two are similar to no label
    for row, own in enumerate(columns[:3]):
        np.testing.assert_allclose(some[row, list(own)], full[row, list(own)], atol=3e-4)
        left_out = np.delete(some[row], list(own))
        np.testing.assert_allclose(left_out, some[row, list(own)].min() - UNLISTED)
    assert all("match" in MANY.labels[column] for column in columns[0][:15])


def test_a_gold_example_brings_its_label_onto_the_list(tiny_folder: Path) -> None:
    label = "topic_07_of_news"
    example = LabelledText("late card fee", label)
    plain, shown = (LocalShortlist(MANY, some, 5, "tfidf") for some in ((), (example,)))
    column = MANY.index(label)
    asked = ["the match of a late card fee"]
    assert column not in (plain.columns(asked) or [()])[0]
    assert (shown.columns(asked) or [()])[0][0] == column


def test_its_cost_is_that_of_the_labels_it_scores(tiny_folder: Path) -> None:
    full, some = opened(tiny_folder, shortlist=0), opened(tiny_folder, shortlist=10)
    assert some._count_tokens(TEXTS[:3]) < full._count_tokens(TEXTS[:3]) * 2 / 3
    bound = some.max_usage(TEXTS).seconds
    assert 0 < some.answer(TEXTS).usage.seconds <= bound


def test_it_is_said_and_makes_another_teacher(tiny_folder: Path) -> None:
    full, some = opened(tiny_folder, shortlist=0), opened(tiny_folder, examples=[LabelledText("a", MANY.labels[0])])
    assert "20 labels most similar" in some._asked
    assert some.metadata.extra["labels_offered"] == 20
    assert "shortlist recall at 20" in str(some.metadata.extra["shortlist_recall"])
    assert "similar" not in full._asked
    assert "labels_offered" not in full.metadata.extra
    assert len({full.key, opened(tiny_folder).key, opened(tiny_folder, shortlist=10).key}) == 3


def test_a_text_that_is_similar_to_no_label_is_scored_with_all(tiny_folder: Path) -> None:
    foreign = "\u4e2d\u6587"
    assert LocalShortlist(MANY, (), 5, "tfidf").columns(["", foreign]) == [tuple(range(MANY.n_labels))] * 2
    example = LabelledText(foreign, MANY.labels[7])
    (shown,) = LocalShortlist(MANY, (example,), 5, "tfidf").columns([f"{foreign} news"]) or []
    assert 7 in shown
    assert len(shown) == 5
    full, some = (opened(tiny_folder, shortlist=size).answer([foreign]).answers[0].scores for size in (0, 5))
    np.testing.assert_allclose(some, full, atol=3e-4)


def test_labels_are_ranked_by_the_words_that_stand_for_them(tiny_folder: Path) -> None:
    numbered = Task(tuple(f"c{n}" for n in range(45)))
    asked = ["a late card fee"]
    named = opened(tiny_folder, numbered, label_words={"c31": "late card fee"}, shortlist=5)
    assert named._shortlist.columns(asked) == [(31, *range(4))]


def test_examples_that_rank_labels_and_are_not_shown_make_another_teacher(tiny_folder: Path) -> None:
    first, second = (
        opened(tiny_folder, examples=[LabelledText("late card fee", MANY.labels[k])], shots=0) for k in (22, 40)
    )
    asked = ["a late card fee"]
    assert first._shortlist.columns(asked) != second._shortlist.columns(asked)
    assert first.key != second.key


@pytest.mark.parametrize("shortlist", ["auto", 0, MANY_LABELS])
def test_few_labels_are_all_scored(tiny_folder: Path, shortlist: Any) -> None:
    few = Task(MANY.labels[:MANY_LABELS])
    assert opened(tiny_folder, few, shortlist=shortlist).key == opened(tiny_folder, few).key
    assert np.isfinite(scores(opened(tiny_folder, few, shortlist=shortlist))).all()


def test_several_labels_a_text_have_no_shortlist(tiny_folder: Path) -> None:
    several = Task(MANY.labels, kind="multi")
    assert "similar" not in opened(tiny_folder, several)._asked
    with pytest.raises(BadSpec, match="one label a text") as caught:
        opened(tiny_folder, several, shortlist=5)
    assert "shortlist" in caught.value.hint


def test_an_embedding_that_is_not_there_is_named(tiny_folder: Path) -> None:
    with pytest.raises(MissingWeights, match="nothing-here"):
        opened(tiny_folder, embedding="static:/nothing-here")
