"""Gold subsets are nested, balanced, and disjoint from the test and the unlabelled texts."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.study import study_of, write_topics

from potstill.errors import BadData
from potstill.study.dataset import StudyDataset, gold_subset, read_dataset, subset_sizes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("data")
    write_topics(made / "topics")
    return made


def read(folder: Path, **over: object) -> StudyDataset:
    study = study_of(folder, **over)
    return read_dataset("topics", study.data["topics"], study, folder)


@settings(max_examples=15, deadline=None)
@given(sizes=st.lists(st.integers(3, 90), min_size=2, max_size=4, unique=True), seed=st.integers(0, 1000))
def test_a_smaller_subset_lies_in_the_larger_one(folder: Path, sizes: list[int], seed: int) -> None:
    study = study_of(folder, per="total", sizes=sizes)
    whole = read(folder, per="total", sizes=sizes)
    drawn = [set(gold_subset(whole, n, seed, study).subset("train").texts) for n in sorted(sizes)]
    for smaller, larger in pairwise(drawn):
        assert smaller < larger
    for n, texts in zip(sorted(sizes), drawn, strict=True):
        assert len(texts) == n


def test_classes_are_balanced_and_seeds_differ(folder: Path) -> None:
    study, whole = study_of(folder), read(folder)
    one, two = (gold_subset(whole, 24, seed, study) for seed in (0, 1))
    assert set(one.counts("train").values()) == {8}
    assert set(one.subset("train").texts) != set(two.subset("train").texts)


def test_gold_test_and_unlabelled_texts_never_meet(folder: Path) -> None:
    whole = read(folder)
    pool = gold_subset(whole, subset_sizes(whole, study_of(folder, sizes=["all"]))[0], 0, study_of(folder))
    parts = [set(pool.subset(split).texts) for split in ("train", "pool", "test")]  # type: ignore[arg-type]
    assert [len(part) for part in parts] == [120, 60, 90]
    assert len(set.union(*parts)) == sum(map(len, parts))
    assert (pool.subset("pool").gold == -1).all()


@pytest.mark.parametrize(("own", "expected"), [(None, 60), (25, 25)])
def test_a_data_set_may_have_a_number_of_unlabelled_texts_of_its_own(
    folder: Path, own: int | None, expected: int
) -> None:
    study = study_of(folder)
    asked = study.data["topics"].model_copy(update={"max_unlabelled": own})
    assert len(read_dataset("topics", asked, study, folder).pool.subset("pool")) == expected


def test_the_unlabelled_and_the_test_texts_are_the_same_for_every_size_and_seed(folder: Path) -> None:
    study, whole = study_of(folder), read(folder)
    seen = {
        (
            gold_subset(whole, n, seed, study).subset("pool").texts,
            gold_subset(whole, n, seed, study).subset("test").texts,
        )
        for n in (6, 24)
        for seed in (0, 1)
    }
    assert len(seen) == 1


def test_the_validation_texts_are_taken_from_the_gold(folder: Path) -> None:
    backbones = [{"name": "large", "student": "linear", "alternatives": [{"c": 1.0}, {"c": 3.0}]}]
    study = study_of(folder, backbones=backbones, procedures=["ft"], kd={}, validation_share=0.2)
    small, large = (gold_subset(read(folder), n, 0, study) for n in (30, 60))
    assert (len(small.subset("train")), len(small.subset("validation"))) == (24, 6)
    assert set(small.subset("validation").texts) < set(large.subset("validation").texts)


def test_all_takes_what_there_is(folder: Path) -> None:
    assert subset_sizes(read(folder), study_of(folder, sizes=[2, "all"])) == (6, 120)


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"sizes": [50]}, "smallest size is 50 labels a class, and topics has only"),
        ({"sizes": [2], "per": "total"}, "topics has 3 classes: some would be missing"),
        ({"sizes": [500], "per": "total"}, "smallest size is 500 labels"),
        ({"max_unlabelled": 0}, "no unlabelled text"),
    ],
)
def test_subsets_that_cannot_be_drawn_are_refused_with_a_hint(
    folder: Path, over: dict[str, object], message: str
) -> None:
    with pytest.raises(BadData, match=message) as refused:
        read(folder, **over)
    assert refused.value.hint


def test_a_class_without_a_labelled_text_is_named(folder: Path) -> None:
    labels = {"topics": {"folder": "topics", "labels": ["food", "sport", "money", "weather"]}}
    with pytest.raises(BadData, match="'weather'"):
        read(folder, data=labels)


def test_a_folder_without_files_is_refused(folder: Path) -> None:
    with pytest.raises(BadData, match="no train and test file"):
        read(folder, data={"topics": {"folder": "nowhere"}})


def test_the_draw_does_not_depend_on_the_order_of_the_rows(folder: Path, tmp_path: Path) -> None:
    rows = (folder / "topics" / "train.csv").read_text().splitlines()
    (tmp_path / "topics").mkdir()
    (tmp_path / "topics" / "train.csv").write_text("\n".join([rows[0], *reversed(rows[1:])]))
    (tmp_path / "topics" / "test.csv").write_text((folder / "topics" / "test.csv").read_text())
    one, two = (gold_subset(read(place), 24, 0, study_of(place)) for place in (folder, tmp_path))
    assert set(one.subset("train").texts) == set(two.subset("train").texts)
    assert np.array_equal(np.sort(one.gold), np.sort(two.gold))
