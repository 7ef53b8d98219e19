"""Label files: what goes out comes back, and what cannot be right is refused whole, in a sentence with the line."""

from __future__ import annotations

import contextlib
import csv
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.annotation_run import LABELS, begin, labels_of, truth

from potstill.annotation.labelstudio import labelling_config, read_tasks
from potstill.annotation.spreadsheet import read_spreadsheet, write_spreadsheet
from potstill.api import annotate
from potstill.data.task import Task
from potstill.errors import BadData, BadSpec
from potstill.ledger.store import Annotation, AnnotationStore

Rows = list[dict[str, str]]


def read(path: Path) -> Rows:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: Rows) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return begin(tmp_path)


@pytest.fixture
def rows(run: Path, tmp_path: Path) -> Rows:
    """The exported sheet, with every label filled in rightly."""
    assert annotate(run, export=tmp_path / "out.csv").unlabelled == 20
    found = read(tmp_path / "out.csv")
    for row in found:
        row["label"] = truth(row["text"])
    return found


def test_a_sheet_goes_out_and_comes_back_and_the_second_time_changes_nothing(run: Path, rows: Rows) -> None:
    sheet = write(run.parent / "in.csv", rows)
    taken = annotate(run, import_from=sheet, annotator="ann").imported
    assert taken is not None
    assert (taken.new, taken.unlabelled) == (20, 0)
    again = annotate(run, import_from=sheet, annotator="ann").imported
    assert again is not None
    assert (again.new, again.unchanged) == (0, 20)
    assert annotate(run, export=run.parent / "out.csv").unlabelled == 0
    assert {row["annotator"] for row in read(run.parent / "out.csv")} == {"ann"}


def test_half_a_sheet_leaves_the_rest_open(run: Path, rows: Rows) -> None:
    for row in rows[7:]:
        row["label"] = ""
    found = annotate(run, import_from=write(run.parent / "in.csv", rows))
    assert found.imported is not None
    assert (found.imported.new, found.imported.unlabelled, found.summary.complete) == (7, 13, 7)


def test_unsure_is_a_label_that_counts_for_none(run: Path, rows: Rows) -> None:
    rows[0]["label"] = "?"
    annotate(run, import_from=write(run.parent / "in.csv", rows), annotator="ann")
    labels = labels_of(run)
    assert [label.label for label in labels.annotations([rows[0]["id"]])] == [""]
    labels.close()


def edit(rows: Rows, n: int, **cells: str) -> None:
    rows[n].update(cells)


