"""Several labels a text, from the cell to the set: read, split, learnt, exported, served, reported."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.csv_tables import write_csv

from potstill.api import distill, init, predict
from potstill.bundle.bundle import Bundle, load
from potstill.bundle.export.export import export
from potstill.bundle.label_file import label_file
from potstill.data.label_sets import (
    SEPARATORS,
    decode_label_set,
    encode_label_set,
    format_labels,
    guess_separator,
    parse_labels,
)
from potstill.data.pool import PoolOptions, build_pool
from potstill.data.tables import Table
from potstill.data.task import Task
from potstill.errors import BadData, BadInput, BadSpec
from potstill.reports import render_html, render_terminal
from potstill.run.spec import Spec
from potstill.students.base import StudentConfig, TrainingData
from potstill.students.linear import LinearStudent
from potstill.testing import MultiLabelStudentContract

LESSON = MultiLabelStudentContract().training_data()
LABELS = MultiLabelStudentContract.labels
TASK = Task(LABELS, kind="multi")
GOLD = LESSON.targets.astype(np.int64)

names = st.lists(st.text(st.characters(exclude_characters="|"), min_size=1).map(str.strip).filter(bool), unique=True)


@given(names)
def test_a_set_of_labels_is_read_as_it_was_written(labels: list[str]) -> None:
    assert decode_label_set(encode_label_set(labels)) == tuple(sorted(labels))
    assert encode_label_set(labels) == encode_label_set(labels[::-1])
    assert parse_labels(format_labels(labels), "|") == tuple(labels)
    assert parse_labels(json.dumps(labels), "json") == tuple(labels)


@pytest.mark.parametrize(
    ("cell", "separator", "found"),
    [
        ("a|b", "|", ("a", "b")),
        (" b ; a;; a ", ";", ("b", "a")),
        ("a, b", ",", ("a", "b")),
        ('["a", "b, c", 3]', "json", ("a", "b, c", "3")),
        ("[]", "json", ()),
        ("|", "|", ()),
        ("", "|", None),
        (None, "json", None),
    ],
)
def test_cells_of_every_form_are_read(cell: str | None, separator: str, found: tuple[str, ...] | None) -> None:
    assert parse_labels(cell, separator) == found  # type: ignore[arg-type]


def test_a_cell_that_is_no_list_is_refused_with_its_line() -> None:
    table = {"text": ["one", "two", "three"], "label": ['["a"]', '["b"]', "a"]}
    with pytest.raises(BadData, match=r"line 3: 'a' is not a JSON list"):
        build_pool(Table.from_columns(table), options=PoolOptions(label_separator="json"))


def test_a_separator_is_guessed_from_what_comes_back() -> None:
    several = ["a|b", "a", "b|c", "c", "a|c"] * 4
    assert guess_separator(several) == "|"
    assert guess_separator([cell.replace("|", ";") for cell in several]) == ";"
    assert guess_separator([json.dumps(cell.split("|")) for cell in several]) == "json"
    assert guess_separator(["Mortgage, home loan", "Cards, prepaid", "Debt"] * 9) is None
    assert guess_separator([cell.replace("|", ", ") for cell in several], SEPARATORS) == ","
    assert guess_separator(["yes", "no"] * 9) is None
    assert (
        guess_separator(["either|or", "neither|nor"] * 9) is None
    )  # each is one name, and its halves never come alone
    assert guess_separator([]) is None


def cells(n: int = 72) -> dict[str, list[str]]:
    sets = [format_labels([LABELS[k] for k in np.flatnonzero(row)]) for row in GOLD]
    texts = [f"{LESSON.texts[i % len(sets)]} {i}" for i in range(n)]
    return {"text": texts, "tags": [sets[i % len(sets)] for i in range(n)]}


def test_label_sets_become_indicator_rows_and_an_empty_cell_is_unlabelled() -> None:
    table = cells()
    table["tags"][0], table["tags"][1] = "", "|"
    built = build_pool(Table.from_columns(table), options=PoolOptions(test_share=0, validation_share=0))
    pool = built.pool
    assert pool.kind == "multi"
    assert pool.labels == tuple(sorted(LABELS))
    assert len(pool.subset("pool")) == 1
    train = pool.subset("train")
    assert train.gold.shape == (71, 3)
    assert train.gold[0].tolist() == [0, 0, 0]  # "|" says that none fits
    assert train.targets(3).dtype == np.float32
    assert pool.counts("train")["food"] == int(train.gold[:, pool.labels.index("food")].sum())
    assert any("several labels, separated by '|'" in sentence for sentence in built.report.sentences())
    assert "Split into 71 train, 0 validation, 0 test, 1 pool." in built.report.sentences()


def test_every_part_gets_its_share_of_the_rarest_label() -> None:
    table = cells(400)
    for i in range(0, 400, 40):
        table["tags"][i] += "|rare"
    pool = build_pool(Table.from_columns(table)).pool
    assert all(pool.counts(split)["rare"] >= 1 for split in ("train", "validation", "test"))  # type: ignore[arg-type]


def test_one_text_with_two_sets_is_a_conflict_and_with_one_in_two_orders_is_not() -> None:
    table = {"text": ["one", "one", "two", "two", "three"], "label": ["a|b", "b|a", "a", "a|b", "b|c"]}
    cleaned = build_pool(
        Table.from_columns(table), options=PoolOptions(test_share=0, validation_share=0)
    ).report.cleaning
    assert (cleaned.duplicates, cleaned.conflicting_texts) == (1, 1)


def test_a_task_of_kind_single_does_not_split_its_labels() -> None:
    pool = build_pool(Table.from_columns(cells()), options=PoolOptions(kind="single")).pool
    assert pool.kind == "single"
    assert any("|" in label for label in pool.labels)
    with pytest.raises(BadSpec, match="a text has one in this task"):
        build_pool(Table.from_columns(cells()), options=PoolOptions(kind="single", label_separator="|"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("multi") / "bundle"
    student = LinearStudent(StudentConfig(LABELS, kind="multi")).fit(TrainingData(LESSON.texts, LESSON.targets))
    texts, gold = list(LESSON.texts) * 4, np.tile(GOLD, (4, 1))
    return export(student, folder, task=TASK, texts=texts, gold=gold, calibrate=True)


def test_a_bundle_gives_a_tuple_of_labels_a_text(bundle: Bundle) -> None:
    texts = list(LESSON.texts)
    assert bundle.multilabel
    assert bundle.multilabel_guarantees is not None
    probs = bundle.predict_proba(texts)
    said = bundle.predict(texts)
    right = [{LABELS[k] for k in np.flatnonzero(row)} for row in GOLD]
    assert np.mean([set(labels) == true for labels, true in zip(said, right, strict=True)]) > 0.9
    first = next(i for i, labels in enumerate(said) if len(labels) > 1)
    assert probs[first, LABELS.index(said[first][0])] == probs[first].max()
    assert [one.labels for one in bundle.iter_predictions(texts)] == said
    assert bundle.predict([]) == []
    for refused in (lambda: bundle.predict(texts, abstain=True), lambda: bundle.predict_sets(texts)):
        with pytest.raises(BadInput, match="several labels"):
            refused()


def test_what_was_measured_of_another_graph_does_not_count(bundle: Bundle, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(bundle.folder, folder)
    record = json.loads((folder / "potstill.json").read_text(encoding="utf-8"))
    record["guarantees"]["graph"] = "another"
    (folder / "potstill.json").write_text(json.dumps(record), encoding="utf-8")
    assert load(folder).multilabel_guarantees is None
    assert all(isinstance(labels, tuple) for labels in load(folder).predict(["the soup"]))


def test_a_file_gets_lists_or_cells_that_can_be_read_back(bundle: Bundle, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "in.csv", cells(30))
    done = label_file(bundle, source)
    as_json = label_file(bundle, source, out=tmp_path / "out.jsonl")
    rows = list(csv.DictReader(done.file.open(encoding="utf-8")))
    lines = [json.loads(line) for line in as_json.file.read_text(encoding="utf-8").splitlines()]
    assert [list(parse_labels(row["predicted"], "|") or ()) for row in rows] == [line["predicted"] for line in lines]
    assert "sure" not in rows[0]
    with pytest.raises(BadInput, match="several labels"):
        label_file(bundle, source, coverage=0.9)


def test_the_command_shows_all_labels(bundle: Bundle) -> None:
    said = predict(bundle.folder, LESSON.texts[0], LESSON.texts[-1])
    assert [row["labels"] for row in said.to_json()["predictions"]] == [
        list(labels) for labels in bundle.predict([LESSON.texts[0], LESSON.texts[-1]])
    ]
    assert ", " in said.to_text() or "–" in said.to_text()


@pytest.mark.parametrize(("procedure", "teacher"), [("finetune", ""), ("kd", "replay"), ("kd", "trained:linear")])
def test_a_run_of_several_labels_goes_from_file_to_report(procedure: str, teacher: str, tmp_path: Path) -> None:
    data = write_csv(tmp_path / "tags.csv", cells(600))
    spec = init(data, budget=1).file
    read = Spec.from_toml(spec)
    assert (read.task.kind, read.data.label_separator) == ("multi", "|")
    text = spec.read_text(encoding="utf-8")
    text = text[: text.index("[teacher]")].rstrip("# ")
    text += f'[student]\nname = "linear"\n[procedure]\nname = "{procedure}"\n'
    if teacher == "replay":
        text += f'[teacher]\nname = "replay"\nfile = "{data}"\nlabel = "tags"\nusd_per_label = 0.0001\naccuracy = 0.9\n'
    elif teacher:
        text += f'[teacher]\nname = "{teacher}"\n'
    spec.write_text(text, encoding="utf-8")
    done = distill(spec, out=tmp_path / "run", **({"gold": 200} if teacher else {}))
    report = done.report
    evaluation = report.student.evaluation
    assert evaluation is not None
    assert evaluation.micro_f1 is not None
    assert evaluation.micro_f1.value > 0.8
    if teacher:
        assert report.teacher is not None
        assert report.teacher.evaluation is not None
        assert report.teacher.evaluation.main_score.value > 0.7
        assert report.mcnemar is not None
    assert report.baselines[0].name == "majority"
    assert report.baselines[0].main_score is not None
    assert report.baselines[0].main_score.value < evaluation.main_score.value
    assert type(report).from_json(report.to_json()) == report
    terminal, page = render_terminal(report), render_html(report)
    assert "micro F1, %" in terminal
    assert "accuracy, %" not in terminal
    assert "set of labels is exactly right" in " ".join(terminal.split())
    assert "Micro F1 on the test set" in page
    card = (Path(report.student.bundle) / "README.md").read_text(encoding="utf-8")
    assert "may have several labels" in card


@pytest.mark.parametrize(
    ("over", "reason"),
    [
        ({"procedure": "pgkd"}, "procedure 'pgkd' cannot do a task of the kind 'multi'"),
        ({"teacher": "human"}, "procedure 'annotate' cannot do a task of the kind 'multi'"),
    ],
)
def test_a_procedure_or_teacher_without_label_sets_is_refused_before_anything_is_spent(
    over: dict[str, str], reason: str, tmp_path: Path
) -> None:
    data = write_csv(tmp_path / "tags.csv", cells())
    with pytest.raises(BadSpec, match=reason):
        distill(data, budget=1, out=tmp_path / "run", **over)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_flags_say_the_kind_and_the_separator(tmp_path: Path) -> None:
    data = write_csv(
        tmp_path / "tags.csv", {**cells(200), "tags": [cell.replace("|", ", ") for cell in cells(200)["tags"]]}
    )
    done = distill(
        data, student="linear", budget=1, out=tmp_path / "run", procedure="finetune", kind="multi", label_separator=","
    )
    assert done.report.labels == tuple(sorted(LABELS))
    assert all(isinstance(labels, tuple) for labels in done.predict(["the soup"]))
    with pytest.raises(BadSpec, match="label_separator"):
        distill(data, student="linear", budget=1, out=tmp_path / "other", label_separator="/")
