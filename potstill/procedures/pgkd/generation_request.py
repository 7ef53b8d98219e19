"""A student's successes and errors -> the brief a teacher writes to (PGKD: Palo et al. 2024). Pure: asks nobody.

What a brief shows are training texts, gold or written before. Of the validation texts it tells figures alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from potstill.data.pool import Subset
from potstill.data.task import Feedback, GenerationRequest, LabelledText, StudentPrediction, Task
from potstill.errors import BadSpec, did_you_mean
from potstill.evaluation.calibration import one_hot
from potstill.evaluation.metrics import EvaluationResult
from potstill.procedures import query_strategies as choose
from potstill.registry import Options
from potstill.teachers.generation_quotas import by_need

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
        rounds: how often the teacher writes, at most.
        texts: what it is asked for each time.
        shown: how many training texts each part of a brief shows.
        patience: so many rounds without a lower validation loss end it.
        report: the brief has the validation report. predictions: it has texts the student gets right and wrong.
            hard_negatives: it has the errors the student is surest of. The paper's ablations turn one off; without all
            three the teacher writes knowing nothing of the student.
        roll_back: a round that does not lower the validation loss is undone, its texts are forgotten.
        spend: who says how many texts of each label there are to be: the "teacher"; or we do, by "need": (1 - F1) x how
            common the label is; or by "gain": the same, divided by how many texts of it the student has already.
        folds: the student's errors are those of so many students, each asked about a share of the training texts it did
            not learn; 0 takes the errors on what it did learn, as the paper does.
        agree: who has to agree with the label of a written text: the "teacher", asked anew; the "student", which must
            not think the label less likely than chance; "pvi", the student again, which must be as sure of it as it is
            of the label's validation texts on average; or "nobody".
        soft: the teacher is asked about what it wrote, and its probabilities are learnt, not the label alone.
        doubt: the student may disbelieve labels of written texts, as it does a labelling teacher's (see `Lesson`).
        start: each student begins "anew", or its weights go on from the "best" one so far.
        groups: a brief is about so many labels, those that are confused the most; 0 is about all.
        diverse: each brief asks for another length and another manner.
        real: in some rounds the teacher labels as many texts of the pool instead of writing: those the student is
            least sure of ("margin"), those like its hard negatives ("near"), or any ("random"); "none" always writes.
        mix: whether to write or to label is decided by what either has "gained" a dollar so far, or in "turns".
        shots: gold examples of each class before a question to the teacher, as for kd.
    """

    rounds: int = Field(default=10, ge=0, le=1000)
    texts: int = Field(default=32, ge=1, le=1000)
    shown: int = Field(default=16, ge=0, le=1000)
    patience: int = Field(default=5, ge=1)
    report: bool = True
    predictions: bool = True
    hard_negatives: bool = True
    roll_back: bool = False
    spend: Literal["teacher", "need", "gain"] = "teacher"
    folds: int = Field(default=0, ge=0, le=50)
    agree: Literal["nobody", "teacher", "student", "pvi"] = "nobody"
    soft_labels: bool = False
    doubt: bool = False
    start: Literal["anew", "best"] = "anew"
    groups: int = Field(default=0, ge=0)
    diverse: bool = False
    real: Literal["none", "margin", "near", "random"] = "none"
    mix: Literal["gained", "turns"] = "gained"
    shots: int | None = Field(default=None, ge=0)

    @property
    def relabels(self) -> bool:
        """Whether the teacher is asked about each text that it wrote and that passed the gate."""
        return self.soft_labels or self.agree == "teacher"


def read_pgkd_options(raw_options: Mapping[str, Any]) -> PgkdOptions:
    """The options under [procedure]. Raises BadSpec: one nobody knows, or a value that cannot be."""
    try:
        return PgkdOptions.model_validate(dict(raw_options))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise BadSpec(
                f"The procedure 'pgkd' has no option {name!r}.", did_you_mean(name, PgkdOptions.model_fields)
            ) from None
        said = first["msg"][:1].lower() + first["msg"][1:]
        raise BadSpec(f"The procedure's option {name} cannot be so: {said}.", "Correct that value.") from None


