"""A student's errors -> the generation request of a PGKD round (Palo et al. 2024). A pure function.

A request shows training texts, gold or generated; of the validation texts only the report. The prompt that a request
becomes is `teachers/generation_prompts.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from potstill.data.pool import Subset
from potstill.data.task import Feedback, GenerationRequest, LabelledText, StudentPrediction, Task
from potstill.evaluation.calibration import one_hot
from potstill.evaluation.metrics import EvaluationResult
from potstill.procedures import query_strategies
from potstill.registry import Options
from potstill.teachers.generation_quotas import allocate_by_error

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]

F1_PRIOR_TEXTS = 2
STYLES = (
    ("a few words each", "one sentence each", "about as long as the texts above", "longer than most texts above"),
    ("plain words", "the words of a specialist", "in haste, as people write on a phone", "formal", "lively"),
    ("ordinary cases", "rare cases that still surely have their label", "cases that mention another label in passing"),
)


class PgkdOptions(Options):
    """`[procedure] name = "pgkd"`. The defaults are the paper's.

    Attributes:
        rounds: the maximum number of rounds.
        texts_per_round: texts that a round asks for.
        examples_per_section: training texts in each section of a request: gold examples, texts that the student gets
            right, texts that it gets wrong, hard negatives.
        top_up: how often a round asks again for as many texts as the filters rejected.
        patience: rounds without a lower validation loss after which the loop ends.
        validation_report: a request contains the precision, recall and F1 of each label on the validation texts.
        predictions: it contains texts that the student gets right and wrong.
        hard_negatives: it contains the most confident errors, apart from the other errors. The paper's ablations turn
            one of these three off; without all of them the teacher generates without feedback.
        roll_back: a round that does not lower the validation loss is undone and its texts are dropped.
        label_allocation: how many texts of each label: as the "teacher" decides; in proportion to the label's "error",
            (1 - F1) x its frequency; or to the "error_reduction" expected of one more text, which is the same divided
            by the number of training texts of the label.
        cv_folds: errors are those of this many cross-validation students on texts they were not trained on; 0 takes
            the errors on the training texts, as the paper does.
        cv_quick: these students are trained in seconds, under their kind's quick options: an encoder keeps its weights
            and learns a head. For a student that is fine-tuned in minutes; its own errors are fewer than theirs.
        agree: the label of a generated text must be confirmed by the "teacher", which labels it again; by the
            "student", whose probability must be at least chance; by "pvi", at least the mean of the label's validation
            texts (see `passes_pvi`); or by "none".
        soft_labels: the teacher labels its own texts, and the student is trained on the probabilities.
        noisy_labels: labels of generated texts may be corrected in training, as those of a labelling teacher are (see
            `RowTrust.noisy`).
        warm_start: each student is trained from the weights of the best one so far instead of from scratch.
        labels_per_request: a request is about this many labels, the most confused ones; 0 is about all.
        vary_style: each request asks for another length and another style.
        query_strategy: in some rounds the teacher labels texts of the pool instead of generating: the least certain
            ones ("margin"), those near the student's hard negatives ("hard_negatives"), or "random" ones; "none"
            always generates.
        source_schedule: whether a round generates or labels, if there is a query strategy: what has lowered the
            validation loss more per dollar ("gain"), or the two in turn ("alternate").
        shots: gold examples of each class in a labelling prompt, as for kd.
    """

    rounds: int = Field(default=10, ge=0, le=1000)
    texts_per_round: int = Field(default=32, ge=1, le=1000)
    examples_per_section: int = Field(default=16, ge=0, le=1000)
    top_up: int = Field(default=0, ge=0, le=10)
    patience: int = Field(default=5, ge=1)
    validation_report: bool = True
    predictions: bool = True
    hard_negatives: bool = True
    roll_back: bool = False
    label_allocation: Literal["teacher", "error", "error_reduction"] = "teacher"
    cv_folds: int = Field(default=0, ge=0, le=50)
    cv_quick: bool = False
    agree: Literal["none", "teacher", "student", "pvi"] = "none"
    soft_labels: bool = False
    noisy_labels: bool = False
    warm_start: bool = False
    labels_per_request: int = Field(default=0, ge=0)
    vary_style: bool = False
    query_strategy: Literal["none", "margin", "hard_negatives", "random"] = "none"
    source_schedule: Literal["gain", "alternate"] = "gain"
    shots: int | None = Field(default=None, ge=0)

    @property
    def relabels(self) -> bool:
        """Whether the teacher labels each generated text that passed the filters."""
        return self.soft_labels or self.agree == "teacher"

    @property
    def uses_answers(self) -> bool:
        """Whether the teacher labels any text, generated or real."""
        return self.relabels or self.query_strategy != "none"


@dataclass(frozen=True)
class TrainingTexts:
    """Training texts: N texts, their (N,) label columns, and how many of the first are gold.

    `soft_labels` maps a row to its (K,) target probabilities, if they are not one-hot.
    """

    texts: tuple[str, ...]
    gold: Ints
    n_gold: int
    soft_labels: Mapping[int, Floats] = field(default_factory=dict)

    @classmethod
    def from_subset(cls, subset: Subset) -> TrainingTexts:
        """The gold texts of a pool."""
        soft = {} if subset.soft is None else dict(enumerate(subset.soft))
        return cls(subset.texts, subset.gold, len(subset.texts), soft)

    def with_generated(
        self, generated: Sequence[LabelledText], task: Task, probs: Floats | None = None
    ) -> TrainingTexts:
        """Followed by M generated texts; (M, K) probabilities, if given, are their targets."""
        labels = np.array([task.index(each.label) for each in generated], dtype=np.int64)
        texts = (*self.texts, *(each.text for each in generated))
        soft = {} if probs is None else {len(self.texts) + i: row for i, row in enumerate(probs)}
        return TrainingTexts(texts, np.concatenate([self.gold, labels]), self.n_gold, {**self.soft_labels, **soft})

    def select(self, rows: Ints) -> TrainingTexts:
        """The given (M,) rows, in ascending order."""
        soft = {i: self.soft_labels[row] for i, row in enumerate(rows.tolist()) if row in self.soft_labels}
        return TrainingTexts(tuple(self.texts[i] for i in rows), self.gold[rows], int((rows < self.n_gold).sum()), soft)

    def targets(self, n_labels: int) -> NDArray[np.float32]:
        """(N, K) the training targets."""
        targets = one_hot(self.gold, n_labels)
        for row, probs in self.soft_labels.items():
            targets[row] = probs
        return targets

    def untrained(self, n_labels: int) -> Ints:
        """(M,) columns of the labels without a training text, gold or generated."""
        return np.flatnonzero(np.bincount(self.gold, minlength=n_labels) == 0)

    @property
    def is_generated(self) -> NDArray[np.bool_]:
        """(N,) True for generated texts."""
        return np.arange(len(self.texts)) >= self.n_gold


def make_generation_request(
    task: Task,
    rows: TrainingTexts,
    probs: Floats,
    evaluation: EvaluationResult,
    options: PgkdOptions,
    seed: Sequence[int],
) -> GenerationRequest:
    """The generation request of one round.

    Args:
        task: the labels.
        rows: the N training texts.
        probs: (N, K) the student's probabilities of them.
        evaluation: the student's evaluation on the validation set.
        options: what the request contains.
        seed: draws the texts it shows; its last number is the round.
    """
    draw = np.random.default_rng(seed)
    labels, untrained = _request_labels(task.n_labels, rows, probs, options.labels_per_request, draw)
    candidates, n = np.flatnonzero(np.isin(rows.gold, labels)), options.examples_per_section
    gold, candidate_probs = rows.gold[candidates], probs[candidates]
    examples = query_strategies.random_sampling(candidates[candidates < rows.n_gold], n, draw)
    correct = candidates[query_strategies.sample_correct(gold, candidate_probs, n, draw)]
    hard = query_strategies.hard_negatives(gold, candidate_probs, n)
    others = np.setdiff1d(np.arange(len(candidates)), hard) if options.hard_negatives else np.arange(len(candidates))
    wrong = others[query_strategies.sample_incorrect(gold[others], candidate_probs[others], n, draw)]
    hard, incorrect = candidates[hard], candidates[wrong]

    def predictions(selected: Ints, is_shown: bool) -> tuple[StudentPrediction, ...]:
        return tuple(_prediction(task, rows, probs, i) for i in selected) if is_shown else ()

    feedback = Feedback(
        accuracy=evaluation.accuracy.value if options.validation_report else None,
        report=tuple(evaluation.per_class[k] for k in labels) if options.validation_report else (),
        correct=predictions(correct, options.predictions),
        incorrect=predictions(incorrect, options.predictions),
        hard_negatives=predictions(hard, options.hard_negatives),
        label_counts=_label_counts(task, rows, evaluation, labels, options, draw),
        labels=tuple(task.labels[k] for k in labels) if len(labels) < task.n_labels else (),
        untrained_labels=tuple(task.labels[k] for k in untrained),
        style=draw_style(draw) if options.vary_style else "",
    )
    shown = tuple(LabelledText(rows.texts[i], task.labels[rows.gold[i]]) for i in examples)
    return GenerationRequest("", options.texts_per_round, shown, seed=int(np.dot(seed, [1000, 1])), feedback=feedback)


def _request_labels(
    n_labels: int, rows: TrainingTexts, probs: Floats, n: int, draw: np.random.Generator
) -> tuple[Ints, Ints]:
    """The labels that a request is about, and those of them without a training text, which come first."""
    untrained = rows.untrained(n_labels)
    if not 0 < n < n_labels:
        return np.arange(n_labels), untrained
    untrained = np.sort(query_strategies.random_sampling(untrained, n, draw))
    confused = query_strategies.most_confused_labels(rows.gold, probs, n - len(untrained))
    return np.union1d(untrained, confused), untrained


def draw_style(draw: np.random.Generator) -> str:
    """A style for the texts of one request, so that requests differ (after AttrPrompt: Yu et al. 2023).

    AttrPrompt asks the model for attributes of each label; these hold for any task.
    """
    return "; ".join(str(draw.choice(kinds)) for kinds in STYLES)


def gold_examples(task: Task, rows: TrainingTexts) -> list[LabelledText]:
    """The gold among the rows."""
    return [LabelledText(text, task.labels[k]) for text, k in zip(rows.texts, rows.gold[: rows.n_gold], strict=False)]


def _prediction(task: Task, rows: TrainingTexts, probs: Floats, i: int) -> StudentPrediction:
    predicted = int(probs[i].argmax())
    confidence = round(float(probs[i, predicted]), 4)
    return StudentPrediction(rows.texts[i], task.labels[rows.gold[i]], task.labels[predicted], confidence)


def _label_counts(
    task: Task,
    rows: TrainingTexts,
    evaluation: EvaluationResult,
    labels: Ints,
    options: PgkdOptions,
    draw: np.random.Generator,
) -> dict[str, int]:
    """Label -> how many texts the request asks for; empty if the teacher decides."""
    if options.label_allocation == "teacher":
        return {}
    # An F1 of few validation texts is shrunk to the macro F1, as if F1_PRIOR_TEXTS more texts had that.
    support = np.array([each.support for each in evaluation.per_class], dtype=np.float64)
    f1 = np.array([each.f1 for each in evaluation.per_class])
    f1 = (f1 * support + evaluation.macro_f1.value * F1_PRIOR_TEXTS) / (support + F1_PRIOR_TEXTS)
    f1[rows.untrained(task.n_labels)] = 0.0
    weight = np.bincount(rows.gold[: rows.n_gold], minlength=task.n_labels).astype(np.float64)
    weight[weight == 0] = weight[weight > 0].mean()  # a label without gold is taken to be as frequent as the others
    if options.label_allocation == "error_reduction":
        # Errors fall with the number of texts by a power law, whose slope is the error divided by that number.
        weight /= np.maximum(np.bincount(rows.gold, minlength=task.n_labels), 1)
    counts = allocate_by_error(f1[labels], weight[labels], options.texts_per_round, draw)
    return {task.labels[k]: int(count) for k, count in zip(labels, counts, strict=True) if count}
