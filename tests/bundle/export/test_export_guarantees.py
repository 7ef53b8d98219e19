"""The guarantees of a bundle: measured on the graph that is served, stored in its record, dropped with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from potstill.bundle.bundle import Bundle, load
from potstill.bundle.export.export import export
from potstill.data.task import Task
from potstill.errors import BadInput, RunNotFound
from potstill.evaluation.guarantees import Guarantees
from potstill.students.base import StudentConfig, TrainingData
from potstill.students.linear import LinearStudent

LABELS = ("food", "money", "sport")
WORDS = {
    "food": "soup bread cheese salad butter onion pepper dinner spoon plate".split(),
    "money": "bank loan credit coins interest budget invoice salary price tax".split(),
    "sport": "goal match player race ball coach league trophy referee stadium".split(),
}
SHARED = "the a today very old new big small one other they we good bad again here".split()


def written(n: int, seed: int, noise: float = 0.4) -> tuple[list[str], np.ndarray]:
    """Texts of one word of the label and four of no label; with chance `noise` a word of any label joins them."""
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, 3, n)
    texts = []
    for label in gold:
        own = [*rng.choice(WORDS[LABELS[label]], 1), *rng.choice(SHARED, 4)]
        if rng.random() < noise:
            own += [*rng.choice(WORDS[LABELS[rng.integers(0, 3)]], 1)]
        texts.append(" ".join(rng.permutation(own)))
    return texts, gold


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trusted") / "bundle"
    texts, gold = written(300, seed=0)
    student = LinearStudent(StudentConfig(LABELS)).fit(TrainingData(texts, np.eye(3, dtype=np.float32)[gold]))
    held_out, held_out_gold = written(400, seed=1)
    export(student, folder, task=Task(LABELS), texts=held_out, gold=held_out_gold, calibrate=True)
    return folder


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    return load(folder, verify=True)


def test_probabilities_and_threshold_come_from_what_was_measured(bundle: Bundle, folder: Path) -> None:
    assert bundle.guarantees is not None
    assert bundle.guarantees.n == 400
    texts, _ = written(50, seed=2)
    own = bundle.uncalibrated_logits(bundle.predict_logits(texts))
    np.testing.assert_allclose(bundle.predict_proba(texts), bundle.guarantees.scaling.apply(own), atol=1e-6)
    assert bundle.threshold == bundle.guarantees.threshold()
    record = json.loads((folder / "potstill.json").read_text("utf-8"))
    assert record["abstain_threshold"] == bundle.threshold
    assert Guarantees.from_json(record["guarantees"]) == bundle.guarantees


def test_a_wanted_precision_is_kept_on_new_texts(bundle: Bundle) -> None:
    texts, gold = written(3000, seed=3)
    for precision in (0.85, 0.9):
        found = bundle.predict(texts, abstain=precision)
        right = [label == LABELS[k] for label, k in zip(found, gold, strict=True) if label is not None]
        assert len(right) > 300
        assert np.mean(right) >= precision
    assert np.mean([label is None for label in bundle.predict(texts, abstain=0.9)]) > 0


def test_label_sets_hold_the_right_label_and_the_predicted_one_comes_first(bundle: Bundle) -> None:
    texts, gold = written(3000, seed=4)
    sets = bundle.predict_sets(texts, coverage=0.95)
    assert np.mean([LABELS[k] in some for some, k in zip(sets, gold, strict=True)]) > 0.93
    assert [some[0] for some in sets] == bundle.predict(texts)
    assert {len(some) for some in sets} > {1}


def test_planted_texts_of_another_kind_look_out_of_scope(bundle: Bundle) -> None:
    own, _ = written(500, seed=5)
    foreign = [f"galaxy {i} quantum telescope nebula" for i in range(100)]
    assert np.mean([found.in_scope for found in bundle.iter_predictions(own)]) > 0.9
    assert np.mean([found.in_scope for found in bundle.iter_predictions(foreign)]) < 0.1


def test_a_precision_that_cannot_be_guaranteed_is_refused_with_a_hint(bundle: Bundle) -> None:
    with pytest.raises(BadInput, match="no threshold could be shown") as raised:
        bundle.predict(["soup"], abstain=0.999)
    assert "hold out more" in raised.value.hint
    for wrong in (0.0, 1.0, 2):
        with pytest.raises(BadInput, match="not between 0 and 1"):
            bundle.predict(["soup"], abstain=wrong)
        with pytest.raises(BadInput, match="not between 0 and 1"):
            bundle.predict_sets(["soup"], coverage=wrong)


def test_another_graph_inherits_no_guarantee(folder: Path, tmp_path: Path) -> None:
    """Of a graph that was changed after it was measured nothing is guaranteed."""
    shutil.copytree(folder, tmp_path / "bundle")
    file = tmp_path / "bundle" / "potstill.json"
    record = json.loads(file.read_text("utf-8"))
    record["files"]["onnx/model.onnx"]["sha256"] = "0" * 64
    file.write_text(json.dumps(record), "utf-8")
    changed = load(tmp_path / "bundle")
    assert changed.guarantees is None
    assert changed.threshold is None
    with pytest.raises(BadInput, match="not calibrated"):
        changed.predict_sets(["soup"])


def test_exporting_again_drops_what_was_measured(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "bundle")
    texts, gold = written(100, seed=6)
    export(
        LinearStudent(StudentConfig(LABELS)).fit(TrainingData(texts, np.eye(3, dtype=np.float32)[gold])),
        tmp_path / "bundle",
        task=Task(LABELS),
        texts=texts,
    )
    assert load(tmp_path / "bundle").guarantees is None


def test_a_damaged_calibration_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "bundle")
    file = tmp_path / "bundle" / "potstill.json"
    record = json.loads(file.read_text("utf-8"))
    for damage in ({"n_above": [1]}, {"scaling": {}}, {"calibration_quality": None}):
        file.write_text(json.dumps({**record, "guarantees": {**record["guarantees"], **damage}}), "utf-8")
        with pytest.raises(RunNotFound, match="damaged"):
            load(tmp_path / "bundle")


def test_unlabelled_texts_are_left_out_of_the_calibration(tmp_path: Path) -> None:
    texts, gold = written(120, seed=8)
    student = LinearStudent(StudentConfig(LABELS)).fit(TrainingData(texts, np.eye(3, dtype=np.float32)[gold]))
    gold[:20] = -1
    made = export(student, tmp_path / "bundle", task=Task(LABELS), texts=texts, gold=gold, calibrate=True)
    assert made.guarantees is not None
    assert made.guarantees.n == 100


def test_the_record_stays_short_enough_to_read(folder: Path) -> None:
    lines = (folder / "potstill.json").read_text("utf-8").splitlines()
    assert len(lines) < 150


def test_the_card_says_what_may_be_relied_on(folder: Path) -> None:
    card = (folder / "README.md").read_text("utf-8")
    assert "400 held-out texts" in card
    assert "predict_sets" in card
