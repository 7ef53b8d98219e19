"""Rounds without gold end when they change hardly a label, or when two opinions come apart."""

from __future__ import annotations

from potstill.evaluation.kept_round import MAX_ROUNDS, UNSETTLED_ROUND, KeptRound, keep_round


def test_rounds_end_when_hardly_a_label_changes() -> None:
    assert keep_round([], [], 1000) is None
    assert keep_round([0.2, 0.006], [], 1000) is None
    assert keep_round([0.2, 0.05, 0.004], [], 1000) == KeptRound(3, "settled")
    assert keep_round([0.0], [0.7, 0.7], 1000) == KeptRound(1, "settled")


def test_the_round_of_the_highest_agreement_is_kept_once_two_opinions_agree_less() -> None:
    assert keep_round([0.2, 0.1], [0.6, 0.8, 0.82], 1000) is None
    assert keep_round([0.2, 0.1, 0.05], [0.6, 0.8, 0.82, 0.7], 1000) == KeptRound(2, "agreement")
    assert keep_round([0.2], [0.6, 0.5], 1000) == KeptRound(0, "agreement")


def test_a_fall_within_the_standard_error_of_few_texts_is_none() -> None:
    assert keep_round([0.2, 0.1], [0.6, 0.82, 0.78], 50) is None
    assert keep_round([0.2, 0.1], [0.6, 0.82, 0.78], 5000) == KeptRound(1, "agreement")


def test_rounds_that_never_settle_end_and_an_early_one_is_kept() -> None:
    assert keep_round([0.05] * (MAX_ROUNDS - 1), [], 1000) is None
    assert keep_round([0.05] * MAX_ROUNDS, [], 1000) == KeptRound(UNSETTLED_ROUND, "unsettled")
    assert keep_round([0.05], [], 1000, max_rounds=1) == KeptRound(1, "unsettled")
