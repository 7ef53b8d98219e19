"""A student as a scikit-learn classifier, for pipelines, searches and joblib.

The only file that imports scikit-learn at its top; `potstill.Classifier` loads it lazily. Does not cover teachers,
budgets and soft labels (`potstill.distill` does), or multi-label tasks.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from potstill.data.column_guess import ColumnNames, guess_columns
from potstill.data.frames import frame_column, frame_columns, open_frame, plain_list, read_frame
from potstill.data.paths import as_path
from potstill.errors import BadData
from potstill.students import BASELINE_STUDENT, REGISTRY
from potstill.students.base import CLASS_WEIGHTS, Student, StudentConfig, TrainingData
from potstill.students.training_data import apply_class_weights

STATE_FILES_KEY = "student_files"
MIN_CALIBRATION_TEXTS = 50  # texts below which a calibration is noise


class BadTrainingData(BadData, ValueError):
    """Texts or labels that cannot be trained on; scikit-learn expects a ValueError."""


class Classifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A small text classifier, trained on labelled texts.

    Args:
        student: the kind and, after a colon, the weights it starts from: "linear", "static", "encoder:minilm".
        options: that kind's own options (`{"c": 10.0}`, `{"epochs": 3}`), and for every kind `class_weights`
            ("balanced", or label -> weight); None takes its defaults.
        seed: of everything random.

    Attributes:
        classes_: (K,) the labels, sorted; columns of `predict_proba` are in this order.
        student_: the trained student.
        text_column_: the column of a data frame that it was trained on; only after `fit` with one.
    """

    def __init__(
        self, student: str = BASELINE_STUDENT, options: Mapping[str, Any] | None = None, seed: int = 0
    ) -> None:
        self.student = student
        self.options = options
        self.seed = seed

    def fit(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Train from scratch.

        Args:
            X: N texts: a list, an array, a column of a data frame; or one column of shape (N, 1). Or a data frame
                (pandas, polars, Arrow, a data set, a list of dictionaries), whose column of texts is guessed; a warning
                says which it is, and `predict` takes the same.
            y: N labels of any type that sorts; of a data frame the name of its column, or None to guess it.
            sample_weight: (N,) the weight of each text; texts of weight zero are left out.

        Raises:
            BadTrainingData: no texts, or not strings; lengths that differ; fewer than two classes; a NaN or negative
                weight.
            UnknownName, BadSpec, MissingWeights: no such student, option or weights.
        """
        X, y = self._read_frame(X, y)
        texts = _texts(X)
        if y is None:
            raise BadTrainingData(
                "A classifier requires y to be passed, but the target y is None.", "Give a label a text."
            )
        labels = np.asarray(y)
        missing = [row for row, label in enumerate(np.asarray(y, dtype=object).ravel()) if _is_missing(label)]
        if missing:
            raise BadTrainingData(
                f"Label {missing[0]} is missing (y contains NaN or None), as are {len(missing):,} in all.",
                "Leave those texts out, or label them.",
            )
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if labels.shape != (len(texts),):
            raise BadTrainingData(f"{len(texts)} texts and labels of shape {labels.shape}.", "Give one label per text.")
        check_classification_targets(labels)
        weights = _weights(sample_weight, len(texts))
        if weights is not None and not weights.all():
            used = np.flatnonzero(weights)
            texts, labels, weights = [texts[row] for row in used], labels[used], weights[used]
        self.classes_, columns = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise BadTrainingData("All texts are of one class, and a classifier needs two.", "Add texts of another.")
        kind, _, model = self.student.partition(":")
        options = dict(self.options or {})
        config = StudentConfig(tuple(map(str, self.classes_)), weights=model, options=options)
        targets = np.eye(len(self.classes_), dtype=np.float32)[columns]
        weights = apply_class_weights(targets, weights, options.get(CLASS_WEIGHTS), config.labels)
        student: Student = REGISTRY.resolve(kind)(config)
        student.check_requirements()
        self.student_ = student.fit(TrainingData(texts, targets, sample_weight=weights, seed=self.seed))
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """(N,) the most probable label of each text, of the type given to `fit`."""
        columns = self._fitted().predict_logits(self._texts(X)).argmax(axis=1)
        return np.asarray(self.classes_[columns])

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """(N, K) probabilities in the order of `classes_`; rows sum to one."""
        return self._fitted().predict_proba(self._texts(X))

    def export(self, folder: str | Path, texts: Any, y: Any = None) -> Path:
        """Write the student as a bundle, which predicts without scikit-learn and torch: `potstill.load(folder)`.

        Args:
            folder: where it goes; absent, empty, or a bundle.
            texts: texts to check it on, best ones it was not trained on.
            y: their labels; with 50 or more the bundle is calibrated on them, so they must not be training texts.

        Raises:
            BadTrainingData: a label that is none of `classes_`.
            BadData, RunNotFound: see `potstill.bundle.export.export.export`.
        """
        from potstill.bundle.export.export import export
        from potstill.data.task import Task

        held_out, gold = self._texts(texts), None
        student = self._fitted()
        if y is not None:
            labels = np.asarray(y)
            if labels.shape != (len(held_out),) or not np.isin(labels, self.classes_).all():
                raise BadTrainingData("Some labels to calibrate with are not in `classes_`.", "Leave the others out.")
            gold = np.searchsorted(self.classes_, labels)
        calibrate = gold is not None and len(gold) >= MIN_CALIBRATION_TEXTS
        export(student, as_path(folder), task=Task(student.labels), texts=held_out, gold=gold, calibrate=calibrate)
        return as_path(folder)

    def __sklearn_tags__(self) -> Any:
        """Texts in, one dimension; no numbers, and so no check of numbers."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """For joblib and copies: the trained student as the bytes of the files it saves, never as an object."""
        state = dict(super().__getstate__())
        student = state.pop("student_", None)
        state.pop("_folder", None)
        if student is not None:
            with TemporaryDirectory(prefix="potstill-") as folder:
                student.save(Path(folder))
                files = sorted(file for file in Path(folder).rglob("*") if file.is_file())
                state[STATE_FILES_KEY] = {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The student that was saved, predicting exactly the same."""
        state = dict(state)
        files = state.pop(STATE_FILES_KEY, None)
        super().__setstate__(state)
        if files is not None:
            # Kept as long as the classifier: a student may read its tokenizer again when it is saved or exported.
            self._folder = TemporaryDirectory(prefix="potstill-")
            for name, data in files.items():
                file = Path(self._folder.name) / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)
            self.student_ = REGISTRY.resolve(self.student.partition(":")[0]).load(Path(self._folder.name))

    def _read_frame(self, X: Any, y: Any) -> tuple[Any, Any]:
        """The texts and labels of a data frame of several columns; all else as it is."""
        self.__dict__.pop("text_column_", None)
        X = open_frame(X)
        columns = None if isinstance(X, str | Mapping) else frame_columns(X)
        if columns is None or (len(columns) < 2 and y is not None):
            return X, y
        label = y if isinstance(y, str) else ""
        guess = guess_columns(
            read_frame(X, "The data frame"), ColumnNames(label=label), unlabelled=y is not None and not label
        )
        self.text_column_ = guess.text
        read = [f"the texts from {guess.text!r}"]
        if y is None and guess.label:
            label = guess.label
            read.append(f"the labels from {label!r}")
        warnings.warn(
            f"A data frame is read by a guess: {' and '.join(read)}. Give the columns to name them: "
            f"fit(frame[{guess.text!r}], frame[{label or 'label'!r}]).",
            stacklevel=3,
        )
        return frame_column(X, guess.text), frame_column(X, label) if label else y

    def _texts(self, X: Any) -> list[str]:
        """The texts to predict, of a data frame those of the column it was trained on."""
        self._fitted()
        X = open_frame(X)
        columns = None if isinstance(X, str | Mapping) else frame_columns(X)
        if columns is None or len(columns) < 2:
            return _texts(X)
        wanted = getattr(self, "text_column_", "")
        if wanted not in columns:
            why = f"no column {wanted!r}, which it was trained on" if wanted else "several columns"
            raise BadTrainingData(
                f"The data frame has {why}; it has {', '.join(map(repr, columns))}.", "Give its column of texts."
            )
        return _texts(frame_column(X, wanted))

    def _fitted(self) -> Student:
        check_is_fitted(self, "student_")
        student: Student = self.student_
        return student


