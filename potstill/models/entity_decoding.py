"""Scores of the tokens of windows -> the entities of texts. Functions of arrays; needs numpy alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from potstill.models.bio import ScoredEntities, decode_bio, log_softmax, read_bio
from potstill.models.word_units import UnitText

Floats = NDArray[np.float32]
BLOCK = 128  # texts of similar length that are decoded together


def gather_units(text: UnitText, tokens: Sequence[Floats], n_labels: int) -> Floats:
    """The (U, L) scores of a text's units.

    Args:
        text: the units.
        tokens: (T, L) scores of the tokens of each window.
        n_labels: L.
    """
    scores: Floats = np.zeros((len(text), n_labels), dtype=np.float32)
    if len(text) and (text.window == text.window[0]).all():
        own: Floats = tokens[text.window[0]][text.position]
        return own
    for window in np.unique(text.window):
        inside = text.window == window
        scores[inside] = tokens[window][text.position[inside]]
    return scores


def find_entities(scores: Sequence[Floats], texts: Sequence[UnitText], types: Sequence[str]) -> list[ScoredEntities]:
    """The entities of N texts by the (U_i, 2 K + 1) scores of their units, with the confidence in each."""
    found = [ScoredEntities((), ())] * len(texts)
    order = np.argsort([len(each) for each in scores], kind="stable")
    for start in range(0, len(order), BLOCK):
        rows = order[start : start + BLOCK].tolist()
        log_probs = [log_softmax(scores[row]) for row in rows]
        for row, labels, own in zip(rows, decode_bio(log_probs), log_probs, strict=True):
            found[row] = read_bio(labels, own, texts[row].starts, texts[row].ends, types)
    return found
