"""Recipes of text-to-text tasks keep the contract of recipes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest
from support.tinybert import write_tinybert
from support.tinylm import write_tinycausal

pytest.importorskip("torch")
pytest.importorskip("transformers")

from potstill.data.task import OutputForm
from potstill.procedures.kinds import recipe_kind
from potstill.testing import FormRecipeContract


class OnEntities(FormRecipeContract):
    """A recipe of the registry, with a tiny tagger."""

    name = ""
    student_options: ClassVar[Mapping[str, object]] = {"epochs": 12, "lr": 1e-2, "max_length": 16}

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _student(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        cls.student = f"tagger:{write_tinybert(tmp_path_factory.mktemp('weights'), layers=1)}"

    def open_recipe(self) -> Callable[..., Any]:
        return recipe_kind(self.name)


class OnAnswers(OnEntities):
    """A recipe of the registry, with a tiny causal model."""

    form: ClassVar[OutputForm] = "free"
    student_options: ClassVar[Mapping[str, object]] = {"epochs": 12, "lr": 1e-2, "max_length": 16, "mode": "full"}

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _student(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        cls.student = f"causal:{write_tinycausal(tmp_path_factory.mktemp('weights'), layers=1)}"


class TestPgkdOnEntities(OnEntities):
    name = "pgkd"
    options: ClassVar[Mapping[str, object]] = {"rounds": 1, "texts_per_round": 6}
    budgets_usd: ClassVar[tuple[float, ...]] = (0.0001, 0.06)
    max_cuts = 3


@pytest.mark.nightly
class TestPgkdOnAnswers(OnAnswers):
    name = "pgkd"
    options: ClassVar[Mapping[str, object]] = {"rounds": 1, "texts_per_round": 6}
    budgets_usd: ClassVar[tuple[float, ...]] = (0.0001, 0.06)
    max_cuts = 2


@pytest.mark.nightly
class TestAllocateOnEntities(OnEntities):
    name = "allocate"
    options: ClassVar[Mapping[str, object]] = {
        "annotator": {"simulate_from": "{known}"},
        "pilot_labels": 16,
        "pilot_seeds": 1,
        "max_steps": 1,
    }
    budgets_usd: ClassVar[tuple[float, ...]] = (0.0001, 0.06)
    max_cuts = 3


@pytest.mark.nightly
class TestAnnotateOnEntities(OnEntities):
    name = "annotate"
    teacher: ClassVar[Mapping[str, object]] = {"name": "human", "simulate_from": "{known}"}
    budgets_usd: ClassVar[tuple[float, ...]] = (0.0001, 0.06)
    max_cuts = 2
