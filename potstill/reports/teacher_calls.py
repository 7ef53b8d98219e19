"""The calls in which a teacher labelled texts: their price and their speed, by the ledger's columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from potstill.ledger.prices import CallMode
from potstill.ledger.store import CallRecord

LABELLING_MODES: tuple[CallMode, ...] = ("direct", "batch", "labels", "cached")
JOB_MODES: tuple[CallMode, ...] = ("batch", "labels")


def labelling_calls(calls: Iterable[CallRecord], teacher: str) -> list[CallRecord]:
    """The settled calls in which the teacher of this name labelled texts, cached answers included."""
    return [
        call for call in calls if call.state == "settled" and call.teacher == teacher and call.mode in LABELLING_MODES
    ]


def micros_per_text(calls: Sequence[CallRecord]) -> float | None:
    """Mean micro-dollars charged for a text, which are dollars for a million; None without calls."""
    n_texts = sum(call.n_texts for call in calls)
    return sum(call.charged for call in calls) / n_texts if n_texts else None


def texts_per_second(calls: Sequence[CallRecord], parallel: int) -> float | None:
    """Texts labelled a second; None if no call took time.

    Args:
        calls: of `labelling_calls`. If there are jobs (a provider's batches, people), the speed is theirs: their texts
            by the time from the first submission to the last result. Otherwise it is that of the direct calls.
        parallel: direct calls at a time.
    """
    jobs = [call for call in calls if call.mode in JOB_MODES]
    if jobs:
        seconds = max(call.started_at + call.seconds for call in jobs) - min(call.started_at for call in jobs)
        n_texts = sum(call.n_texts for call in jobs)
    else:
        direct = [call for call in calls if call.mode == "direct"]
        seconds, n_texts = sum(call.seconds for call in direct) / parallel, sum(call.n_texts for call in direct)
    return n_texts / seconds if seconds > 0 else None


def single_call_seconds(calls: Sequence[CallRecord]) -> list[float]:
    """The seconds of the direct calls about one text."""
    return [call.seconds for call in calls if call.mode == "direct" and call.n_texts == 1]
