"""What a run's spec, store and ledger say about it, as the records of a report. Measures nothing."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

from potstill import __version__
from potstill.data.pool import Split
from potstill.evaluation.latency import Latency
from potstill.ledger.prices import MICROS_PER_USD, Price, Rates, Usage
from potstill.ledger.store import CallRecord
from potstill.reports.records import (
    AnswerSummary,
    CostSummary,
    DataSummary,
    EgressFacts,
    PriceRecord,
    RunSettings,
    UnreadableSummary,
)
from potstill.reports.teacher_calls import labelling_calls, micros_per_text
from potstill.run.notes import Opened, UnreadableReplies
from potstill.run.run import Run, TeacherRecord

LIBRARIES = ("numpy", "onnxruntime", "scikit-learn", "tokenizers", "torch", "transformers")
MAX_UNREADABLE_SHOWN = 3
SPLITS: dict[str, Split] = {"gold": "train", "pool": "pool", "validation": "validation", "test": "test"}


def teacher_calls(run: Run) -> list[CallRecord]:
    """The settled calls in which the run's teacher labelled texts."""
    if run.teacher_record is None:
        return []
    return labelling_calls(run.store.calls(), run.teacher_record.teacher.name)


def cost_summary(run: Run, speed: Latency) -> CostSummary:
    """The ledger's sums, and the prices of a million texts labelled by teacher and student."""
    usd_per_hour = run.spec.compute_rates.cost_micros(Usage(seconds=3600)) / MICROS_PER_USD
    return CostSummary.from_totals(
        run.ledger.totals(),
        teacher_usd_per_million=micros_per_text(teacher_calls(run)),
        student_usd_per_million=usd_per_hour / 3600 / speed.texts_per_s * 1e6,
    )


def active_seconds(run: Run) -> float:
    """Wall time spent in this run, over all its sessions; the pauses between them do not count."""
    events = [(note.time, isinstance(note.record, Opened)) for note in run.notes()]
    events += [
        (moment, False) for row in run.store.calls() for moment in (row.started_at, row.ended_at or row.started_at)
    ]
    events.sort()
    opened = last = events[0][0] if events else 0.0  # of another session's call, if the clock was set back
    total = 0.0
    for moment, is_opening in events:
        if is_opening:
            total += last - opened
            opened = moment
        last = moment
    return total + last - opened


def data_summary(run: Run, source: str, cleaning: tuple[str, ...]) -> DataSummary:
    """The number of texts in each split, with what the caller knows of their source."""
    sizes = {name: len(run.pool.subset(split).texts) for name, split in SPLITS.items()}
    return DataSummary(**sizes, source=source, cleaning=cleaning)


def answer_summary(record: TeacherRecord | None) -> AnswerSummary | None:
    """The teacher's answers about the pool; None if it was not asked about any."""
    if record is None or not record.answers.texts:
        return None
    asked = sum(state != "unasked" for state in record.answers.states)
    sources = sorted(set(record.answers.score_source) - {""})
    return AnswerSummary(asked=asked, by_state=record.answers.state_counts, score_source=", ".join(sources))


def unreadable_summaries(run: Run) -> tuple[UnreadableSummary, ...]:
    """The replies that could not be read, a record for each teacher with any."""
    found: dict[str, list[UnreadableReplies]] = {}
    for note in run.notes():
        if isinstance(note.record, UnreadableReplies):
            found.setdefault(note.record.teacher, []).append(note.record)
    return tuple(
        UnreadableSummary(
            teacher=teacher,
            n_replies=sum(each.n_unreadable for each in notes),
            replies=tuple(dict.fromkeys(reply for each in notes for reply in each.replies))[:MAX_UNREADABLE_SHOWN],
        )
        for teacher, notes in found.items()
    )


def egress_facts(record: TeacherRecord | None) -> EgressFacts:
    """What the teacher's calls sent to another machine."""
    if record is None or not record.teacher.metadata.host:
        return EgressFacts()
    facts = record.teacher.metadata
    asked = sum(state != "unasked" for state in record.answers.states)
    pool_texts = asked if record.answers.texts else None
    return EgressFacts(host=facts.host, pool_texts=pool_texts, redacted=facts.redactions)


def simulated_teachers(run: Run) -> tuple[str, ...]:
    """The names of the teachers that only replayed labels."""
    names = set(run.simulated_teachers)
    if run.teacher_record is not None and run.teacher_record.teacher.simulated:
        names.add(run.teacher_record.teacher.name)
    return tuple(sorted(names))


def recipe_sentences(run: Run) -> tuple[str, ...]:
    """The summaries that recipes noted. A resumed run notes them again, so the last of each kind counts."""
    found = {note.name: sentence for note in run.notes() if (sentence := note.record.sentence())}
    return tuple(found.values())


def run_settings(run: Run) -> RunSettings:
    """The settings that reproduce the run."""
    spec = run.spec
    components = {"student": spec.student, "teacher": spec.teacher, "procedure": spec.procedure}
    hour = spec.compute_rates
    prices = [PriceRecord(item="this machine", price=f"${hour.usd_per_hour} an hour", source=hour.source)]
    if run.teacher_record is not None and run.teacher_record.teacher.category == "llm":
        teacher = run.teacher_record.teacher
        prices.append(PriceRecord(item=teacher.name, price=_price_words(teacher.price), source=teacher.price.source))
    return RunSettings(
        procedure=spec.procedure.name,
        seed=spec.seed,
        potstill=__version__,
        machine=f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        versions={name: found for name in LIBRARIES if (found := _version(name))},
        options={
            f"{part}.{name}": value
            for part, component in components.items()
            if component is not None
            for name, value in component.options.items()
        },
        prices=tuple(prices),
    )


def _price_words(price: Price) -> str:
    """The rates of a price that has some; a provider's public price is in the list that its source names."""
    if not isinstance(price, Rates):
        return "as listed"
    units = {
        "a million input tokens": price.usd_per_million_input,
        "a million output tokens": price.usd_per_million_output,
        "an hour": price.usd_per_hour,
    }
    return ", ".join(f"${rate} {unit}" for unit, rate in units.items() if rate) or "free"


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""
