"""Greedy decoding with a made-up model: stops, limits, padding, batches, and rows that leave early."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from potstill.models.greedy_decoding import DecodingLimits, forced_scores, generate_ids, pad_left

STOP, PAD, N = 0, 9, 12


class Countdown:
    """Writes the sum of the prompt's tokens minus one, minus two, ... down to the stop; keeps what it has read."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def begin(self, prompts: Sequence[NDArray[np.int64]], pad_id: int) -> Any:
        return *pad_left(prompts, pad_id), None

    def step(
        self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64], past: Any
    ) -> tuple[NDArray[np.float32], Any]:
        self.rows.append(len(input_ids))
        mask = attention_mask[:, -input_ids.shape[1] :]
        seen = np.where(mask > 0, input_ids, 0)
        last = seen.sum(1) if past is None else input_ids[:, -1]
        logits = np.full((len(input_ids), N), -5.0, dtype=np.float32)
        logits[np.arange(len(last)), np.maximum(last - 1, 0)] = 5.0
        read = seen if past is None else np.concatenate([past, seen], axis=1)
        assert read.shape == attention_mask.shape
        return logits, read

    def take(self, past: Any, rows: NDArray[np.intp]) -> Any:
        return past[rows]


def generate(prompts: Sequence[Sequence[int]], max_tokens: int = 20, threads: int = 1) -> list[Any]:
    ids = [np.array(each, dtype=np.int64) for each in prompts]
    return generate_ids(Countdown(), ids, DecodingLimits((STOP,), max_tokens, PAD), threads=threads)


def test_each_prompt_is_answered_until_the_stop() -> None:
    found = generate([[1, 2], [4], [1], [2, 2, 3]])
    assert [each.ids for each in found] == [(2, 1), (3, 2, 1), (), (6, 5, 4, 3, 2, 1)]
    assert all(each.complete for each in found)
    assert generate([]) == []


def test_an_answer_at_the_limit_is_cut_unless_it_ends_there() -> None:
    found = generate([[4], [5]], max_tokens=3)
    assert [(each.ids, each.complete) for each in found] == [((3, 2, 1), True), ((4, 3, 2), False)]


def test_the_confidence_is_the_mean_log_probability_of_tokens_and_end() -> None:
    (found,) = generate([[3]])
    expected = 5 - np.log(np.exp(5.0) + (N - 1) * np.exp(-5.0))
    assert found.log_prob == pytest.approx(expected, abs=1e-6)


def test_rows_that_ended_leave_the_batch() -> None:
    model = Countdown()
    prompts = [np.array([n], dtype=np.int64) for n in (1, 1, 1, 8)]
    found = generate_ids(model, prompts, DecodingLimits((STOP,), 20, PAD))
    assert found[3].ids == (7, 6, 5, 4, 3, 2, 1)
    assert model.rows == [4, *[1] * 7]


def test_batches_threads_and_order_change_nothing() -> None:
    prompts = [[1 + n % 5, n % 3] for n in range(50)] + [[1] * 4] * 5
    alone = [generate([each])[0] for each in prompts]
    assert generate(prompts) == alone
    assert generate(prompts, threads=3) == alone
    assert generate(prompts[::-1])[::-1] == alone


def test_given_answers_are_scored_token_by_token() -> None:
    (scores,) = forced_scores(Countdown(), [np.array([4])], [np.array([3, 2, STOP])])
    assert scores.shape == (3, N)
    assert scores.argmax(axis=1).tolist() == [3, 2, 1]


def test_padding_stands_on_the_left() -> None:
    ids, mask = pad_left([np.array([1, 2, 3]), np.array([4])], PAD)
    assert ids.tolist() == [[1, 2, 3], [PAD, PAD, 4]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]
