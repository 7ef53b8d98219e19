"""Files of entities -> a pool: every form of file, what is guessed and said, bad input, splits, keys."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from potstill.data.entities.build import build_entity_pool
from potstill.data.pool import PoolOptions
from potstill.data.task import Output, Task
from potstill.errors import BadData, BadSpec
from potstill.evaluation.text2text.entities import Entity
from potstill.run.inputs import RunInputs, read_inputs, spec_overrides

VERBS, THINGS = ("Add", "Mix", "Heat", "Cool", "Pour"), ("water", "acid", "salt", "buffer", "agar", "dye")
N = len(VERBS) * len(THINGS)
SENTENCES = [
    (f"{verb} the {thing} slowly .", [(0, len(verb), "Action"), (len(verb) + 5, len(verb) + 5 + len(thing), "Reagent")])
    for verb in VERBS
    for thing in THINGS
]


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def tagged(path: Path, separator: str = "\t") -> Path:
    lines = ["-DOCSTART- -X- O O\n\n", "# a comment\n"]
    for text, _ in SENTENCES:
        verb, the, thing, how, stop = text.split()
        rows = [(verb, "B-Action"), (the, "O"), (thing, "B-Reagent"), (how, "O"), (stop, "O")]
        lines += [f"{word}{separator}{tag}\n" for word, tag in rows] + ["\n"]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def spans(**names: str) -> list[dict[str, Any]]:
    kind = names.get("type", "type")
    return [
        {"text": text, names.get("marks", "entities"): [{"start": s, "end": e, kind: t} for s, e, t in marks]}
        for text, marks in SENTENCES
    ]


def read(data: Any, **options: Any) -> RunInputs:
    return read_inputs(data, None, spec_overrides(None, None, 1, options))


def files(folder: Path) -> dict[str, Path]:
    tags = ["B-Action", "O", "B-Reagent", "O", "O"]
    packed = folder / "packed.conll.gz"
    packed.write_bytes(gzip.compress(tagged(folder / "plain.conll").read_bytes()))
    studio = folder / "studio.json"
    studio.write_text(
        json.dumps(
            [
                {
                    "id": i,
                    "data": {"text": text},
                    "annotations": [
                        {
                            "result": [
                                {
                                    "from_name": "l",
                                    "to_name": "t",
                                    "type": "labels",
                                    "value": {"start": s, "end": e, "labels": [t]},
                                }
                                for s, e, t in marks
                            ]
                        }
                    ],
                }
                for i, (text, marks) in enumerate(SENTENCES)
            ]
        ),
        encoding="utf-8",
    )
    return {
        "tabs": tagged(folder / "tabs.bio"),
        "blanks": tagged(folder / "blanks.iob2", " "),
        "packed": packed,
        "marks": jsonl(folder / "marks.jsonl", spans()),
        "prodigy": jsonl(folder / "spans.jsonl", spans(marks="spans", type="label")),
        "lists": jsonl(folder / "lists.jsonl", [{"tokens": t.split(), "ner_tags": tags} for t, _ in SENTENCES]),
        "studio": studio,
    }


def test_every_form_of_file_gives_the_same_pool_and_is_recognised(tmp_path: Path) -> None:
    expected = {text: tuple(Entity(*mark) for mark in marks) for text, marks in SENTENCES}
    for name, path in files(tmp_path).items():
        inputs = read(path)
        pool: Any = inputs.pool
        assert inputs.task == Task(("Action", "Reagent"), inputs.name, kind="text2text", output=Output()), name
        assert dict(zip(pool.texts, pool.gold, strict=True)) == expected, name
        assert inputs.spec.student.name == "tagger"
        assert inputs.spec.procedure.name == "finetune"
        said = " ".join(inputs.messages)
        assert "--kind single reads labels" in said, name
        assert f"Read {N} rows" in said, name


def test_marks_in_csv_and_tag_strings_are_read_when_the_form_is_named(tmp_path: Path) -> None:
    table = {
        "sentence": [text for text, _ in SENTENCES],
        "marks": [json.dumps(marks) for _, marks in SENTENCES],
        "label": ["B-Action O B-Reagent O O"] * N,
    }
    frames = [{key: table[key][i] for key in table} for i in range(N)]
    by_tags, by_marks = (
        read(frames, form="entities", label="label"),
        read(frames, kind="text2text", form="entities", label="marks"),
    )
    pools: list[Any] = [by_tags.pool, by_marks.pool]
    assert pools[0].gold == pools[1].gold
    assert by_tags.columns == {"text": "sentence", "label": "label"}


def test_a_file_of_labels_stays_one(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": "ab"[i % 2], "entities": []} for i in range(40)]
    assert read(jsonl(tmp_path / "labels.jsonl", rows)).task.kind == "single"
    with pytest.raises(BadSpec, match="does not show the form of its answers"):
        read(jsonl(tmp_path / "more.jsonl", rows), kind="text2text")
    with pytest.raises(BadSpec, match="'text2text', not 'multi'"):
        read(tmp_path / "labels.jsonl", kind="multi", form="entities")


@pytest.mark.parametrize(
    ("mark", "what"),
    [
        ([0, 99, "Action"], "from 0 to 99, and the text has"),
        ([0, 6, "Action"], "overlap"),
        ({"text": "gold", "type": "Reagent"}, "'gold', which is not in the text"),
    ],
)
def test_bad_marks_are_one_sentence_or_are_left_out_and_counted(tmp_path: Path, mark: Any, what: str) -> None:
    rows = spans()
    rows[3]["entities"].append(mark)
    path = jsonl(tmp_path / "bad.jsonl", rows)
    with pytest.raises(BadData, match=what) as caught:
        read(path)
    assert "1 row with marks that are no entities" in caught.value.message
    assert "row 4 has" in caught.value.message
    assert "--on-bad-row skip" in caught.value.hint
    skipped = read(path, on_bad_row="skip")
    assert len(skipped.pool) == N - 1
    assert any("1 row with marks" in each and "left out" in each for each in skipped.messages)


def test_a_line_of_a_tagged_file_without_a_tag_is_a_bad_row(tmp_path: Path) -> None:
    path = tagged(tmp_path / "bad.conll")
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("water\tB-Reagent", "water", 1), encoding="utf-8")
    with pytest.raises(BadData, match="'water', which is no word and tag \\(line 6\\)") as caught:
        read(path)
    assert "--on-bad-row skip" in caught.value.hint
    assert len(read(path, on_bad_row="skip").pool) == N - 1


def test_types_that_are_not_in_the_task_are_refused_with_their_counts(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "marks.jsonl", spans())
    with pytest.raises(BadData, match=rf"not in the task: 'Action' \({N}\)") as caught:
        read(path, labels="Reagents,Reagent")
    assert "--labels" in caught.value.hint
    assert read(path, labels="Reagent,Action,Time").task.labels == ("Reagent", "Action", "Time")
    with pytest.raises(BadData, match="nothing to learn"):
        read(jsonl(tmp_path / "none.jsonl", [{"text": f"text {i}", "entities": []} for i in range(9)]), form="entities")


def test_unmarked_texts_are_the_pool_and_marked_ones_are_split_by_content(tmp_path: Path) -> None:
    rows = [*spans(), *({"text": f"Wait {i} min", "entities": None} for i in range(7))]
    pool: Any = read(jsonl(tmp_path / "marks.jsonl", rows)).pool
    assert len(pool.subset("pool")) == 7
    assert set(pool.subset("pool").gold) == {None}
    sizes = {split: len(pool.subset(split)) for split in ("train", "validation", "test")}
    assert sizes["test"] == 6
    assert sum(sizes.values()) == N
    again: Any = read(jsonl(tmp_path / "other.jsonl", rows[::-1])).pool
    assert set(again.subset("test").texts) == set(pool.subset("test").texts)
    assert again.key != pool.key  # another order of rows


def test_duplicates_conflicts_and_leaks_are_counted(tmp_path: Path) -> None:
    rows = spans()
    other = {**rows[0], "entities": []}
    inputs = read_inputs(
        jsonl(tmp_path / "train.jsonl", [*rows, rows[1], other]),
        None,
        spec_overrides(None, None, 1, {"test": jsonl(tmp_path / "test.jsonl", rows[5:8])}),
    )
    said = " ".join(inputs.messages)
    assert "1 row that repeat" in said
    assert "1 text has different labels" in said
    assert len(inputs.pool.subset("train").texts) + len(inputs.pool.subset("validation").texts) == N - 1 - 3


def test_the_gold_of_the_pool_is_hidden_and_part_of_its_key() -> None:
    frame = [
        {"text": text, "entities": marks, "split": "pool" if i < 4 else "train"}
        for i, (text, marks) in enumerate(SENTENCES)
    ]
    pool = build_entity_pool({"data": frame}, options=PoolOptions(split="split")).pool
    assert pool.subset("pool").gold == (None,) * 4
    assert sum(each is not None for each in pool.hidden) == 4
    assert pool.counts("pool") == {"Action": 0, "Reagent": 0}
    fewer = build_entity_pool({"data": frame[1:]}, options=PoolOptions(split="split")).pool
    assert fewer.key != pool.key
    assert np.array_equal(pool.split[:4], ["pool"] * 4)
