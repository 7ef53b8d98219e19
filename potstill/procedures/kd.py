"""KD: trains the student on a teacher's soft labels for unlabelled texts, and on the gold labels.

The teacher is a language model, or `trained:BACKBONE`, a larger model that is first fine-tuned on the gold labels (FT
+ KD in Aina et al. 2022; "Dist." in Kang et al. 2023). Loss: cross-entropy with the teacher's probabilities, which
differs from their KL divergence by a constant (Hinton et al. 2015). The temperature is fitted on gold texts that the
prompt does not show. The soft labels of a teacher that is less accurate than a student of the gold alone are corrected
(`label_correction.py`); without gold, the label names may be an opinion beside it. The losses of the papers, with a
given T, T^2, a gold term and matched hidden vectors, are options of `[procedure]`. `trained_teacher_kd.py` is the plain
method of Aina et al. with a trained teacher alone. It leaves the gold out, because the teacher was fitted to it; here
most teachers never saw it, so it is trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from potstill.data.pool import Subset
from potstill.data.task import LabelledText, Task
from potstill.errors import BadData, BadSpec, Waiting
from potstill.evaluation.calibration import Calibration, softmax
from potstill.procedures.base import (
    ANY_TASK,
    SAMPLE_TEXTS,
    Ask,
    FormRecipe,
    QuoteInputs,
    Recipe,
    answers,
    quote_answers,
    require_pool,
)
from potstill.procedures.kd_forms import check_token_level, kd_entities, kd_free_text, quote_kd_form
from potstill.procedures.label_correction import GoldPredictions, add_name_opinion, correct_soft_labels
from potstill.procedures.soft_labels import calibrate_teacher, gold_row_weight, open_kd_teacher
from potstill.registry import Options
from potstill.run import Answers
from potstill.run.few_shot import select_examples, selects_examples_per_text
from potstill.run.run import Run
from potstill.run.spec import Spec
from potstill.students.base import FeatureHint, Floats, RowTrust, Student
from potstill.students.entity_student import EntityStudent
from potstill.students.free_text_student import FreeTextStudent
from potstill.teachers.base import Teacher
from potstill.teachers.trained import StudentTeacher

TOKEN_TEMPERATURE = 2.0  # of token-level distillation (Kang et al. 2023)
GOLD_CONFIDENCE = 0.99  # probability of a gold label before it is softened


class KdOptions(Options):
    """`[procedure] name = "kd"`.

    Attributes:
        temperature: "fitted" takes the T at which the teacher's confidence fits gold that its prompt did not show. A
            number T softens the teacher's scores by that T instead. The student is then trained at temperature 1 on
            softmax(z / T): its argmax is that of Hinton et al., its logits are theirs divided by T. Gold labels are
            softened by T too, from a probability of 0.99, since one-hot targets would conflict with softened ones.
        gold_weight: of the loss  gold_weight CE(gold rows) + S KL(soft rows), each a mean over its rows, where S is T^2
            for a given temperature and 1 for a fitted one. 0 leaves the gold out (as Kang et al. 2023 do); "auto"
            gives it a fifth of the weight if it would have less.
        hint_weight: this share of the loss draws the student's vectors to the teacher's (Romero et al. 2015); for a
            `trained` teacher, and a student whose kind has vectors.
        shots: gold examples of each class in the teacher's prompt.
        n_neighbors: neighbours of a text in label propagation, which corrects a teacher that is less accurate than a
            student of the gold alone; 0 corrects nothing. Not with a given temperature, or several labels a text.
        level: of answers in words: "sequence" learns the teacher's answer as if it were gold; "token" learns, at each
            token of that answer, how probable the teacher found it and others, with the given `temperature` or 2. That
            needs a teacher that is trained here and has the student's tokenizer.
        names_weight: without gold, the share of the label names' opinion, as the student reads them and refined over
            the pool, beside the teacher's; 0 takes the teacher's alone. "auto" takes 0.2 if both agree clearly more
            often than by chance, for a student that can begin from label names and a task of single labels.
    """

    temperature: Literal["fitted"] | Annotated[float, Field(gt=0, lt=100)] = "fitted"
    gold_weight: Literal["auto"] | Annotated[float, Field(ge=0, le=1000)] = "auto"
    hint_weight: float = Field(default=0.0, ge=0, lt=1)
    shots: int | None = Field(default=None, ge=0)
    n_neighbors: int = Field(default=10, ge=0, le=1000)
    names_weight: Literal["auto"] | Annotated[float, Field(ge=0, le=1)] = "auto"
    level: Literal["sequence", "token"] = "sequence"


def kd(run: Run) -> Student:
    """The student trained on the teacher's answers about the pool, and on the gold labels.

    Raises:
        BadData: there is no unlabelled text, or the money ended before one was answered.
        BadSpec: an invalid option, or a hint of a teacher without vectors.
    """
    options = RECIPE.read_options(run.spec)
    if options.level == "token":
        raise _no_tokens("has labels")
    gold, pool = run.pool.subset("train"), require_pool(run)
    examples = select_examples(gold, run.spec, run.task)
    teacher = open_kd_teacher(run, gold, examples)
    hint = _feature_hint(teacher, options.hint_weight)

    held_out = _held_out_rows(run.spec, run.task, gold, examples)
    on_gold, on_pool = _ask(run, teacher, [gold.texts[row] for row in held_out], pool)
    calibration = calibrate_teacher(teacher, on_pool, on_gold, gold.gold[held_out], run)
    if options.temperature != "fitted":
        calibration = _with_temperature(calibration, options.temperature, run)
    run.record_teacher(teacher, calibration, on_pool)

    texts = [text for text, answered in zip(on_pool.texts, on_pool.answered, strict=True) if answered]
    soft = calibration.apply(on_pool.scores[on_pool.answered]).astype(np.float32)
    corrects_labels = options.temperature == "fitted"  # the methods of the papers, with a given T, correct nothing
    if corrects_labels:
        predictions = calibration.apply(on_gold.scores[on_gold.answered]).argmax(axis=1)
        on_gold_predictions = GoldPredictions(held_out[on_gold.answered], predictions)
        soft = correct_soft_labels(texts, soft, on_gold_predictions, options.n_neighbors, run)
        if not gold.texts:
            soft = add_name_opinion(texts, soft, options.names_weight, run)
    return _train(run, options, texts, soft, hint)


def _held_out_rows(spec: Spec, task: Task, gold: Subset, examples: Sequence[LabelledText]) -> NDArray[np.int64]:
    """(M,) the gold rows the teacher is evaluated on: all whose text its prompt does not always show."""
    # A teacher that selects examples for each text never shows the text itself, so it is asked about all of them.
    shown = set() if selects_examples_per_text(spec, task) else {example.text for example in examples}
    return np.array([row for row, text in enumerate(gold.texts) if text not in shown], dtype=np.int64)


def _ask(run: Run, teacher: Teacher, gold_texts: Sequence[str], pool: Sequence[str]) -> tuple[Answers, Answers]:
    """The answers about held-out gold texts, and about the pool in random order, as far as the money reaches."""
    shuffled = [pool[row] for row in np.random.default_rng(run.spec.seed).permutation(len(pool))]
    try:
        on_gold = run.ask(teacher, gold_texts)
    except Waiting:
        # The pool is submitted too before waiting, so that the provider works on both batches at once.
        with run.reserve_training():
            run.ask(teacher, shuffled)
        raise
    with run.reserve_training():
        on_pool = run.ask(teacher, shuffled)
    if not on_pool.answered.any():
        raise _no_answer(teacher, on_pool.state_counts)
    return on_gold, on_pool


def _no_answer(teacher: Teacher, states: Mapping[str, int]) -> BadData:
    """The error of a teacher that answered nothing; the hint is for the most frequent reason."""
    mends = {
        "unasked": "The budget ended before: raise it with --budget USD",
        "unparsable": "No reply names a label, and more money changes nothing: take another with --teacher NAME",
    }
    reason = max(states, key=lambda state: states[state], default="")
    counted = ", ".join(f"{n:,} {state}" for state, n in states.items())
    return BadData(
        f"{teacher.name} answered none of {sum(states.values()):,} texts ({counted}).",
        mends.get(reason, "Run the same command again later, or take another with --teacher NAME"),
    )


def _with_temperature(calibration: Calibration, temperature: float, run: Run) -> Calibration:
    if run.task.kind == "multi":
        raise BadSpec("A temperature cannot be given for a task with several labels a text.", "Leave temperature out.")
    return Calibration(calibration.offsets, temperature)


def _train(run: Run, options: KdOptions, texts: Sequence[str], soft: Floats, hint: FeatureHint | None) -> Student:
    """Train on N soft rows, and on the gold rows unless their weight is zero.

    Loss: weighted cross-entropy with the soft rows (weight 1) and the gold rows (`_gold_row_weight`), plus the hint.
    """
    gold = run.pool.subset("train")
    weight = _gold_row_weight(options, len(gold.texts), len(texts))
    n_gold = len(gold.texts) if weight else 0
    hard = _soften_gold(gold.targets(run.task.n_labels)[:n_gold], options)
    weights = np.concatenate([np.full(n_gold, weight), np.ones(len(texts))])
    return run.learn(
        [*gold.texts[:n_gold], *texts],
        np.concatenate([hard, soft]),
        trust=RowTrust(weights.astype(np.float32), noisy=np.arange(n_gold + len(texts)) >= n_gold),
        hint=hint,
    )


def _feature_hint(teacher: Teacher, weight: float) -> FeatureHint | None:
    if not weight:
        return None
    if not isinstance(teacher, StudentTeacher):
        raise BadSpec(
            f"hint_weight = {weight:g} asks for the vectors of the teacher {teacher.name!r}, and it has none.",
            "Take a teacher that is trained here, such as trained:minilm, or hint_weight = 0.",
        )
    return FeatureHint(cast(Student, teacher.student), weight)  # trained by this run, see `open_kd_teacher`


def _soften_gold(hard: Floats, options: KdOptions) -> Floats:
    """(N, K) targets of gold rows: one-hot, or with a given T a probability of `GOLD_CONFIDENCE` softened by T."""
    if options.temperature == "fitted" or not len(hard):
        return hard
    margin = np.log(GOLD_CONFIDENCE * (hard.shape[1] - 1) / (1 - GOLD_CONFIDENCE))
    return softmax(hard * margin, options.temperature).astype(np.float32)


def _gold_row_weight(options: KdOptions, n_gold: int, n_soft: int) -> float:
    """The weight of a gold row beside a soft row of weight one."""
    if options.gold_weight == "auto":
        return gold_row_weight(n_gold, n_soft)
    scale = 1.0 if options.temperature == "fitted" else options.temperature**2
    return options.gold_weight * n_soft / (max(n_gold, 1) * scale)


def quote_kd(request: QuoteInputs[KdOptions]) -> tuple[Ask, ...]:
    """Answers about the pool, and about the gold texts that calibrate the teacher's scores."""
    spec, gold = request.inputs.spec, request.inputs.pool.subset("train")
    rows = _held_out_rows(spec, request.inputs.task, gold, select_examples(gold, spec, request.inputs.task))
    on_pool = quote_answers(request)
    if not len(rows):
        return on_pool
    sample = np.random.default_rng(spec.seed).permutation(rows)[:SAMPLE_TEXTS]
    note = f"asked about {len(rows):,} gold texts besides (to calibrate its scores)"
    return *on_pool, answers(request.teacher, [gold.texts[row] for row in sample], len(rows), len(rows), note)


