"""KD for entities: trains the student on the entities that a teacher marks in unlabelled texts, and on the gold ones.

Sequence-level distillation (Kim and Rush 2016), as Kang et al. 2023 do it, with a student that marks words: the
teacher's answer is learnt as if it were gold. Its entities have no scores, so nothing is calibrated, and training ends
by entity F1 on the gold validation texts. The gold is repeated so that it is a fifth of the texts, ten times at most;
Kang et al. leave it out (`gold_weight = 0`).
"""

from __future__ import annotations

import numpy as np

from potstill.errors import BadData, BadSpec
from potstill.evaluation.calibration import Calibration
from potstill.procedures.base import Ask, OptionsT, QuoteInputs, quote_answers, require_pool
from potstill.procedures.soft_labels import gold_row_weight
from potstill.run.entity_verbs import ask_entities, entity_pool, learn_entities, marked_texts
from potstill.run.few_shot import select_examples
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec
from potstill.students.entity_student import EntityStudent, MarkedTexts
from potstill.teachers import DEFAULT_TEACHER
from potstill.teachers.kinds import teacher_kind

NO_CALIBRATION = Calibration(())


def kd_entities(run: Run, gold_weight: float | None) -> EntityStudent:
    """The student trained on the teacher's entities in the pool, and on the gold ones.

    Args:
        run: the run.
        gold_weight: how often a gold text counts for one of the pool; None for a fifth of all; rounded.

    Raises:
        BadData: there is no unlabelled text, or none was answered.
        BadSpec: the teacher is human.
    """
    pool, texts = entity_pool(run), require_pool(run)
    gold = pool.subset("train")
    named = run.spec.teacher or ComponentSpec(name=DEFAULT_TEACHER)
    if teacher_kind(named.kind).capabilities.human:
        raise BadSpec("Distilling asks about every text, and people label only some.", "Take --procedure finetune.")
    teacher = run.teacher(select_examples(gold, run.spec, run.task))
    shuffled = [texts[row] for row in np.random.default_rng(run.spec.seed).permutation(len(texts))]
    with run.reserve_training():
        answers = ask_entities(run, teacher, shuffled)
    run.record_teacher(teacher, NO_CALIBRATION, answers)
    marked, own = answers.marked, marked_texts(gold)
    if not len(marked):
        counted = ", ".join(f"{n:,} {state}" for state, n in answers.state_counts.items())
        raise BadData(
            f"{teacher.name} marked none of {len(texts):,} texts ({counted}).",
            "Raise the budget with --budget USD if they are unasked, else take another with --teacher NAME",
        )
    weight = gold_row_weight(len(own), len(marked)) if gold_weight is None else gold_weight
    times = round(weight) if len(own) else 0
    train = MarkedTexts([*own.texts] * times + [*marked.texts], [*own.entities] * times + [*marked.entities])
    return learn_entities(run, train, marked_texts(pool.subset("validation")))


def quote_kd_entities(request: QuoteInputs[OptionsT]) -> tuple[Ask, ...]:
    """Answers about the pool."""
    return quote_answers(request)
