"""Answers as Label Studio has them: tasks go out, exports come back, and a wrong one is refused whole."""

from __future__ import annotations

import contextlib
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.answer_run import KNOWN, N_FILED, answer_all, form_of, labels_of, marked, stored

pytest.importorskip("torch")
pytest.importorskip("transformers")

from potstill.annotation.form_labelstudio import read_form_tasks
from potstill.api import annotate
from potstill.data.task import Output, Task
from potstill.errors import BadData

N = N_FILED
Rows = list[dict[str, Any]]


def as_json(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def studio(tasks: Rows, results: Callable[[str], Rows]) -> Rows:
    """What Label Studio exports for our tasks."""
    user = {"id": 7, "email": "ann@example.com"}
    return [
        {
            "id": 100 + n,
            "data": task["data"],
            "annotations": [
                {
                    "id": n,
                    "completed_by": user,
                    "result": results(task["data"]["text"]),
                    "lead_time": 4.5,
                    "was_cancelled": False,
                }
            ],
            "predictions": [],
        }
        for n, task in enumerate(tasks)
    ]


def utf16(text: str, n: int) -> int:
    return len(text[:n].encode("utf-16-le")) // 2


def ner(text: str) -> Rows:
    return [
        {
            "id": f"r{n}",
            "from_name": "label",
            "to_name": "text",
            "type": "labels",
            "origin": "manual",
            "value": {
                "start": utf16(text, e["start"]),
                "end": utf16(text, e["end"]),
                "text": text[e["start"] : e["end"]],
                "labels": [e["label"]],
            },
        }
        for n, e in enumerate(marked(text))
    ]


def area(text: str) -> Rows:
    value = {"text": [KNOWN["free"][text]]}
    return [{"id": "r", "from_name": "label", "to_name": "text", "type": "textarea", "value": value}]


def state(name: str) -> Rows:
    return [{"from_name": "state", "to_name": "text", "type": "choices", "value": {"choices": [name]}}]


def exported(run: Path) -> Rows:
    annotate(run, export=run.parent / "tasks.json")
    found: Rows = json.loads((run.parent / "tasks.json").read_text(encoding="utf-8"))
    return found


def test_tasks_go_to_label_studio_and_its_export_imports(run: Path) -> None:
    tasks = exported(run)
    assert tasks[0]["data"].keys() == {"text", "potstill_id"}
    made = studio(tasks, ner if form_of(run) == "entities" else area)
    made[0]["annotations"][0] |= {"was_cancelled": True, "result": []}
    made[1]["annotations"] = []
    made[2]["annotations"][0]["result"] = state("?")
    read = annotate(run, import_from=as_json(run.parent / "export.json", made)).imported
    assert read is not None
    assert (read.new, read.unlabelled, read.notes) == (N - 1, 2, ())
    found, known = stored(run), KNOWN[form_of(run)]
    texts = [task["data"]["text"] for task in tasks]
    assert {text: own[0].label for text, own in found.items()} == {
        text: "" if n == 2 else known[text] for n, text in enumerate(texts) if n > 1
    }
    assert {(own[0].annotator, own[0].seconds, own[0].source) for own in found.values()} == {
        ("ann@example.com", 4.5, "label-studio")
    }


def test_our_own_label_studio_file_is_a_round_trip_with_names_and_with_nothing_in_it(run: Path) -> None:
    known = dict(KNOWN[form_of(run)])
    if form_of(run) == "entities":
        known[next(iter(known))] = "[]"
    answer_all(run, {text: known[text] for text in list(known)[:-3]})
    before = labels_of(run)
    tasks = exported(run)
    result = annotate(run, import_from=run.parent / "tasks.json").imported
    assert result is not None
    assert (result.unchanged, result.new, result.changed, result.notes) == (N + 1, 0, 0, ())
    assert labels_of(run) == before
    task = Task(
        ("dish", "finance") if form_of(run) == "entities" else (), kind="text2text", output=Output(form_of(run))
    )  # type: ignore[arg-type]
    assert {entry.annotator for entry in read_form_tasks(run.parent / "tasks.json", task).rows} == {"ann"}
    config = ElementTree.parse(run.parent / "tasks.xml").getroot()
    names = {each.get("name") for each in config if each.get("name")}
    assert {result["from_name"] for task in tasks for by in task["annotations"] for result in by["result"]} <= names
    assert {each.get("toName") for each in config if each.get("toName")} == {"text"}
    if form_of(run) == "entities":
        assert [each.get("value") for each in config.iter("Label")] == ["dish", "finance"]


def test_an_annotation_without_a_mark_says_that_nothing_is_in_the_text(entities: Path) -> None:
    made = studio(exported(entities), lambda text: [])
    assert annotate(entities, import_from=as_json(entities.parent / "export.json", made)).imported.new == N + 1  # type: ignore[union-attr]
    assert set(labels_of(entities).values()) == {"[]"}


def test_hypertext_labels_and_other_controls_are_read_by_the_tasks_types(entities: Path) -> None:
    def results(text: str) -> Rows:
        tone = {"from_name": "tone", "to_name": "text", "type": "choices", "value": {"choices": ["calm"]}}
        places = [{**each, "from_name": "ner", "type": "hypertextlabels"} for each in ner(text)]
        for each in places:
            value = each["value"]
            offsets = {"start": value["start"], "end": value["end"]}
            each["value"] = {"globalOffsets": offsets, "text": value["text"], "hypertextlabels": value["labels"]}
        return [tone, *places]

    made = studio(exported(entities), results)
    read = annotate(entities, import_from=as_json(entities.parent / "export.json", made)).imported
    assert read is not None
    assert read.new == N + 1
    assert "the control 'tone' are not read (13); the labels are those of 'ner'" in read.to_text()
    assert labels_of(entities) == KNOWN["entities"]
    with pytest.raises(BadData, match="has no control 'nerr'"):
        annotate(entities, import_from=entities.parent / "export.json", label="nerr")


WRONG: list[tuple[str, Callable[[Rows], Any], str]] = [
    ("entities", lambda made: results_of(made)[0]["value"].update(labels=["pets"]), "type 'pets'"),
    (
        "entities",
        lambda made: results_of(made)[0]["value"].update(end=999),
        "has the entity .* at 0 to 999|from|to 999",
    ),
    ("entities", lambda made: results_of(made)[0]["value"].update(labels=["dish", "finance"]), "overlap"),
    ("entities", lambda made: results_of(made).extend(state("nothing in it")), "has marks, and the choice 'nothing"),
    ("free", lambda made: results_of(made)[0]["value"].update(text=["a", "b"]), "has 2 answers; one is expected"),
    ("free", lambda made: results_of(made).extend(state("?")), "has an answer, and the choice"),
    ("free", lambda made: made[0]["data"].update(text="edited"), "the text is not the one"),
    ("free", lambda made: made[0].pop("data"), "data: field required"),
]


def results_of(made: Rows) -> Rows:
    """The results of the first annotation that has some."""
    return next(each["annotations"][0]["result"] for each in made if each["annotations"][0]["result"])


@pytest.mark.parametrize("n", range(len(WRONG)))
def test_a_wrong_export_is_refused_whole(n: int, request: pytest.FixtureRequest) -> None:
    form, spoiled, message = WRONG[n]
    run: Path = request.getfixturevalue(form)
    made = studio(exported(run), ner if form == "entities" else area)
    spoiled(made)
    with pytest.raises(BadData, match=message) as refused:
        annotate(run, import_from=as_json(run.parent / "export.json", made))
    assert refused.value.hint
    assert not stored(run)


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: (
            st.lists(x)
            | st.dictionaries(
                st.sampled_from(
                    ["data", "annotations", "result", "value", "labels", "text", "start", "end", "type", "from_name"]
                ),
                x,
            )
        ),
    ),
    st.sampled_from(["entities", "free"]),
)
def test_any_json_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, value: Any, form: Any) -> None:
    path = tmp_path_factory.mktemp("export") / "export.json"
    path.write_text(json.dumps([value]), encoding="utf-8")
    task = Task(("dish",) if form == "entities" else (), kind="text2text", output=Output(form))
    with contextlib.suppress(BadData):
        assert all(isinstance(entry.label, str) for entry in read_form_tasks(path, task).rows)
