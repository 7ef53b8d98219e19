"""Label files: an exported file imports again, and a wrong file is refused whole, with the line of the error."""

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
    """The rows of the exported table, with every label filled in correctly."""
    assert annotate(run, export=tmp_path / "out.csv").unlabelled == 20
    found = read(tmp_path / "out.csv")
    for row in found:
        row["label"] = truth(row["text"])
    return found


def test_an_exported_table_imports_and_a_second_import_changes_nothing(run: Path, rows: Rows) -> None:
    sheet = write(run.parent / "in.csv", rows)
    imported = annotate(run, import_from=sheet, annotator="ann").imported
    assert imported is not None
    assert (imported.new, imported.unlabelled) == (20, 0)
    again = annotate(run, import_from=sheet, annotator="ann").imported
    assert again is not None
    assert (again.new, again.unchanged) == (0, 20)
    assert annotate(run, export=run.parent / "out.csv").unlabelled == 0
    assert {row["annotator"] for row in read(run.parent / "out.csv")} == {"ann"}


def test_a_half_filled_table_leaves_the_other_texts_unlabelled(run: Path, rows: Rows) -> None:
    for row in rows[7:]:
        row["label"] = ""
    found = annotate(run, import_from=write(run.parent / "in.csv", rows))
    assert found.imported is not None
    assert (found.imported.new, found.imported.unlabelled, found.summary.complete) == (7, 13, 7)


def test_unsure_is_stored_as_an_empty_label(run: Path, rows: Rows) -> None:
    rows[0]["label"] = "?"
    annotate(run, import_from=write(run.parent / "in.csv", rows), annotator="ann")
    labels = labels_of(run)
    assert [label.label for label in labels.annotations([rows[0]["id"]])] == [""]
    labels.close()


def edit(rows: Rows, n: int, **cells: str) -> None:
    rows[n].update(cells)


