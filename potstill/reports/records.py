"""What a report says, as frozen records: the document `report.json`, format 1.

Filled by keyword; whatever was not measured stays None and is shown as "not measured". Knows no run and no store,
and computes nothing but what can be read off its own fields.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from potstill.errors import RunNotFound
from potstill.evaluation.metrics import EvaluationResult, McNemar, Score
from potstill.evaluation.reliability import Reliability
from potstill.ledger.prices import CATEGORIES, LedgerTotals, micros_to_usd
from potstill.reports.rounds import RoundHistory

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class TeacherSummary:
    """The teacher, as far as it was measured.

    Attributes:
        name: as the user typed it.
        judgement: on the test set; None if it was not asked about it.
        texts_per_s: answers a second, measured while it taught.
        p50_ms: median of one text answered alone.
        about: facts to show (model, licence, size, runtime).
    """

    name: str
    evaluation: EvaluationResult | None = None
    texts_per_s: float | None = None
    p50_ms: float | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StudentSummary:
    """The student as it ships.

    Attributes:
        name: as the user typed it.
        bundle: the folder it was exported to.
        judgement: of the bundle on the test set.
        texts_per_s: in batches; p50_ms, p99_ms: one text alone.
        size_mb: all files it needs to predict, in 10^6 bytes.
        about: facts to show (runtime, precision, threads, parameters).
    """

    name: str
    bundle: str = ""
    evaluation: EvaluationResult | None = None
    texts_per_s: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    size_mb: float | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """Something simpler, judged on the same test set. `about` says in a few words how it was made."""

    name: str
    accuracy: Score | None = None
    macro_f1: Score | None = None
    metadata: str = ""
    micro_f1: Score | None = None

    @property
    def main(self) -> Score | None:
        """The one figure to compare by: accuracy, or micro F1 where a text may have several labels."""
        return self.accuracy if self.micro_f1 is None else self.micro_f1

    @classmethod
    def from_evaluation(cls, name: str, judgement: EvaluationResult, about: str = "") -> Baseline:
        """The baseline that was judged so."""
        scores = {"accuracy": judgement.accuracy, "macro_f1": judgement.macro_f1, "micro_f1": judgement.micro_f1}
        return cls(name=name, metadata=about, **scores)


@dataclass(frozen=True, kw_only=True)
class CostSummary:
    """The ledger's sums in USD. `lost_usd` is part of `charged_usd`; `by` and `by_purpose` add up to it.

    The two prices are for answering a million texts: by asking the teacher, and by running the student.
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
        object.__setattr__(self, "by", {**dict.fromkeys(CATEGORIES, 0.0), **self.by_category})

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
    """How many texts of each kind there were, where they came from, and what cleaning did to them, in sentences."""

    gold: int = 0
    pool: int = 0
    validation: int = 0
    test: int = 0
    source: str = ""
    cleaning: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AnswerSummary:
    """What the teacher answered about the pool: how many were asked, how many ended in each state, how it was soft."""

    asked: int
    by_state: Mapping[str, int] = field(default_factory=dict)
    how: str = ""


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
    """A price that was used: of what, as a reader would say it, and from which dated source."""

    what: str
    price: str
    source: str


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What it takes to do it again.

    Attributes:
        potstill: the version that ran. machine: processor, cores used, memory; one line.
        versions: library -> version.
        options: whatever was set, flattened ("student.epochs" -> 3).
    """

    procedure: str = ""
    seed: int | None = None
    potstill: str = ""
    machine: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    prices: tuple[PriceRecord, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Report:
    """One run, told.

    Attributes:
        task: its name; labels: the K labels.
        seconds: wall time of the run from first to last step, waiting excluded.
        rounds: of a recipe that works in rounds, what each brought.
        exam: the student's confidence on the test set, and what was promised of it.
        mcnemar: the student (a) against the teacher (b) on the test set.
        simulation: empty, or the sentence that says which figures are simulated.
        egress: one sentence on what left this machine.
        notes: sentences a reader must not miss ("34 texts were cut at 128 tokens.").
        finished: local time in ISO 8601.
        next_command: what to type next.
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
    reliability: Reliability | None = None
    rounds: RoundHistory | None = None
    mcnemar: McNemar | None = None
    samples: tuple[SamplePrediction, ...] = ()
    settings: RunSettings = field(default_factory=RunSettings)
    simulation: str = ""
    egress: str = ""
    notes: tuple[str, ...] = ()
    finished_at: str = ""
    next_command: str = ""
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        """The document as JSON values; `Report.from_json` reads it back.

        Accuracy and macro F1 stand at the top of teacher, student and baselines for those who read only these:
        the student's and the baselines' accuracy with its interval, every other one as a plain number.
        """
        # A lone surrogate, which a JSON data file can hold, would keep the document from being written as UTF-8.
        text = json.dumps(asdict(self), ensure_ascii=False, default=str).encode("utf-8", "replace").decode("utf-8")
        record: dict[str, Any] = json.loads(text)
        if self.teacher is not None:
            record["teacher"] = {
                "name": "",
                **_quality(self.teacher.evaluation, plain=True),
                **record["teacher"],
            }
        record["student"] = {
            "name": "",
            "bundle": "",
            **_quality(self.student.evaluation),
            **record["student"],
        }
        prices = {who: record["money"].pop(f"{who}_usd_per_million_texts") for who in ("teacher", "student")}
        record["money"]["usd_per_million_texts"] = prices
        record["simulated"] = bool(self.simulation)
        return {"format": record.pop("format"), **record}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Report:
        """The report that `to_json` wrote.

        Raises:
            NotARun: another format version, or no report at all.
        """
        if record.get("format") != FORMAT:
            raise RunNotFound(
                f"This report has format {record.get('format')!r}; this version reads format {FORMAT}.",
                "Make it again with: potstill report RUN",
            )
        fields = {name: value for name, value in record.items() if name != "simulated"}
        teacher, answers, mcnemar = fields.get("teacher"), fields.get("answers"), fields.get("mcnemar")
        exam, rounds = fields.get("exam"), fields.get("rounds")
        settings = dict(fields["settings"])
        money = dict(fields["money"])
        for who, price in money.pop("usd_per_million_texts").items():
            money[f"{who}_usd_per_million_texts"] = price
        return cls(
            **{
                **fields,
                "labels": tuple(fields["labels"]),
                "teacher": None if teacher is None else TeacherSummary(**_facts(teacher)),
                "student": StudentSummary(**_facts(fields["student"])),
                "money": CostSummary(**money),
                "baselines": tuple(
                    Baseline(**{**b, **{name: _score(b.get(name)) for name in ("accuracy", "macro_f1", "micro_f1")}})
                    for b in fields["baselines"]
                ),
                "data": DataSummary(**{**fields["data"], "cleaning": tuple(fields["data"]["cleaning"])}),
                "answers": None if answers is None else AnswerSummary(**answers),
                "exam": None if exam is None else Reliability.from_json(exam),
                "rounds": None if rounds is None else RoundHistory.from_json(rounds),
                "mcnemar": None if mcnemar is None else McNemar(**mcnemar),
                "samples": tuple(SamplePrediction(**each) for each in fields["samples"]),
                "settings": RunSettings(
                    **{**settings, "prices": tuple(PriceRecord(**each) for each in settings["prices"])}
                ),
                "notes": tuple(fields["notes"]),
            }
        )


def read_report(path: Path) -> Report:
    """The report in a `report.json`.

    Raises:
        NotARun: no such file, or no report in it.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return Report.from_json(record)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunNotFound(
            f"There is no report to read in {path}: {error}", "Name the folder of a finished run."
        ) from None


def _quality(judgement: EvaluationResult | None, *, plain: bool = False) -> dict[str, Any]:
    if judgement is None:
        return {"accuracy": None, "macro_f1": None}
    accuracy = judgement.accuracy
    return ({"micro_f1": judgement.micro_f1.value} if judgement.micro_f1 is not None else {}) | {
        "accuracy": accuracy.value if plain else accuracy.to_json(),
        "macro_f1": judgement.macro_f1.value,
    }


def _facts(record: Mapping[str, Any]) -> dict[str, Any]:
    judgement = record["judgement"]
    fields = {name: value for name, value in record.items() if name not in ("accuracy", "macro_f1", "micro_f1")}
    return {**fields, "judgement": None if judgement is None else EvaluationResult.from_json(judgement)}


def _score(record: Mapping[str, Any] | None) -> Score | None:
    return None if record is None else Score.from_json(record)