@dataclass(frozen=True)
class TrainingTexts:
    """What the student learns: N texts, their (N,) label columns, and how many of the first are gold.

    `soft` holds (K,) probabilities for rows whose target is not their label alone, by row number.
    """

    texts: tuple[str, ...]
    gold: Ints
    n_gold: int
    soft_labels: Mapping[int, Floats] = field(default_factory=dict)

    @classmethod
    def from_part(cls, part: Subset) -> TrainingTexts:
        """The gold alone."""
        return cls(part.texts, part.gold, len(part.texts))

    def with_generated(self, written: Sequence[LabelledText], task: Task, soft: Floats | None = None) -> TrainingTexts:
        """With M texts of a teacher's, and perhaps its (M, K) probabilities, which win over the labels."""
        columns = np.array([task.index(each.label) for each in written], dtype=np.int64)
        texts = (*self.texts, *(each.text for each in written))
        also = {} if soft is None else {len(self.texts) + i: row for i, row in enumerate(soft)}
        return TrainingTexts(texts, np.concatenate([self.gold, columns]), self.n_gold, {**self.soft_labels, **also})

    def select(self, rows: Ints) -> TrainingTexts:
        """Only these rows (M,), in ascending order."""
        soft = {i: self.soft_labels[row] for i, row in enumerate(rows.tolist()) if row in self.soft_labels}
        return TrainingTexts(tuple(self.texts[i] for i in rows), self.gold[rows], int((rows < self.n_gold).sum()), soft)

    def targets(self, n_labels: int) -> NDArray[np.float32]:
        """(N, K) what the student learns of each row."""
        targets = one_hot(self.gold, n_labels)
        for row, probs in self.soft_labels.items():
            targets[row] = probs
        return targets

    @property
    def is_generated(self) -> NDArray[np.bool_]:
        """(N,) True where a teacher wrote it."""
        return np.arange(len(self.texts)) >= self.n_gold


def make_generation_request(
    task: Task,
    rows: TrainingTexts,
    probs: Floats,
    judgement: EvaluationResult,
    options: PgkdOptions,
    seed: Sequence[int],
) -> GenerationRequest:
    """The brief for one round.

    Args:
        task: the labels.
        rows: the N training texts.
        probs: (N, K) what the student thinks of them.
        judgement: of the student on the validation texts.
        options: what is told and shown.
        seed: draws what is shown; its last number is the round.
    """
    draw = np.random.default_rng(seed)
    about = np.arange(task.n_labels)
    if 0 < options.groups < task.n_labels:
        about = choose.most_confused_labels(rows.gold, probs, options.groups)
    seen = np.flatnonzero(np.isin(rows.gold, about))
    gold, probs_ = rows.gold[seen], probs[seen]
    few = choose.random_sampling(seen[seen < rows.n_gold], options.shown, draw)
    right = seen[choose.sample_correct(gold, probs_, options.shown, draw)]
    wrong = seen[choose.sample_incorrect(gold, probs_, options.shown, draw)]
    hard = seen[choose.hard_negatives(gold, probs_, options.shown)]

    def guesses(chosen: Ints, wanted: bool) -> tuple[StudentPrediction, ...]:
        return tuple(_guess(task, rows, probs, i) for i in chosen) if wanted else ()

    guide = Feedback(
        accuracy=judgement.accuracy.value if options.report else None,
        report=tuple(judgement.per_class[k] for k in about) if options.report else (),
        correct=guesses(right, options.predictions),
        incorrect=guesses(wrong, options.predictions),
        hard_negatives=guesses(hard, options.hard_negatives),
        label_counts=_wanted(task, rows, judgement, about, options, draw) if options.spend != "teacher" else {},
        labels=tuple(task.labels[k] for k in about) if len(about) < task.n_labels else (),
        style=draw_style(draw) if options.diverse else "",
    )
    examples = tuple(LabelledText(rows.texts[i], task.labels[rows.gold[i]]) for i in few)
    return GenerationRequest("", options.texts, examples, seed=int(np.dot(seed, [1000, 1])), feedback=guide)


def draw_style(draw: np.random.Generator) -> str:
    """How the texts of one brief should differ from those of another (after AttrPrompt: Yu et al. 2023).

    AttrPrompt asks the model for attributes of each label; these hold for any task.
    """
    return "; ".join(str(draw.choice(kinds)) for kinds in STYLES)


def gold_examples(task: Task, rows: TrainingTexts) -> list[LabelledText]:
    """The gold among the rows."""
    return [LabelledText(text, task.labels[k]) for text, k in zip(rows.texts, rows.gold[: rows.n_gold], strict=False)]


def _guess(task: Task, rows: TrainingTexts, probs: Floats, i: int) -> StudentPrediction:
    likely = int(probs[i].argmax())
    return StudentPrediction(
        rows.texts[i], task.labels[rows.gold[i]], task.labels[likely], round(float(probs[i, likely]), 4)
    )


def _wanted(
    task: Task,
    rows: TrainingTexts,
    judgement: EvaluationResult,
    about: Ints,
    options: PgkdOptions,
    draw: np.random.Generator,
) -> dict[str, int]:
    # An F1 of few validation texts says little: it counts as if PRIOR_TEXTS more had the F1 of all.
    support = np.array([each.support for each in judgement.per_class], dtype=np.float64)
    f1 = np.array([each.f1 for each in judgement.per_class])
    f1 = (f1 * support + judgement.macro_f1.value * F1_PRIOR_TEXTS) / (support + F1_PRIOR_TEXTS)
    weight = np.bincount(rows.gold[: rows.n_gold], minlength=task.n_labels).astype(np.float64)
    if options.spend == "gain":
        # Errors fall with the number of texts by a power law, whose slope is the error divided by that number.
        weight /= np.maximum(np.bincount(rows.gold, minlength=task.n_labels), 1)
    counts = by_need(f1[about], weight[about], options.texts, draw)
    return {task.labels[k]: int(count) for k, count in zip(about, counts, strict=True) if count}
