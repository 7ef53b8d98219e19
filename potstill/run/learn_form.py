"""Trains a student of a text-to-text task in a run, whatever the form of its answers: once, then loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from potstill.data.task import content_key
from potstill.ledger.prices import Purpose
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec, check_student_task
from potstill.students import REGISTRY as STUDENTS
from potstill.students.base import TrainedModel
from potstill.students.kinds import revision

ModelT = TypeVar("ModelT", bound=TrainedModel)


@dataclass(frozen=True)
class LearnKey:
    """What tells one training from others, beside the student's name, its options and the seed.

    Attributes:
        verb: the name of what is learnt.
        task: what of the task it depends on, as JSON values.
        digests: of the texts and answers to train on, and of those to stop by.
    """

    verb: str
    task: Any
    digests: list[str]


def learn_form(
    run: Run,
    named: ComponentSpec,
    what: LearnKey,
    n_texts: int,
    fit: Callable[[ModelT, float | None], object],
    purpose: Purpose = "train",
) -> ModelT:
    """The student stored under the key, or one that `fit` trains within a number of seconds, on held money.

    Raises:
        BadSpec: students of this kind do not give such answers.
        BudgetExceeded: no money is available.
    """
    check_student_task(named, run.task)
    key_parts = [f"revision {number}"] if (number := revision(named.kind)) > 1 else []
    key = content_key(what.verb, named.name, named.options, run.spec.seed, what.task, what.digests, *key_parts)
    kind: type[ModelT] = STUDENTS.resolve(named.kind)
    return run.train_once(kind, named, key, n_texts, fit, purpose)


def training_progress(run: Run, named: ComponentSpec) -> Callable[[float, str], None]:
    """What reports the progress of a training to the run's reporter."""

    def progress(share: float, detail: str) -> None:
        run.reporter.progress(f"training {named.name}", share, 1.0, detail)

    return progress
