"""The records of a report, all frozen: the document `report.json`, format 2.

A value that was not measured is None and is shown as "not measured". The records know no run and no store, and
compute only what follows from their own fields.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from potstill.bundle.record import BundleRecord
from potstill.data.task import JsonObject, Task
from potstill.errors import RunNotFound
from potstill.evaluation.metrics import EvaluationResult, McNemar, Score
from potstill.evaluation.reliability import Reliability
from potstill.evaluation.text2text.answer_metrics import AnswerScores
from potstill.evaluation.text2text.entities import EntityScores
from potstill.ledger.prices import CATEGORIES, LedgerTotals, micros_to_usd
from potstill.reports.rounds import RoundHistory

FORMAT = 2
# Facts to show, by name: of a model, a library, an option.
ShownFacts = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class TeacherSummary:
    """The teacher, as far as it was measured.

    Attributes:
        name: as in the spec.
        evaluation: on the test set; None if it was not asked about test texts.
        texts_per_s: answers a second, from the calls of the run.
        p50_ms: median latency of one text in a call of its own.
        metadata: facts to show (model, licence, size, runtime).
    """

    name: str
    evaluation: EvaluationResult | None = None
    texts_per_s: float | None = None
    p50_ms: float | None = None
    metadata: ShownFacts = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StudentSummary:
    """The exported student.

    Attributes:
        name: as in the spec.
        bundle: the folder it was exported to.
        evaluation: of the bundle on the test set.
        texts_per_s: in batches; p50_ms, p99_ms: latency of a single text.
        size_mb: all files that predicting reads, in 10^6 bytes.
        metadata: facts to show (preprocessor, precision, calibration, training).
    """

    name: str
    bundle: str = ""
    evaluation: EvaluationResult | None = None
    texts_per_s: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    size_mb: float | None = None
    metadata: ShownFacts = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A simpler model, evaluated on the same test set. `description` says in a few words how it was made."""

    name: str
    accuracy: Score | None = None
    macro_f1: Score | None = None
    description: str = ""
    micro_f1: Score | None = None

    @property
    def main_score(self) -> Score | None:
        """The score to compare by: accuracy, or micro F1 in a multi-label task."""
        return self.accuracy if self.micro_f1 is None else self.micro_f1

    @classmethod
    def from_evaluation(cls, name: str, evaluation: EvaluationResult, description: str = "") -> Baseline:
        """The baseline with the scores of an evaluation."""
        return cls(
            name=name,
            accuracy=evaluation.accuracy,
            macro_f1=evaluation.macro_f1,
            micro_f1=evaluation.micro_f1,
            description=description,
        )


@dataclass(frozen=True, kw_only=True)
class CostSummary:
    """The ledger's sums in USD. `lost_usd` is part of `charged_usd`; `by_category` and `by_purpose` add up to it.

    The last two are the prices of labelling a million texts with the teacher and with the student.
    """

    limit_usd: float
    charged_usd: float = 0.0
    paid_usd: float = 0.0
    held_usd: float = 0.0
    lost_usd: float = 0.0
    by_category: Mapping[str, float] = field(default_factory=dict)
    by_purpose: Mapping[str, float] = field(default_factory=dict)
    calls: int = 0
    teacher_usd_per_million_texts: float | None = None
    student_usd_per_million_texts: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_category", {**dict.fromkeys(CATEGORIES, 0.0), **self.by_category})

    @classmethod
    def from_totals(
        cls,
        totals: LedgerTotals,
        *,
        teacher_usd_per_million: float | None = None,
        student_usd_per_million: float | None = None,
    ) -> CostSummary:
        """The sums of a ledger, and the two prices per million texts in USD."""
        return cls(
            limit_usd=micros_to_usd(totals.limit),
            charged_usd=micros_to_usd(totals.charged),
            paid_usd=micros_to_usd(totals.paid),
            held_usd=micros_to_usd(totals.held),
            lost_usd=micros_to_usd(totals.lost),
            by_category={name: micros_to_usd(micros) for name, micros in totals.by_category.items()},
            by_purpose={name: micros_to_usd(micros) for name, micros in totals.by_purpose.items()},
            calls=totals.calls,
            teacher_usd_per_million_texts=teacher_usd_per_million,
            student_usd_per_million_texts=student_usd_per_million,
        )


@dataclass(frozen=True, kw_only=True)
class DataSummary:
    """Number of texts in each split, where they come from, and what cleaning did to them, in sentences."""

    gold: int = 0
    pool: int = 0
    validation: int = 0
    test: int = 0
    source: str = ""
    cleaning: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AnswerSummary:
    """The teacher's answers about the pool: texts asked, texts in each state, and where their scores come from."""

    asked: int
    by_state: Mapping[str, int] = field(default_factory=dict)
    score_source: str = ""


@dataclass(frozen=True, kw_only=True)
class UnreadableSummary:
    """Replies of a teacher in which no label of the task was found: how many, and up to three of them."""

    teacher: str
    n_replies: int
    replies: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SamplePrediction:
    """One test text as an example. `confidence` is the student's, in [0, 1]."""

    text: str
    student: str
    gold: str | None = None
    teacher: str | None = None
    confidence: float | None = None


@dataclass(frozen=True, kw_only=True)
class PriceRecord:
    """A price that was used: the item in words, the price, and its dated source."""

    item: str
    price: str
    source: str


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """The settings that reproduce the run.

    Attributes:
        potstill: the version that ran. machine: processor, cores used, memory; one line.
        versions: library -> version.
        options: all options, flattened ("student.epochs" -> 3).
    """

    procedure: str = ""
    seed: int | None = None
    potstill: str = ""
    machine: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    options: ShownFacts = field(default_factory=dict)
    prices: tuple[PriceRecord, ...] = ()


