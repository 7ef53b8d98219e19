"""A head from label names: the weights of a label are the embedding of its name.

Scoring by similarity to embedded labels is zero-shot classification with a bi-encoder (Yin et al. 2019; Veeranna et
al. 2016). It also initialises training: the L2 penalty of the regression is then on the distance to these weights.
Functions of arrays.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
# Logit, in nats, of a cosine of one. On validation texts of BANKING77, HWU64 and AG News with 5 to 10 examples per
# label, 3, 5 and 8 were within half a point of each other.
SCALE = 5.0
# Without training rows: brings confidence near accuracy.
ZERO_SHOT_SCALE = 20.0


def label_weights(vectors: Floats, targets: Floats, scale: float = SCALE) -> Floats:
    """(D, K) weights under which a text's logit for a label is `scale` times its cosine with the label's name.

    Args:
        vectors: (M, D) embeddings of names and descriptions, of length one.
        targets: (M, K) one-hot, the label of each; a label without any gets zero weights.
        scale: logit, in nats, of a cosine of one.
    """
    sums = targets.T @ vectors
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.ascontiguousarray((scale * sums / np.maximum(norms, 1e-12)).T, dtype=np.float32)


def name_evidence(scores: Floats, targets: Floats) -> float:
    """How far label names agree with the labels of texts, in standard deviations above labels dealt out at random.

    The sum over the texts of the score of the own label, each label's scores centred, against its mean and standard
    deviation under all permutations of the texts' labels. Zero on average if the names say nothing.

    Args:
        scores: (N, K) cosines of the texts with the labels' names.
        targets: (N, K) rows sum to one.
    """
    centred, given = scores - scores.mean(axis=0), targets - targets.mean(axis=0)
    variance = float(((given.T @ given) * (centred.T @ centred)).sum()) / max(len(scores) - 1, 1)
    return float((given * centred).sum()) / math.sqrt(max(variance, 1e-12))
