"""The linear student, its regression, its ONNX file, and the check of training data that all students share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.linear_task import GOLD, LABELS, ONE_HOT, TEXTS, check_export

from potstill.errors import BadData, BadSpec
from potstill.evaluation.calibration import log_softmax
from potstill.students.base import StudentConfig, TrainingData
from potstill.students.linear import LinearStudent
from potstill.students.logistic_regression import SolverOptions, fit_regression
from potstill.students.training_data import check_training_data, hash_split

DATA = TrainingData(TEXTS, ONE_HOT)


@pytest.fixture(scope="module")
def student() -> LinearStudent:
    return LinearStudent(StudentConfig(LABELS)).fit(DATA)


def test_it_learns_its_training_texts(student: LinearStudent) -> None:
    assert (student.predict_proba(TEXTS).argmax(axis=1) == GOLD).all()
    assert student.predict_proba(["two dogs and a cat"]).argmax() == 1


def test_a_text_of_unknown_words_or_none_gets_probabilities(student: LinearStudent) -> None:
    probabilities = student.predict_proba(["", "  ", "\x00", "漢字", "🙂" * 50])
    assert np.isfinite(probabilities).all()
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)


SHORT_WORDS = {  # two words a text, between others that say nothing, without blanks
    "chinese": (
        ("快递 包裹 送货 物流 配送 签收", "退款 退货 赔偿 退钱 换货 差价"),
        "我的 请问 已经 还是 怎么 今天",
        "",
    ),
    "japanese": (
        ("荷物 配達 発送 送料 追跡 宅配", "返金 返品 交換 補償 請求 振込"),
        "が を まだ 昨日 もう でしょうか",
        "",
    ),
    "thai": (("พัสดุ จัดส่ง ขนส่ง ค่าส่ง", "คืนเงิน ชดเชย เปลี่ยน โอนเงิน"), "ครับ ค่ะ ทำไม วันนี้ ช่วย แล้ว", ""),
    "emoji": (("😀 😍 👍 🎉 ❤️ 😊", "😡 😢 👎 💔 😤 😭"), "the movie was on at eight and we went", " "),
}


@pytest.mark.parametrize("script", SHORT_WORDS)
def test_words_of_one_or_two_characters_are_learned(script: str, tmp_path: Path) -> None:
    words, filler, blank = SHORT_WORDS[script]
    draw, others = np.random.default_rng(0), filler.split()

    def text(label: int) -> str:
        middle = "".join(draw.choice(words[label].split(), 2))
        return blank.join([*draw.choice(others, 3), middle]) + str(draw.choice(others))

    gold = np.tile([0, 1], 80)
    texts = [text(label) for label in gold]
    student = LinearStudent(StudentConfig(("a", "b"))).fit(
        TrainingData(texts[:80], np.eye(2, dtype=np.float32)[gold[:80]])
    )
    assert (student.predict_proba(texts[80:]).argmax(axis=1) == gold[80:]).mean() > 0.9
    check_export(student, tmp_path, texts)


def test_the_order_of_the_rows_does_not_matter(student: LinearStudent) -> None:
    order = np.random.default_rng(0).permutation(len(TEXTS))
    other = LinearStudent(StudentConfig(LABELS)).fit(TrainingData([TEXTS[i] for i in order], ONE_HOT[order]))
    assert np.abs(other.predict_proba(TEXTS) - student.predict_proba(TEXTS)).max() < 1e-3


def test_a_prediction_does_not_depend_on_the_other_texts(student: LinearStudent) -> None:
    alone = np.concatenate([student.predict_logits([text]) for text in TEXTS])
    assert np.array_equal(alone, student.predict_logits(TEXTS))


def test_a_weight_of_two_equals_the_row_twice() -> None:
    weights = np.ones(len(TEXTS), dtype=np.float32)
    weights[:5] = 2
    x = np.random.default_rng(0).normal(size=(len(TEXTS), 4)).astype(np.float32)
    twice = fit_regression(
        np.concatenate([x, x[:5]]),
        np.concatenate([ONE_HOT, ONE_HOT[:5]]),
        np.ones(59, np.float32),
        SolverOptions(tolerance=0),
    )
    weighted = fit_regression(x, ONE_HOT, weights, SolverOptions(tolerance=0))
    assert np.allclose(twice.weights, weighted.weights, atol=1e-3)


def test_the_regression_equals_scikit_learns() -> None:
    from sklearn.linear_model import LogisticRegression

    x = np.random.default_rng(0).normal(size=(len(TEXTS), 4)).astype(np.float32)
    ours = fit_regression(x, ONE_HOT, np.ones(len(x), np.float32), SolverOptions(c=3.0, tolerance=0))
    theirs = LogisticRegression(C=3.0, tol=1e-8, max_iter=1000).fit(x, GOLD)
    mine = log_softmax(x @ ours.weights + ours.bias)
    assert np.abs(mine - theirs.predict_log_proba(x)).max() < 2e-3


def test_soft_targets_are_matched_in_expectation() -> None:
    texts = ["same words"] * 40 + ["other thing"] * 40
    targets = np.repeat(np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], np.float32), 40, axis=0)
    student = LinearStudent(StudentConfig(LABELS, options={"c": 1000.0})).fit(TrainingData(texts, targets))
    assert np.abs(student.predict_proba([texts[0], texts[-1]]) - targets[[0, -1]]).max() < 0.01


def test_a_loaded_student_predicts_exactly_the_same(student: LinearStudent, tmp_path: Path) -> None:
    student.save(tmp_path)
    assert np.array_equal(LinearStudent.load(tmp_path).predict_logits(TEXTS), student.predict_logits(TEXTS))
    assert not [path for path in tmp_path.iterdir() if path.suffix not in {".json", ".npy"}]


def test_the_exported_graph_is_valid_and_agrees(student: LinearStudent, tmp_path: Path) -> None:
    check_export(student, tmp_path, [*TEXTS, "", "unheard-of"])


def test_after_a_passed_deadline_the_student_predicts() -> None:
    student = LinearStudent(StudentConfig(LABELS)).fit(TrainingData(TEXTS, ONE_HOT, time_limit_s=0.0))
    assert np.allclose(student.predict_proba(TEXTS).sum(axis=1), 1, atol=1e-5)


def test_unknown_options_and_weights_are_refused() -> None:
    with pytest.raises(BadSpec, match="has no option 'epoch'"):
        LinearStudent(StudentConfig(LABELS, options={"epoch": 3}))
    with pytest.raises(BadSpec, match="starts from no weights"):
        LinearStudent(StudentConfig(LABELS, weights="minilm"))


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (np.zeros((0, 3)), "no rows"),
        (np.ones((2, 2)) / 2, "shape"),
        (np.ones(2), "shape"),
        (np.array([[1, 0, 0], [np.nan, 0, 1]]), "row 1 holds NaN"),
        (np.array([[1, 0, 0], [np.inf, 0, 1]]), "row 1 holds NaN or infinity"),
        (np.array([[1, 0, 0], [-0.5, 0.5, 1]]), "row 1 is negative"),
        (np.array([[1, 0, 0], [0.5, 0.4, 0]]), "row 1 sums to 0.9"),
        (np.array([[1, 0, 0], [1, 0, 0]]), "same label"),
    ],
)
def test_invalid_targets_are_refused(targets: Any, message: str) -> None:
    texts = ["one", "two"][: len(targets)]
    with pytest.raises(BadData, match=message) as caught:
        check_training_data(TrainingData(texts, targets.astype(np.float32)), 3)
    assert caught.value.hint


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [1.0, float("nan")], [0.0, 0.0]])
def test_invalid_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(BadData, match=r"[Ww]eigh"):
        check_training_data(TrainingData(["one", "two"], ONE_HOT[[0, 20]], np.array(weights, np.float32)), 3)


def test_soft_targets_with_one_top_label_are_accepted_with_a_warning() -> None:
    targets = np.array([[0.9, 0.1, 0.0], [0.6, 0.2, 0.2]], np.float32)
    with pytest.warns(UserWarning, match="column 0 is the likeliest label of all 2 rows"):
        check_training_data(TrainingData(["one", "two"], targets), 3)


def test_rows_are_held_out_by_their_content() -> None:
    texts = [f"text {i}" for i in range(1000)]
    hold_out = hash_split(texts, 0, 0.2).validation
    reversed_hold_out = hash_split(texts[::-1], 0, 0.2).validation
    assert np.array_equal(hold_out, reversed_hold_out[::-1])
    assert 120 < hold_out.sum() < 280
