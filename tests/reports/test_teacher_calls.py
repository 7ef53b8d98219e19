"""A teacher's price and speed come from its own calls: all of them, and no other teacher's."""

from __future__ import annotations

import pytest

from potstill.ledger.prices import CallMode, Usage
from potstill.ledger.store import CallRecord
from potstill.reports.teacher_calls import labelling_calls, micros_per_text, single_call_seconds, texts_per_second


def call(teacher: str, mode: CallMode, n_texts: int, charged: int, start: float = 0.0, end: float = 1.0) -> CallRecord:
    return CallRecord(
        id=1,
        category="llm",
        purpose="teach",
        description=f"{teacher}: {n_texts} texts",
        n_texts=n_texts,
        teacher=teacher,
        mode=mode,
        state="settled",
        held=charged,
        charged=charged,
        paid=charged,
        usage=Usage(),
        started_at=start,
        ended_at=end,
    )


def test_a_model_does_not_count_the_calls_of_one_whose_name_begins_like_its_own() -> None:
    calls = [call("openai:gpt-4o", "direct", 10, 100), call("openai:gpt-4o-mini", "direct", 10, 5)]
    own = labelling_calls(calls, "openai:gpt-4o")
    assert micros_per_text(own) == 10
    assert [each.teacher for each in own] == ["openai:gpt-4o"]


@pytest.mark.parametrize("mode", ["batch", "labels"])
def test_jobs_count_in_price_and_speed(mode: CallMode) -> None:
    calls = [
        call("t", "direct", 1, 20, 0.0, 2.0),
        call("t", mode, 40, 200, 10.0, 60.0),
        call("t", mode, 59, 280, 20.0, 110.0),
        call("t", "generate", 5, 10_000),
    ]
    own = labelling_calls(calls, "t")
    assert micros_per_text(own) == 5
    assert texts_per_second(own, parallel=8) == pytest.approx(99 / 100)
    assert single_call_seconds(own) == [2.0]


def test_cached_answers_have_a_price_and_no_speed() -> None:
    own = labelling_calls([call("t", "cached", 10, 30)], "t")
    assert micros_per_text(own) == 3
    assert texts_per_second(own, parallel=1) is None


def test_parallel_calls_are_faster_than_their_own_time() -> None:
    own = labelling_calls([call("t", "direct", 10, 0, 0.0, 2.0) for _ in range(4)], "t")
    assert texts_per_second(own, parallel=4) == pytest.approx(20)


def test_lost_and_held_calls_do_not_count() -> None:
    from dataclasses import replace

    calls = [replace(call("t", "direct", 1, 1), state="lost"), replace(call("t", "batch", 1, 1), state="held")]
    assert labelling_calls(calls, "t") == []
    assert micros_per_text([]) is None
