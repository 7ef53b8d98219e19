"""A bundle reads the columns it was trained on, and says which; what it cannot know it refuses with a mend."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from potstill import distill, load, predict
from potstill.errors import BadData, BadInput

TOPICS = {"food": "soup bread cheese", "sport": "goal match stadium"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run trained on `description`, whose titles say nothing."""
    folder = tmp_path_factory.mktemp("columns")
    rows = ["title,description,label\n"]
    for i in range(40):
        label = ("food", "sport")[i % 2]
        rows.append(f"A message of somebody,the {TOPICS[label]} number {i},{label}\n")
    (folder / "data.csv").write_text("".join(rows), encoding="utf-8")
    options = {"student": "linear", "procedure": "finetune", "budget": 1}
    distill(folder / "data.csv", text="description", out=folder / "run", **options)  # type: ignore[arg-type]
    return folder / "run"


def table(folder: Path, text: str) -> str:
    (folder / "new.csv").write_text(text, encoding="utf-8")
    return str(folder / "new.csv")


def predicted(file: Path | None) -> list[str]:
    assert file is not None
    return [line.split(",")[-2] for line in file.read_text(encoding="utf-8").splitlines()[1:]]


def test_a_file_is_read_by_the_column_it_was_trained_on_and_says_so(run: Path, tmp_path: Path) -> None:
    file = table(tmp_path, "title,description\nsame title,the soup and bread\nsame title,a goal of the match\n")
    done = predict(run, file)
    assert load(run).record.text_columns == ("description",)
    assert predicted(done.file) == ["food", "sport"]
    assert done.to_text().splitlines()[0] == f"2 texts of the column 'description' labelled in {done.file}."
    assert done.to_json()["read_from"] == "the column 'description'"


def test_the_option_names_another_column(run: Path, tmp_path: Path) -> None:
    file = table(tmp_path, "title,description\nsoup and bread,goal match\ngoal match,soup and bread\n")
    assert predicted(predict(run, file, text="title").file) == ["food", "sport"]
    with pytest.raises(BadInput, match="reads one text"):
        predict(run, file, text="title", text_b="description")


def test_a_file_without_that_column_is_refused_with_those_it_has(run: Path, tmp_path: Path) -> None:
    file = table(tmp_path, "subject,comment\nthe soup is hot,a goal of the match\n")
    with pytest.raises(BadData, match=r"trained on the column 'description'.* it has 'subject', 'comment'") as refused:
        predict(run, file)
    assert "--text COLUMN" in refused.value.hint
    assert not (tmp_path / "new.labelled.csv").exists()


@pytest.mark.parametrize("cells", ["comment\nsoup\n", "id,comment,day\nA-1,the soup and the bread,2024-01-02\n"])
def test_the_only_text_column_is_read_and_named(run: Path, tmp_path: Path, cells: str) -> None:
    done = predict(run, table(tmp_path, cells))
    assert predicted(done.file) == ["food"]
    assert "the column 'comment', its only text column (the student was trained on 'description')" in done.to_text()


def test_an_older_bundle_without_columns_guesses_and_says_so(run: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(run / "bundle", tmp_path / "old")
    record = json.loads((tmp_path / "old" / "potstill.json").read_text(encoding="utf-8"))
    del record["text_columns"]
    (tmp_path / "old" / "potstill.json").write_text(json.dumps(record), encoding="utf-8")
    done = predict(tmp_path / "old", table(tmp_path, "id,text\n1,the soup and the bread\n"))
    assert "the column 'text', by a guess; --text names another" in done.to_text()


EXPORTS = {
    "chats.jsonl": [
        {"messages": [{"role": "system", "content": "Sort."}, {"role": "user", "content": text}]}
        for text in ("the soup and bread", "a goal of the match")
    ],
    "studio.json": [
        {"id": n, "data": {"words": text}, "annotations": [{"result": []}, {"result": []}]}
        for n, text in enumerate(("the soup and bread", "a goal of the match"))
    ],
    "argilla.json": [
        {"fields": {"note": text}, "responses": [], "suggestions": []}
        for text in ("the soup and bread", "a goal of the match")
    ],
}


@pytest.mark.parametrize("name", EXPORTS)
def test_exports_and_chats_are_labelled_by_their_texts_one_label_a_row(run: Path, tmp_path: Path, name: str) -> None:
    lines = name.endswith("jsonl")
    text = "\n".join(map(json.dumps, EXPORTS[name])) if lines else json.dumps(EXPORTS[name])
    (tmp_path / name).write_text(text, encoding="utf-8")
    done = predict(run, str(tmp_path / name), out=tmp_path / "out.csv")
    assert predicted(done.file) == ["food", "sport"]
    assert "of an export" in done.to_text()


def test_a_column_within_an_export_can_be_named(run: Path, tmp_path: Path) -> None:
    rows = [{"id": 1, "data": {"title": "soup and bread", "words": "a goal of the match"}, "annotations": []}]
    (tmp_path / "studio.json").write_text(json.dumps(rows), encoding="utf-8")
    for column, label in (("title", "food"), ("words", "sport")):
        done = predict(run, str(tmp_path / "studio.json"), text=column, out=tmp_path / f"{column}.csv")
        assert predicted(done.file) == [label]
    with pytest.raises(BadData, match="no column 'other'"):
        predict(run, str(tmp_path / "studio.json"), text="other")
