"""A student's successes and errors -> the brief a teacher writes to (PGKD: Palo et al. 2024). Pure: asks nobody.

What a brief shows are training texts, gold or written before. Of the validation texts it tells figures alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, ValidationError

from potstill import choose
from potstill.errors import BadSpec, did_you_mean
from potstill.metrics import Judgement
from potstill.pool import Part
from potstill.spec import Section
from potstill.task import Brief, Guess, Guide, Task, Written

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]


class PgkdOptions(Section):
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
        by_need: we say how many texts of each label: (1 - F1) x how common it is; else the teacher decides.
        folds: the student's errors are those of so many students, each asked about a share of the training texts it did
            not learn; 0 takes the errors on what it did learn, as the paper does.
        agree: who has to agree with the label of a written text: the "teacher", asked anew; the "student", which must
            not think the label less likely than chance; or "nobody".
        doubt: the student may disbelieve labels of written texts, as it does a labelling teacher's (see `Lesson`).
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
    by_need: bool = False
    folds: int = Field(default=0, ge=0, le=50)
    agree: Literal["nobody", "teacher", "student"] = "nobody"
    doubt: bool = False
    shots: int | None = Field(default=None, ge=0)


def read_options(given: Mapping[str, Any]) -> PgkdOptions:
    """The options under [procedure]. Raises BadSpec: one nobody knows, or a value that cannot be."""
    try:
        return PgkdOptions.model_validate(dict(given))
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
class Rows:
    """What the student learns: N texts, their (N,) label columns, and how many of the first are gold."""

    texts: tuple[str, ...]
    gold: Ints
    n_gold: int

    @classmethod
    def of(cls, part: Part) -> Rows:
        """The gold alone."""
        return cls(part.texts, part.gold, len(part.texts))

    def plus(self, written: Sequence[Written], task: Task) -> Rows:
        """With texts that were written."""
        columns = np.array([task.index(each.label) for each in written], dtype=np.int64)
        texts = (*self.texts, *(each.text for each in written))
        return Rows(texts, np.concatenate([self.gold, columns]), self.n_gold)

    def at(self, rows: Ints) -> Rows:
        """Only these rows (M,), in ascending order."""
        return Rows(tuple(self.texts[i] for i in rows), self.gold[rows], int((rows < self.n_gold).sum()))

    @property
    def written(self) -> NDArray[np.bool_]:
        """(N,) True where a teacher wrote it."""
        return np.arange(len(self.texts)) >= self.n_gold


def make_brief(
    task: Task, rows: Rows, probs: Floats, judgement: Judgement, options: PgkdOptions, seed: Sequence[int]
) -> Brief:
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
    few = choose.at_random(np.arange(rows.n_gold), options.shown, draw)
    right = choose.correct(rows.gold, probs, options.shown, draw)
    wrong = choose.incorrect(rows.gold, probs, options.shown, draw)
    hard = choose.hard_negatives(rows.gold, probs, options.shown)

    def guesses(chosen: Ints, wanted: bool) -> tuple[Guess, ...]:
        return tuple(_guess(task, rows, probs, i) for i in chosen) if wanted else ()

    guide = Guide(
        accuracy=judgement.accuracy.value if options.report else None,
        report=judgement.per_class if options.report else (),
        correct=guesses(right, options.predictions),
        incorrect=guesses(wrong, options.predictions),
        hard_negatives=guesses(hard, options.hard_negatives),
        wanted=_wanted(task, rows, judgement, options.texts, draw) if options.by_need else {},
    )
    examples = tuple(Written(rows.texts[i], task.labels[rows.gold[i]]) for i in few)
    return Brief("", options.texts, examples, seed=int(np.dot(seed, [1000, 1])), guide=guide)


def gold_of(task: Task, rows: Rows) -> list[Written]:
    """The gold among the rows."""
    return [Written(text, task.labels[k]) for text, k in zip(rows.texts, rows.gold[: rows.n_gold], strict=False)]


def _guess(task: Task, rows: Rows, probs: Floats, i: int) -> Guess:
    likely = int(probs[i].argmax())
    return Guess(rows.texts[i], task.labels[rows.gold[i]], task.labels[likely], round(float(probs[i, likely]), 4))


def _wanted(task: Task, rows: Rows, judgement: Judgement, n: int, draw: np.random.Generator) -> dict[str, int]:
    f1: ArrayLike = [each.f1 for each in judgement.per_class]
    prior = np.bincount(rows.gold[: rows.n_gold], minlength=task.n_labels)
    counts = choose.by_need(f1, prior, n, draw)
    return {label: int(count) for label, count in zip(task.labels, counts, strict=True) if count}
