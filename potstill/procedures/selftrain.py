"""Self-training: the student labels the unlabelled texts, label propagation corrects it, and it is trained again.

Needs no teacher: gold labels (or none at all), unlabelled texts and the machine. Pseudo-labels are soft (Scudder 1965;
Xie et al. 2020). Before the student trains on them they are spread among nearest neighbours in its own vector space
(label spreading, Zhou et al. 2004). The neighbours add information; training on its own predictions alone adds little.
Gold labels stay fixed. Without any gold text the first student
predicts from label names alone, and that is refined over the pool (`name_opinions.py`).

With a teacher that is trained on the gold, such as trained:mpnet, its opinion of the texts is combined with the
student's (`opinions.py`); without gold it reads the label names too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from potstill.procedures.base import Ask, QuoteInputs, Recipe, has_trained_teacher, quote_answers, require_pool
from potstill.procedures.name_opinions import refine_names, refine_until_settled
from potstill.procedures.opinions import (
    Opinion,
    combine_opinions,
    note_agreement,
    note_refined_names,
    refit_heads,
    student_opinion,
    teacher_opinion,
)
from potstill.procedures.soft_labels import gold_row_weight, initial_student
from potstill.registry import Options
from potstill.run.notes import PseudoLabelled
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec
from potstill.students.base import Floats, RowTrust, Student
from potstill.students.kinds import student_kind

# The first student is under-confident, since its head is strongly regularised; T < 1 sharpens its pseudo-labels.
SHARPEN_TEMPERATURE = 0.5
TEACHER_WEIGHT = 0.5


class SelfTrainOptions(Options):
    """`[procedure] name = "selftrain"`.

    Attributes:
        rounds: how many times the pool is labelled and trained on.
        n_neighbors: neighbours of a text in label propagation; 0 for none.
        temperature: of the pseudo-labels; below one sharpens the student's scores.
        max_texts: pool texts trained on at most, drawn at random.
        warm_start: train each student from the one before it, if its kind can, instead of from scratch.
        head_rounds: how often each model's head is fitted anew on what all found, before the student is trained.
        peer: another student, such as "encoder:minilm" for a static one, which labels the texts in the student's place:
            it is trained on the gold, and the student only on what it and the teacher found.
        teacher_weight: share of a trained teacher's opinion beside the student's own; 1 takes the teacher's alone.
        name_rounds: without gold, how often the labels' names give way to the mean of the texts taken for them before
            the student is trained (see `name_opinions.py`); "auto" ends when hardly a label changes any more, or when
            two opinions agree less (see `kept_round.py`).
        calibration_folds: how often the recipe is run anew, each time without a part of the gold, to calibrate the
            student on out-of-fold scores if no validation texts are there; 0 for no calibration.
    """

    rounds: int = Field(default=1, ge=1)
    n_neighbors: int = Field(default=10, ge=0)
    temperature: float = Field(default=SHARPEN_TEMPERATURE, ge=0.01)
    max_texts: int = Field(default=20_000, ge=1)
    warm_start: bool = False
    head_rounds: int = Field(default=0, ge=0, le=20)
    peer: str = ""
    teacher_weight: float = Field(default=TEACHER_WEIGHT, ge=0, le=1)
    name_rounds: Literal["auto"] | Annotated[int, Field(ge=0, le=100)] = "auto"
    calibration_folds: int = Field(default=0, ge=0, le=20)


def selftrain(run: Run) -> Student:
    """The student trained on the gold and on its own corrected labels of the pool, `rounds` times.

    Raises:
        BadData: there are no unlabelled texts.
        BadSpec: an invalid option, or no gold and a student that cannot begin without.
    """
    options = RECIPE.read_options(run.spec)
    gold, texts = run.pool.subset("train"), _draw_texts(run, options.max_texts)
    targets = gold.targets(run.task.n_labels)
    weights = np.ones(len(gold.texts) + len(texts), dtype=np.float32)
    weights[: len(gold.texts)] = gold_row_weight(len(gold.texts), len(texts))
    labeller = ComponentSpec(name=options.peer) if options.peer else run.spec.student
    student = initial_student(run, gold, labeller)
    teacher = teacher_opinion(run, texts, gold) if has_trained_teacher(run.spec) else None
    for number in range(1, options.rounds + 1):
        trained = run.spec.student if number == options.rounds else labeller
        student = run.learn(
            [*gold.texts, *texts],
            np.concatenate([targets, _pseudo_labels(run, options, student, teacher, texts, number)]),
            trust=RowTrust(weights),
            student=pseudo_label_spec(trained),
            init_from=student if options.warm_start and not options.peer else None,
        )
    return student


def _draw_texts(run: Run, n: int) -> list[str]:
    """At most n texts of the pool, in its order."""
    pool = require_pool(run)
    rows = np.random.default_rng(run.spec.seed).permutation(len(pool))[:n]
    return [pool[row] for row in sorted(rows)]


def _pseudo_labels(
    run: Run, options: SelfTrainOptions, student: Student, teacher: Opinion | None, texts: list[str], number: int
) -> Floats:
    """(N, K) the student's sharpened probabilities of the texts, with a teacher's, spread among their neighbours."""
    gold = run.pool.subset("train")
    own = student_opinion(student, texts, gold)
    opinions, weights = [own], [1.0]
    if teacher is not None:
        opinions, weights = [own, teacher], [1 - options.teacher_weight, options.teacher_weight]
    targets, temperature = gold.targets(run.task.n_labels), options.temperature
    if not gold.texts and number == 1:
        opinions = _refine_names(run, options, opinions, weights)
        temperature = 1.0
    corrected = combine_opinions(opinions, weights, targets, temperature, options.n_neighbors)
    for _ in range(options.head_rounds):
        opinions = refit_heads(opinions, corrected, targets)
        corrected = combine_opinions(opinions, weights, targets, 1.0, options.n_neighbors)
    changed = float((own.scores.argmax(axis=1) != corrected.argmax(axis=1)).mean())
    run.note(PseudoLabelled(number, len(texts), changed))
    by = "neighbours" if teacher is None else "the teacher and neighbours"
    run.reporter.info(f"Round {number}: {len(texts)} texts labelled; {by} changed {changed:.1%} of the labels.")
    return corrected


def _refine_names(
    run: Run, options: SelfTrainOptions, opinions: Sequence[Opinion], weights: Sequence[float]
) -> list[Opinion]:
    """The opinions that label names gave, refined over the pool; notes the round that is kept.

    Of two opinions it is noted how often they agree, each refined alone.
    """
    vectors, rounds = [each.vectors for each in opinions], options.name_rounds
    refined = refine_until_settled(
        [each.scores for each in opinions], vectors, weights, None if rounds == "auto" else rounds
    )
    note_refined_names(run, refined)
    if len(opinions) == 2:
        none = np.zeros((0, run.task.n_labels), dtype=np.float32)
        alone = [
            Opinion(refine_names([each.scores], [each.vectors], [1.0], refined.kept.round)[0], each.vectors)
            for each in opinions
        ]
        one, other = (combine_opinions([each], [1.0], none, 1.0, options.n_neighbors) for each in alone)
        note_agreement(run, one, other, ("The student's encoder", "the teacher's"))
    return [Opinion(scores, each) for scores, each in zip(refined.scores, vectors, strict=True)]


def pseudo_label_spec(component: ComponentSpec) -> ComponentSpec:
    """The student with its kind's options for pseudo-labels; options of the spec win over them."""
    defaults = student_kind(component.kind).capabilities.pseudo_label_options
    return component.with_options({name: defaults[name] for name in defaults if name not in component.options})


def quote_trained_teacher(request: QuoteInputs[SelfTrainOptions]) -> tuple[Ask, ...]:
    """Answers of a trained teacher about the pool."""
    return quote_answers(request, request.options.max_texts)


RECIPE = Recipe(
    "selftrain",
    selftrain,
    SelfTrainOptions,
    asks_teacher=False,
    asks_trained_teacher=True,
    quote=quote_trained_teacher,
    needs_pool=True,
)
