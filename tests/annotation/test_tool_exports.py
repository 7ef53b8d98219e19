"""Labels come back from any labelling tool, in any spelling that shows which label is meant."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.annotation_run import LABELS, begin, labels_of, truth

from potstill.annotation.import_labels import ImportResult
from potstill.api import annotate
from potstill.errors import BadData

Texts = dict[str, str]  # id -> text


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return begin(tmp_path_factory.mktemp("begun"))


@pytest.fixture
def run(begun: Path, tmp_path: Path) -> Path:
    """A run that waits for 20 labels, copied so that each test has its own."""
    import shutil

    return Path(shutil.copytree(begun.parent, tmp_path / "own")) / "run"


@pytest.fixture
def texts(run: Path) -> Texts:
    store = labels_of(run)
    found = {request.id: request.text for request in store.requests()}
    store.close()
    return found


def as_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def as_jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def as_json(path: Path, rows: list[Any]) -> Path:
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def imported(run: Path, path: Path, texts: Texts, **options: Any) -> ImportResult:
    """The import, after a check that each stored label is the true one."""
    result = annotate(run, import_from=path, **options).imported
    assert result is not None
    store = labels_of(run)
    assert all(each.label == truth(texts[each.id]) for each in store.annotations())
    store.close()
    return result


SPELLINGS: list[Callable[[str], str]] = [
    str.upper,
    str.title,
    lambda label: f" {label}\u00a0",
    lambda label: f"{label[:2]}\u200b{label[2:]}",
    lambda label: json.dumps([label]),
    lambda label: repr([label]),
    lambda label: json.dumps({"choices": [label]}),
    lambda label: json.dumps({each: float(each == label) for each in LABELS}),
]


@pytest.mark.parametrize("spell", SPELLINGS)
def test_a_label_in_another_spelling_is_the_tasks(run: Path, texts: Texts, spell: Callable[[str], str]) -> None:
    rows = [{"id": id, "text": text, "label": spell(truth(text))} for id, text in texts.items()]
    result = imported(run, as_csv(run.parent / "in.csv", rows), texts)
    assert (result.new, result.unlabelled) == (20, 0)
    if spell("sports") == "SPORTS":
        assert "'SPORTS' as 'sports' (7)" in result.to_text()


def test_words_for_a_missing_label_are_unlabelled_and_unsure_stays(run: Path, texts: Texts) -> None:
    cells = ["nan", "N/A", "null", "?"]
    rows = [{"id": id, "text": text, "label": truth(text)} for id, text in texts.items()]
    for row, cell in zip(rows, cells, strict=False):
        row["label"] = cell
    result = annotate(run, import_from=as_csv(run.parent / "in.csv", rows)).imported
    assert result is not None
    assert (result.new, result.unlabelled) == (17, 3)
    assert "3 rows of in.csv count as unlabelled" in result.to_text()
    assert "--missing" not in result.to_text()


def test_a_cell_with_two_labels_is_refused_with_its_line(run: Path, texts: Texts) -> None:
    rows = [{"id": id, "text": text, "label": json.dumps(LABELS[:2])} for id, text in texts.items()]
    with pytest.raises(BadData, match="line 2 has 2 labels; one is expected"):
        annotate(run, import_from=as_csv(run.parent / "in.csv", rows))


# --- Label Studio's controls -------------------------------------------------------------------------------


def result(control: str, kind: str, value: list[Any]) -> dict[str, Any]:
    return {"from_name": control, "to_name": "text", "type": kind, "value": {kind: value}}


def tasks(texts: Texts, results: Callable[[str], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [
        {
            "id": n,
            "data": {"text": text, "potstill_id": id},
            "annotations": [{"completed_by": 7, "lead_time": 2.5, "result": results(truth(text))}],
        }
        for n, (id, text) in enumerate(texts.items(), 1)
    ]


def test_of_several_controls_the_one_with_the_tasks_labels_is_read(run: Path, texts: Texts) -> None:
    made = tasks(
        texts, lambda label: [result("tone", "choices", ["calm"]), result("topic", "choices", [label.upper()])]
    )
    read = imported(run, as_json(run.parent / "export.json", made), texts)
    assert read.new == 20
    assert "the control 'tone' are not read (20); the labels are those of 'topic'" in read.to_text()
    with pytest.raises(BadData, match="'calm' is not a label of the task"):
        annotate(run, import_from=run.parent / "export.json", label="tone")
    with pytest.raises(BadData, match="has no control 'topics'"):
        annotate(run, import_from=run.parent / "export.json", label="topics")


def test_a_taxonomy_is_read_by_the_last_level_of_its_path(run: Path, texts: Texts) -> None:
    made = tasks(texts, lambda label: [result("topic", "taxonomy", [["news", label]])])
    read = imported(run, as_json(run.parent / "export.json", made), texts)
    assert read.new == 20
    assert "'news / sports' as 'sports' (7)" in read.to_text()


# --- other tools -------------------------------------------------------------------------------------------

FLAT = {"annotator": 7, "annotation_id": 1, "created_at": "2026-11-20", "updated_at": "2026-11-20", "lead_time": 2.5}
TOOLS: dict[str, tuple[Callable[[Path, list[Any]], Path], str, Callable[[int, str, str], Any]]] = {
    "Label Studio, JSON-MIN": (as_json, "in.json", lambda n, t, y: {"text": t, "id": n, "topic": y, **FLAT}),
    "Label Studio, CSV": (as_csv, "in.csv", lambda n, t, y: {"text": t, "id": n, "topic": y, **FLAT}),
    "Prodigy": (
        as_jsonl,
        "in.jsonl",
        lambda n, t, y: {"text": t, "accept": [y], "answer": "accept", "_task_hash": n, "_session_id": "ann"},
    ),
    "doccano": (as_jsonl, "in.jsonl", lambda n, t, y: {"id": n, "text": t, "label": [y], "Comments": []}),
    "doccano, CSV": (as_csv, "in.csv", lambda n, t, y: {"id": n, "data": t, "label": y, "Comments": ""}),
    "Argilla": (
        as_json,
        "in.json",
        lambda n, t, y: {
            "fields": {"text": t},
            "responses": {"topic": [{"value": y, "user_id": "u", "status": "submitted"}]},
            "suggestions": {},
        },
    ),
    "spaCy": (as_jsonl, "in.jsonl", lambda n, t, y: {"text": t, "cats": {each: float(each == y) for each in LABELS}}),
    "spaCy, examples": (as_json, "in.json", lambda n, t, y: [t, {"cats": {each: each == y for each in LABELS}}]),
    "chats": (
        as_jsonl,
        "in.jsonl",
        lambda n, t, y: {"messages": [{"role": "user", "content": t}, {"role": "assistant", "content": y}]},
    ),
}


@pytest.mark.parametrize("tool", TOOLS)
def test_the_export_of_another_tool_is_matched_by_its_texts(run: Path, texts: Texts, tool: str) -> None:
    write, name, row = TOOLS[tool]
    path = write(run.parent / name, [row(n, text, truth(text)) for n, text in enumerate(texts.values())])
    read = imported(run, path, texts, annotator="ann")
    assert (read.new, read.unlabelled) == (20, 0)
    assert tool.split(",")[0] in read.to_text()


def test_rejected_answers_are_no_labels_and_counted(run: Path, texts: Texts) -> None:
    rows = [
        {"text": text, "label": truth(text), "answer": ["accept", "reject"][n < 5], "_task_hash": n}
        for n, text in enumerate(texts.values())
    ]
    read = imported(run, as_jsonl(run.parent / "in.jsonl", rows), texts)
    assert (read.new, read.unlabelled) == (15, 5)
    assert "5 rows of in.jsonl were rejected or ignored" in read.to_text()