@dataclass(frozen=True, kw_only=True)
class EgressFacts:
    """What left this machine.

    Attributes:
        host: it was sent to; empty if nothing was sent.
        pool_texts: texts of the pool that were sent; None if only labelled texts were.
        redacted: kind -> number of pieces removed from the texts before; None without redaction.
    """

    host: str = ""
    pool_texts: int | None = None
    redacted: Mapping[str, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All facts of a finished run; `build_report` adds the sentences.

    Attributes:
        folder: of the run.
        bundle: the record of the exported student.
        recipe_sentences: summaries that the recipe noted.
        simulated_teachers: names of teachers that only replayed labels.
        duration_s, finished_at and the other records: as in `Report`.
    """

    folder: Path
    task: Task
    bundle: BundleRecord
    student: StudentSummary
    money: CostSummary
    settings: RunSettings
    data: DataSummary
    egress: EgressFacts
    duration_s: float
    finished_at: str
    teacher: TeacherSummary | None = None
    baselines: tuple[Baseline, ...] = ()
    answers: AnswerSummary | None = None
    unreadable: tuple[UnreadableSummary, ...] = ()
    reliability: Reliability | None = None
    rounds: RoundHistory | None = None
    mcnemar: McNemar | None = None
    entities: EntityScores | None = None
    free_text: AnswerScores | None = None
    samples: tuple[SamplePrediction, ...] = ()
    recipe_sentences: tuple[str, ...] = ()
    simulated_teachers: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Report:
    """The report of one run.

    Attributes:
        task: its name; labels: the K labels.
        duration_s: wall time of the run's sessions, without the pauses between them.
        unreadable: replies that could not be read, a record for each teacher with any.
        rounds: the rounds of a recipe that works in rounds.
        reliability: of the student's confidence on the test set.
        mcnemar: the student (a) against the teacher (b) on the test set.
        entities: in a task of entities, the student's scores of each type and its lenient score.
        free_text: in a task whose texts are answered in words, the student's scores by every metric.
        simulation: empty, or the sentence that says which figures are simulated.
        egress: one sentence on the data that left this machine.
        notes: sentences a reader must not miss ("34 texts were cut at 128 tokens.").
        finished_at: local time in ISO 8601.
        next_command: the command to type next.
    """

    task: str
    student: StudentSummary
    money: CostSummary
    labels: tuple[str, ...] = ()
    teacher: TeacherSummary | None = None
    baselines: tuple[Baseline, ...] = ()
    duration_s: float | None = None
    data: DataSummary = field(default_factory=DataSummary)
    answers: AnswerSummary | None = None
    unreadable: tuple[UnreadableSummary, ...] = ()
    reliability: Reliability | None = None
    rounds: RoundHistory | None = None
    mcnemar: McNemar | None = None
    entities: EntityScores | None = None
    free_text: AnswerScores | None = None
    samples: tuple[SamplePrediction, ...] = ()
    settings: RunSettings = field(default_factory=RunSettings)
    simulation: str = ""
    egress: str = ""
    notes: tuple[str, ...] = ()
    finished_at: str = ""
    next_command: str = ""
    format: int = FORMAT

    def to_json(self) -> JsonObject:
        """The document as JSON values; `Report.from_json` reads it back.

        Accuracy and macro F1 are repeated at the top of teacher, student and baselines for readers of these alone: the
        student's and the baselines' accuracy with its interval, all other scores as plain numbers.
        """
        # A lone surrogate, which a JSON data file can hold, cannot be written as UTF-8.
        text = json.dumps(asdict(self), ensure_ascii=False, default=str).encode("utf-8", "replace").decode("utf-8")
        record: dict[str, Any] = json.loads(text)
        if self.teacher is not None:
            record["teacher"] = {"name": "", **_scores(self.teacher.evaluation, plain=True), **record["teacher"]}
        record["student"] = {"name": "", "bundle": "", **_scores(self.student.evaluation), **record["student"]}
        return {"format": record.pop("format"), **record, "simulated": bool(self.simulation)}

    @classmethod
    def from_json(cls, record: JsonObject) -> Report:
        """The report that `to_json` wrote.

        Raises:
            RunNotFound: another format version, or not a report.
        """
        version = record.get("format")
        if version != FORMAT:
            raise RunNotFound(
                f"This report has format {version!r}; this version reads format {FORMAT}.",
                "Run the same distill command again: it builds the report anew and buys nothing twice.",
            )
        return _reader().validate_python(record)


@cache
def _reader() -> TypeAdapter[Report]:
    return TypeAdapter(Report)


def read_report(path: Path) -> Report:
    """The report in a `report.json`.

    Raises:
        RunNotFound: no such file, no report in it, or one of an older format.
    """
    try:
        return Report.from_json(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        reason = f"{where}: {error.errors()[0]['msg']}"
    except (OSError, ValueError, AttributeError) as error:
        reason = str(error)
    raise RunNotFound(f"There is no report to read in {path}: {reason}", "Give the folder of a finished run.")


def _scores(evaluation: EvaluationResult | None, *, plain: bool = False) -> JsonObject:
    if evaluation is None:
        return {"accuracy": None, "macro_f1": None}
    micro = {} if evaluation.micro_f1 is None else {"micro_f1": evaluation.micro_f1.value}
    accuracy = evaluation.accuracy
    return {
        **micro,
        "accuracy": accuracy.value if plain else accuracy.to_json(),
        "macro_f1": evaluation.macro_f1.value,
    }
