"""Ranges of money and time in words."""

from __future__ import annotations

import pytest

from potstill.ledger.amounts import seconds_range, usd_range


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0, 0, "$0"),
        (0.000001, 0.00006, "under $0.0001"),
        (0.00006, 0.00006, "under $0.0001"),
        (0.00004, 0.0268, "up to $0.0268"),
        (0.00099, 0.0268, "$0.0010 to $0.0268"),
        (0.02679, 0.02681, "$0.0268"),
        (40, 40, "$40.0000"),
    ],
)
def test_money_too_small_to_print_reads_under_and_never_zero(low: float, high: float, words: str) -> None:
    assert usd_range(low, high) == words


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0, 0.02, "under a second"),
        (0.2, 1.3, "up to 1 second"),
        (0.9, 1.3, "1 second"),
        (3, 12.4, "3 to 12 seconds"),
        (20, 150, "up to 2 minutes"),
        (130, 600, "2 to 10 minutes"),
        (60, 7200, "up to 2.0 hours"[:0] or "up to 2.0 hours"),
    ],
)
def test_time_too_short_to_print_reads_under_and_never_zero(low: float, high: float, words: str) -> None:
    assert seconds_range(low, high) == words
