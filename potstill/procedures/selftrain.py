"""Self-training: the student labels the unlabelled texts itself, neighbours correct it, and it learns again.

Costs no teacher: gold labels (or none at all), unlabelled texts and the machine. Pseudo-labels are soft (Scudder 1965;
Xie et al. 2020), and before they are learnt each text listens to the texts nearest to it (label spreading, Zhou et al.
2004) in the student's own space, which is where the new knowledge comes from: a student that learns only what it said
learns little. Gold texts speak and do not listen. With no gold text at all the first student is the label-embedding
head, told by label names alone.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from potstill.data.pool import Subset
from potstill.errors import BadData, BadSpec
from potstill.evaluation.calibration import one_hot, softmax
from potstill.procedures.base import Recipe, quote_nothing
from potstill.procedures.kd import gold_weight
from potstill.procedures.label_propagation import propagate_labels
from potstill.registry import Options, read_options
from potstill.run.notes import PseudoLabelled
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec
from potstill.students.base import Floats, Student

# A first student's scores are hesitant, since its head is well regularised: sharpened, they are worth learning.
SHARPEN_TEMPERATURE = 0.5


class SelfTrainOptions(Options):
    """The `[procedure]` table of selftrain.

    Attributes:
        rounds: how often the pool is labelled and learnt.
        neighbours: how many texts each listens to; 0 for none.
        temperature: of the pseudo-labels; below one sharpens what the student said.
        most: pool texts learnt at most, drawn at random.
        onward: whether each student goes on from the one before it, where its kind can, or begins afresh.
    """

    rounds: int = Field(default=1, ge=1)
    n_neighbors: int = Field(default=10, ge=0)
    temperature: float = Field(default=SHARPEN_TEMPERATURE, ge=0.01)
    max_texts: int = Field(default=20_000, ge=1)
    warm_start: bool = False


def selftrain(run: Run) -> Student:
    """The student after learning the gold, its own corrected labels of the pool, and both again, `rounds` times.

    Raises:
        BadData: there are no unlabelled texts.
        BadSpec: an option nobody knows, or no gold and a student that cannot begin without.
    """
    options = read_options(SelfTrainOptions, "procedure 'selftrain'", run.spec.procedure.options)
    gold, pool = run.pool.subset("train"), run.pool.subset("pool")
    if not pool.texts:
        raise BadData(
            "Self-training needs unlabelled texts and there are none.",
            "Give some with --pool FILE (or rows without a label), or take --procedure finetune.",
        )
    targets = one_hot(gold.gold, run.task.n_labels)
    student = initial_student(run, gold, targets)
    order = np.random.default_rng(run.spec.seed).permutation(len(pool.texts))[: options.max_texts]
    texts = [pool.texts[i] for i in sorted(order)]
    weights = np.ones(len(gold.texts) + len(texts), dtype=np.float32)
    weights[: len(gold.texts)] = gold_weight(len(gold.texts), len(texts))
    for number in range(1, options.rounds + 1):
        said = softmax(student.predict_logits(texts), options.temperature).astype(np.float32)
        heard = said
        if options.n_neighbors:
            vectors = student.embed([*texts, *gold.texts])
            heard = propagate_labels(np.concatenate([said, targets]), vectors, len(texts), options.n_neighbors)
        changed = float((said.argmax(axis=1) != heard.argmax(axis=1)).mean())
        run.note(PseudoLabelled(number, len(texts), changed))
        run.reporter.info(
            f"Round {number}: {len(texts)} texts labelled; neighbours changed {changed:.1%} of the labels."
        )
        student = run.learn(
            [*gold.texts, *texts],
            np.concatenate([targets, heard]),
            weights=weights,
            student=pseudo_label_student(run.spec.student),
            init_from=student if options.warm_start else None,
        )
    return student


def initial_student(run: Run, gold: Subset, targets: Floats) -> Student:
    """The student of the gold alone; without any, the one that compares texts with the names of the labels."""
    if gold.texts:
        return run.learn(gold.texts, targets)
    named = run.spec.student
    if named.kind != "encoder":
        raise BadSpec(
            f"Without a labelled text only an encoder can begin, from the names of the labels; {named.name} cannot.",
            "Take --student encoder:minilm, or label some texts.",
        )
    return run.learn([], targets, student=named.model_copy(update={"head": "label"}))


def pseudo_label_student(named: ComponentSpec) -> ComponentSpec:
    """The student as it is to learn its own guesses: an encoder as from few rows, however many there are."""
    if named.kind != "encoder" or "few" in named.options:
        return named
    return named.model_copy(update={"few": True})


RECIPE = Recipe("selftrain", selftrain, SelfTrainOptions, asks_teacher=False, quote=quote_nothing)
