"""A student's errors -> the generation request of a PGKD round in a text-to-text task, and what the rounds will cost.

The sibling of `generation_request.py` and `quote.py`. A request shows training texts, gold or generated, with their
answers; of the validation texts only scores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from potstill.data.entities.pool import EntityPool
from potstill.data.form_feedback import FormFeedback
from potstill.data.free_text.pool import FreeTextPool
from potstill.data.task import GenerationRequest, LabelledText, StudentPrediction
from potstill.errors import BadData, BadSpec
from potstill.evaluation.metrics import ClassScore
from potstill.evaluation.text2text.text_groups import GroupScore
from potstill.procedures import query_strategies
from potstill.procedures.base import Ask, QuoteInputs
from potstill.procedures.pgkd.form_tasks import EntityTask, FormPredictions, FormTask, FreeTextTask, GoldT, ModelT
from potstill.procedures.pgkd.generation_request import Ints, PgkdOptions, draw_style
from potstill.procedures.pgkd.quote import MIN_PASS_RATE
from potstill.teachers.form_generation_prompts import MAX_TEXTS

PART_STEP = 500_000_003  # between the seeds of a round's requests
# Options about labels, their probabilities or a labelled pool, and what each does.
OPTIONS_OF_LABELS: Mapping[str, str] = {
    "label_allocation": "shares the texts out among labels",
    "labels_per_request": "chooses labels",
    "agree": "compares labels",
    "soft_labels": "is about probabilities of labels",
    "noisy_labels": "is about probabilities of labels",
    "cv_quick": "is about students of labels",
    "warm_start": "starts from the weights of a student of labels",
    "query_strategy": "labels texts of the pool",
    "source_schedule": "labels texts of the pool",
}


def check_form_options(options: PgkdOptions, of: str) -> None:
    """Refuse options that mean nothing in a text-to-text task.

    Args:
        options: of PGKD.
        of: the task in words ("of entities").

    Raises:
        BadSpec: one of them is set to something else than its default.
    """
    for name, does in OPTIONS_OF_LABELS.items():
        if getattr(options, name) != PgkdOptions.model_fields[name].default:
            raise BadSpec(f"{name} {does}, and this task is {of}.", f"Leave {name} out.")


def make_form_request(
    predictions: FormPredictions,
    n_gold: int,
    feedback: FormFeedback,
    options: PgkdOptions,
    seed: Sequence[int],
) -> GenerationRequest:
    """The generation request of one round.

    Args:
        predictions: the student's answers to its N training texts.
        n_gold: how many of the first texts are gold.
        feedback: the student's scores on the validation texts.
        options: what the request contains.
        seed: draws the texts it shows; its last number is the round.
    """
    draw, n = np.random.default_rng(seed), options.examples_per_section
    confidence = np.array([each.confidence for each in predictions.shown])
    wrong, right = np.flatnonzero(predictions.wrong), np.flatnonzero(predictions.right)
    examples = query_strategies.random_sampling(np.arange(n_gold), n, draw)
    hard = wrong[np.argsort(-confidence[wrong], kind="stable")[:n]]
    correct = query_strategies.random_sampling(right, n, draw)
    others = np.setdiff1d(wrong, hard) if options.hard_negatives else wrong
    incorrect = query_strategies.random_sampling(others, n, draw)

    def shown(rows: Ints, is_shown: bool) -> tuple[StudentPrediction, ...]:
        return tuple(predictions.shown[i] for i in rows) if is_shown else ()

    feedback = replace(
        feedback if options.validation_report else FormFeedback(metric=feedback.metric),
        correct=shown(correct, options.predictions),
        incorrect=shown(incorrect, options.predictions),
        hard_negatives=shown(hard, options.hard_negatives),
        style=draw_style(draw) if options.vary_style else "",
    )
    gold = tuple(LabelledText(each.text, each.label) for each in (predictions.shown[i] for i in examples))
    return GenerationRequest("", options.texts_per_round, gold, seed=int(np.dot(seed, [1000, 1])), feedback=feedback)


def split_request(request: GenerationRequest) -> list[GenerationRequest]:
    """The calls of `generate` that a request becomes: of at most `MAX_TEXTS` texts each, about as many in each."""
    n_parts = math.ceil(request.n / MAX_TEXTS)
    sizes = [len(part) for part in np.array_split(np.arange(request.n), n_parts)]
    return [replace(request, n=n, seed=request.seed + nth * PART_STEP) for nth, n in enumerate(sizes)]


def quote_form_generation(request: QuoteInputs[PgkdOptions]) -> tuple[Ask, ...]:
    """The calls of all rounds, none left out, with a request as large as in a run, for a student that is often wrong.

    Raises:
        BadSpec: an option of tasks of labels.
        BadData: no text has an answer.
    """
    inputs, options, teacher = request.inputs, request.options, request.teacher
    pool: object = inputs.pool
    if isinstance(pool, EntityPool):
        asked = _request_like_a_runs(EntityTask(inputs.task, pool), options)
    elif isinstance(pool, FreeTextPool):
        asked = _request_like_a_runs(FreeTextTask(inputs.task, pool), options)
    else:
        raise BadSpec("This task has labels.", "Take another kind of task.")
    parts = split_request(asked)
    calls = options.rounds * len(parts)
    again = sum((1 - MIN_PASS_RATE) ** turn for turn in range(1, options.top_up + 1))
    usage, bound = teacher.estimate_generation_usage(parts[0]), teacher.max_generation_usage(parts[0])
    size = options.texts_per_round / len(parts)
    return (Ask("generate", teacher, calls, calls * (1 + again), (usage,), bound, texts_per_unit=size),)


def _request_like_a_runs(form: FormTask[GoldT, ModelT], options: PgkdOptions) -> GenerationRequest:
    """A request with as much in it as in a run: half of the answers are taken to be another text's."""
    check_form_options(options, form.of)
    rows = form.gold
    require_gold(len(rows.texts))
    labels = [form.encode(text, answer) for text, answer in zip(rows.texts, rows.answers, strict=True)]
    others = [*labels[1:], labels[0]]
    shown = tuple(StudentPrediction(*each, 0.5) for each in zip(rows.texts, labels, others, strict=True))
    scores = np.arange(len(shown)) % 2
    report = tuple(ClassScore(name, 0.5, 0.5, 0.5, 100, 100) for name in form.task.labels)
    groups = () if report else (GroupScore("more than 100 words", 0.5, 100),) * 4
    feedback = FormFeedback(accuracy=0.5, report=report, metric=form.metric, groups=groups)
    predictions = FormPredictions(shown, scores.astype(np.float64))
    return make_form_request(predictions, rows.n_gold, feedback, options, (0, 0))


def require_gold(n_gold: int) -> None:
    """Raise BadData without a labelled training text."""
    if not n_gold:
        raise BadData(
            "PGKD needs training texts with an answer and there are none.", "Answer some, or take --procedure kd."
        )
