"""Which labels and texts are like a text, by the words they share (TF-IDF). For teachers that replay known labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from potstill.data.task import Task

Floats = NDArray[np.float64]

TEXTS_PER_LABEL = 200
# How strongly a nearer label is preferred: at a difference in cosine of 0.05 by a factor of e.
INVERSE_TEMPERATURE = 20.0


def word_similarity(texts: Sequence[str], others: Sequence[str]) -> Floats:
    """(N,) the cosine of each text to the nearest of `others`, in the TF-IDF space of all of them."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    space = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b", max_features=50_000)
    try:
        rows = space.fit_transform([*texts, *others])
    except ValueError:  # no word in any of them
        return np.zeros(len(texts))
    cosine = rows[: len(texts)] @ rows[len(texts) :].T
    return np.asarray(cosine.max(axis=1).todense(), dtype=np.float64).ravel()


class LabelCentroids:
    """Label centroids in a TF-IDF space.

    Args:
        space: a fitted scikit-learn vectorizer.
        centroids: (K, V), rows of length one.
    """

    def __init__(self, space: Any, centroids: Any) -> None:
        self._space = space
        self._centroids = centroids

    @classmethod
    def fit(cls, gold_columns: Mapping[str, int], task: Task) -> Self:
        """The space of at most `TEXTS_PER_LABEL` texts per label and the names and descriptions of the labels.

        Args:
            gold_columns: text -> column of its label.
            task: the K labels.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.preprocessing import normalize

        texts: list[list[str]] = [
            [f"{label.replace('_', ' ')} {task.descriptions.get(label, '')}"] for label in task.labels
        ]
        for text, column in gold_columns.items():
            if len(texts[column]) <= TEXTS_PER_LABEL:
                texts[column].append(text)
        space = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b", max_features=50_000)
        space.fit([text for each in texts for text in each])
        rows = np.vstack([np.asarray(space.transform(each).mean(axis=0)) for each in texts])
        return cls(space, normalize(rows))

    def label_probabilities(self, texts: Sequence[str]) -> Floats:
        """(N, K) rows that sum to one: how likely each label is taken for the text's."""
        cosine = np.asarray(self._space.transform(list(texts)) @ self._centroids.T)
        weights = np.exp(INVERSE_TEMPERATURE * (cosine - cosine.max(axis=1, keepdims=True)))
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))

    def max_similarity(self, texts: Sequence[str], others: Sequence[str]) -> Floats:
        """(N,) the cosine of each text to the nearest of `others`."""
        cosine = self._space.transform(list(texts)) @ self._space.transform(list(others)).T
        return np.asarray(cosine.max(axis=1).todense(), dtype=np.float64).ravel()