REFUSED: dict[str, tuple[Callable[[Rows], object], str]] = {
    "an unknown label": (lambda r: edit(r, 3, label="sprots"), "line 5: 'sprots' is not a label"),
    "an edited text": (lambda r: edit(r, 2, text="open weather story 99"), "line 4: the text is not the one"),
    "a swapped id": (lambda r: edit(r, 2, id=r[3]["id"]), "line 4: the text is not the one"),
    "an edited id": (lambda r: edit(r, 2, id=r[2]["id"][:-1] + "z"), "the id was edited"),
    "another task's export": (lambda r: [edit(r, i, id="abc123-" + "0" * 12) for i in range(20)], "another task"),
    "an id of no run": (lambda r: edit(r, 0, id="17"), "is not an id of any run"),
    "the same row twice": (lambda r: r.append(dict(r[4])), "line 6 and line 22 have the same id"),
    "a time that is not a number": (lambda r: edit(r, 0, seconds="quick"), "not a number of seconds"),
    "no id and another text": (lambda r: edit(r, 0, id="", text="another text"), "none of this run's"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_wrong_table_is_refused_whole(run: Path, rows: Rows, what: str) -> None:
    spoil, message = REFUSED[what]
    spoil(rows)
    with pytest.raises(BadData, match=message) as refused:
        annotate(run, import_from=write(run.parent / "in.csv", rows), annotator="ann")
    assert refused.value.hint
    labels = labels_of(run)
    assert not labels.annotations()
    labels.close()


def test_two_annotators_of_one_text_are_stored_apart_and_compared(tmp_path: Path) -> None:
    run = begin(tmp_path, teacher="annotators_per_text = 2")
    for name in ("ann", "bob"):
        annotate(run, export=tmp_path / f"{name}.csv", annotator=name)
        own = read(tmp_path / f"{name}.csv")
        assert {row["annotator"] for row in own} == {name}
        for n, row in enumerate(own):
            row["label"] = LABELS[0] if name == "bob" and n < 4 else truth(row["text"])
        annotate(run, import_from=write(tmp_path / f"{name}.csv", own))
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
    with pytest.raises(BadSpec, match="has no annotator"):
        annotate(run, import_from=write(tmp_path / "ann.csv", nameless))


def test_a_surplus_label_is_reported_and_not_stored(run: Path, rows: Rows) -> None:
    annotate(run, import_from=write(run.parent / "in.csv", rows), annotator="ann")
    rows[0]["label"] = next(label for label in LABELS if label != rows[0]["label"])
    found = annotate(run, import_from=write(run.parent / "in.csv", rows), annotator="bob").imported
    assert found is not None
    assert (found.new, found.surplus, found.n_disagreeing) == (0, 20, 1)
    assert "annotators_per_text = 2" in found.to_text()


@settings(max_examples=40, deadline=None)
@given(text=st.text(min_size=1).filter(lambda t: t.strip() and "\0" not in t), label=st.sampled_from(LABELS))
def test_any_text_survives_a_round_trip_through_a_table(
    tmp_path_factory: pytest.TempPathFactory, text: str, label: str
) -> None:
    folder = tmp_path_factory.mktemp("labels")
    text = text.encode("utf-8", "replace").decode("utf-8")
    labels = AnnotationStore(folder)
    labels.add_request("abcdef-0", text, 1, "mark")
    labels.add(Annotation("abcdef-0", "=ann", label, 1.5))
    write_spreadsheet(folder / "out.csv", labels)
    labels.close()
    cell = (folder / "out.csv").read_text(encoding="utf-8").splitlines()[1].split(",")[1]
    assert not cell.lstrip('"').startswith(("=", "+", "-", "@"))
    (entry,) = read_spreadsheet(folder / "out.csv", labels=LABELS).rows
    assert (entry.id, entry.label, entry.annotator, entry.seconds) == ("abcdef-0", label, "=ann", 1.5)


# --- Label Studio -------------------------------------------------------------------------------------------


def exported(tasks: list[dict[str, Any]], completed_by: Any = 7) -> list[dict[str, Any]]:
    """What Label Studio's Export button writes for imported tasks with labels."""
    result_tasks = []
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
            "completed_by": completed_by,
            "result": [result],
            "was_cancelled": False,
            "ground_truth": False,
            "lead_time": 4.288,
            "created_at": "2026-11-20T09:16:08.728353Z",
            "unique_id": "6cbb56e1",
            "task": number,
        }
        task = {"id": number, "data": task["data"], "annotations": [annotation], "drafts": [], "predictions": []}
        result_tasks.append({**task, "meta": {}, "inner_id": number - 100, "total_annotations": 1, "project": 3})
    return result_tasks


def test_tasks_go_to_label_studio_and_its_export_imports(run: Path, tmp_path: Path) -> None:
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


def test_our_own_label_studio_file_is_a_round_trip_with_annotator_names(run: Path, rows: Rows, tmp_path: Path) -> None:
    annotate(run, import_from=write(tmp_path / "in.csv", rows), annotator="ann")
    annotate(run, export=tmp_path / "tasks.json")
    found = annotate(run, import_from=tmp_path / "tasks.json").imported
    assert found is not None
    assert (found.unchanged, found.new, found.changed) == (20, 0, 0)
    assert {entry.annotator for entry in read_tasks(tmp_path / "tasks.json").rows} == {"ann"}


def test_the_configuration_offers_every_label_and_unsure() -> None:
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
    ("spoil", "message"),
    [
        (lambda tasks: tasks[0]["annotations"][0]["result"][0]["value"].update(choices=["x"]), "'x' is not a label"),
        (lambda tasks: tasks[0]["annotations"][0]["result"][0]["value"].update(choices=list(LABELS)), "3 choices"),
        (lambda tasks: tasks[0]["data"].update(text="edited"), "the text is not the one"),
        (lambda tasks: tasks[0]["data"].update(potstill_id="abc123-000000000000"), "another task"),
        (lambda tasks: tasks[0].pop("data"), "0.data: field required"),
        (lambda tasks: tasks[0]["annotations"][0].pop("result"), "annotations.0.result: field required"),
    ],
)
def test_a_wrong_export_is_refused_whole(
    run: Path, tmp_path: Path, spoil: Callable[[Any], object], message: str
) -> None:
    annotate(run, export=tmp_path / "tasks.json")
    tasks = exported(json.loads((tmp_path / "tasks.json").read_text(encoding="utf-8")))
    spoil(tasks)
    (tmp_path / "export.json").write_text(json.dumps(tasks), encoding="utf-8")
    with pytest.raises(BadData, match=message):
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
def test_any_json_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.mktemp("export") / "export.json"
    path.write_text(json.dumps([value]), encoding="utf-8")
    with contextlib.suppress(BadData):
        assert all(isinstance(entry.label, str) for entry in read_tasks(path).rows)


def test_labels_and_names_that_look_like_formulas_survive_a_spreadsheet(tmp_path: Path) -> None:
    named = ("=sum", "@user", "+more")
    with (tmp_path / "texts.csv").open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["text", "label"])
        out.writerows([f"+{label} story {i}", label] for i in range(20) for label in named)
        out.writerows([f"=open story {i}", ""] for i in range(3))
    run = begin(tmp_path, described='"=sum" = "A sum."')
    annotate(run, export=tmp_path / "out.csv")
    found = read(tmp_path / "out.csv")
    for row, label in zip(found, named, strict=True):
        row["label"], row["annotator"] = label, "=ann"
    assert annotate(run, import_from=write(tmp_path / "in.csv", found)).imported.new == 3  # type: ignore[union-attr]
    annotate(run, export=tmp_path / "again.csv")
    again = read(tmp_path / "again.csv")
    assert {(row["label"], row["annotator"]) for row in again} == {(f"'{label}", "'=ann") for label in named}
    assert all(row["text"].startswith("'=") for row in again)
    same = annotate(run, import_from=tmp_path / "again.csv").imported
    assert same is not None
    assert (same.new, same.changed, same.unchanged) == (0, 0, 3)


@pytest.mark.parametrize("name", ["\x1b]52;c;x\x07", "a\u202eb", "x" * 101, "\x9b31m"])
def test_an_annotators_name_that_is_not_printable_is_refused_with_its_line(run: Path, rows: Rows, name: str) -> None:
    rows[3]["annotator"] = name
    with pytest.raises(BadData, match=r"in\.csv, line 5: .* not a valid annotator name"):
        annotate(run, import_from=write(run.parent / "in.csv", rows))
