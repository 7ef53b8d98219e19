"""One cell of a study of entities or of answers in words: train its student, and evaluate it on the test texts.

The sibling of `cell.py`, for students that give no scores of labels. Predictions are strings; see `form_gold`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from potstill.data.entities.build import encode_entities
from potstill.data.task import content_key
from potstill.errors import BadData, BudgetExceeded
from potstill.evaluation.text2text.known_words import learn_words
from potstill.ledger.prices import Purpose
from potstill.run.ask import AskedTexts
from potstill.run.entity_verbs import EntityAnswers, ask_entities, marked_texts
from potstill.run.few_shot import select_examples
from potstill.run.free_text_verbs import ask_free_text
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec
from potstill.students.base import TrainedModel
from potstill.students.kinds import revision
from potstill.study.backbones import Backbone, StudyBackbones
from potstill.study.cell import (
    NO_USAGE,
    CellContext,
    TrainedAlternative,
    answers_usd,
    as_teacher,
    share_answers,
    training_usage,
)
from potstill.study.form_dataset import form_gold, gold_of
from potstill.study.records import Cell, CellResult, CellUsage, FormCellScores
from potstill.study.spec import StudySpec, is_distilled
from potstill.study.spec_tables import PROCEDURES, Procedure
from potstill.teachers.base import Teacher

VERSION = 1  # raised when a cell would have another result
Alternatives = Sequence[TrainedAlternative[TrainedModel]]


def form_cell_key(cell: Cell, study: StudySpec, backbones: StudyBackbones, pool: str) -> str:
    """The key a cell's result is stored under: a hash of all it depends on, see `cell.cell_key`.

    The task is not part of it: a subset's folder is of one.
    """
    parts: list[object] = ["form cell", VERSION, pool, cell.procedure, cell.seed if cell.n else 0]
    kinds: list[str] = []
    if cell.procedure in ("zero-llm", "few-llm"):
        parts += [study.teacher and study.teacher.model_dump()]
    elif cell.backbone:
        backbone = backbones.get(cell.backbone)
        student = backbone.student(cell.procedure)
        parts += [student.model_dump(), [dict(each) for each in backbone.alternatives]]
        kinds.append(student.kind)
        if cell.procedure == "ft+kd":
            teacher = _trained_teacher(backbones)
            parts += [teacher.model_dump(), study.kd.train_on_gold]
            kinds.append(teacher.model.partition(":")[0])
        elif cell.procedure != "ft":
            parts += [study.teacher and study.teacher.model_dump()]
    if cell.procedure in ("llm+kd", "few-llm"):
        parts += [f"{study.kd.shots} shots"]
    parts += [f"{kind} revision {number}" for kind in kinds if (number := revision(kind)) > 1]
    return content_key(*parts)


def run_form_cell(cell: Cell, context: CellContext) -> tuple[CellResult, TrainedModel | None]:
    """The cell's result, and the student if one was trained.

    Raises:
        PotstillError: what its recipe raises.
    """
    test = context.dataset.pool.subset("test").texts
    if cell.procedure == "text-itself":
        return _evaluate(context, test), None
    if cell.procedure == "known-words":
        train = marked_texts(_subset(context.run, "train"))
        words = learn_words(train.texts, train.entities)
        return _evaluate(context, [encode_entities(words.find(text)) for text in test]), None
    if cell.procedure == "frequent-answer":
        answers = Counter(own[0] for own in _subset(context.run, "train").references if own)
        return _evaluate(context, [answers.most_common(1)[0][0]] * len(test)), None
    if cell.procedure in ("zero-llm", "few-llm"):
        return _llm(context, shots=context.study.kd.shots if cell.procedure == "few-llm" else 0), None
    return _procedure(cell.procedure, context.backbones.get(cell.backbone), context)


def _subset(run: Run, split: Any) -> Any:
    """A part of the run's pool, as of entities or of answers in words."""
    return run.pool.subset(split)


def _procedure(procedure: Procedure, backbone: Backbone, context: CellContext) -> tuple[CellResult, TrainedModel]:
    student, recipe, study = backbone.student(procedure), context.recipes[procedure], context.study
    teacher, options, shared = study.teacher, dict[str, object](), NO_USAGE
    if procedure == "ft+kd":
        teacher = _trained_teacher(context.backbones)
        options = {} if study.kd.train_on_gold else {"gold_weight": 0.0}
    elif is_distilled(procedure):
        options = {"shots": study.kd.shots}
        shared = NO_USAGE if study.kd.shots else _share_llm_answers(context)
    alternatives = []
    for alternative in backbone.alternatives or ({},):
        run = context.run.variant(
            student=ComponentSpec(name=student.name, **{**student.options, **alternative}),
            teacher=teacher,
            procedure=ComponentSpec(name=recipe.name, **options),
        )
        alternatives.append(TrainedAlternative(run, _train(context, procedure, run), alternative))
    own_answers = procedure == "llm+kd" and study.kd.shots > 0
    if own_answers or procedure not in PROCEDURES:
        shared = CellUsage(llm_usd=answers_usd(context.run))
    asked = teacher if teacher is not None and (procedure == "ft+kd" or own_answers) else None
    usage = training_usage(context.run, alternatives, shared, "" if asked is None else asked.name)
    return _select(context, alternatives, usage)


