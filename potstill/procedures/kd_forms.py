"""KD for text-to-text tasks: trains the student on the teacher's answers to unlabelled texts, and on the gold ones.

Sequence-level distillation (Kim and Rush 2016), as Kang et al. 2023 do it: the teacher's answer is learnt as if it were
gold. It has no scores, so nothing is calibrated, and what is kept is decided on the gold validation texts. The gold is
repeated so that it is a fifth of the texts, ten times at most; Kang et al. leave it out (`gold_weight = 0`). Entities
are learnt by a student that marks words, answers in words by one that writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from potstill.errors import BadData, BadSpec
from potstill.evaluation.calibration import Calibration
from potstill.procedures.base import Ask, OptionsT, QuoteInputs, quote_answers, require_pool
from potstill.procedures.soft_labels import gold_row_weight
from potstill.run.ask import AskedTexts
from potstill.run.entity_verbs import ask_entities, entity_pool, learn_entities, marked_texts
from potstill.run.few_shot import select_examples
from potstill.run.free_text_verbs import answered_texts, ask_free_text, free_text_pool, learn_free_text
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec, teacher_backbone
from potstill.students.base import TrainedModel
from potstill.students.entity_student import EntityStudent, MarkedTexts
from potstill.students.free_text_student import AnsweredTexts, FreeTextStudent
from potstill.teachers import DEFAULT_TEACHER
from potstill.teachers.base import Teacher, TrainedStudent
from potstill.teachers.kinds import teacher_kind

NO_CALIBRATION = Calibration(())
AskedT = TypeVar("AskedT", bound=AskedTexts)


def kd_entities(run: Run, gold_weight: float | None) -> EntityStudent:
    """The student trained on the teacher's entities in the pool, and on the gold ones.

    Args:
        run: the run.
        gold_weight: how often a gold text counts for one of the pool; None for a fifth of all; rounded.

    Raises:
        BadData: there is no unlabelled text, or none was answered.
        BadSpec: the teacher is human.
    """
    pool = entity_pool(run)
    gold, held_out = marked_texts(pool.subset("train")), marked_texts(pool.subset("validation"))

    def train(backbone: ComponentSpec) -> EntityStudent:
        return learn_entities(run, gold, held_out, student=backbone, purpose="teach")

    marked = _ask_pool(run, pool.subset("train"), ask_entities, train).marked
    times = _repeats(len(gold), len(marked), gold_weight)
    both = MarkedTexts([*gold.texts] * times + [*marked.texts], [*gold.entities] * times + [*marked.entities])
    return learn_entities(run, both, held_out)


def kd_free_text(run: Run, gold_weight: float | None) -> FreeTextStudent:
    """The student trained on the teacher's answers to the pool, and on the gold ones; see `kd_entities`."""
    pool = free_text_pool(run)
    gold, held_out = answered_texts(pool.subset("train")), answered_texts(pool.subset("validation"))

    def train(backbone: ComponentSpec) -> FreeTextStudent:
        return learn_free_text(run, gold, held_out, student=backbone, purpose="teach")

    answered = _ask_pool(run, pool.subset("train"), ask_free_text, train).answered
    times = _repeats(len(gold), len(answered), gold_weight)
    texts = [*gold.texts] * times + [*answered.texts]
    both = AnsweredTexts(texts, [*gold.references] * times + [*answered.references])
    return learn_free_text(run, both, held_out)


def _ask_pool(
    run: Run,
    gold: Any,
    ask: Callable[[Run, Teacher, Sequence[str]], AskedT],
    train: Callable[[ComponentSpec], TrainedModel],
) -> AskedT:
    """The teacher's answers to the pool in random order, as far as the money reaches.

    A teacher that needs a student is first trained on the gold, which takes at most half of the free money.
    """
    texts = require_pool(run)
    named = run.spec.teacher or ComponentSpec(name=DEFAULT_TEACHER)
    capabilities = teacher_kind(named.kind).capabilities
    if capabilities.human:
        raise BadSpec("Distilling asks about every text, and people label only some.", "Take --procedure finetune.")
    if capabilities.needs_student:
        with run.ledger.reserve("asking the teacher and training the student", run.ledger.free // 2):
            student = train(teacher_backbone(named, run.task.form))
        trained = TrainedStudent(student, run.student_key(student), run.spec.compute_rates)
        teacher = run.teacher(student=trained)
    else:
        teacher = run.teacher(select_examples(gold, run.spec, run.task))
    shuffled = [texts[row] for row in np.random.default_rng(run.spec.seed).permutation(len(texts))]
    with run.reserve_training():
        answers = ask(run, teacher, shuffled)
    run.record_teacher(teacher, NO_CALIBRATION, answers)
    if "ok" not in answers.states:
        counted = ", ".join(f"{n:,} {state}" for state, n in answers.state_counts.items())
        did = "marked none" if run.task.form == "entities" else "answered none"
        raise BadData(
            f"{teacher.name} {did} of {len(texts):,} texts ({counted}).",
            "Raise the budget with --budget USD if they are unasked, else take another with --teacher NAME",
        )
    return answers


def _repeats(n_gold: int, n_answers: int, gold_weight: float | None) -> int:
    """How often each gold text is learnt."""
    weight = gold_row_weight(n_gold, n_answers) if gold_weight is None else gold_weight
    return round(weight) if n_gold else 0


def quote_kd_form(request: QuoteInputs[OptionsT]) -> tuple[Ask, ...]:
    """Answers about the pool."""
    return quote_answers(request)
