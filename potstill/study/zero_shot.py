"""The zero-shot encoder: a text gets the label whose name (and description) is nearest to it in embedding space.

An encoder predicts with its label head, untrained; static vectors are compared by cosine here. Nothing is trained or
calibrated.
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
from potstill.students.base import Floats, StudentConfig, TrainingData
from potstill.students.distill_embeddings import load_token_embeddings
from potstill.students.kinds import student_kind
from potstill.students.label_names import label_texts
from potstill.students.logistic_regression import to_csr

MAX_TOKENS = 256
DEFAULT_STATIC_WEIGHTS = "potion-8m"


def zero_shot_labels(student: ComponentSpec, task: Task, texts: Sequence[str]) -> NDArray[np.int64]:
    """(N,) columns of the labels nearest to N texts.

    Args:
        student: an encoder or static vectors.
        task: its label names are embedded.
        texts: N texts.

    Raises:
        BadSpec: a label has no name in words.
    """
    kind = student_kind(student.kind)
    if not kind.capabilities.zero_shot:
        return _nearest_by_tokens(student.model, task, texts)
    options = {**kind.capabilities.quick_options, **kind.capabilities.zero_shot_options}
    untrained = kind(StudentConfig(task.labels, student.model, task.descriptions, options))
    untrained.fit(TrainingData((), np.zeros((0, task.n_labels), dtype=np.float32)))
    return np.asarray(untrained.predict_logits(texts).argmax(axis=1), dtype=np.int64)


def _nearest_by_tokens(weights: str, task: Task, texts: Sequence[str]) -> NDArray[np.int64]:
    """By the cosine of mean token embeddings."""
    names = label_texts(task.labels, task.descriptions)
    if not names.covers_all(task.n_labels):
        raise BadSpec("Not every label has a name in words.", "Describe the labels.")
    tokens = load_token_embeddings(find_weights(weights or DEFAULT_STATIC_WEIGHTS))
    vectorizer = SubwordVectorizer(tokens.tokenizer, MAX_TOKENS)

    def embed(texts: Sequence[str]) -> Floats:
        counts = to_csr(vectorizer.transform(texts), len(tokens.embeddings))
        means = np.asarray(counts @ tokens.embeddings, dtype=np.float32)
        return np.asarray(means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), np.float32(1e-6)))

    centroids = np.zeros((task.n_labels, tokens.embeddings.shape[1]), dtype=np.float32)
    np.add.at(centroids, list(names.columns), embed(names.texts))
    return np.asarray((embed(texts) @ centroids.T).argmax(axis=1), dtype=np.int64)
