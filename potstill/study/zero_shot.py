"""The zero-shot encoder: a text gets the label whose name (and description) lies nearest to it. No gold at all.

An encoder does so by itself, with a label head that has learnt nothing; static vectors are compared by cosine here.
Does not learn, and does not calibrate.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from potstill.data.task import Task
from potstill.errors import BadSpec
from potstill.models.features import SubwordVectorizer
from potstill.models.weights import find_weights
from potstill.run.spec import ComponentSpec
from potstill.students import REGISTRY
from potstill.students.base import Floats, Student, StudentConfig, TrainingData
from potstill.students.distill_embeddings import load_token_embeddings
from potstill.students.label_names import label_texts
from potstill.students.logistic_regression import to_csr

MAX_TOKENS = 256


def zero_shot_labels(named: ComponentSpec, task: Task, texts: Sequence[str]) -> NDArray[np.int64]:
    """(N,) columns of the labels nearest to N texts, by an encoder or by static vectors as they come.

    Raises:
        BadSpec: the names of the labels say nothing.
    """
    if named.kind == "static":
        return _static(named.model, task, texts)
    make = StudentConfig(task.labels, named.model, task.descriptions, {"mode": "frozen", "head": "label"})
    student: Student = REGISTRY.resolve(named.kind)(make)
    student.fit(TrainingData((), np.zeros((0, task.n_labels), dtype=np.float32)))
    return np.asarray(student.predict_logits(texts).argmax(axis=1), dtype=np.int64)


def _static(weights: str, task: Task, texts: Sequence[str]) -> NDArray[np.int64]:
    said = label_texts(task.labels, task.descriptions)
    if not said.covers_all(task.n_labels):
        raise BadSpec("Not every label has a name in words.", "Describe the labels.")
    start = load_token_embeddings(find_weights(weights or "potion-8m"))
    reader = SubwordVectorizer(start.tokenizer, MAX_TOKENS)

    def vectors(some: Sequence[str]) -> Floats:
        means = np.asarray(to_csr(reader.transform(some), len(start.embeddings)) @ start.embeddings, dtype=np.float32)
        return np.asarray(means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), np.float32(1e-6)))

    names = np.zeros((task.n_labels, start.embeddings.shape[1]), dtype=np.float32)
    np.add.at(names, list(said.columns), vectors(said.texts))
    return np.asarray((vectors(texts) @ names.T).argmax(axis=1), dtype=np.int64)
