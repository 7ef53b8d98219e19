"""KD for text-to-text tasks: trains the student on the teacher's answers to unlabelled texts, and on the gold ones.

Sequence-level distillation (Kim and Rush 2016): the teacher's answer is learnt as if it were gold. At token level
("word-level" there) the student learns, at each token of the teacher's own answer, how probable the teacher found it:
T^2 KL with T = 2 as in Kang et al. 2023, whose code gives padding a loss, too; here it has none. Nothing is calibrated,
and what is kept is decided on the gold validation texts. The gold is repeated so that it is a fifth of the texts, ten
times at most; Kang et al. leave it out (`gold_weight = 0`). Entities are learnt by a student that marks words, and
answers in words by one that writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from potstill.data.task import Task
from potstill.errors import BadData, BadSpec
from potstill.evaluation.calibration import Calibration
from potstill.procedures.base import Ask, OptionsT, QuoteInputs, quote_answers, require_pool
from potstill.procedures.soft_labels import gold_row_weight
from potstill.run.ask import AskedTexts
from potstill.run.entity_verbs import ask_entities, entity_pool, learn_entities, marked_texts
from potstill.run.few_shot import select_examples
from potstill.run.free_text_verbs import answered_texts, ask_free_text, free_text_pool, learn_free_text
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec, Spec, teacher_backbone
from potstill.students.base import StudentConfig, TrainedModel
from potstill.students.entity_student import EntityStudent, MarkedTexts
from potstill.students.free_text_student import AnsweredTexts, FreeTextStudent, TokenTargets, other_tokenizer
from potstill.students.kinds import student_kind
from potstill.teachers import DEFAULT_TEACHER
from potstill.teachers.base import Teacher, TrainedStudent
from potstill.teachers.kinds import teacher_kind

NO_CALIBRATION = Calibration(())
TOP_K = 16  # most probable tokens that are stored at each token of an answer
SEQUENCE_LEVEL = 'level = "sequence" under [procedure]'
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


def kd_free_text(run: Run, gold_weight: float | None, temperature: float | None = None) -> FreeTextStudent:
    """The student trained on the teacher's answers to the pool, and on the gold ones.

    Args:
        run: the run.
        gold_weight: see `kd_entities`.
        temperature: T of token-level distillation; None learns the teacher's words, as in sequence-level distillation.

    Raises:
        BadData: see `kd_entities`.
        BadSpec: the teacher is human; or of token level what `check_token_level` raises.
    """
    pool = free_text_pool(run)
    if temperature is not None:
        check_token_level(run.spec, run.task)
    gold, held_out = answered_texts(pool.subset("train")), answered_texts(pool.subset("validation"))

    def train(backbone: ComponentSpec) -> FreeTextStudent:
        return learn_free_text(run, gold, held_out, student=backbone, purpose="teach")

    asked = _ask_pool(run, pool.subset("train"), ask_free_text, train, 0 if temperature is None else TOP_K)
    answered = asked.answered
    times = _repeats(len(gold), len(answered), gold_weight)
    texts = [*gold.texts] * times + [*answered.texts]
    both = AnsweredTexts(texts, [*gold.references] * times + [*answered.references])
    targets = None
    if temperature is not None:
        targets = TokenTargets([None] * (times * len(gold)) + asked.answered_tokens, temperature)
    return learn_free_text(run, both, held_out, token_targets=targets)


def check_token_level(spec: Spec, task: Task) -> None:
    """Check that teacher and student can compare the probabilities of tokens, before anything is spent.

    Raises:
        BadSpec: the teacher or the student has none, or their tokenizers differ.
    """
    named = spec.teacher or ComponentSpec(name=DEFAULT_TEACHER)
    if not teacher_kind(named.kind).capabilities.token_scores:
        raise BadSpec(
            f"At token level the student learns the probabilities of tokens, and {named.name!r} does not give them.",
            f"Take --teacher trained:{spec.student.kind}:WEIGHTS, or {SEQUENCE_LEVEL}.",
        )
    keys = []
    for each in (teacher_backbone(named, task.form), spec.student):
        kind = student_kind(each.kind)
        if not kind.capabilities.token_scores:
            raise BadSpec(
                f"At token level the probabilities of tokens are learnt, and {each.name!r} has none.",
                f"Take another student, or {SEQUENCE_LEVEL}.",
            )
        model: Any = kind(StudentConfig((), each.model, {}, each.options, task.kind, task.instruction, task.output))
        keys.append(model.tokenizer_key())
    if keys[0] != keys[1]:
        raise other_tokenizer(f"The student {spec.student.name!r}", f"its teacher {named.name!r}")


def _ask_pool(
    run: Run,
    gold: Any,
    ask: Callable[[Run, Teacher, Sequence[str]], AskedT],
    train: Callable[[ComponentSpec], TrainedModel],
    top_k: int = 0,
) -> AskedT:
    """The teacher's answers to the pool in random order, as far as the money reaches.

    A teacher that needs a student is first trained on the gold, which takes at most half of the free money. Its answers
    have the `top_k` most probable tokens at each of their tokens.
    """
    texts = require_pool(run)
    named = run.spec.teacher or ComponentSpec(name=DEFAULT_TEACHER)
    capabilities = teacher_kind(named.kind).capabilities
    if capabilities.human:
        raise BadSpec("Distilling asks about every text, and people answer only some.", "Take --procedure annotate.")
    if capabilities.needs_student:
        with run.ledger.reserve("asking the teacher and training the student", run.ledger.free // 2):
            student = train(teacher_backbone(named, run.task.form))
        trained = TrainedStudent(student, run.student_key(student), run.spec.compute_rates, top_k)
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
