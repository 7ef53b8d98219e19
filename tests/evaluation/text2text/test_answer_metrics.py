"""The metric of a task of answers: means over texts, BLEU over all, intervals, and what stands beside them."""

from __future__ import annotations

import pytest

from potstill.evaluation.text2text.answer_metrics import (
    METRIC_NAMES,
    answer_interval,
    answer_score,
    compute_answer_metrics,
    compute_answer_scores,
)
from potstill.evaluation.text2text.answers import bleu_counts, bleu_of_sums, token_f1

PREDICTIONS = ["The cat.", "a dog ran away", "", "one of four words"]
REFERENCES = [["cat", "lion"], ["the dog ran"], ["nothing"], ["one of five words", "four words"]]


def test_a_mean_takes_the_best_reference_of_each_text() -> None:
    pairs = zip(PREDICTIONS, REFERENCES, strict=True)
    expected = sum(max(token_f1(one, other) for other in own) for one, own in pairs) / 4
    assert answer_score("token_f1", PREDICTIONS, REFERENCES) == pytest.approx(expected)
    assert answer_score("exact_match", PREDICTIONS, REFERENCES) == 0.25
    assert answer_score("token_f1", [], []) == 0


def test_bleu_is_of_all_texts_together() -> None:
    sums = sum(bleu_counts(one, own) for one, own in zip(PREDICTIONS, REFERENCES, strict=True))
    assert answer_score("bleu", PREDICTIONS, REFERENCES) == pytest.approx(float(bleu_of_sums(sums[None])[0]))


@pytest.mark.parametrize("metric", list(METRIC_NAMES))
def test_the_tasks_metric_is_the_main_score(metric: str) -> None:
    result = compute_answer_metrics(PREDICTIONS, REFERENCES, metric, n_resamples=50)  # type: ignore[arg-type]
    assert result.main_score.value == answer_score(metric, PREDICTIONS, REFERENCES)  # type: ignore[arg-type]
    assert result.main_score.low <= result.main_score.value <= result.main_score.high
    assert result.accuracy.value == 0.25
    assert result.from_json(result.to_json()) == result


def test_lengths_and_odd_answers_are_counted() -> None:
    scores = compute_answer_scores(PREDICTIONS, REFERENCES, "rouge_l", n_unfinished=1, n_resamples=20)
    assert set(scores.scores) == set(METRIC_NAMES)
    assert (scores.n_empty, scores.n_unfinished) == (1, 1)
    assert scores.mean_words == (2 + 4 + 0 + 4) / 4
    assert scores.mean_reference_words == (1 + 3 + 1 + 4) / 4


def test_no_texts_and_unequal_numbers_are_errors() -> None:
    with pytest.raises(ValueError, match="no texts"):
        answer_interval("token_f1", [], [])
    with pytest.raises(ValueError, match="zip"):
        answer_score("token_f1", ["a"], [])
