"""The seconds that a local teacher is estimated at and charged for, by a clock that moves when the test says."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from potstill.data.task import LabelledText, Task
from potstill.errors import BadInput
from potstill.teachers import local_model
from potstill.teachers.base import TeacherSetup
from potstill.teachers.label_scoring import LabelScorer
from potstill.teachers.local import LocalTeacher, open_teacher

TASK = Task(("world", "card"))
EXAMPLES = tuple(LabelledText(f"{word} {label}", label) for label in TASK.labels for word in ("late", "red", "blue"))
LOAD_S = 1000.0


class Clock:
    """A clock of its own."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Loading takes `LOAD_S` seconds, scoring one second for each token, and all else none."""
    clock = Clock()
    load, score = local_model.load_causal_lm, LabelScorer.score

    def slow_load(*given: Any) -> Any:
        clock.now += LOAD_S
        return load(*given)

    def slow_score(self: LabelScorer, texts: Any, among: Any = None) -> Any:
        clock.now += self.count_tokens(texts, among)
        return score(self, texts, among)

    monkeypatch.setattr(local_model, "load_causal_lm", slow_load)
    monkeypatch.setattr(LabelScorer, "score", slow_score)
    monkeypatch.setattr(time, "perf_counter", clock)
    return clock


def opened(folder: Path, **options: Any) -> LocalTeacher:
    return open_teacher(
        TeacherSetup(TASK, str(folder), EXAMPLES, {"dtype": "float32", "threads": 1, "shots": 1, **options})
    )


def test_loading_is_charged_once_if_the_plan_comes_first(tiny_folder: Path, clock: Clock) -> None:
    teacher = opened(tiny_folder)
    teacher.estimate_usage(["the card"])
    assert LOAD_S < teacher.model.unpaid_s < 2 * LOAD_S
    assert LOAD_S < teacher.answer(["the card"]).usage.seconds < 2 * LOAD_S


@pytest.mark.parametrize("n_prompts", [1, 5])
def test_an_estimate_is_about_what_is_charged_with_any_number_of_prompts(
    tiny_folder: Path, clock: Clock, n_prompts: int
) -> None:
    teacher = opened(tiny_folder, n_prompts=n_prompts)
    estimate = teacher.estimate_usage(["the card"])
    teacher.model.unpaid_s = 0.0
    charged = teacher.answer(["the card"]).usage.seconds
    assert charged == n_prompts * teacher._count_tokens(["the card"])
    assert estimate.low.seconds <= charged <= estimate.high.seconds


def test_the_longest_of_several_prompts_has_to_fit(tiny_folder: Path) -> None:
    long = [LabelledText("late " * 4000, "card"), LabelledText("fee " * 4000, "world")]
    options = {"dtype": "float32", "threads": 1, "shots": 1, "n_prompts": 2, "max_text_tokens": 4000}
    examples = [*EXAMPLES[:1], *EXAMPLES[3:4], *long]
    teacher = open_teacher(TeacherSetup(TASK, str(tiny_folder), examples, options))
    assert len(teacher._tokens.prompt(teacher.examples[0])) < 100
    with pytest.raises(BadInput, match="reads 8192"):
        teacher.max_usage(["x"])
