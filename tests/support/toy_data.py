"""A toy data set whose labels differ by their words, and teachers that generate prescribed texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pytest

from potstill.data.task import GenerationRequest, LabelledText
from potstill.run.notes import NoteRecord, RoundFacts
from potstill.run.run import Run
from potstill.teachers.base import GeneratedTexts, Teacher

OpenRun = Callable[..., Run]
NoteT = TypeVar("NoteT", bound=NoteRecord)
LABELS = ("money", "sport", "weather", "food")
LETTERS = np.random.default_rng(0)


def vocabulary(n: int) -> list[str]:
    return ["".join(LETTERS.choice(list("abcdefghijklmnopqrstuvwxyz"), 6)) for _ in range(n)]


LABEL_WORDS = {label: vocabulary(40) for label in LABELS}
SHARED_WORDS = [*vocabulary(30), *(word for words in LABEL_WORDS.values() for word in words)]


def label_texts(label: str, n: int, seed: int) -> list[str]:
    """Texts with three of the forty words of their label each, so that a few texts do not cover them all."""
    draw = np.random.default_rng([seed, LABELS.index(label)])
    return [
        " ".join([*draw.choice(LABEL_WORDS[label], 3), *draw.choice(SHARED_WORDS, 4), f"n{seed}x{i}"]) for i in range(n)
    ]


def table(n: int, seed: int, split: str) -> list[dict[str, str]]:
    return [{"text": text, "label": label, "split": split} for label in LABELS for text in label_texts(label, n, seed)]


def notes(run: Run, kind: type[NoteT]) -> list[NoteT]:
    """The run's notes of one kind."""
    return [note.record for note in run.notes() if isinstance(note.record, kind)]


def finished_rounds(run: Run) -> list[RoundFacts]:
    """The notes of all rounds but round 0."""
    return [facts for facts in notes(run, RoundFacts) if facts.round]


def next_label(text: LabelledText) -> LabelledText:
    """The text with the label that follows its own in LABELS."""
    return LabelledText(text.text, LABELS[(LABELS.index(text.label) + 1) % len(LABELS)])


def record_requests(run: Run, monkeypatch: pytest.MonkeyPatch) -> list[GenerationRequest]:
    """A list that receives every generation request of the run."""
    requests: list[GenerationRequest] = []
    generate = run.generate
    monkeypatch.setattr(
        run, "generate", lambda teacher, request: (requests.append(request), generate(teacher, request))[1]
    )
    return requests


class ScriptedTeacher:
    """A teacher whose `generate` is replaced; everything else is the original's."""

    def __init__(
        self, original: Teacher, generate: Callable[[GenerationRequest], Sequence[LabelledText]], **capabilities: bool
    ) -> None:
        self._original, self._generate = original, generate
        self.capabilities = replace(original.capabilities, **capabilities)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

    def generate(self, request: GenerationRequest) -> GeneratedTexts:
        return GeneratedTexts(tuple(self._generate(request)), self._original.generate(request).usage)


def script_teacher(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    generate: Callable[[Teacher, GenerationRequest], Sequence[LabelledText]],
    **capabilities: bool,
) -> None:
    """Replace what the run's teacher generates; `generate` receives the original teacher and the request."""
    open_teacher = run.teacher

    def teacher(*args: Any, **options: Any) -> Any:
        original = open_teacher(*args, **options)
        return ScriptedTeacher(original, lambda request: generate(original, request), **capabilities)

    monkeypatch.setattr(run, "teacher", teacher)
