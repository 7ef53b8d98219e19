"""Label names as texts, as training rows and as a head that needs no rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.tinybert import write_tinybert

from potstill.errors import BadSpec
from potstill.students.base import Student, StudentConfig, TrainingData
from potstill.students.encoder import EncoderStudent
from potstill.students.label_head import label_weights, name_evidence
from potstill.students.label_names import label_texts, label_to_words
from potstill.students.logistic_regression import SolverOptions, fit_regression
from potstill.testing import StudentContract

NAMED = ("soup kitchen", "tennis_match", "BankLoan")


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("card_arrival", "card arrival"),
        ("cardArrival", "card arrival"),
        ("Sci/Tech", "sci tech"),
        ("ÄrgerMitKarte", "ärger mit karte"),
        ("USB-stick", "usb stick"),
        ("  World ", "world"),
    ],
)
def test_a_label_name_becomes_words(label: str, words: str) -> None:
    assert label_to_words(label) == words


def test_labels_without_letters_have_no_text_unless_they_are_described() -> None:
    predictions = label_texts(["1", "B", "card_lost", "0"], {"0": "Money that never came.", "card_lost": " "})
    assert predictions.texts == ("card lost", "Money that never came.")
    assert predictions.columns == (2, 3)
    assert not predictions.covers_all(4)
    assert label_texts(["no", "yes"]).covers_all(2)


def test_a_label_head_scores_by_the_cosine() -> None:
    vectors = np.array([[1, 0], [0, 1], [0.6, 0.8]], dtype=np.float32)
    weights = label_weights(vectors, np.eye(3, dtype=np.float32)[[0, 1, 1]], scale=10.0)
    assert weights.shape == (2, 3)
    np.testing.assert_allclose(vectors[0] @ weights, [10, 10 * 0.6 / np.hypot(0.6, 1.8), 0], rtol=1e-5)


def test_the_penalty_is_on_the_distance_to_the_anchor_weights() -> None:
    rng = np.random.default_rng(0)
    x, anchor = rng.normal(size=(30, 4)).astype(np.float32), rng.normal(size=(4, 3)).astype(np.float32)
    targets = np.eye(3, dtype=np.float32)[rng.integers(0, 3, 30)]
    ones = np.ones(30, dtype=np.float32)
    tight = fit_regression(x, targets, ones, SolverOptions(c=1e-4, anchor_weights=anchor))
    np.testing.assert_allclose(tight.weights, anchor, atol=0.01)
    loose, plain = (
        fit_regression(x, targets, ones, SolverOptions(c=1e4, anchor_weights=way)) for way in (anchor, None)
    )
    np.testing.assert_allclose((x @ loose.weights).argmax(1), (x @ plain.weights).argmax(1))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tinybert(tmp_path_factory.mktemp("tinybert"))


def encoder(tiny: Path, labels: tuple[str, ...] = NAMED, **options: object) -> EncoderStudent:
    return EncoderStudent(StudentConfig(labels, weights=str(tiny), options=options))


def test_without_rows_it_predicts_from_label_names(tiny: Path, tmp_path: Path) -> None:
    student = encoder(tiny, head="label").fit(TrainingData([], np.zeros((0, 3), dtype=np.float32)))
    texts = ["the soup and the kitchen", "one tennis match", "a bank or a loan"]
    assert student.predict_logits(texts).argmax(1).tolist() == [0, 1, 2]
    assert student.metadata["mode"] == "zero-shot"
    student.save(tmp_path)
    np.testing.assert_array_equal(EncoderStudent.load(tmp_path).predict_proba(texts), student.predict_proba(texts))


def test_descriptions_are_used_if_names_are_no_words(tiny: Path) -> None:
    config = StudentConfig(("0", "1"), str(tiny), {"0": "soup and bread", "1": "tennis, goal"}, {"head": "label"})
    student = EncoderStudent(config).fit(TrainingData([], np.zeros((0, 2), dtype=np.float32)))
    assert student.predict_logits(["the bread", "the goal"]).argmax(1).tolist() == [0, 1]


def test_a_label_head_without_names_is_refused(tiny: Path) -> None:
    with pytest.raises(BadSpec, match="not every label has one in words"):
        encoder(tiny, ("1", "2", "3"), head="label").fit(StudentContract().training_data())
    with pytest.raises(BadSpec, match="cannot take head"):
        encoder(tiny, head="cosine")


def test_label_names_help_a_label_without_rows(tiny: Path) -> None:
    data = TrainingData(["the soup", "one kitchen", "the tennis", "a match"], np.eye(3, dtype=np.float32)[[0, 0, 1, 1]])
    predictions = [
        encoder(tiny, mode="frozen", label_names=names).fit(data).predict_proba(["the bank and the loan"])[0, 2]
        for names in (True, False)
    ]
    assert predictions[0] > 2 * predictions[1]


def test_names_that_say_nothing_have_no_evidence() -> None:
    rng = np.random.default_rng(0)
    scores, gold = rng.normal(size=(40, 5)).astype(np.float32), np.arange(40) % 5
    targets = np.eye(5, dtype=np.float32)[gold]
    shuffled = np.array([name_evidence(scores, targets[rng.permutation(40)]) for _ in range(300)])
    assert abs(shuffled.mean()) < 0.2
    assert shuffled.std() == pytest.approx(1, abs=0.15)
    assert name_evidence(scores + targets, targets) > 4
    biased = np.array([0, 9, 0, 0, 0], dtype=np.float32)  # near every text
    assert name_evidence(scores + biased, targets) == pytest.approx(name_evidence(scores, targets), abs=1e-3)
    assert name_evidence(scores, targets[[0] * 40]) == 0  # one label alone


def test_a_head_is_pulled_to_names_that_fit_the_rows_and_an_option_overrules_it(tiny: Path) -> None:
    words = {"soup kitchen": "soup kitchen", "tennis_match": "tennis match", "BankLoan": "bank loan"}
    texts = [f"{word} {i}" for word in words.values() for i in range(4)]
    targets = np.eye(3, dtype=np.float32)[np.repeat([0, 1, 2], 4)]

    def fitted(rows: np.ndarray, **options: object) -> EncoderStudent:
        return encoder(tiny, mode="frozen", **options).fit(TrainingData(texts, rows))

    assert fitted(targets).fit_info.anchored_at_names
    assert fitted(targets, anchor_at_names=False).fit_info.anchored_at_names is None
    wrong = np.roll(targets, 1, axis=1)
    assert fitted(wrong).fit_info.anchored_at_names is None
    pulled, plain = (
        fitted(wrong, anchor_at_names=way, c=0.1).predict_proba(["the soup"])[0, 0] for way in (True, False)
    )
    assert pulled > plain


def test_pairs_have_no_names(tiny: Path) -> None:
    student = EncoderStudent(StudentConfig(("same", "other"), str(tiny), options={"head": "label"}, kind="pair"))
    with pytest.raises(BadSpec, match="pair task"):
        student.fit(TrainingData(["a\u241eb", "c\u241ed"], np.eye(2, dtype=np.float32)))


class TestLabelHead(StudentContract):
    """The contract of students, with a head initialised from label names."""

    rejects_empty = False
    test_the_exported_graph_runs = None  # the graph is that of any encoder

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _weights(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        cls.folder = write_tinybert(tmp_path_factory.mktemp("tinybert"))

    def make_student(self, config: StudentConfig) -> Student:
        options = {"c": 100.0, "epochs": 2, "head": "label", **config.options}
        return EncoderStudent(replace(config, weights=str(self.folder), options=options))
