"""Kinds of students describe themselves; a class that does not is refused."""

from __future__ import annotations

import pytest

from potstill.errors import BadSpec, UnknownName
from potstill.students import REGISTRY, kinds
from potstill.students.base import StudentCapabilities, StudentConfig
from potstill.students.cloze_options import CLOZE_EPOCHS
from potstill.students.kinds import revision, student_kind


@pytest.mark.parametrize("name", list(REGISTRY))
def test_options_of_the_capabilities_are_options_of_the_kind(name: str) -> None:
    kind = student_kind(name)
    capabilities = kind.capabilities
    assert isinstance(capabilities, StudentCapabilities)
    for options in (
        capabilities.quick_options,
        capabilities.pseudo_label_options,
        capabilities.zero_shot_options,
    ):
        task_kind = min(capabilities.task_kinds)
        kind(StudentConfig(("a", "b"), options=options, kind=task_kind))
    assert bool(capabilities.zero_shot_options) == capabilities.zero_shot
    assert revision(name) == kind.revision >= 1


def test_training_passes_follow_the_options() -> None:
    encoder, cloze = student_kind("encoder"), student_kind("cloze")
    assert encoder.training_passes({"n_averaged": 3, "epochs": 2}, 10) == 6
    assert encoder.training_passes({"n_averaged": 3, "epochs": 2}, 10_000) == 2
    assert cloze.training_passes({"class_weights": "balanced"}, 10) == CLOZE_EPOCHS.max_epochs
    assert cloze.training_passes({"mode": "zero-shot"}, 10) == 0
    assert student_kind("linear").training_passes({}, 10) is None
    with pytest.raises(BadSpec, match="no option 'epoch'"):
        encoder.training_passes({"epoch": 2}, 10)


def test_an_unknown_kind_gets_the_nearest_name() -> None:
    with pytest.raises(UnknownName, match="encoder"):
        student_kind("encodr")


def test_a_class_without_capabilities_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bare:
        """A plug-in that does not derive from Student."""

    monkeypatch.setattr(type(kinds.REGISTRY), "resolve", lambda self, name: Bare)
    with pytest.raises(BadSpec, match="has no attribute 'capabilities'"):
        student_kind("bare")