REFUSED: dict[str, tuple[Callable[[Rows], object], str]] = {
    "a label nobody knows": (lambda r: edit(r, 3, label="sprots"), "line 5: 'sprots' is not a label"),
    "an edited text": (lambda r: edit(r, 2, text="open weather story 99"), "line 4: the text is not the one"),
    "a swapped id": (lambda r: edit(r, 2, id=r[3]["id"]), "line 4: the text is not the one"),
    "an edited id": (lambda r: edit(r, 2, id=r[2]["id"][:-1] + "z"), "the id was edited"),
    "another task's export": (lambda r: [edit(r, i, id="abc123-" + "0" * 12) for i in range(20)], "another task"),
    "an id that is none": (lambda r: edit(r, 0, id="17"), "an id that no run gave"),
    "the same row twice": (lambda r: r.append(dict(r[4])), "line 6 and line 22 have the same id"),
    "a time that is none": (lambda r: edit(r, 0, seconds="quick"), "no number of seconds"),
    "no id and another text": (lambda r: edit(r, 0, id="", text="who knows"), "none of this run's"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_sheet_that_cannot_be_right_is_refused_whole(run: Path, rows: Rows, what: str) -> None:
    spoil, said = REFUSED[what]
    spoil(rows)
    with pytest.raises(BadData, match=said) as refused:
        annotate(run, import_from=write(run.parent / "in.csv", rows), annotator="ann")
    assert refused.value.hint
    labels = labels_of(run)
    assert not labels.annotations()
    labels.close()


def test_two_people_on_one_text_are_kept_apart_and_compared(tmp_path: Path) -> None:
    run = begin(tmp_path, teacher="annotators = 2")
    for who in ("ann", "bob"):
        annotate(run, export=tmp_path / f"{who}.csv", annotator=who)
        own = read(tmp_path / f"{who}.csv")
        assert {row["annotator"] for row in own} == {who}
        for n, row in enumerate(own):
            row["label"] = LABELS[0] if who == "bob" and n < 4 else truth(row["text"])
        annotate(run, import_from=write(tmp_path / f"{who}.csv", own))
    found = annotate(run, export=tmp_path / "all.csv")
    assert len(read(tmp_path / "all.csv")) == 40
    assert found.summary.alpha is not None
    assert 0.5 < found.summary.alpha < 1
    assert len(found.summary.disagreements) == sum(
        truth(row["text"]) != LABELS[0] for row in read(tmp_path / "bob.csv")[:4]
    )
    assert "Cohen's kappa of ann, bob" in found.to_text()
    nameless = read(tmp_path / "ann.csv")
    for row in nameless:
        row["annotator"] = ""
    with pytest.raises(BadSpec, match="nobody's name"):
        annotate(run, import_from=write(tmp_path / "ann.csv", nameless))


def test_a_label_too_many_is_told_and_not_taken_in(run: Path, rows: Rows) -> None:
    annotate(run, import_from=write(run.parent / "in.csv", rows), annotator="ann")
    rows[0]["label"] = next(label for label in LABELS if label != rows[0]["label"])
    found = annotate(run, import_from=write(run.parent / "in.csv", rows), annotator="bob").imported
    assert found is not None
    assert (found.new, found.surplus, found.n_disagreeing) == (0, 20, 1)
    assert "annotators = 2" in found.to_text()


@settings(max_examples=40, deadline=None)
@given(text=st.text(min_size=1).filter(lambda t: t.strip() and "\0" not in t), label=st.sampled_from(LABELS))
def test_any_text_survives_a_sheet(tmp_path_factory: pytest.TempPathFactory, text: str, label: str) -> None:
    folder = tmp_path_factory.mktemp("labels")
    text = text.encode("utf-8", "replace").decode("utf-8")
    labels = AnnotationStore(folder)
    labels.add_request("abcdef-0", text, 1, "mark")
    labels.add(Annotation("abcdef-0", "=ann", label, 1.5))
    write_spreadsheet(folder / "out.csv", labels)
    labels.close()
    cell = (folder / "out.csv").read_text(encoding="utf-8").splitlines()[1].split(",")[1]
    assert not cell.lstrip('"').startswith(("=", "+", "-", "@"))
    (entry,) = read_spreadsheet(folder / "out.csv")
    assert (entry.id, entry.label, entry.annotator, entry.seconds) == ("abcdef-0", label, "=ann", 1.5)


# --- Label Studio -------------------------------------------------------------------------------------------


def exported(tasks: list[dict[str, Any]], who: Any = 7) -> list[dict[str, Any]]:
    """What Label Studio's Export button makes of imported tasks after somebody labelled them."""
    made = []
    for number, task in enumerate(tasks, 101):
        result = {
            "id": f"r{number}",
            "from_name": "label",
            "to_name": "text",
            "type": "choices",
            "origin": "manual",
            "value": {"choices": [truth(task["data"]["text"])]},
        }
        annotation = {
            "id": 9000 + number,
            "completed_by": who,
            "result": [result],
            "was_cancelled": False,
            "ground_truth": False,
            "lead_time": 4.288,
            "created_at": "2026-11-20T09:16:08.728353Z",
            "unique_id": "6cbb56e1",
            "task": number,
        }
        task = {"id": number, "data": task["data"], "annotations": [annotation], "drafts": [], "predictions": []}
        made.append({**task, "meta": {}, "inner_id": number - 100, "total_annotations": 1, "project": 3})
    return made


def test_tasks_go_to_label_studio_and_its_export_comes_back(run: Path, tmp_path: Path) -> None:
    assert annotate(run, export=tmp_path / "tasks.json").unlabelled == 20
    tasks = json.loads((tmp_path / "tasks.json").read_text(encoding="utf-8"))
    assert tasks[0]["data"].keys() == {"text", "potstill_id"}
    made = exported(tasks, {"id": 7, "email": "ann@example.com", "first_name": "Ann", "last_name": "B"})
    made[0]["annotations"][0] |= {"was_cancelled": True, "result": []}
    made[1]["annotations"] = []
    (tmp_path / "export.json").write_text(json.dumps(made), encoding="utf-8")
    found = annotate(run, import_from=tmp_path / "export.json")
    assert found.imported is not None
    assert (found.imported.new, found.imported.unlabelled) == (18, 2)
    labels = labels_of(run)
    assert {(each.annotator, each.seconds, each.source) for each in labels.annotations()} == {
        ("ann@example.com", 4.288, "label-studio")
    }
    labels.close()


def test_our_own_file_is_a_round_trip_with_the_names_of_people(run: Path, rows: Rows, tmp_path: Path) -> None:
    annotate(run, import_from=write(tmp_path / "in.csv", rows), annotator="ann")
    annotate(run, export=tmp_path / "tasks.json")
    found = annotate(run, import_from=tmp_path / "tasks.json").imported
    assert found is not None
    assert (found.unchanged, found.new, found.changed) == (20, 0, 0)
    assert {entry.annotator for entry in read_tasks(tmp_path / "tasks.json")} == {"ann"}


def test_the_configuration_offers_every_label_and_cannot_tell() -> None:
    task = Task(('a "b" <c>', "d & e"), instruction="Choose <one>.", descriptions={"d & e": 'More "than" one'})
    view = ElementTree.fromstring(labelling_config(task))
    choices = view.find("Choices")
    assert choices is not None
    assert choices.get("choice") == "single"
    assert [choice.get("value") for choice in choices] == ['a "b" <c>', "d & e", "?"]
    assert [text.get("value") for text in ElementTree.fromstring(labelling_config(task, pair=True)).iter("Text")] == [
        "$text_a",
        "$text_b",
    ]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda tasks: tasks[0]["annotations"][0]["result"][0]["value"].update(choices=["x"]), "'x' is not a label"),
        (lambda tasks: tasks[0]["annotations"][0]["result"][0]["value"].update(choices=list(LABELS)), "3 choices"),
        (lambda tasks: tasks[0]["data"].update(text="edited"), "the text is not the one"),
        (lambda tasks: tasks[0]["data"].update(potstill_id="abc123-000000000000"), "another task"),
        (lambda tasks: tasks[0].pop("data"), "0.data: field required"),
        (lambda tasks: tasks[0]["annotations"][0].pop("result"), "annotations.0.result: field required"),
    ],
)
def test_an_export_that_cannot_be_right_is_refused_whole(
    run: Path, tmp_path: Path, spoil: Callable[[Any], object], said: str
) -> None:
    annotate(run, export=tmp_path / "tasks.json")
    tasks = exported(json.loads((tmp_path / "tasks.json").read_text(encoding="utf-8")))
    spoil(tasks)
    (tmp_path / "export.json").write_text(json.dumps(tasks), encoding="utf-8")
    with pytest.raises(BadData, match=said):
        annotate(run, import_from=tmp_path / "export.json")
    labels = labels_of(run)
    assert not labels.annotations()
    labels.close()


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: (
            st.lists(x)
            | st.dictionaries(
                st.sampled_from(
                    ["data", "annotations", "result", "value", "choices", "text", "meta", "type", "completed_by"]
                ),
                x,
            )
        ),
    )
)
def test_no_json_breaks_the_reader(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.mktemp("export") / "export.json"
    path.write_text(json.dumps([value]), encoding="utf-8")
    with contextlib.suppress(BadData):
        assert all(isinstance(entry.label, str) for entry in read_tasks(path))
