"""Rounds that ask again for what the filters rejected, and teachers that write several labels in one call."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from support.toy_data import LABELS, OpenRun, finished_rounds, notes, record_requests, script_teacher

from potstill.data.task import Feedback, GenerationRequest, LabelledText
from potstill.procedures.pgkd.filters import FilterResult, RejectedText
from potstill.procedures.pgkd.generation import ask_again
from potstill.procedures.pgkd.recipe import pgkd
from potstill.procedures.pgkd.rounds import AcquiredTexts
from potstill.run.notes import RoundsFinished
from potstill.teachers.base import Teacher, TeacherCapabilities
from potstill.teachers.generation_quotas import label_quotas, prompt_texts, requests_for

ROUND = GenerationRequest("", 4, seed=7, feedback=Feedback(label_counts={"money": 3, "sport": 1}))
HALF = FilterResult(
    (LabelledText("a", "money"), LabelledText("b", "sport")), (RejectedText("c", "money", "duplicate"),)
)


def half_copied(original: Teacher, request: GenerationRequest) -> list[LabelledText]:
    """What the original writes, with every second text replaced by one of the request."""
    shown = [LabelledText(text, LABELS[0]) for text in prompt_texts(request)]
    return [shown[i] if i % 2 and shown else each for i, each in enumerate(original.generate(request).texts)]


@pytest.mark.parametrize("top_up", [0, 3])
def test_copies_are_counted_in_the_record_of_the_round_and_asked_for_again(
    begin: OpenRun, monkeypatch: pytest.MonkeyPatch, top_up: int
) -> None:
    with begin(rounds=1, texts_per_round=16, top_up=top_up) as run:
        script_teacher(run, monkeypatch, half_copied)
        requests = record_requests(run, monkeypatch)
        pgkd(run)
        (facts,), (end,) = finished_rounds(run), notes(run, RoundsFinished)
    copies = facts.acquired.rejected_by_reason["copies its request"]
    assert end.rejected_by_reason["copies its request"] == copies
    assert "copies its request" in end.sentence()
    assert len({request.seed for request in requests}) == len(requests)
    if top_up:
        assert 2 <= len(requests) <= 4
        assert [request.n for request in requests] == sorted((request.n for request in requests), reverse=True)
        assert facts.acquired.n_accepted > 8
    else:
        assert len(requests) == 1
        assert facts.acquired.n_accepted <= 8


def test_it_asks_again_for_what_is_missing_of_each_label() -> None:
    acquired = AcquiredTexts("generate", (), request=ROUND, requests=(ROUND,), seed=7)
    again = ask_again(acquired, HALF, 1)
    assert again is not None
    assert again.feedback is not None
    assert (again.n, again.feedback.label_counts) == (2, {"money": 2})
    assert again.seed != ROUND.seed
    parts = (GenerationRequest("food", 4, seed=7), GenerationRequest("money", 1, seed=8))
    split = AcquiredTexts("generate", (), request=GenerationRequest("", 4, seed=7), requests=parts, seed=7)
    assert split.first_counts == {"food": 4}
    assert ask_again(split, FilterResult((LabelledText("a", "food"),) * 4), 1) is None


def test_a_teacher_that_takes_several_labels_a_call_gets_them_as_parts() -> None:
    gold = [LabelledText(f"text {i} of {label}", label) for label in LABELS for i in range(5)]
    request = GenerationRequest("", 10, seed=3, feedback=Feedback())
    calls = requests_for(TeacherCapabilities(labels_per_call=2, texts_per_label=4), request, LABELS, gold)
    assert [call.label for call in calls] == [""] * len(calls)
    assert sum(call.n for call in calls) == 10
    parts = [part for call in calls for part in call.parts]
    assert all(call.n == sum(part.n for part in call.parts) and len(call.parts) <= 2 for call in calls)
    assert sorted(part.n for part in parts) == [2, 4, 4]
    assert {text for call in calls for text in prompt_texts(call)} <= {each.text for each in gold}
    assert requests_for(TeacherCapabilities(reads_feedback=True), request, LABELS, gold) == [request]


def test_texts_in_blocks_reach_every_label_as_often_as_single_ones() -> None:
    draw = np.random.default_rng(0)
    totals: Counter[str] = Counter()
    for _ in range(200):
        counts = label_quotas(LABELS, Feedback(), 8, draw, block=4)
        assert sum(counts.values()) == 8
        assert len(counts) == 2
        totals.update(counts)
    assert all(abs(totals[label] - 400) <= 100 for label in LABELS)
