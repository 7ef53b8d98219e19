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
    for row, own in enumerate(columns):
        assert len(set(own)) == 20
        np.testing.assert_allclose(some[row, list(own)], full[row, list(own)], atol=3e-4)
        left_out = np.delete(some[row], list(own))
        np.testing.assert_allclose(left_out, some[row, list(own)].min() - UNLISTED)
    assert all("match" in MANY.labels[column] for column in columns[0][:15])


def test_a_gold_example_brings_its_label_onto_the_list(tiny_folder: Path) -> None:
    label = "topic_07_of_news"
    example = LabelledText("late card fee", label)
    plain, shown = (LocalShortlist(MANY, some, 5, "tfidf") for some in ((), (example,)))
    column = MANY.index(label)
    asked = ["a late card fee"]
    assert column not in (plain.columns(asked) or [()])[0]
    assert (shown.columns(asked) or [()])[0][0] == column


def test_its_cost_is_that_of_the_labels_it_scores(tiny_folder: Path) -> None:
    full, some = opened(tiny_folder, shortlist=0), opened(tiny_folder)
    assert some._count_tokens(TEXTS) < full._count_tokens(TEXTS) * 2 / 3
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