def _trained_teacher(backbones: StudyBackbones) -> ComponentSpec:
    assert backbones.ft_teacher is not None
    return as_teacher(backbones.ft_teacher, "ft+kd")


def _train(context: CellContext, procedure: Procedure, run: Run) -> TrainedModel:
    """The recipe's student. Raises BudgetExceeded if its teacher could not be asked about all texts."""
    try:
        student: TrainedModel = context.recipes[procedure](run)
    except BadData:
        _check_all_asked(run)  # then it has no answers because the money ended
        raise
    if is_distilled(procedure):
        _check_all_asked(run)
    return student


def _check_all_asked(run: Run) -> None:
    record = run.teacher_record
    if record is not None and "unasked" in record.answers.states:
        raise _money_ends(record.teacher)


def _money_ends(teacher: Teacher) -> BudgetExceeded:
    return BudgetExceeded(
        f"The money ends before {teacher.name} was asked about all texts.", "Raise the budget (--budget USD)."
    )


def _select(context: CellContext, alternatives: Alternatives, usage: CellUsage) -> tuple[CellResult, TrainedModel]:
    """Evaluate the alternative that is best on the validation texts."""
    validation = _subset(context.run, "validation")
    best = alternatives[0]
    if len(alternatives) > 1 and len(validation):
        gold = gold_of(context.dataset.task, validation.gold)
        best = max(alternatives, key=lambda each: gold.metric(_predict(context, each.student, validation.texts)))
    options = best.options if len(alternatives) > 1 else {}
    predictions = _predict(context, best.student, context.dataset.pool.subset("test").texts)
    return _evaluate(context, predictions, usage, options), best.student


def _predict(context: CellContext, student: Any, texts: Sequence[str]) -> list[str]:
    """The predictions of a student, as `form_gold` reads them."""
    if context.dataset.task.form == "entities":
        return [encode_entities(each.entities) for each in student.find_entities(texts)]
    return [each.text for each in student.generate(texts)]


def _evaluate(
    context: CellContext,
    predictions: Sequence[str],
    usage: CellUsage = NO_USAGE,
    chosen_options: Mapping[str, object] | None = None,
) -> CellResult:
    return CellResult(
        "done",
        scores=FormCellScores(form_gold(context.dataset).scores(predictions)),
        predictions=tuple(predictions),
        n_train=len(_subset(context.run, "train")),
        n_validation=len(_subset(context.run, "validation")),
        usage=usage,
        chosen_options=dict(chosen_options or {}),
    )


# --- a language model's answers, bought once for all cells --------------------------------------------------


def _ask(context: CellContext, teacher: Teacher, texts: Sequence[str], purpose: Purpose = "teach") -> AskedTexts:
    """The language model's answers about all texts. Raises BudgetExceeded if the money ends before."""
    ask = ask_entities if context.dataset.task.form == "entities" else ask_free_text
    answers: AskedTexts = ask(context.base_run, teacher, texts, purpose=purpose)
    if "unasked" in answers.states:
        raise _money_ends(teacher)
    return answers


def _llm(context: CellContext, shots: int) -> CellResult:
    """The language model on the test texts; one that is not answered has no entity, or the empty answer."""
    assert context.study.teacher is not None
    examples = []
    if shots:
        options: dict[str, object] = {"shots": shots}
        kd = ComponentSpec(name=context.recipes["llm+kd"].name, **options)
        run = context.run.variant(teacher=context.study.teacher, procedure=kd)
        examples = select_examples(run.pool.subset("train"), run.spec, run.task)
    teacher, test = context.base_run.open_teacher(context.study.teacher, examples), context.dataset.pool.subset("test")
    answers: Any = _ask(context, teacher, test.texts, "measure")
    if "ok" not in answers.states:
        raise BadData(
            f"{teacher.name} answered none of {len(test.texts)} test texts ({answers.state_counts}).",
            "Check the teacher, or leave it out.",
        )
    if isinstance(answers, EntityAnswers):
        return _evaluate(context, ["" if each is None else encode_entities(each) for each in answers.entities])
    return _evaluate(context, [each or "" for each in answers.answers])


def _share_llm_answers(context: CellContext) -> CellUsage:
    """Buy answers about the unlabelled texts in the run without gold, and copy them to the subset's run."""
    assert context.study.teacher is not None
    teacher, texts = context.base_run.open_teacher(context.study.teacher), context.dataset.pool.subset("pool").texts
    return share_answers(context, teacher, texts, lambda: _ask(context, teacher, texts))
