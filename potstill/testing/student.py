"""The contract of every student, as tests on a small separable task. Does not test accuracy on real data, or speed."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar
from unittest import SkipTest

import numpy as np
from numpy.typing import NDArray

from potstill.data.pairs import join_pair, split_pair
from potstill.data.task import TaskKind
from potstill.errors import BadData, PotstillError
from potstill.evaluation.calibration import sigmoid, softmax
from potstill.students.base import Floats, Student, StudentConfig, TrainingData
from potstill.testing.checks import ODD_TEXTS, check


class StudentContract:
    """The contract of every student. Override `make_student`, and what is different below.

    Attributes:
        rejects_empty: whether training data without rows are refused; some students begin from the names of the labels.
        min_accuracy: the accuracy it reaches on its training texts, which are easily separable.
        tolerance: how much two predictions of one text may differ between batches.
        task_kind: the kind of task; see also `PairStudentContract`.
        labels: the label names.
        words: for each label the words of its texts.
    """

    rejects_empty: ClassVar[bool] = True
    min_accuracy: ClassVar[float] = 0.9
    tolerance: ClassVar[float] = 1e-4
    task_kind: ClassVar[TaskKind] = "single"
    labels: ClassVar[tuple[str, ...]] = ("food", "sport", "money")
    words: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("soup", "bread", "cheese", "dinner", "apple", "kitchen"),
        ("match", "goal", "referee", "tennis", "runner", "stadium"),
        ("bank", "loan", "market", "shares", "profit", "invoice"),
    )
    _fitted: Student | None = None

    def make_student(self, config: StudentConfig) -> Student:
        """A new, untrained student of this kind."""
        raise NotImplementedError

    # --- the training data -------------------------------------------------------------------------------------

    def training_data(self) -> TrainingData:
        """36 short texts of three labels, one-hot."""
        texts, rows = [], []
        for column, words in enumerate(self.words):
            for i, word in enumerate(words):
                texts += [f"the {word} and the {words[i - 1]}", f"one {word}, please, or a {words[i - 2]}"]
                rows += [column, column]
        return TrainingData(texts, np.eye(len(self.labels), dtype=np.float32)[rows], seed=1)

    def _fit(self, data: TrainingData) -> Student:
        return self.make_student(StudentConfig(self.labels, kind=self.task_kind)).fit(data)

    def _fitted_student(self) -> Student:
        """One student for all tests that only predict with it."""
        # Looked up in the class itself: a subclass of a suite fits a student of its own.
        fitted: Student | None = vars(type(self)).get("_fitted")
        if fitted is None:
            fitted = type(self)._fitted = self._fit(self.training_data())
        return fitted

    def _near(self, one: NDArray[Any], other: NDArray[Any], what: str, within: float | None = None) -> None:
        gap = float(np.abs(one - other).max(initial=0.0)) if one.shape == other.shape else math.inf
        check(gap <= (self.tolerance if within is None else within), f"{what}: they differ by {gap:.2g}")

    def test_it_learns_a_separable_task(self) -> None:
        """Its training texts of three topics are classified correctly."""
        data = self.training_data()
        right = (self._fitted_student().predict_proba(data.texts).argmax(1) == data.targets.argmax(1)).mean()
        check(right >= self.min_accuracy, f"its accuracy on its training texts is {right:.2f}")

    def test_predictions_are_rows_of_probabilities(self) -> None:
        """(N, K) float32, finite, rows sum to one, and the softmax of the logits."""
        student, texts = self._fitted_student(), self.training_data().texts
        logits, probs = student.predict_logits(texts), student.predict_proba(texts)
        shape = (len(texts), len(self.labels))
        check(tuple(student.labels) == self.labels, f"its labels are {student.labels}")
        for name, array in (("logits", logits), ("probabilities", probs)):
            check(array.shape == shape, f"{name} of shape {array.shape}, not {shape}")
            check(array.dtype == np.float32, f"{name} of {array.dtype}")
            check(np.isfinite(array).all(), f"{name} are not finite")
        self._near(probs.sum(1), np.ones(len(texts)), "rows that do not sum to one", 1e-5)
        self._near(probs, softmax(logits), "probabilities and the softmax of the logits", 1e-5)

    def test_a_prediction_does_not_depend_on_the_batch(self) -> None:
        """Order and batch do not matter."""
        student, texts = self._fitted_student(), list(self.training_data().texts)
        probs = student.predict_proba(texts)
        self._near(student.predict_proba(texts[::-1])[::-1], probs, "in another order")
        self._near(np.concatenate([student.predict_proba([text]) for text in texts[:6]]), probs[:6], "one by one")
        beside = student.predict_proba([texts[0], "a much longer text " * 40])[:1]
        self._near(beside, probs[:1], "beside a longer text")

    def test_any_text_gets_an_answer(self) -> None:
        """Odd texts, and none at all."""
        student = self._fitted_student()
        probs = student.predict_proba(list(ODD_TEXTS))
        check(np.isfinite(probs).all(), "an odd text has no probabilities")
        check(student.predict_proba([]).shape == (0, len(self.labels)), "no texts are not (0, K)")

    def test_representations_are_one_row_a_text(self) -> None:
        """(N, D) float32, finite."""
        found = self._fitted_student().embed(list(self.training_data().texts[:5]))
        check(found.ndim == 2 and len(found) == 5 and found.shape[1] > 0, f"shape {found.shape}")
        check(found.dtype == np.float32 and np.isfinite(found).all(), f"{found.dtype}, or not finite")

    def test_equal_training_data_give_equal_students(self) -> None:
        """On a CPU; and weights of one are no weights."""
        data = self.training_data()
        again = self._fit(replace(data, sample_weight=np.ones(len(data.texts), dtype=np.float32)))
        self._near(
            again.predict_proba(data.texts),
            self._fitted_student().predict_proba(data.texts),
            "two trainings on equal data",
            1e-5,
        )

    def test_the_order_of_the_rows_does_not_matter(self) -> None:
        """Not beyond rounding."""
        data = self.training_data()
        order = np.random.default_rng(5).permutation(len(data.texts))
        again = self._fit(replace(data, texts=[data.texts[i] for i in order], targets=data.targets[order]))
        probs = self._fitted_student().predict_proba(data.texts)
        self._near(again.predict_proba(data.texts), probs, "training rows in another order", max(self.tolerance, 1e-3))

    def test_hard_labels_are_targets_of_one(self) -> None:
        """One-hot targets of whole numbers give the same student as those of floats."""
        data = self.training_data()
        again = self._fit(replace(data, targets=data.targets.astype(np.int64)))  # type: ignore[arg-type]
        probs = self._fitted_student().predict_proba(data.texts)
        self._near(again.predict_proba(data.texts), probs, "targets of whole numbers", 1e-5)

    def test_soft_targets_give_softer_predictions(self) -> None:
        """A student of targets such as 60:20:20 or 70:30 is less confident than one of labels."""
        data = self.training_data()
        soft = (0.4 * data.targets + 0.6 / len(self.labels)).astype(np.float32)
        unsure = self._fit(replace(data, targets=soft)).predict_proba(data.texts).max(1).mean()
        sure = self._fitted_student().predict_proba(data.texts).max(1).mean()
        check(unsure < sure - 0.05, f"its confidence is {unsure:.2f}, and {sure:.2f} after hard labels")

    def test_bad_targets_are_refused(self) -> None:
        """No rows, a wrong shape, NaN, negative, not summing to one: BadData each."""
        data = self.training_data()
        wrong: dict[str, Callable[[Floats], Floats]] = {
            "too few rows": lambda rows: rows[:-1],
            "too few columns": lambda rows: rows[:, :-1],
            "NaN": lambda rows: np.where(rows == 1, np.nan, rows),
            "negative": lambda rows: np.where(rows == 0, -0.5, 2.0),
            "sums of two": lambda rows: rows * 2,
        }
        for what, change in wrong.items():
            self._refuses(replace(data, targets=change(data.targets).astype(np.float32)), what)
        if self.rejects_empty:
            self._refuses(replace(data, texts=[], targets=data.targets[:0]), "no rows")

    def _refuses(self, data: TrainingData, what: str) -> None:
        try:
            self._fit(data)
        except BadData:
            return
        except Exception as error:
            raise AssertionError(f"{what}: {type(error).__name__} instead of BadData") from error
        raise AssertionError(f"{what}: it was accepted")

    def test_a_time_limit_ends_training_cleanly(self) -> None:
        """With next to no time it stops and can predict."""
        data = self.training_data()
        probs = self._fit(replace(data, time_limit_s=0.001)).predict_proba(data.texts)
        check(np.isfinite(probs).all(), "no probabilities after a time limit")

    def test_a_saved_student_loads_as_it_was(self) -> None:
        """The same predictions to the last bit, from files that are not pickled."""
        student, texts = self._fitted_student(), self.training_data().texts
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            student.save(folder)
            pickled = [path.name for path in folder.rglob("*") if path.is_file() and _is_pickle(path)]
            check(not pickled, f"pickled: {pickled}")
            loaded = type(student).load(folder)
            check(tuple(loaded.labels) == self.labels, f"its labels are {loaded.labels}")
            self._near(loaded.predict_logits(texts), student.predict_logits(texts), "after loading", 0.0)

    def test_the_exported_graph_runs(self) -> None:
        """`model.onnx` opens in onnxruntime and gives (N, K) for any batch."""
        try:
            import onnxruntime
        except ModuleNotFoundError:
            raise SkipTest("onnxruntime is not installed") from None
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            try:
                graph = self._fitted_student().export(folder)
            except PotstillError as error:
                raise SkipTest(str(error)) from None
            json.dumps(dict(graph.preprocessor_config.to_json()))
            session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
            for n, t in ((1, 3), (4, 7)):
                fed = {
                    port.name: np.ones((n, t) if len(port.shape) == 2 else (n,), dtype=_dtype(port.type))
                    for port in session.get_inputs()
                }
                got = session.run(None, fed)[0]
                check(got.shape == (n, len(self.labels)), f"a batch of {n} gives {got.shape}")


class PairStudentContract(StudentContract):
    """The same contract for a student of pairs of texts: do they have the same topic?"""

    task_kind: ClassVar[TaskKind] = "pair"
    labels: ClassVar[tuple[str, ...]] = ("same", "other")

    def training_data(self) -> TrainingData:
        """72 short pairs of two labels, one-hot. Those of the same topic share a word."""
        texts: list[str] = []
        rows: list[int] = []
        for column, words in enumerate(self.words):
            beside = self.words[column - 1]
            for i, word in enumerate(words):
                for other, label in ((word, 0), (word, 0), (beside[i - 1], 1), (beside[i - 2], 1)):
                    end = f"and the {words[i - 1]}" if len(texts) % 2 else "please"
                    texts.append(join_pair(f"the {word} {end}", f"one {other}, or a {other}"))
                    rows.append(label)
        return TrainingData(texts, np.eye(2, dtype=np.float32)[rows], seed=1)

    def test_it_reads_both_texts(self) -> None:
        """Another second text gives other probabilities."""
        texts = list(self.training_data().texts[:8])
        swapped = [join_pair(split_pair(text)[0], "the referee and the loan") for text in texts]
        student = self._fitted_student()
        gap = float(np.abs(student.predict_proba(texts) - student.predict_proba(swapped)).max())
        check(gap > 1e-3, f"with another second text the probabilities move by {gap:.2g}")


class MultiLabelStudentContract(StudentContract):
    """The same contract for a student that gives a text several labels, or none."""

    task_kind: ClassVar[TaskKind] = "multi"

    def training_data(self) -> TrainingData:
        """60 short texts of no, one or two of three labels."""
        texts: list[str] = []
        rows: list[list[int]] = []
        for i in range(6):
            for columns in ((0,), (1,), (2,), (0, 1), (1, 2), (0, 2)):
                chosen = [self.words[k][i] for k in columns]
                texts.append(f"the {' and the '.join(chosen)}")
                rows.append([int(k in columns) for k in range(3)])
        for i, words in enumerate(self.words):
            texts += [f"one {word}, please" for word in words]
            rows += [[int(k == i) for k in range(3)]] * len(words)
        texts += [f"{word} or a much longer text" for word in ("one", "the", "please", "and", "a", "or")]
        rows += [[0, 0, 0]] * 6
        return TrainingData(texts, np.array(rows, dtype=np.float32), seed=1)

    def test_it_learns_a_separable_task(self) -> None:
        """Its training texts get the right sets of labels."""
        data = self.training_data()
        right = ((self._fitted_student().predict_proba(data.texts) > 0.5) == (data.targets > 0.5)).mean()
        check(right >= self.min_accuracy, f"it is right in {right:.2f} of the decisions on its training texts")

    def test_predictions_are_rows_of_probabilities(self) -> None:
        """(N, K) float32, finite, in [0, 1], and the sigmoid of the logits."""
        student, texts = self._fitted_student(), self.training_data().texts
        logits, probs = student.predict_logits(texts), student.predict_proba(texts)
        for name, array in (("logits", logits), ("probabilities", probs)):
            check(array.shape == (len(texts), len(self.labels)), f"{name} of shape {array.shape}")
            check(array.dtype == np.float32 and np.isfinite(array).all(), f"{name} of {array.dtype}, or not finite")
        check((probs >= 0).all() and (probs <= 1).all(), "probabilities outside [0, 1]")
        self._near(probs, sigmoid(logits), "probabilities and the sigmoid of the logits", 1e-5)

    def test_soft_targets_give_softer_predictions(self) -> None:
        """A student of targets of 80:20 is less confident than one of labels."""
        data = self.training_data()
        soft = (0.6 * data.targets + 0.2).astype(np.float32)
        unsure, sure = (
            np.abs(student.predict_proba(data.texts) - 0.5).mean()
            for student in (self._fit(replace(data, targets=soft)), self._fitted_student())
        )
        check(unsure < sure - 0.03, f"it is {unsure:.2f} off even, and {sure:.2f} after hard labels")

    def test_bad_targets_are_refused(self) -> None:
        """No rows, a wrong shape, NaN, negative, above one, one set for all: BadData each."""
        data = self.training_data()
        wrong: dict[str, Floats] = {
            "too few rows": data.targets[:-1],
            "too few columns": data.targets[:, :-1],
            "NaN": np.where(data.targets == 1, np.nan, data.targets),
            "negative": np.where(data.targets == 0, -0.5, data.targets),
            "above one": data.targets * 2,
            "one set for all": np.ones_like(data.targets),
        }
        for what, targets in wrong.items():
            self._refuses(replace(data, targets=targets.astype(np.float32)), what)
        self._refuses(replace(data, texts=[], targets=data.targets[:0]), "no rows")


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(2)
    # A pickle of protocol 2 and later opens with 0x80 and its number; a torch archive is a zip with one inside.
    return (len(head) == 2 and head[0] == 0x80 and 2 <= head[1] <= 5) or path.suffix in (".pkl", ".pt", ".pth", ".bin")


def _dtype(name: str) -> type[np.generic]:
    kinds: dict[str, type[np.generic]] = {
        "tensor(int64)": np.int64,
        "tensor(int32)": np.int32,
        "tensor(float)": np.float32,
    }
    return kinds[name]