def kd_on_entities(run: Run) -> EntityStudent:
    """See `kd_forms.kd_entities`. Raises BadSpec for an option that is about scores."""
    return kd_entities(run, _form_gold_weight(run))


def kd_on_free_text(run: Run) -> FreeTextStudent:
    """See `kd_forms.kd_free_text`. Raises BadSpec for an option that is about scores."""
    return kd_free_text(run, _form_gold_weight(run), _token_temperature(RECIPE.read_options(run.spec)))


def quote_free_text(request: QuoteInputs[KdOptions]) -> tuple[Ask, ...]:
    """Answers about the pool. Raises BadSpec if token level is asked for and cannot be."""
    if request.options.level == "token":
        check_token_level(request.inputs.spec, request.inputs.task)
    return quote_kd_form(request)


def _token_temperature(options: KdOptions) -> float | None:
    """T of token-level distillation; None at sequence level."""
    if options.level == "sequence":
        return None
    return TOKEN_TEMPERATURE if options.temperature == "fitted" else options.temperature


def _no_tokens(has: str) -> BadSpec:
    return BadSpec(f'level = "token" is about the tokens of answers in words, and this task {has}.', "Leave level out.")


def _form_gold_weight(run: Run) -> float | None:
    """How often a gold text counts beside answers without scores; None for a fifth of all."""
    options = RECIPE.read_options(run.spec)
    if options.level == "token" and run.task.form != "free":
        raise _no_tokens("has entities")
    about_scores = ("hint_weight", "n_neighbors", *(["temperature"] if options.level == "sequence" else []))
    given = [name for name in about_scores if name in options.model_fields_set]
    if given:
        of = "of entities" if run.task.form == "entities" else "of answers in words"
        raise BadSpec(f"{given[0]} is about scores of labels, and this task is {of}.", f"Leave {given[0]} out.")
    return None if options.gold_weight == "auto" else options.gold_weight


RECIPE = Recipe(
    "kd",
    kd,
    KdOptions,
    ANY_TASK,
    quote=quote_kd,
    needs_pool=True,
    forms={
        "entities": FormRecipe(kd_on_entities, quote_kd_form),
        "free": FormRecipe(kd_on_free_text, quote_free_text),
    },
)
