"""Texts longer than a student reads: head, head and tail, or windows; the same in student and bundle, and counted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tinybert import WORDS, write_tinybert

from potstill.bundle.bundle import load
from potstill.bundle.export.export import export
from potstill.bundle.label_file import label_file
from potstill.data.task import Task
from potstill.errors import BadSpec
from potstill.models.tokens.tokenizer import (
    LONG_TEXT_MODES,
    MAX_WINDOWS,
    WINDOW_OVERLAP,
    LongTextMode,
    TextTokenizer,
    mean_by_row,
)
from potstill.students.base import StudentConfig, TrainingData
from potstill.students.encoder import EncoderStudent
from potstill.students.linear import LinearStudent
from potstill.testing import StudentContract

pytest.importorskip("torch")
LENGTH = 12  # tokens read, ten of them the text's own
ROOM = LENGTH - 2
LABELS = StudentContract.labels


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tinybert(tmp_path_factory.mktemp("tinybert"), layers=1)  # a layer is seconds of the exporter


def words(n: int) -> str:
    return " ".join(WORDS[i % 28] for i in range(n))


def own(ids: np.ndarray) -> list[int]:
    return [int(i) for i in ids[1:-1]]


@pytest.mark.parametrize("long", LONG_TEXT_MODES)
def test_a_text_that_fits_is_the_same_in_all_modes(folder: Path, long: LongTextMode) -> None:
    texts = ["", "soup", words(ROOM)]
    head, other = (TextTokenizer(folder / "tokenizer.json", LENGTH, long=how).encode(texts) for how in ("head", long))
    assert [ids.tolist() for ids in head.ids] == [ids.tolist() for ids in other.ids]
    assert other.truncated == 0
    assert other.text_index.tolist() == [0, 1, 2]


def test_head_and_tail_are_read_and_the_middle_is_not(folder: Path) -> None:
    tokens = TextTokenizer(folder / "tokenizer.json", LENGTH, long="head+tail")
    whole = TextTokenizer(folder / "tokenizer.json", 60).encode([words(40)]).ids[0]
    cut = tokens.encode([words(40)])
    assert own(cut.ids[0]) == own(whole)[:5] + own(whole)[-5:]
    assert cut.ids[0][0] == whole[0]
    assert cut.ids[0][-1] == whole[-1]
    assert cut.truncated == 1


@given(st.integers(1, 40))
def test_windows_cover_every_token_and_overlap(tmp_path_factory: pytest.TempPathFactory, n: int) -> None:
    file = tmp_path_factory.getbasetemp() / "tiny-for-windows"
    if not file.exists():
        write_tinybert(file)
    whole = own(TextTokenizer(file / "tokenizer.json", 60).encode([words(n)]).ids[0])
    read = TextTokenizer(file / "tokenizer.json", LENGTH, long="windows").encode(["soup", words(n)])
    windows = [own(ids) for ids in read.ids[1:]]
    assert read.text_index.tolist() == [0] + [1] * len(windows)
    assert windows[0] == whole[:ROOM]
    assert windows[-1] == whole[-ROOM:]
    assert set().union(*windows) == set(whole)
    assert all(len(each) == min(n, ROOM) for each in windows)
    assert read.truncated == 0


def test_more_text_than_windows_is_read_with_gaps_and_counted(folder: Path) -> None:
    read = TextTokenizer(folder / "tokenizer.json", LENGTH, long="windows").encode([words(5000), "soup " * 100_000])
    most = int(MAX_WINDOWS * ROOM * (1 - WINDOW_OVERLAP))
    assert np.bincount(read.text_index).tolist() == [MAX_WINDOWS, MAX_WINDOWS]
    assert read.truncated == 2
    assert TextTokenizer(folder / "tokenizer.json", LENGTH, long="windows").encode([words(most - ROOM)]).truncated == 0


def test_the_mean_is_over_the_windows_of_a_text() -> None:
    outputs = np.array([[1, 0], [3, 4], [5, 5]], dtype=np.float32)
    assert mean_by_row(np.array([4, 4, 2]), outputs).tolist() == [[2, 2], [5, 5]]
    assert mean_by_row(np.array([4, 1, 2]), outputs) is outputs


@pytest.mark.parametrize("long", [pytest.param("head+tail", marks=pytest.mark.nightly), "windows"])
def test_the_bundle_reads_long_texts_as_the_student_does(folder: Path, tmp_path: Path, long: LongTextMode) -> None:
    data = StudentContract().training_data()
    # The word that decides comes last, where a head alone does not reach.
    texts = [f"{'the ' * 20}{text}" for text in data.texts]
    options = {"mode": "frozen", "max_length": LENGTH, "long_texts": long, "c": 100.0}
    student = EncoderStudent(StudentConfig(LABELS, str(folder), options=options)).fit(TrainingData(texts, data.targets))
    assert student.truncated == 1.0
    blind = EncoderStudent(StudentConfig(LABELS, str(folder), options={**options, "long_texts": "head"})).fit(
        TrainingData(texts, data.targets)
    )
    right = (student.predict_proba(texts).argmax(1) == data.targets.argmax(1)).mean()
    assert right > (blind.predict_proba(texts).argmax(1) == data.targets.argmax(1)).mean() + 0.2
    student.save(tmp_path)
    again = EncoderStudent.load(tmp_path)
    np.testing.assert_array_equal(again.predict_logits(texts), student.predict_logits(texts))
    done = export(student, tmp_path / "bundle", task=Task(LABELS), texts=texts)
    bundle = load(done.folder, graph="fp32")
    mixed = [*texts[:3], "soup", words(200), "", texts[4]] * 7
    np.testing.assert_allclose(bundle.predict_logits(mixed), student.predict_logits(mixed), atol=1e-3)
    alone = np.concatenate([bundle.predict_logits([text]) for text in mixed[:7]])
    np.testing.assert_allclose(alone, bundle.predict_logits(mixed)[:7], atol=1e-4)
    record = json.loads((done.folder / "potstill.json").read_text(encoding="utf-8"))
    assert record["preprocessor"]["config"]["long"] == long
    assert any("too long" in note for note in record["notes"])
    card = (done.folder / "README.md").read_text(encoding="utf-8")
    assert "half from its end" in card if long == "head+tail" else "in windows" in card


def test_an_unknown_mode_is_refused(folder: Path) -> None:
    with pytest.raises(BadSpec, match="cannot take long"):
        EncoderStudent(StudentConfig(LABELS, str(folder), options={"long_texts": "middle"}))


def test_texts_too_long_for_a_linear_student_are_noted_too(tmp_path: Path) -> None:
    data = StudentContract().training_data()
    done = export(
        LinearStudent(StudentConfig(LABELS)).fit(data), tmp_path / "bundle", task=Task(LABELS), texts=data.texts
    )
    bundle = load(done.folder)
    file = tmp_path / "texts.jsonl"
    lines = [json.dumps({"text": text}) for text in ("soup", "soup " * 5_000, "goal")]
    file.write_text("\n".join(lines), encoding="utf-8")
    assert "1 of the texts were too long and were not read as a whole." in label_file(bundle, file).notes
    assert bundle.truncated == 1
