"""Metrics of answers, held against rouge-score, sacrebleu and SQuAD's script (tests/support/text2text_oracles.py)."""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from potstill.evaluation.text2text import answers
from potstill.evaluation.text2text.resampling import (
    bootstrap_counts,
    f1_of_sums,
    mean_counts,
    mean_of_sums,
    permutation_test,
)

ORACLES: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "files" / "text2text_oracles.json").read_text("utf-8")
)
CASES = ORACLES["answers"]


def test_rouge_equals_rouge_score() -> None:
    metrics = {
        "rouge1": lambda p, r: answers.rouge_n(p, r, 1),
        "rouge2": lambda p, r: answers.rouge_n(p, r, 2),
        "rougeL": answers.rouge_l,
    }
    for case in CASES:
        for name, metric in metrics.items():
            ours = answers.best_of(metric, case["prediction"], case["references"])
            assert ours == pytest.approx(case[name], abs=1e-9), (name, case)
    assert len({round(case["rouge2"], 3) for case in CASES}) > 30  # the cases are not all alike


def test_bleu_equals_sacrebleu_of_single_texts_and_of_corpora() -> None:
    for case in CASES:
        ours = answers.sentence_bleu(case["prediction"], case["references"])
        assert ours == pytest.approx(case["bleu"], abs=1e-9), case
    for corpus in ORACLES["corpora"]:
        some = CASES[corpus["start"] : corpus["end"]]
        for name, most in (("bleu_one", 1), ("bleu_all", 9)):
            counts = np.stack([answers.bleu_counts(each["prediction"], each["references"][:most]) for each in some])
            ours = answers.bleu_of_sums(counts.sum(axis=0)[None])[0]
            assert ours == pytest.approx(corpus[name], abs=1e-9)


def _squad_words(text: str) -> list[str]:
    """The normalisation of SQuAD's evaluation script, written as it is there: four steps, one in the other."""
    lowered = text.lower()
    without_punctuation = "".join(mark for mark in lowered if mark not in set(string.punctuation))
    return " ".join(re.sub(re.compile(r"\b(a|an|the)\b", re.UNICODE), " ", without_punctuation).split()).split()


def test_exact_match_and_token_f1_equal_squads_script() -> None:
    for case in CASES:
        for reference in case["references"]:
            gold, found = _squad_words(reference), _squad_words(case["prediction"])
            same = sum((Counter(gold) & Counter(found)).values())
            if not gold or not found:
                f1 = float(gold == found)
            elif not same:
                f1 = 0.0
            else:
                precision, recall = same / len(found), same / len(gold)
                f1 = 2 * precision * recall / (precision + recall)
            assert answers.token_f1(case["prediction"], reference) == pytest.approx(f1)
            assert answers.exact_match(case["prediction"], reference) == float(gold == found)
    assert answers.best_of(answers.exact_match, "The Cat!", ["dog", "a cat"]) == 1
    assert answers.best_of(answers.exact_match, "cat", []) == 0


def test_ibleu_rewards_other_words_of_the_same_meaning() -> None:
    sources = ["the cat sat on the mat today"] * 3
    predictions = ["the cat sat on the mat today", "a feline rested upon its rug", ""]
    scores = answers.similarity_ibleu(sources, predictions, lambda ours, theirs: np.array([1.0, 0.8, 0.0]))
    # Harmonic mean of 0.8, weighted 4, and of 1 - BLEU = 1: (4 + 1) / (4 / 0.8 + 1 / 1).
    assert scores == pytest.approx([0, 5 / 6, 0])


def test_greedy_similarity_matches_each_token_with_its_nearest() -> None:
    one, other = np.eye(3)[:2], np.eye(3)[[0, 2, 2]]
    f1 = answers.greedy_token_similarity([one, one, one], [other, one, np.zeros((0, 3))])
    precision, recall = 1 / 2, 1 / 3
    assert f1 == pytest.approx([2 * precision * recall / (precision + recall), 1, 0])


def test_the_bootstrap_interval_covers_the_score_and_shrinks_with_more_texts() -> None:
    generator = np.random.default_rng(0)
    few, many = (mean_counts(generator.random(n) < 0.7) for n in (50, 5000))
    narrow, wide = (bootstrap_counts(counts, mean_of_sums, n_resamples=300) for counts in (many, few))
    assert wide.low < 0.7 < wide.high
    assert narrow.low < 0.7 < narrow.high
    assert narrow.high - narrow.low < (wide.high - wide.low) / 5
    with pytest.raises(ValueError, match="no texts"):
        bootstrap_counts(np.zeros((0, 3)), f1_of_sums)


def test_the_permutation_test_finds_a_difference_and_no_difference() -> None:
    generator = np.random.default_rng(1)
    right = generator.random(400)
    better, worse, other = (mean_counts(right < share) for share in (0.80, 0.70, 0.80))
    assert permutation_test(better, worse, mean_of_sums, n_permutations=2000) < 0.01
    assert permutation_test(better, other, mean_of_sums, n_permutations=500) == 1
    shuffled = mean_counts(generator.permutation(right < 0.80))
    assert permutation_test(better, shuffled, mean_of_sums, n_permutations=2000) > 0.9
    with pytest.raises(ValueError, match="shapes"):
        permutation_test(better, worse[:3], mean_of_sums)


def test_the_permutation_p_value_equals_all_permutations_of_few_texts() -> None:
    a, b = mean_counts([1, 1, 1, 1, 0]), mean_counts([0, 0, 0, 1, 0])
    # Three texts differ, all in one direction: 2 of the 8 arrangements are as extreme.
    assert permutation_test(a, b, mean_of_sums, n_permutations=20_000) == pytest.approx(0.25, abs=0.02)
