"""The results of a study as frozen records: cells, their results, the footprints of students, and the whole study.

Imports no run and no model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from potstill.data.task import JsonObject, OutputForm
from potstill.evaluation.metrics import is_finite_number
from potstill.study.form_gold import FormGold

FORMAT = 2
Baseline = Literal[
    "majority", "tf-idf", "zero-encoder", "zero-llm", "few-llm", "known-words", "frequent-answer", "text-itself"
]
BASELINES: tuple[Baseline, ...] = get_args(Baseline)
PROCEDURE_TITLES: Mapping[str, str] = {
    "ft": "FT",
    "p": "P",
    "ft+kd": "FT+KD",
    "p+kd": "P+KD",
    "llm+kd": "LLM+KD",
    "majority": "majority",
    "tf-idf": "TF-IDF + LR",
    "zero-encoder": "zero-shot encoder",
    "zero-llm": "zero-shot LLM",
    "few-llm": "few-shot LLM",
    "known-words": "known words",
    "frequent-answer": "most frequent answer",
    "text-itself": "the text itself",
}


def procedure_title(procedure: str) -> str:
    """A procedure or baseline as it is shown; a recipe of another name is shown by its name."""
    return PROCEDURE_TITLES.get(procedure, procedure)


@dataclass(frozen=True, order=True)
class Cell:
    """One cell of the grid.

    Attributes:
        data: the data set's name.
        n: gold labels in all, those of the validation set included; 0 for a procedure that needs none.
        seed: draws the gold and the initialisation.
        procedure: a procedure or a baseline.
        backbone: its name in the study; empty for a baseline without one.
    """

    data: str
    n: int
    seed: int
    procedure: str
    backbone: str = ""

    @property
    def title(self) -> str:
        """Procedure and backbone, as they are shown."""
        return f"{procedure_title(self.procedure)} {self.backbone}".strip()


@dataclass(frozen=True)
class CellScores:
    """Scores on the test texts."""

    accuracy: float
    macro_f1: float
    mcc: float


@dataclass(frozen=True)
class FormCellScores:
    """Scores on the test texts of entities or answers in words, by their names; see `FormGold.score_names`."""

    values: Mapping[str, float]


@dataclass(frozen=True)
class CellUsage:
    """What a cell used, its teacher included, as if no other cell had shared it.

    Attributes:
        seconds: this machine's time.
        teacher_seconds: the part of it for training and asking a teacher.
        llm_usd: price of a language model's answers.
    """

    seconds: float = 0.0
    teacher_seconds: float = 0.0
    llm_usd: float = 0.0


@dataclass(frozen=True)
class CellResult:
    """The result of a cell.

    Attributes:
        state: "done", "failed" (with the `reason`), or "pending" if the time or the money ended first.
        reason: why it is not done.
        scores: on the test texts; None unless done.
        predictions: the predicted column of each test text; -1 if a language model did not answer about it. Of entities
            and answers in words see `form_gold`.
        n_train: gold texts that the student was trained on.
        n_validation: gold texts that only selected among alternatives.
        usage: time and money.
        chosen_options: the student options that were selected; empty without alternatives.
    """

    state: Literal["done", "failed", "pending"]
    reason: str = ""
    scores: CellScores | FormCellScores | None = None
    predictions: tuple[int, ...] | tuple[str, ...] = ()
    n_train: int = 0
    n_validation: int = 0
    usage: CellUsage = CellUsage()
    chosen_options: Mapping[str, object] = field(default_factory=dict)

    def to_json(self) -> JsonObject:
        """JSON values that `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: JsonObject, kind: type[CellScores] | type[FormCellScores] = CellScores) -> CellResult:
        """The result that `to_json` wrote; `kind` is that of its scores."""
        scores = record["scores"]
        return cls(
            **{
                **record,
                "scores": None if scores is None else kind(**scores),
                "predictions": tuple(record["predictions"]),
                "usage": CellUsage(**record["usage"]),
            }
        )

    @classmethod
    def read(cls, record: JsonObject, n_texts: int, n_labels: int) -> CellResult:
        """The result of a cell that is done, as `to_json` wrote it.

        Raises:
            KeyError, TypeError, ValueError: it has no finite scores, or not a column of `n_labels`, or -1, for each
                of `n_texts` predictions; the file may be damaged or edited.
        """
        found = cls.from_json(record)
        found.check(n_texts, lambda column: type(column) is int and -1 <= column < n_labels)
        return found

    @classmethod
    def read_form(cls, record: JsonObject, gold: FormGold) -> CellResult:
        """As `read`, of a cell of entities or answers in words."""
        found = cls.from_json(record, FormCellScores)
        found.check(len(gold), gold.is_prediction)
        if not isinstance(found.scores, FormCellScores) or found.scores.values.keys() != set(gold.score_names):
            raise ValueError("there are other scores")
        return found

    def check(self, n_texts: int, is_prediction: Callable[[object], bool]) -> None:
        """Raise ValueError unless it is done, with finite numbers and a prediction for each of `n_texts`."""
        own = self.scores
        if self.state != "done" or own is None:
            raise ValueError("it is not done")
        values: object = own.values if isinstance(own, FormCellScores) else vars(own)
        if not isinstance(values, Mapping) or not all(map(is_finite_number, values.values())):
            raise ValueError("the scores are no numbers")
        numbers = [*vars(self.usage).values(), self.n_train, self.n_validation]
        if not all(is_finite_number(value) and value >= 0 for value in numbers):
            raise ValueError("time, money or texts are no numbers")
        if len(self.predictions) != n_texts or not isinstance(self.chosen_options, Mapping):
            raise ValueError("there is not one prediction a text")
        if not all(map(is_prediction, self.predictions)):
            raise ValueError("a value is no prediction")


@dataclass(frozen=True)
class Footprint:
    """Size and speed of a student's bundle. None is "not measured".

    Attributes:
        parameters: numbers in the exported graph.
        flops: floating-point operations per text, counted over the graph's matrix products; the mean of some texts.
        texts_per_s: throughput in batches.
        p50_ms, p99_ms: latency of a single text.
        size_mb: all files the bundle needs, in 10^6 bytes.
        joules_per_1000: energy of a thousand texts, if the machine has a counter.
        dtype: number format of the graph that is served.
        note: why something was not measured, or which cell it was measured on.
    """

    parameters: int | None = None
    flops: float | None = None
    texts_per_s: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    size_mb: float | None = None
    joules_per_1000: float | None = None
    dtype: str = ""
    note: str = ""

    @classmethod
    def from_json(cls, record: JsonObject) -> Footprint:
        """The footprint that `dataclasses.asdict` made plain."""
        found = cls(**record)
        numbers = [value for value in vars(found).values() if not isinstance(value, str)]
        if not all(value is None or (is_finite_number(value) and value >= 0) for value in numbers):
            raise ValueError("a footprint that is no number")
        if not isinstance(found.dtype, str) or not isinstance(found.note, str):
            raise ValueError("a footprint's note is no text")
        return found


@dataclass(frozen=True, eq=False)
class DatasetSummary:
    """One data set as the study used it.

    Attributes:
        name: as the study calls it.
        labels: the K labels.
        metric: "accuracy", "macro_f1" or "mcc", "entity_f1", or an `AnswerMetric`.
        gold: (N,) label columns of the N test texts, or their entities or references.
        sizes: gold labels in all, ascending.
        unlabelled: unlabelled texts.
        train: texts that gold may be drawn from.
        source: where it came from.
        notes: sentences about what reading it found.
        leaks: texts that are in train and in test and were left in.
        form: of the answers; None for labels.
    """

    name: str
    labels: tuple[str, ...]
    metric: str
    gold: NDArray[np.int64] | FormGold
    sizes: tuple[int, ...]
    unlabelled: int
    train: int
    source: str = ""
    notes: tuple[str, ...] = ()
    leaks: int = 0
    form: OutputForm | None = None


@dataclass(frozen=True, eq=False)
class StudyResult:
    """The results of a study, of all cells or of those that were run.

    Attributes:
        name: of the study.
        data: name -> data set.
        results: cell -> result, for every cell of the grid.
        footprints: `footprint_key` -> footprint.
        usd_per_label, usd_per_hour: prices of a gold label and of this machine.
        seeds: of the gold subsets.
        per: whether sizes are per class or in total.
        layout: see `StudySpec`.
        spec: the study's specification, as plain JSON.
        charged_usd: spent on all cells together.
        seconds: of this session.
        stop_reason: why it ended before the last cell; empty if it did not.
        simulation: a sentence about simulated figures; empty if there are none.
        machine: what the cells were run on.
        finished: when, in ISO 8601.
    """

    name: str
    data: Mapping[str, DatasetSummary]
    results: Mapping[Cell, CellResult]
    footprints: Mapping[str, Footprint]
    usd_per_label: float
    usd_per_hour: float
    seeds: tuple[int, ...]
    per: str
    layout: str = ""
    spec: JsonObject = field(default_factory=dict)
    charged_usd: float = 0.0
    seconds: float = 0.0
    stop_reason: str = ""
    simulation: str = ""
    machine: str = ""
    finished: str = ""

    @property
    def form(self) -> OutputForm | None:
        """The form of the answers of all data sets; None for labels."""
        return next((each.form for each in self.data.values()), None)

    def cost(self, cell: Cell) -> CellCost:
        """What a cell would have cost by itself, in USD."""
        usage = self.results[cell].usage
        return CellCost(cell.n * self.usd_per_label, usage.seconds / 3600 * self.usd_per_hour, usage.llm_usd)

    def footprint(self, cell: Cell) -> Footprint:
        """The footprint of the cell's student; an empty one if nothing was exported."""
        return self.footprints.get(footprint_key(cell), Footprint(note="nothing to export"))


@dataclass(frozen=True)
class CellCost:
    """What a cell costs, in USD."""

    labels_usd: float
    compute_usd: float
    llm_usd: float

    @property
    def total_usd(self) -> float:
        """The sum."""
        return math.fsum((self.labels_usd, self.compute_usd, self.llm_usd))


def footprint_key(cell: Cell) -> str:
    """Cells with the same data set, way of training (prompted or not) and backbone share a footprint."""
    if cell.procedure == "p" or (cell.procedure in BASELINES and cell.procedure != "zero-encoder"):
        return f"{cell.data} {cell.procedure} {cell.backbone}"
    return f"{cell.data} tuned {cell.backbone}"
