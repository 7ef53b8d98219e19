"""Self-training: the student labels the unlabelled texts, label propagation corrects it, and it is trained again.

Needs no teacher: gold labels (or none at all), unlabelled texts and the machine. Pseudo-labels are soft (Scudder 1965;
Xie et al. 2020). Before the student trains on them they are spread among nearest neighbours in its own vector space
(label spreading, Zhou et al. 2004). The neighbours add information; training on its own predictions alone adds little.
Gold labels stay fixed. Without any gold text the first student predicts from label names alone.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from potstill.data.pool import Subset
from potstill.errors import BadSpec
from potstill.evaluation.calibration import softmax
from potstill.procedures.base import Recipe, quote_nothing, require_pool
from potstill.procedures.label_propagation import propagate_labels
from potstill.procedures.soft_labels import gold_row_weight
from potstill.registry import Options
from potstill.run.notes import PseudoLabelled
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec
from potstill.students.base import Floats, RowTrust, Student
from potstill.students.kinds import student_kind

# The first student is under-confident, since its head is strongly regularised; T < 1 sharpens its pseudo-labels.
SHARPEN_TEMPERATURE = 0.5


class SelfTrainOptions(Options):
    """`[procedure] name = "selftrain"`.

    Attributes:
        rounds: how many times the pool is labelled and trained on.
        n_neighbors: neighbours of a text in label propagation; 0 for none.
        temperature: of the pseudo-labels; below one sharpens the student's scores.
        max_texts: pool texts trained on at most, drawn at random.
        warm_start: train each student from the one before it, if its kind can, instead of from scratch.
    """

    rounds: int = Field(default=1, ge=1)
    n_neighbors: int = Field(default=10, ge=0)
    temperature: float = Field(default=SHARPEN_TEMPERATURE, ge=0.01)
    max_texts: int = Field(default=20_000, ge=1)
    warm_start: bool = False


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
    student = initial_student(run, gold, targets)
    for number in range(1, options.rounds + 1):
        student = run.learn(
            [*gold.texts, *texts],
            np.concatenate([targets, _pseudo_labels(run, options, student, texts, number)]),
            trust=RowTrust(weights),
            student=pseudo_label_spec(run.spec.student),
            init_from=student if options.warm_start else None,
        )
    return student


def _draw_texts(run: Run, n: int) -> list[str]:
    """At most n texts of the pool, in its order."""
    pool = require_pool(run)
    rows = np.random.default_rng(run.spec.seed).permutation(len(pool))[:n]
    return [pool[row] for row in sorted(rows)]


def _pseudo_labels(run: Run, options: SelfTrainOptions, student: Student, texts: list[str], number: int) -> Floats:
    """(N, K) the student's sharpened probabilities of the texts, spread among their neighbours."""
    gold = run.pool.subset("train")
    probs = softmax(student.predict_logits(texts), options.temperature).astype(np.float32)
    corrected = probs
    if options.n_neighbors:
        vectors = student.embed([*texts, *gold.texts])
        all_probs = np.concatenate([probs, gold.targets(run.task.n_labels)])
        corrected = propagate_labels(all_probs, vectors, len(texts), options.n_neighbors)
    changed = float((probs.argmax(axis=1) != corrected.argmax(axis=1)).mean())
    run.note(PseudoLabelled(number, len(texts), changed))
    run.reporter.info(f"Round {number}: {len(texts)} texts labelled; neighbours changed {changed:.1%} of the labels.")
    return corrected


def initial_student(run: Run, gold: Subset, targets: Floats) -> Student:
    """The student of the gold; without gold, one that predicts from the names of the labels."""
    if gold.texts:
        return run.learn(gold.texts, targets)
    component = run.spec.student
    capabilities = student_kind(component.kind).capabilities
    if not capabilities.zero_shot:
        raise BadSpec(
            f"The student {component.name} cannot begin without a labelled text, from the names of the labels.",
            "Take --student encoder:minilm, or label some texts.",
        )
    return run.learn([], targets, student=component.with_options(capabilities.zero_shot_options))


def pseudo_label_spec(component: ComponentSpec) -> ComponentSpec:
    """The student with its kind's options for pseudo-labels; options of the spec win over them."""
    defaults = student_kind(component.kind).capabilities.pseudo_label_options
    return component.with_options({name: defaults[name] for name in defaults if name not in component.options})


RECIPE = Recipe("selftrain", selftrain, SelfTrainOptions, asks_teacher=False, quote=quote_nothing)
