"""Gold of entities and answers in words is drawn without classes: nested, seeded, apart from test and pool."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.answered import answered_texts, write_answered
from support.form_study import form_study
from support.marked_texts import marked_texts, write_marked

from potstill.errors import BadData, BadSpec
from potstill.study.dataset import read_dataset
from potstill.study.form_dataset import FormDataset, form_gold, form_gold_subset, form_pool, read_form_dataset
from potstill.study.spec import StudySpec

ENTITIES = {"d": {"train": "marked.jsonl", "test": "marked_test.jsonl", "form": "entities"}}
ANSWERS = {"d": {"train": "answered.jsonl", "test": "answered_test.jsonl", "form": "free", "metric": "rouge_l"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("data")
    marked, answered = marked_texts(120), answered_texts(120)
    write_marked(made / "marked.jsonl", marked[:100])
    write_marked(made / "marked_test.jsonl", marked[100:])
    write_answered(made / "answered.jsonl", answered[:100])
    write_answered(made / "answered_test.jsonl", answered[100:])
    return made


def study_of(folder: Path, data: dict[str, Any], **over: Any) -> StudySpec:
    keys = {"backbones": ["tagger:minilm"], "data": data, "kd": {}, "max_unlabelled": 30}
    return form_study(folder, keys, **over)


def read(study: StudySpec, folder: Path) -> FormDataset:
    return read_form_dataset("d", study.data["d"], study, folder)


@pytest.mark.parametrize("data", [ENTITIES, ANSWERS], ids=["entities", "free"])
def test_a_smaller_subset_lies_in_the_larger_one_and_seeds_differ(folder: Path, data: dict[str, Any]) -> None:
    study = study_of(folder, data)
    whole = read(study, folder)
    drawn = {(n, seed): form_gold_subset(whole, n, seed, study) for n in (10, 40) for seed in (0, 1)}
    gold = {key: (set(pool.subset("train").texts), set(pool.subset("validation").texts)) for key, pool in drawn.items()}
    assert [(len(train), len(held)) for train, held in gold.values()] == [(8, 2), (8, 2), (32, 8), (32, 8)]
    for seed in (0, 1):
        assert gold[10, seed][0] < gold[40, seed][0]
        assert gold[10, seed][1] < gold[40, seed][1]
    assert gold[10, 0] != gold[10, 1]
    assert len({pool.subset("pool").texts for pool in drawn.values()}) == 1
    assert len({pool.subset("test").texts for pool in drawn.values()}) == 1
    pool: Any = drawn[40, 0]
    assert len(set(pool.texts)) == len(pool.texts) == 40 + 30 + 20
    assert all(each is None for each in pool.subset("pool").gold)
    assert sum(each is not None for each in pool.hidden) == 30


def test_the_task_has_the_types_or_the_metric_of_the_data_set(folder: Path) -> None:
    marked, answered = (read(study_of(folder, data), folder) for data in (ENTITIES, ANSWERS))
    assert marked.task.labels == ("dish", "finance")
    assert (marked.task.form, answered.task.form) == ("entities", "free")
    assert answered.task.output is not None
    assert answered.task.output.metric == "rouge_l"
    assert len(form_gold(marked)) == len(form_gold(answered)) == 20
    assert set(form_pool(marked).split) == {"train", "test", "pool"}
    assert set(marked.without_gold.split) == {"test", "pool"}


def test_texts_without_marks_are_the_unlabelled_ones(folder: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (folder / "marked.jsonl").read_text().splitlines()]
    for row in rows[:25]:
        row["entities"] = None
    (tmp_path / "marked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "marked_test.jsonl").write_text((folder / "marked_test.jsonl").read_text())
    whole = read(study_of(tmp_path, ENTITIES), tmp_path)
    assert set(whole.pool.subset("pool").texts) == {row["text"] for row in rows[:25]}


@pytest.mark.parametrize(
    ("data", "over", "message"),
    [
        (ENTITIES, {"sizes": [90]}, "smallest size is 90 texts, and d has 70 with marked entities"),
        (ANSWERS, {"sizes": [90]}, "smallest size is 90 texts, and d has 70 with answers in words"),
        (ENTITIES, {"max_unlabelled": 0}, "no unlabelled text"),
        ({"d": {**ENTITIES["d"], "labels": ["dish"]}}, {}, "types that are not in the task: 'finance'"),
        ({"d": {**ENTITIES["d"], "test": "marked.jsonl"}}, {}, "d: .*test"),
        ({"d": {**ANSWERS["d"], "label": "unknown"}}, {}, "unknown"),
    ],
)
def test_data_that_cannot_be_used_are_refused_with_a_hint(
    folder: Path, data: dict[str, Any], over: dict[str, Any], message: str
) -> None:
    with pytest.raises((BadData, BadSpec), match=message) as refused:
        read(study_of(folder, data, **over), folder)
    assert refused.value.hint
    assert "--" not in refused.value.hint.replace("--allow-leak", "")


def test_marked_texts_are_not_read_as_labels(folder: Path) -> None:
    asked = {"d": {"train": "marked.jsonl", "test": "marked_test.jsonl"}}
    study = StudySpec.from_dict({"budget": 1, "backbones": ["linear"], "sizes": [2], "data": asked}, folder)
    with pytest.raises(BadData, match=r"marked\.jsonl has texts with marked entities") as refused:
        read_dataset("d", study.data["d"], study, folder)
    assert 'form = "entities" under [data.d]' in refused.value.hint
