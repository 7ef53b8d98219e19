"""Checks of training data and class weights; unusual data are accepted, or refused with one sentence and a hint."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.api import distill
from potstill.api.sklearn import Classifier
from potstill.bundle.bundle import load
from potstill.bundle.export.export import export
from potstill.data.pool import PoolOptions, build_pool
from potstill.data.tables import Table
from potstill.data.task import Task
from potstill.errors import BadData, BadSpec, PotstillError
from potstill.students import REGISTRY
from potstill.students.base import Student, StudentConfig, TrainingData
from potstill.students.training_data import apply_class_weights, check_training_data

WORDS = ("soup", "goal", "bank", "rain", "song")


def unbalanced(n: int = 200, k: int = 3) -> TrainingData:
    """Label 0 nearly everywhere, the others a few times; every word is of one label, but one word is of all."""
    rows = [0] * (n - 3 * (k - 1)) + [label for label in range(1, k) for _ in range(3)]
    texts = [f"{WORDS[row]} {i % 7} anyhow" for i, row in enumerate(rows)]
    return TrainingData(texts, np.eye(k, dtype=np.float32)[rows])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(0, 5))
def test_balanced_weights_equalise_labels_and_keep_the_total(rows: list[int], seed: int) -> None:
    targets = np.eye(4, dtype=np.float32)[rows]
    weights = np.random.default_rng(seed).uniform(0.5, 2, len(rows)).astype(np.float32)
    balanced = apply_class_weights(targets, weights, "balanced", "abcd")
    assert balanced is not None
    mass = balanced @ targets
    assert mass[mass > 0] == pytest.approx(weights.sum() / (mass > 0).sum(), rel=1e-4)
    assert balanced.sum() == pytest.approx(weights.sum(), rel=1e-4)


def test_class_weights_equal_those_of_scikit_learn() -> None:
    from sklearn.utils.class_weight import compute_sample_weight

    rows = np.array([0, 0, 0, 1, 2, 2])
    ours = apply_class_weights(np.eye(3, dtype=np.float32)[rows], None, "balanced", "abc")
    assert ours == pytest.approx(compute_sample_weight("balanced", rows))


def test_class_weights_of_soft_targets_and_label_sets_are_averaged() -> None:
    soft = np.array([[0.5, 0.5], [1, 0]], dtype=np.float32)
    assert apply_class_weights(soft, None, {"b": 3}, "ab") == pytest.approx([2, 1])
    sets = np.array([[1, 1], [0, 0], [0, 1]], dtype=np.float32)
    assert apply_class_weights(sets, None, {"b": 3}, "ab", multi=True) == pytest.approx([2, 1, 3])
    assert apply_class_weights(soft, None, None, "ab") is None


@pytest.mark.parametrize("class_weights", ["even", 2, {"c": 1}, {"a": 0}, {"a": -1}, {"a": float("nan")}, {"a": True}])
def test_invalid_class_weights_are_refused(class_weights: object) -> None:
    with pytest.raises(BadSpec, match="class_weights"):
        apply_class_weights(np.eye(2, dtype=np.float32), None, class_weights, "ab")


@pytest.mark.parametrize("kind", ["linear", "static"])
def test_a_rare_label_is_predicted_more_often_with_balanced_weights(kind: str, request: pytest.FixtureRequest) -> None:
    if kind == "static":
        request.getfixturevalue("weights_of")("potion-8m")
    data = unbalanced()
    seen = ["anyhow 3", "anyhow"]  # words that say nothing
    plain, fair = (
        Classifier(kind, {"c": 1.0, **({"epochs": 0} if kind == "static" else {}), **extra})
        .fit(data.texts, data.targets.argmax(1))
        .predict_proba(seen)[:, 1:]
        .sum(axis=1)
        for extra in ({}, {"class_weights": "balanced"})
    )
    assert (fair > plain + 0.1).all()


def test_a_run_reads_class_weights_from_its_student_table(tmp_path: Path) -> None:
    data = unbalanced(120, 2)
    table = tmp_path / "data.csv"
    rows = zip(data.texts, data.targets.argmax(1), strict=True)
    table.write_text(
        "text,label\n" + "".join(f"{text} {i},l{k}\n" for i, (text, k) in enumerate(rows)), encoding="utf-8"
    )
    toml = tmp_path / "potstill.toml"
    for nth, extra in enumerate(("", 'class_weights = "balanced"\n', "[student.class_weights]\nl9 = 2\n")):
        toml.write_text(
            f'budget = 1\n[data]\nfile = "{table}"\nvalidation_share = 0\n'
            f'[procedure]\nname = "finetune"\n[student]\nname = "linear"\n{extra}',
            encoding="utf-8",
        )
        if nth == 2:
            with pytest.raises(BadSpec, match="'l9', which is not a label"):
                distill(toml, out=tmp_path / str(nth))
        else:
            distill(toml, out=tmp_path / str(nth))
    plain, fair = (load(tmp_path / str(nth)).predict_logits(["anyhow"])[0] for nth in (0, 1))
    assert fair[1] - fair[0] > plain[1] - plain[0]


# --- awkward data --------------------------------------------------------------------------------------------


def linear(k: int, **options: object) -> Student:
    student: Student = REGISTRY.resolve("linear")(StudentConfig(tuple(f"l{i}" for i in range(k)), options=options))
    return student


@pytest.mark.parametrize("k", [2, 52, 335])
def test_any_number_of_labels_is_trained_and_exported(k: int, tmp_path: Path) -> None:
    texts = [f"word{i % k} and {'ab'[i // k]}" for i in range(2 * k)]
    student = linear(k, c=100.0).fit(TrainingData(texts, np.eye(k, dtype=np.float32)[[i % k for i in range(2 * k)]]))
    done = export(student, tmp_path / "bundle", task=Task(student.labels), texts=texts[:50])
    predictions = load(done.folder).predict(texts)
    assert np.mean([label == f"l{i % k}" for i, label in enumerate(predictions)]) > 0.95


def test_fewer_rows_than_labels_and_a_label_without_rows_are_accepted() -> None:
    student = linear(5).fit(TrainingData(["soup", "goal"], np.eye(5, dtype=np.float32)[[0, 3]]))
    probs = student.predict_proba(["soup"])
    assert probs.argmax() == 0
    assert (probs > 0).all()


def test_a_label_without_rows_is_warned_about_and_kept() -> None:
    table = {"text": [f"text {i}" for i in range(40)], "label": ["a", "b"] * 20}
    built = build_pool(Table.from_columns(table), labels=["a", "b", "c"])
    assert built.pool.labels == ("a", "b", "c")
    assert any("No row of train has the label 'c'" in warning for warning in built.report.warnings)


def test_a_single_label_is_refused_in_files_and_in_training_data() -> None:
    with pytest.raises(BadData, match="at least two labels"):
        build_pool(Table.from_columns({"text": ["a", "b"], "label": ["x", "x"]}))
    with pytest.raises(BadData, match="Every row has the same label"):
        linear(2).fit(TrainingData(["a", "b"], np.eye(2, dtype=np.float32)[[0, 0]]))


def test_extreme_imbalance_keeps_the_rarest_label_in_train() -> None:
    table = {"text": [f"text number {i}" for i in range(3000)], "label": ["common"] * 2997 + ["rare"] + ["scarce"] * 2}
    pool = build_pool(Table.from_columns(table)).pool
    assert pool.counts("train")["rare"] == 1
    assert pool.counts("train")["scarce"] >= 1
    assert pool.counts("test")["common"] > 100
    warned = build_pool(Table.from_columns(table)).report.warnings
    assert any("Only one row of train has the label 'rare'" in each for each in warned)


def test_other_scripts_and_emoji_are_classified() -> None:
    texts = [
        "Это суп",
        "スープです",
        "🍲🥣",
        "c'est du café",
        "هذا حساء",
        "गोल हुआ",
        "ゴール",
        "⚽️🥅",
        "tor geschossen",
        "هدف",
    ]
    student = linear(2, c=100.0).fit(TrainingData(texts, np.eye(2, dtype=np.float32)[[0] * 5 + [1] * 5]))
    assert (student.predict_proba(texts).argmax(1) == [0] * 5 + [1] * 5).all()


def test_rows_that_are_empty_after_cleaning_are_dropped_and_counted() -> None:
    table = {"text": ["soup", " \t ", "\u3000", "goal", None, "bank"], "label": list("ababab")}
    built = build_pool(Table.from_columns(table), options=PoolOptions(test_share=0, validation_share=0))
    assert built.report.cleaning.empty == 3
    assert len(built.pool) == 3


@pytest.mark.parametrize("text", [None, b"soup", 3, ["soup"], float("nan")])
def test_a_text_that_is_no_string_is_named_by_its_row(text: object) -> None:
    with pytest.raises(BadData, match=r"Text 2 is .*, not a string"):
        linear(2).fit(TrainingData(["a", text], np.eye(2, dtype=np.float32)))  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("row", "reason"),
    [([np.nan, 1], "NaN"), ([np.inf, 0], "NaN or infinity"), ([-0.5, 1.5], "negative"), ([0.6, 0.6], "sums to 1.2")],
)
def test_targets_that_are_no_probabilities_are_named_by_their_row(row: list[float], reason: str) -> None:
    targets = np.array([[1, 0], [0, 1], row], dtype=np.float32)
    with pytest.raises(BadData, match=reason) as caught:
        check_training_data(TrainingData(["a", "b", "c"], targets), 2)
    assert "row 2" in str(caught.value)
    assert isinstance(caught.value, PotstillError)
    assert caught.value.hint


def test_targets_rounded_to_half_precision_are_accepted() -> None:
    soft = np.random.default_rng(0).dirichlet(np.ones(77), 50).astype(np.float16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checked = check_training_data(TrainingData([str(i) for i in range(50)], soft.astype(np.float32)), 77)
    assert checked.targets.sum(axis=1) == pytest.approx(1, abs=1e-6)
