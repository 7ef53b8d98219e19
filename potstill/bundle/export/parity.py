"""Checks that the ONNX graph and the folder of transformers give the student's logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potstill.bundle.bundle import Bundle
from potstill.bundle.record import ParityCheck
from potstill.errors import BadData
from potstill.models.tokens.tokenizer import Ids
from potstill.students.base import Floats, Student

# The most a logit of the bundle may differ from the student's.
TOLERANCE = 1e-3
PARITY_TEXTS, PADDED_TEXTS = 200, 16


def check_parity(student: Student, bundle: Bundle, texts: Sequence[str], edge_cases: Sequence[str]) -> ParityCheck:
    """The largest difference of a logit, in batches and one by one: shapes that differ from the traced one.

    Args:
        student: the original.
        bundle: its fp32 graph.
        texts: N texts, of which the first 200 are compared.
        edge_cases: texts of unusual lengths and scripts; compared as well.

    Raises:
        BadData: the difference is above the tolerance.
    """
    compared = [*texts[:PARITY_TEXTS], *edge_cases]
    single = compared[-2 * len(edge_cases) :]
    expected = student.predict_logits(compared)
    batched = bundle.predict_logits(compared)
    alone = np.concatenate([bundle.predict_logits([text]) for text in single])
    # A difference counts against the size of the logits, as float32 itself does.
    scale = max(1.0, float(np.abs(expected).max()) / 10)
    differences = (
        float(np.abs(batched - expected).max()),
        float(np.abs(alone - expected[-len(single) :]).max()),
        padding_difference(bundle, compared[-PADDED_TEXTS:]),
    )
    difference = max(differences) / scale
    if not difference <= TOLERANCE:
        raise BadData(
            f"The exported graph differs from the student by {difference:.2g} in a logit; {TOLERANCE:g} is allowed.",
            "This is a fault of the exporter: report it, with the versions of torch and onnxruntime.",
        )
    return ParityCheck(difference, TOLERANCE)


def padding_difference(bundle: Bundle, texts: Sequence[str]) -> float:
    """The most a logit changes when each text is padded to the longest of them, or three positions more.

    The bundle's own batches are sorted by length and hold hardly any padding, so they would not show a wrong mask.
    """
    feeds = [inputs for text in texts for _, inputs in bundle.preprocessor.feeds([text])]
    config, longest = bundle.record.preprocessor.config, max(each.shape[1] for one in feeds for each in one.values())
    # A network has a limited number of positions.
    width = max(longest, min(longest + 3, int(config.get("max_length", longest + 3))))
    fill = {"input_ids": int(config.get("pad_id", 0))}
    padded = {
        name: np.concatenate(
            [
                np.pad(one[name], ((0, 0), (0, width - one[name].shape[1])), constant_values=fill.get(name, 0))
                for one in feeds
            ]
        )
        for name in feeds[0]
    }
    alone = np.concatenate([bundle.session.run(["logits"], one)[0] for one in feeds])
    return float(np.abs(bundle.session.run(["logits"], padded)[0] - alone).max())


def check_transformers(folder: Path, texts: Sequence[str], logits: NDArray[np.floating]) -> tuple[float, str]:
    """Compare the logits when transformers loads the folder with those of N texts.

    Args:
        folder: the bundle.
        texts: N texts.
        logits: (N, K) logits that are expected.

    Returns:
        The largest difference, and a note if it is above the tolerance, or if transformers cannot load the folder.
    """
    from potstill.students.transformers_export import transformers_logits

    if not texts:
        return 0.0, ""
    return _compare_transformers(lambda: [transformers_logits(folder, texts)], [logits])


def check_transformers_answers(
    folder: Path, texts: Sequence[str], answers: Sequence[Ids], scores: Sequence[Floats]
) -> tuple[float, str]:
    """Compare the scores of given answers' tokens when transformers loads the folder with N arrays (A_i, V).

    Args:
        folder: the bundle.
        texts: N texts, each on one line.
        answers: their answers as token ids.
        scores: the scores that are expected.

    Returns:
        See `check_transformers`.
    """
    from potstill.students.transformers_writing import transformers_forced_logits

    return _compare_transformers(lambda: transformers_forced_logits(folder, texts, answers), scores)


def relative_difference(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """The largest difference of a score, relative to scores of the size ten."""
    scale = max(1.0, float(np.abs(one).max()) / 10)
    return float(np.abs(one - other).max()) / scale


def _compare_transformers(
    find: Callable[[], Sequence[NDArray[np.floating]]], expected: Sequence[NDArray[np.floating]]
) -> tuple[float, str]:
    try:
        found = find()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        return float("inf"), f"transformers cannot load the student ({reason}): its files were left out."
    difference = max(map(relative_difference, expected, found), default=0.0)
    if difference <= TOLERANCE:
        return difference, ""
    return difference, f"transformers would differ by {difference:.2g} in a logit: its files were left out."
