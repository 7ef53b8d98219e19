"""Evaluates answers in words by a metric that a task names, with intervals. Functions of strings.

The metrics of single answers are in `answers.py`. A mean over texts, or for BLEU a score of summed counts, is
resampled over texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from potstill.evaluation.metrics import EvaluationResult, Score
from potstill.evaluation.text2text.answers import (
    best_of,
    bleu_counts,
    bleu_of_sums,
    exact_match,
    rouge_l,
    rouge_n,
    sentence_bleu,
    token_f1,
)
from potstill.evaluation.text2text.resampling import SummedScore, bootstrap_counts, mean_counts, mean_of_sums

Floats = NDArray[np.float64]
AnswerMetric = Literal["token_f1", "exact_match", "rouge_1", "rouge_2", "rouge_l", "bleu"]
DEFAULT_METRIC: AnswerMetric = "token_f1"
KIND = "answers"  # of an `EvaluationResult`
METRIC_NAMES: Mapping[AnswerMetric, str] = {
    "token_f1": "token F1",
    "exact_match": "exact match",
    "rouge_1": "ROUGE-1",
    "rouge_2": "ROUGE-2",
    "rouge_l": "ROUGE-L",
    "bleu": "BLEU",
}
_SINGLE: Mapping[AnswerMetric, Callable[[str, str], float]] = {
    "token_f1": token_f1,
    "exact_match": exact_match,
    "rouge_1": partial(rouge_n, n=1),
    "rouge_2": partial(rouge_n, n=2),
    "rouge_l": rouge_l,
}


@dataclass(frozen=True)
class AnswerScores:
    """What an evaluation of answers says beside its `EvaluationResult`.

    Attributes:
        metric: the one that models are compared by.
        scores: of every metric, in [0, 1], with 95 % intervals.
        n_empty: answers without a character.
        n_unfinished: answers that end at the limit of tokens.
        mean_words: words of an answer; of the nearest reference `mean_reference_words`.
    """

    metric: AnswerMetric
    scores: Mapping[AnswerMetric, Score]
    n_empty: int
    n_unfinished: int
    mean_words: float
    mean_reference_words: float


def answer_counts(metric: AnswerMetric, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
    """(N, C) counts of N answers, whose sums `summed_score` scores; the best reference of a text counts.

    Raises:
        ValueError: unequal numbers of texts.
    """
    pairs = list(zip(predictions, references, strict=True))
    if metric == "bleu":
        return np.array([bleu_counts(each, own) for each, own in pairs], dtype=np.float64).reshape(len(pairs), -1)
    single = _SINGLE[metric]
    return mean_counts([best_of(single, each, own) for each, own in pairs])


def summed_score(metric: AnswerMetric) -> SummedScore:
    """The score of sums of `answer_counts`."""
    return bleu_of_sums if metric == "bleu" else mean_of_sums


def answer_score(metric: AnswerMetric, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """The score of N answers, in [0, 1]; 0 without texts."""
    if not predictions:
        return 0.0
    counts = answer_counts(metric, predictions, references)
    return float(summed_score(metric)(counts.sum(axis=0)[None])[0])


def text_scores(metric: AnswerMetric, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
    """(N,) the score of each answer by itself, in [0, 1]; of BLEU that of one text.

    Raises:
        ValueError: unequal numbers of texts.
    """
    pairs = zip(predictions, references, strict=True)
    if metric == "bleu":
        return np.array([sentence_bleu(each, own) for each, own in pairs], dtype=np.float64)
    return np.array([best_of(_SINGLE[metric], each, own) for each, own in pairs], dtype=np.float64)


def answer_interval(
    metric: AnswerMetric,
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    seed: int = 0,
    n_resamples: int = 1000,
) -> Score:
    """The score of N answers and its 95 % interval. Raises ValueError without texts."""
    counts = answer_counts(metric, predictions, references)
    return bootstrap_counts(counts, summed_score(metric), seed=seed, n_resamples=n_resamples)


def compute_answer_metrics(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    metric: AnswerMetric,
    *,
    seed: int = 0,
    n_resamples: int = 1000,
) -> EvaluationResult:
    """The metrics of N answers, as the result that reports compare models by.

    `micro_f1` is the task's metric and the main score, `accuracy` exact match, and `macro_f1` the mean token F1.

    Raises:
        ValueError: no texts.
    """

    def score(name: AnswerMetric) -> Score:
        return answer_interval(name, predictions, references, seed=seed, n_resamples=n_resamples)

    exact, f1 = score("exact_match"), score("token_f1")
    known = {"exact_match": exact, "token_f1": f1}
    return EvaluationResult(
        n=len(predictions),
        accuracy=exact,
        macro_f1=f1,
        weighted_f1=f1.value,
        ece=None,
        brier=None,
        log_loss=None,
        per_class=(),
        confusions=(),
        n_resamples=n_resamples,
        kind=KIND,
        micro_f1=known.get(metric) or score(metric),
    )


def compute_answer_scores(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    metric: AnswerMetric,
    *,
    n_unfinished: int = 0,
    seed: int = 0,
    n_resamples: int = 1000,
) -> AnswerScores:
    """The scores of every metric, and how long and how complete the answers are. Raises ValueError without texts."""
    lengths = [len(each.split()) for each in predictions]
    nearest = [
        min((len(one.split()) for one in own), key=lambda size, n=n: abs(size - n), default=0)  # type: ignore[misc]
        for n, own in zip(lengths, references, strict=True)
    ]
    return AnswerScores(
        metric=metric,
        scores={
            name: answer_interval(name, predictions, references, seed=seed, n_resamples=n_resamples)
            for name in METRIC_NAMES
        },
        n_empty=sum(not each.strip() for each in predictions),
        n_unfinished=n_unfinished,
        mean_words=float(np.mean(lengths)),
        mean_reference_words=float(np.mean(nearest)),
    )
