"""What comes out of a study, as frozen records: cells, their results, what a student weighs, and the whole.

Knows no run and no model; computes nothing but what can be read off its own fields.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

FORMAT = 1
Baseline = Literal["majority", "tf-idf", "zero-encoder", "zero-llm"]
BASELINES: tuple[Baseline, ...] = ("majority", "tf-idf", "zero-encoder", "zero-llm")
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
}


@dataclass(frozen=True, order=True)
class Cell:
    """One square of the grid.

    Attributes:
        data: the data set's name.
        n: gold labels in all, those for choosing included; 0 for what needs none.
        seed: draws the gold and the initialisation.
        procedure: a procedure or a baseline; a key of `TITLES`.
        backbone: its name in the study; empty where there is none.
    """

    data: str
    n: int
    seed: int
    procedure: str
    backbone: str = ""

    @property
    def title(self) -> str:
        """Procedure and backbone, as a reader would say them."""
        return f"{PROCEDURE_TITLES[self.procedure]} {self.backbone}".strip()


@dataclass(frozen=True)
class CellResult:
    """What a cell came to.

    Attributes:
        state: "done", "failed" (with the `reason`), or "left" where the time or the money ended first.
        scores: "accuracy", "macro_f1", "mcc" on the test texts.
        predicted: the column said of each test text.
        trained_on, chosen_on: gold texts learnt, and gold texts that only chose.
        seconds: this machine's time for all that the cell needs, its teacher's included, as if it were the only one.
        teacher_seconds: the part of them for training and asking a teacher.
        llm_usd: what a language model's answers cost, as if bought for this cell alone.
        choice: the alternative that was chosen; empty where there was no choice.
    """

    state: Literal["done", "failed", "left"]
    reason: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    predictions: tuple[int, ...] = ()
    n_train: int = 0
    n_validation: int = 0
    seconds: float = 0.0
    teacher_seconds: float = 0.0
    llm_usd: float = 0.0
    chosen_options: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary that `from_json` reads back."""
        return {**asdict(self), "predicted": list(self.predictions)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> CellResult:
        """The result that `to_json` wrote."""
        return cls(**{**record, "predicted": tuple(record["predicted"])})


@dataclass(frozen=True)
class Footprint:
    """What a student weighs once it is exported. None is "not measured"; `note` says why, or of which cell.

    Attributes:
        parameters: numbers in the exported graph.
        flops: floating-point operations a text, counted over the products of matrices in the graph, mean of some texts.
        texts_per_s: in batches; p50_ms, p99_ms: one text alone; of the bundle as it is served.
        size_mb: all files the bundle needs, in 10^6 bytes.
        joules_per_1000: energy of a thousand texts, where a counter exists.
        served: the number format of the graph that is served.
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
    def from_json(cls, record: Mapping[str, Any]) -> Footprint:
        """The footprint in a dictionary; keys of another version are left out."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in record.items() if name in known})


@dataclass(frozen=True, eq=False)
class DatasetSummary:
    """One data set as the study used it; `gold` is (N,) the right columns of the test texts."""

    name: str
    labels: tuple[str, ...]
    metric: str
    gold: NDArray[np.int64]
    sizes: tuple[int, ...]
    unlabelled: int
    train: int
    source: str = ""
    notes: tuple[str, ...] = ()
    leaks: int = 0


@dataclass(frozen=True, eq=False)
class StudyResult:
    """A study as far as it got.

    Attributes:
        results: cell -> what it came to; every cell of the grid is here.
        footprints: (data, procedure family, backbone) -> what that student weighs; see `footprint_key`.
        stopped: why it ended before the last cell; empty if it did not.
        simulation: which figures are simulated, in a sentence; empty if none is.
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
    spec: Mapping[str, Any] = field(default_factory=dict)
    charged_usd: float = 0.0
    seconds: float = 0.0
    stop_reason: str = ""
    simulation: str = ""
    machine: str = ""
    finished: str = ""

    def cost(self, cell: Cell) -> CellCost:
        """What a cell would have cost by itself, in USD."""
        result = self.results[cell]
        labels = 0.0 if cell.procedure.startswith("zero") else cell.n * self.usd_per_label
        return CellCost(labels, result.seconds / 3600 * self.usd_per_hour, result.llm_usd)

    def footprint(self, cell: Cell) -> Footprint:
        """What the cell's student weighs; an empty one where nothing was exported."""
        return self.footprints.get(footprint_key(cell), Footprint(note="nothing to export"))


@dataclass(frozen=True)
class CellCost:
    """What a cell costs, in USD."""

    labels_usd: float
    compute_usd: float
    llm_usd: float

    @property
    def total_usd(self) -> float:
        """All three."""
        return math.fsum((self.labels_usd, self.compute_usd, self.llm_usd))


def footprint_key(cell: Cell) -> str:
    """Cells whose students are built alike share a footprint: the data set, prompted or not, and the backbone."""
    if cell.procedure in ("p", "tf-idf", "majority", "zero-llm"):
        return f"{cell.data} {cell.procedure} {cell.backbone}"
    return f"{cell.data} tuned {cell.backbone}"
