"""Answers in tables: they go out and come back, and a wrong table is refused whole, with the line of the error."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.answer_run import EMOJI, KNOWN, N_FILED, answer_all, form_of, labels_of, marked, stored

pytest.importorskip("torch")
pytest.importorskip("transformers")

from potstill.api import annotate
from potstill.errors import BadData, BadSpec

N = N_FILED
Rows = list[dict[str, Any]]


def csv_rows(path: Path) -> Rows:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def as_csv(path: Path, rows: Rows) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def as_jsonl(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# --- tables -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_stored_answers_go_into_a_table_and_come_back_the_same(run: Path, suffix: str) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    known = KNOWN[form_of(run)]
    assert answer_all(run, {text: own for text, own in known.items() if text == EMOJI or len(text) % 2}) == N + 1
    before = labels_of(run)
    assert before[EMOJI] == known[EMOJI]
    assert "" in before.values()  # unsure
    out = run.parent / f"out{suffix}"
    assert annotate(run, export=out).unlabelled == 0
    found = annotate(run, import_from=out).imported
    assert found is not None
    assert (found.new, found.unchanged, found.changed) == (0, N + 1, 0)
    assert labels_of(run) == before


def test_a_filled_table_is_imported_and_the_open_rows_wait(run: Path) -> None:
    form, known = form_of(run), KNOWN[form_of(run)]
    assert annotate(run, export=run.parent / "out.csv").unlabelled == N + 1
    rows = csv_rows(run.parent / "out.csv")
    column = "entities" if form == "entities" else "answer"
    assert list(rows[0]) == ["id", "text", column, "annotator", "seconds"]
    for row in rows[3:]:
        row[column] = known[row["text"]]
    rows[2][column] = "?"
    result = annotate(run, import_from=as_csv(run.parent / "in.csv", rows), annotator="ann")
    assert result.imported is not None
    assert (result.imported.new, result.imported.unlabelled, result.summary.complete) == (N - 1, 2, N - 1)
    assert "new answers from in.csv" in result.to_text()
    assert "2 rows have no answer yet" in result.to_text()
    found = labels_of(run)
    assert found.pop(rows[2]["text"]) == ""
    assert found == {row["text"]: known[row["text"]] for row in rows[3:]}


TOOLS: dict[str, Callable[[str], dict[str, Any]]] = {
    "Prodigy": lambda text: {"text": text, "spans": marked(text), "answer": "accept", "_session_id": "bob"},
    "doccano": lambda text: {
        "id": 7,
        "text": text,
        "label": [[e["start"], e["end"], e["label"]] for e in marked(text)],
    },
    "a list of words": lambda text: {
        "text": text,
        "entities": [{"text": text[e["start"] : e["end"]], "type": e["label"].upper()} for e in marked(text)],
    },
    "tags": lambda text: {"text": text, "tags": " ".join(tags(text))},
}


def tags(text: str) -> list[str]:
    """A tag for each word of a text."""
    found, at, before = [], 0, ""
    for word in text.split(" "):
        inside = next((e for e in marked(text) if e["start"] <= at < e["end"]), None)
        name = inside["label"] if inside else ""
        found.append("O" if not name else ("B-" if inside and inside["start"] == at else "I-") + name)
        at, before = at + len(word) + 1, name
    assert before == "" or found
    return found


@pytest.mark.parametrize("tool", TOOLS)
def test_the_marks_of_another_tool_are_matched_by_their_texts(entities: Path, tool: str) -> None:
    rows = [TOOLS[tool](text) for text in KNOWN["entities"]]
    found = annotate(entities, import_from=as_jsonl(entities.parent / "in.jsonl", rows)).imported
    assert found is not None
    assert found.new == N + 1
    assert labels_of(entities) == KNOWN["entities"]
    if tool == "a list of words":
        assert "'DISH' as 'dish'" in found.to_text()


def test_answers_in_another_column_are_named_and_rejected_ones_left_out(entities: Path, free: Path) -> None:
    rows: Rows = [{"text": text, "reply": answer} for text, answer in KNOWN["free"].items()]
    assert annotate(free, import_from=as_csv(free.parent / "in.csv", rows), label="reply").imported.new == N + 1  # type: ignore[union-attr]
    assert labels_of(free) == KNOWN["free"]
    made = [
        {**TOOLS["Prodigy"](text), "answer": "reject" if n < 4 else "accept"}
        for n, text in enumerate(KNOWN["entities"])
    ]
    found = annotate(entities, import_from=as_jsonl(entities.parent / "in.jsonl", made)).imported
    assert found is not None
    assert (found.new, found.unlabelled) == (N - 3, 4)
    assert "4 rows of in.jsonl were rejected or ignored, and have no answer." in found.to_text()


def spoil(column: str, cell: str) -> Callable[[Rows], object]:
    return lambda rows: rows[3].update({column: cell})


REFUSED: dict[str, tuple[str, Callable[[Rows], object], str]] = {
    "overlapping spans": (
        "entities",
        spoil("entities", '[[0, 3, "dish"], [2, 4, "dish"]]'),
        "in.csv, line 5 has two entities that overlap",
    ),
    "a span outside": ("entities", spoil("entities", '[[0, 999, "dish"]]'), "line 5 has an entity from 0 to 999"),
    "another type": ("entities", spoil("entities", '[[0, 3, "pets"]]'), "line 5 has an entity of the type 'pets'"),
    "no list": ("entities", spoil("entities", "soup"), "line 5 has marks that are no list"),
    "a broken list": ("entities", spoil("entities", '[[0, 3, "dish"'), "line 5 has marks that are no list"),
    "two answers": ("free", spoil("answer", '["a", "b"]'), "line 5 has 2 answers, and one is expected"),
    "a long answer": ("free", spoil("answer", "x" * 20_000), "line 5 has an answer of 20,000 characters"),
    "an edited text": ("free", spoil("text", "another"), "the text is not the one"),
    "a time": ("free", spoil("seconds", "quick"), "not a number of seconds"),
    "no column": ("free", lambda rows: [row.pop("answer") for row in rows], "has no column 'answer'"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_wrong_table_is_refused_whole_with_its_line(what: str, request: pytest.FixtureRequest) -> None:
    form, spoiled, message = REFUSED[what]
    run: Path = request.getfixturevalue(form)
    annotate(run, export=run.parent / "out.csv")
    rows = csv_rows(run.parent / "out.csv")
    for row in rows:
        row["entities" if form == "entities" else "answer"] = KNOWN[form][row["text"]]
    spoiled(rows)
    with pytest.raises(BadData, match=message) as refused:
        annotate(run, import_from=as_csv(run.parent / "in.csv", rows), annotator="ann")
    assert refused.value.hint
    assert not stored(run)


def test_quality_is_refused_for_answers(run: Path) -> None:
    with pytest.raises(BadSpec, match="quality of annotators is measured for labels") as refused:
        annotate(run, quality=True)
    assert refused.value.hint == "Leave --quality out."
