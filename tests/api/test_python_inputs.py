"""The doors from Python: paths as strings with `~`, frames, lists of labels, bundles in pickles and copies."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest

import potstill
from potstill.errors import BadData

TOPICS = {"food": "soup bread cheese", "sport": "goal match stadium"}
ROWS = [{"note": f"the {TOPICS[label]} number {i}", "topic": label} for i in range(30) for label in TOPICS]
OPTIONS: dict[str, Any] = {"student": "linear", "procedure": "finetune", "budget": 1, "text": "note", "label": "topic"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    lines = ["note,topic\n", *(f"{row['note']},{row['topic']}\n" for row in ROWS)]
    (tmp_path / "data.csv").write_text("".join(lines), encoding="utf-8")
    return tmp_path


def test_paths_are_strings_and_the_tilde_is_the_users_folder(home: Path) -> None:
    done = potstill.distill("~/data.csv", out="~/run", **OPTIONS)
    assert done.folder == home / "run"
    assert potstill.load("~/run").folder == home / "run" / "bundle"
    assert potstill.predict("~/run", "~/data.csv", out="~/out.csv").file == home / "out.csv"
    assert potstill.show("~/run").to_text()
    assert potstill.report("~/run").page == home / "run" / "report.html"
    assert not Path("~").exists()


@pytest.mark.parametrize("library", ["rows", "pandas", "pyarrow"])
def test_a_data_frame_is_distilled_like_the_file_of_its_rows(home: Path, library: str) -> None:
    frame: Any = ROWS
    if library == "pandas":
        frame = pytest.importorskip("pandas").DataFrame(ROWS)
    if library == "pyarrow":
        frame = pytest.importorskip("pyarrow").Table.from_pylist(ROWS)
    from_file = potstill.distill(home / "data.csv", out=home / "file", **OPTIONS)
    from_frame = potstill.distill(frame, out=home / "frame", **OPTIONS)
    texts = [row["note"] for row in ROWS]
    assert from_frame.predict(texts) == from_file.predict(texts)
    assert potstill.load(home / "frame").record.text_columns == ("note",)
    assert from_frame.predict(frame) == from_file.predict(texts)  # read by its column
    predicted = potstill.predict(home / "frame", frame)
    assert (predicted.labels, predicted.texts) == (tuple(from_file.predict(texts)), tuple(texts))
    assert potstill.predict(home / "frame", frame, text="topic").texts == tuple(row["topic"] for row in ROWS)
    assert potstill.predict(home / "frame", texts).labels == predicted.labels
    with pytest.raises(BadData, match="no column 'nte'"):
        potstill.predict(home / "frame", frame, text="nte")
    assert potstill.plan(frame, **OPTIONS).to_text() == potstill.plan(home / "data.csv", **OPTIONS).to_text()
    assert potstill.distill(frame, out=home / "frame", **OPTIONS).to_json() == from_frame.to_json()  # resumed


def test_test_rows_and_a_pool_may_be_frames_too(home: Path) -> None:
    pool = [{"note": row["note"] + " again"} for row in ROWS]
    done = potstill.distill(ROWS[:40], pool, test=ROWS[40:], out=home / "run", **OPTIONS)
    assert done.report.to_json()["data"]
    with pytest.raises(BadData, match="neither a path nor a data frame"):
        potstill.distill(7, out=home / "other", **OPTIONS)


def test_labels_are_a_list_or_names_with_commas(home: Path) -> None:
    for number, labels in enumerate((["sport", "food"], "sport, food")):
        potstill.distill(home / "data.csv", out=home / str(number), labels=labels, **OPTIONS)
        assert potstill.load(home / str(number)).labels == ("sport", "food")


def test_a_bundle_in_a_pickle_or_a_copy_is_its_folder_opened_again(home: Path) -> None:
    potstill.distill(home / "data.csv", out=home / "run", **OPTIONS)
    bundle = potstill.load(home / "run", threads=2)
    texts = [row["note"] for row in ROWS]
    for other in (pickle.loads(pickle.dumps(bundle)), copy.deepcopy(bundle), copy.copy(bundle)):
        assert (other.folder, other.threads, other.graph) == (bundle.folder, 2, bundle.graph)
        assert other.predict(texts) == bundle.predict(texts)
    assert len(pickle.dumps(bundle)) < 2000


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_missing_label_of_the_classifier_is_one_sentence(missing: object) -> None:
    with pytest.raises(BadData, match=r"Label 2 is missing .* 1 in all"):
        potstill.Classifier().fit(["a soup", "a goal", "a match"], ["food", "sport", missing])
