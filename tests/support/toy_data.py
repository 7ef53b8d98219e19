"""A small world where words tell the labels apart, and teachers that write badly: for recipes that write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from potstill.data.task import GenerationRequest, LabelledText
from potstill.run.run import Run
from potstill.teachers.base import GeneratedTexts, Teacher

Begin = Callable[..., Run]
LABELS = ("money", "sport", "weather", "food")
LETTERS = np.random.default_rng(0)


def vocabulary(n: int) -> list[str]:
    return ["".join(LETTERS.choice(list("abcdefghijklmnopqrstuvwxyz"), 6)) for _ in range(n)]


OWN = {label: vocabulary(40) for label in LABELS}
SHARED = [*vocabulary(30), *(word for words in OWN.values() for word in words)]


def texts_of(label: str, n: int, seed: int) -> list[str]:
    """Each with three words of its label out of forty, so that a few texts do not know them all."""
    draw = np.random.default_rng([seed, LABELS.index(label)])
    return [" ".join([*draw.choice(OWN[label], 3), *draw.choice(SHARED, 4), f"n{seed}x{i}"]) for i in range(n)]


def table(n: int, seed: int, split: str) -> list[dict[str, str]]:
    return [{"text": text, "label": label, "split": split} for label in LABELS for text in texts_of(label, n, seed)]


def notes(run: Run, what: str) -> list[dict[str, Any]]:
    return [dict(note.facts) for note in run.store.notes() if note.description == what]


def briefs(run: Run, monkeypatch: pytest.MonkeyPatch) -> list[GenerationRequest]:
    """All briefs that the run will give."""
    seen: list[GenerationRequest] = []
    write = run.write
    monkeypatch.setattr(run, "write", lambda t, brief, **more: (seen.append(brief), write(t, brief, **more))[1])
    return seen


class Pretender:
    """A teacher whose `write` is somebody else's; everything else is the real one's."""

    def __init__(
        self, real: Teacher, writes: Callable[[GenerationRequest], Sequence[LabelledText]], **more: Any
    ) -> None:
        self._real, self._writes = real, writes
        self.capabilities = replace(real.capabilities, reads_feedback=more.pop("reads_feedback", True))
        self.__dict__.update(more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def generate(self, brief: GenerationRequest) -> GeneratedTexts:
        draft = self._real.generate(brief) if not getattr(self, "by_label", False) else None
        return GeneratedTexts(
            tuple(self._writes(brief)), draft.usage if draft else self._real.max_generation_usage(brief)
        )


def pretend(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    writes: Callable[[Teacher, GenerationRequest], Sequence[LabelledText]],
    **more: Any,
) -> None:
    """The run's teacher writes so from now on; the real one is handed over."""
    opened = run.teacher

    def teacher(*args: Any, **options: Any) -> Any:
        real = opened(*args, **options)
        return Pretender(real, lambda brief: writes(real, brief), **more)

    monkeypatch.setattr(run, "teacher", teacher)
