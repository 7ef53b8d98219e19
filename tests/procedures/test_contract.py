"""Every recipe that ships keeps the contract of recipes, and a broken one does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np
import pytest

from potstill.data.task import Task
from potstill.procedures import REGISTRY
from potstill.procedures.base import Recipe
from potstill.procedures.kinds import recipe_kind
from potstill.run.run import Run
from potstill.students.base import Student
from potstill.testing import RecipeContract, run_contract


class Shipped(RecipeContract):
    """A recipe of the registry."""

    name = ""

    def open_recipe(self) -> Callable[[Run], Student]:
        return recipe_kind(self.name)


class TestFinetune(Shipped):
    name = "finetune"


class TestKd(Shipped):
    name = "kd"


class TestSelftrain(Shipped):
    name = "selftrain"
    options: ClassVar[Mapping[str, object]] = {"n_neighbors": 0}


class TestAnnotate(Shipped):
    name = "annotate"
    teacher: ClassVar[Mapping[str, object]] = {"name": "human", "simulate_from": "{labels}"}
    options: ClassVar[Mapping[str, object]] = {"rounds": 2, "query_strategy": "margin"}


class TestFineTunedTeacher(Shipped):
    name = "ft-kd"
    teacher: ClassVar[Mapping[str, object]] = {"name": "trained:linear"}


class TestPgkd(Shipped):
    name = "pgkd"
    options: ClassVar[Mapping[str, object]] = {"rounds": 2, "texts_per_round": 6}
    max_cuts = 6


class TestAllocate(Shipped):
    name = "allocate"
    options: ClassVar[Mapping[str, object]] = {
        "annotator": {"simulate_from": "{labels}"},
        "large_model": "",
        "pilot_labels": 8,
        "max_steps": 2,
    }
    max_cuts = 4


def test_what_is_on_the_registry_is_a_record_of_its_name():
    for name in REGISTRY:
        found = REGISTRY.resolve(name)
        assert isinstance(found, Recipe)
        assert found.name == name
        assert found.quote is not None


class Careless(RecipeContract):
    """Its student depends on the test texts, and on how often it was called."""

    calls = 0

    def open_recipe(self) -> Callable[[Run], Student]:
        def recipe(run: Run) -> Student:
            type(self).calls += 1
            gold = run.pool.subset("train")
            texts = [*gold.texts, run.pool.subset("test").texts[0]]
            targets = np.eye(3, dtype=np.float32)[[*gold.gold, type(self).calls % 3]]
            run.learn(gold.texts, gold.targets(3))
            return run.learn(texts, targets)

        return recipe


def test_a_recipe_that_breaks_its_promises_is_found_out():
    assert set(run_contract(Careless())) == {
        "test_the_test_texts_change_nothing",
        "test_a_finished_run_buys_nothing_again",
        "test_it_ends_the_same_wherever_it_is_cut",
    }


def test_a_recipe_refuses_a_task_it_cannot_do_and_names_those_that_can():
    from potstill.errors import BadSpec
    from potstill.run.spec import Spec

    spec = Spec.from_dict({"budget": 1, "procedure": "annotate"})
    with pytest.raises(BadSpec, match="'annotate' cannot do a task of the kind 'multi'") as refused:
        recipe_kind("annotate").check(spec, Task(("a", "b"), kind="multi"))
    assert "finetune, kd, prompt" in refused.value.hint