def _texts(given: Any) -> list[str]:
    """The texts as a list, whatever they came in."""
    if isinstance(given, str | bytes | Mapping) or not hasattr(given, "__len__"):
        raise BadTrainingData(f"One {type(given).__name__} is not a list of texts.", "Give a list of strings.")
    columns = frame_columns(given)
    if columns is not None and len(columns) == 1:
        values: Any = frame_column(given, columns[0])
    else:
        values = given if isinstance(given, list | tuple) else plain_list(given)
    texts = [each[0] if isinstance(each, list | tuple) and len(each) == 1 else each for each in values]
    if not texts:
        raise BadTrainingData(
            "There are no texts: 0 sample(s) while a minimum of 1 is required.", "Give at least one text."
        )
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise BadTrainingData(
                f"Text {row} is of type {type(text).__name__}, not a string.", "Give a list of strings."
            )
    return texts


def _weights(given: ArrayLike | None, n: int) -> NDArray[np.float32] | None:
    if given is None:
        return None
    weights = np.asarray(given, dtype=np.float32)
    weights = np.full(n, weights, dtype=np.float32) if weights.ndim == 0 else weights
    if weights.shape != (n,) or not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise BadTrainingData(
            f"sample_weight of shape {weights.shape} for {n} texts is not finite, or negative, or all zero.",
            "Give one weight a text, none below zero and one above.",
        )
    return weights


def _is_missing(label: Any) -> bool:
    return label is None or type(label).__name__ == "NAType" or (isinstance(label, float) and label != label)
