"""The end of a run: the student is exported, measured as it ships, set beside its teacher and simpler models, and told.

Only here is the test part of the pool read. What is measured on this machine costs nothing; asking the teacher about
test texts costs money like any other question, so it stays within a tenth of the budget.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill import __version__
from potstill.bundle.bundle import Bundle, load
from potstill.bundle.export.export import add_test_metrics, calibrate_bundle, export
from potstill.data.atomic import atomic_file
from potstill.data.pool import Split, Subset
from potstill.errors import BudgetExceeded
from potstill.evaluation.latency import Latency, measure_latency
from potstill.evaluation.metrics import EvaluationResult, McNemar
from potstill.evaluation.multilabel_thresholds import LabelThresholds
from potstill.evaluation.reliability import measure_reliability
from potstill.ledger.prices import MICROS_PER_USD, Usage
from potstill.ledger.store import CallRecord
from potstill.reports import (
    AnswerSummary,
    Baseline,
    CostSummary,
    DataSummary,
    PriceRecord,
    Report,
    RunSettings,
    SamplePrediction,
    StudentSummary,
    TeacherSummary,
    read_report,
    render_html,
)
from potstill.reports.rounds import read_rounds
from potstill.run.evaluate_student import (
    display_labels,
    evaluate_probs,
    majority_baseline,
    mcnemar_test,
    tune_label_thresholds,
)
from potstill.run.run import Run, TeacherRecord
from potstill.run.spec import ComponentSpec
from potstill.students.base import Student

MAX_TEACHER_TEST_TEXTS = 2000  # test texts the teacher is asked about, at most
N_SINGLE_CALLS = 15  # of them one at a time, for its latency
MIN_CALIBRATION_TEXTS = 50  # validation texts below which a calibration is noise
EVALUATION_BUDGET_DIVISOR = 10  # and for at most one tenth of the budget
BENCH_TEXTS = 256
EXAMPLE_ARGUMENTS = {"single": '"your own text"', "pair": '"one text" "another"'}
LIBRARIES = ("numpy", "onnxruntime", "scikit-learn", "tokenizers", "torch", "transformers")


def build_report(run: Run, student: Student, cleaning: tuple[str, ...] = (), source: str = "") -> Report:
    """Export, measure and tell; what was finished before with the same student is read again, not done again.

    Args:
        run: the run the student comes from.
        student: what the recipe returned.
        cleaning: sentences about what reading the data did to them.
        source: where the data came from, in a few words.
    """
    key, report_path = run.student_key(student), run.folder / "report.json"
    if run.store.get_meta("finished") == key and report_path.exists():
        return read_report(report_path)
    bundle = _shipped(run, student, key)
    test = run.pool.subset("test")
    teacher, theirs = _teacher(run, test)
    judgement, exam = None, None
    probs = np.empty((0, run.task.n_labels), dtype=np.float32)
    if test.texts:
        logits = bundle.predict_logits(test.texts)
        probs = bundle.calibrated_probs(logits)
        exam = None if bundle.multilabel else measure_reliability(test.gold, logits, probs, bundle.guarantees)
        judgement = evaluate_probs(
            run.task,
            test.gold,
            probs,
            bundle.multilabel_guarantees.label_thresholds if bundle.multilabel_guarantees else None,
        )
        figures = {"accuracy": judgement.accuracy, "macro_f1": judgement.macro_f1, "micro_f1": judgement.micro_f1}
        add_test_metrics(bundle.folder, {name: score.to_json() for name, score in figures.items() if score is not None})
    texts = test.texts or run.pool.subset("pool").texts or run.pool.subset("train").texts
    speed = measure_latency(bundle.predict_proba, texts[:2000])
    baselines = tuple(_baselines(run, test, student))
    run.note("finished", student=key)
    report = Report(
        task=run.task.name,
        labels=run.task.labels,
        student=StudentSummary(
            name=run.spec.student.name,
            bundle=str(bundle.folder),
            evaluation=judgement,
            texts_per_s=speed.texts_per_s,
            p50_ms=speed.p50_ms,
            p99_ms=speed.p99_ms,
            size_mb=bundle.size_mb,
            metadata=_bundle_facts(bundle),
        ),
        teacher=teacher,
        money=_money(run, speed),
        baselines=baselines,
        duration_s=active_seconds(run),
        data=DataSummary(
            **{name: len(run.pool.subset(split).texts) for name, split in _PARTS.items()},
            source=source,
            cleaning=cleaning,
        ),
        answers=_answers(run.teacher_record),
        reliability=exam,
        rounds=read_rounds(run.store.notes()),
        mcnemar=_mcnemar(run, test, bundle.label_indicator(probs), theirs),
        samples=tuple(_samples(run, test, probs, bundle.label_indicator(probs), theirs)),
        settings=_settings(run),
        simulation=_simulation(run),
        egress=_egress(run.teacher_record),
        notes=tuple(_notes(run, bundle, judgement, teacher, baselines)),
        finished_at=datetime.now().astimezone().isoformat(timespec="seconds"),
        next_command=f"potstill predict {run.folder} {EXAMPLE_ARGUMENTS.get(run.task.kind, EXAMPLE_ARGUMENTS['single'])}",
    )
    _write(report, run.folder)
    # What `bench` needs to time student and teacher later, wherever it is called.
    run.store.set_meta("bench", {"texts": list(texts[:BENCH_TEXTS]), "folder": str(run.spec.folder.absolute())})
    run.store.set_meta("finished", key)
    return report


_PARTS: dict[str, Split] = {"gold": "train", "pool": "pool", "validation": "validation", "test": "test"}


def _shipped(run: Run, student: Student, key: str) -> Bundle:
    folder = run.folder / "bundle"
    if run.store.get_meta("exported") != key or not folder.exists():
        run.reporter.info("Exporting the student and checking that it predicts the same.")
        check = run.pool.subset("validation") if run.pool.subset("validation").texts else run.pool.subset("train")
        texts = check.texts or run.pool.subset("pool").texts[:500]
        lineage = {"run": run.folder.name, "procedure": run.spec.procedure.name, "student": run.spec.student.name}
        if run.teacher_record is not None:
            lineage["teacher"] = run.teacher_record.teacher.name
        held_out = run.pool.subset("validation")
        gold = check.gold if check.texts else None
        export(student, folder, task=run.task, texts=texts, gold=gold, lineage=lineage)
        if len(held_out) >= MIN_CALIBRATION_TEXTS:
            calibrate_bundle(folder, held_out.texts, held_out.gold)
        run.store.set_meta("exported", key)
    return load(folder)


@dataclass(frozen=True)
class _Theirs:
    """What the teacher says of the test texts: (N,) whether it was asked and answered, (N, K) the labels it gives."""

    answered: NDArray[np.bool_]
    chosen: NDArray[np.bool_]


def _teacher(run: Run, test: Subset) -> tuple[TeacherSummary | None, _Theirs | None]:
    """The teacher measured as the student is, and what it says of the test texts."""
    if run.teacher_record is None:
        return None, None
    teacher, reading = run.teacher_record.teacher, run.teacher_record.calibration
    probs = np.full((len(test.texts), run.task.n_labels), np.nan)
    asked = np.random.default_rng(run.spec.seed).permutation(len(test.texts))[:MAX_TEACHER_TEST_TEXTS]
    judgement, cut = None, LabelThresholds()
    if teacher.name == "human":
        asked = asked[:0]  # people have better to do than to label what is labelled
    if len(asked):
        leave = max(run.ledger.free - run.ledger.limit // EVALUATION_BUDGET_DIVISOR, 0)
        texts = [test.texts[i] for i in asked]
        for text in texts[: N_SINGLE_CALLS if teacher.batch_size > 1 else 0]:
            run.ask(teacher, [text], purpose="measure", reserve_micros=leave)
        answers = run.ask(teacher, texts, purpose="measure", reserve_micros=leave)
        asked = asked[[state != "unasked" for state in answers.states]]
        answered = answers.answered[: len(asked)]
        probs[asked[answered]] = reading.apply(answers.scores[: len(asked)][answered])
        if len(asked) and run.task.kind == "multi" and teacher.category == "compute":
            held_out = run.pool.subset("validation")  # its thresholds are chosen as the student's are
            said = run.ask(teacher, held_out.texts, purpose="measure", reserve_micros=leave)
            cut = tune_label_thresholds(held_out, reading.apply(said.scores))
        if len(asked):
            judgement = evaluate_probs(run.task, test.gold[asked], probs[asked], cut)
    # The ledger remembers every call, so a resumed run knows the speed of answers it was given earlier.
    calls = [(row.n_texts, (row.ended_at or row.started_at) - row.started_at) for row in _calls_of(run, teacher.name)]
    seconds = sum(took for _, took in calls) / teacher.parallel
    alone_ms = [took * 1000 for n, took in calls if n == 1]
    facts = TeacherSummary(
        name=teacher.name,
        evaluation=judgement,
        texts_per_s=sum(n for n, _ in calls) / seconds if seconds else None,
        p50_ms=median(alone_ms) if alone_ms else None,
        metadata=dict(teacher.metadata),
    )
    there = np.isfinite(probs).all(axis=1)
    likely = np.where(there[:, None], probs, 0.0)
    chosen = (
        cut.apply(likely) if run.task.kind == "multi" else likely.argmax(axis=1)[:, None] == np.arange(len(likely.T))
    )
    return facts, _Theirs(there, np.asarray(chosen))


def _calls_of(run: Run, teacher: str) -> list[CallRecord]:
    return [row for row in run.store.calls() if row.state == "settled" and row.what.startswith(f"{teacher}: ")]


def _baselines(run: Run, test: Subset, student: Student) -> Iterator[Baseline]:
    """Simpler models on the same gold: the most frequent label, TF-IDF + LR, the student without a teacher."""
    gold = run.pool.subset("train")
    if not gold.texts or not test.texts:
        return
    constant = majority_baseline(run.task, gold, test)
    yield Baseline.from_evaluation("majority", constant.evaluation, constant.description)
    targets = gold.targets(run.task.n_labels)
    rivals = [
        (ComponentSpec(name="linear"), "TF-IDF + logistic regression"),
        (run.spec.student, "the student without a teacher"),
    ]
    told = {run.student_key(student)}
    for named, about in rivals:
        try:
            rival = run.learn(gold.texts, targets, student=named, purpose="measure")
        except BudgetExceeded:
            run.reporter.info(f"No money is left to train the baseline {named.name}.")
            return
        if run.student_key(rival) not in told:
            told.add(run.student_key(rival))
            judged = run.judge(rival, test, f"{named.name} on gold")
            yield Baseline.from_evaluation(f"{named.name} on {len(gold.texts)} gold", judged, about)


def _money(run: Run, speed: Latency) -> CostSummary:
    per_hour = run.spec.compute_rates.cost_micros(Usage(seconds=3600)) / MICROS_PER_USD
    teacher_price = None
    if run.teacher_record is not None:
        calls = _calls_of(run, run.teacher_record.teacher.name)
        if calls:
            teacher_price = sum(row.charged for row in calls) / sum(row.n_texts for row in calls)
    return CostSummary.from_totals(
        run.ledger.totals(),
        teacher_usd_per_million=teacher_price,
        student_usd_per_million=per_hour / 3600 / speed.texts_per_s * 1e6,
    )


def active_seconds(run: Run) -> float:
    """Wall time spent in this run, over all its sessions; the pauses between them do not count."""
    events = [(note.time, note.description == "opened") for note in run.store.notes()]
    events += [
        (moment, False) for row in run.store.calls() for moment in (row.started_at, row.ended_at or row.started_at)
    ]
    total, opened, last = 0.0, 0.0, 0.0
    for moment, is_opening in sorted(events):
        if is_opening:
            total += last - opened
            opened = moment
        last = moment
    return total + last - opened


def _answers(taught: TeacherRecord | None) -> AnswerSummary | None:
    if taught is None or not taught.answers.texts:
        return None
    asked = [state for state in taught.answers.states if state != "unasked"]
    how = sorted(set(taught.answers.score_source) - {""})
    return AnswerSummary(asked=len(asked), by_state=taught.answers.state_counts, score_source=", ".join(how))


def _mcnemar(run: Run, test: Subset, ours: NDArray[np.bool_], theirs: _Theirs | None) -> McNemar | None:
    if theirs is None or not len(ours) or not theirs.answered.any():
        return None
    both = theirs.answered
    return mcnemar_test(run.task, test.gold[both], ours[both], theirs.chosen[both])


def _samples(
    run: Run, test: Subset, probs: np.ndarray, ours: NDArray[np.bool_], theirs: _Theirs | None, n: int = 8
) -> Iterator[SamplePrediction]:
    task = run.task
    gold = test.gold == 1 if task.kind == "multi" else np.arange(task.n_labels) == test.gold[:, None]
    for i in np.random.default_rng(run.spec.seed).permutation(len(test.texts))[:n]:
        yield SamplePrediction(
            text=test.texts[i],
            student=display_labels(task, ours[i], probs[i]),
            gold=display_labels(task, gold[i], probs[i]),
            teacher=display_labels(task, theirs.chosen[i], probs[i])
            if theirs is not None and theirs.answered[i]
            else None,
            confidence=float(probs[i].max()),
        )


def _settings(run: Run) -> RunSettings:
    spec = run.spec
    options = {"student." + name: value for name, value in spec.student.options.items()}
    if spec.teacher is not None:
        options |= {"teacher." + name: value for name, value in spec.teacher.options.items()}
    options |= {"procedure." + name: value for name, value in spec.procedure.options.items()}
    hour = spec.compute_rates
    prices = [PriceRecord(item="this machine", price=f"${hour.usd_per_hour}/hour", source=hour.source)]
    if run.teacher_record is not None and run.teacher_record.teacher.category == "llm":
        source = run.teacher_record.teacher.price.source
        prices.append(PriceRecord(item=run.teacher_record.teacher.name, price="as listed", source=source))
    return RunSettings(
        procedure=spec.procedure.name,
        seed=spec.seed,
        potstill=__version__,
        machine=f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        versions={name: found for name in LIBRARIES if (found := _version(name))},
        options=options,
        prices=tuple(prices),
    )


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""


def _simulation(run: Run) -> str:
    names = set(run.simulated_teachers)
    if run.teacher_record is not None and run.teacher_record.teacher.simulated:
        names.add(run.teacher_record.teacher.name)
    if not names:
        return ""
    who, whose = " and ".join(sorted(names)), "its" if len(names) == 1 else "their"
    does = "replays" if len(names) == 1 else "replay"
    return f"Simulation: {who} {does} labels that were already known; {whose} cost and skill are assumed."


def _egress(taught: TeacherRecord | None) -> str:
    host = taught.teacher.metadata.get("host") if taught is not None else None
    if taught is None or not host:
        return "No text left this machine."
    sent = sum(state != "unasked" for state in taught.answers.states)
    told = f"{sent} texts of the pool, and the gold examples in the prompt, were sent to {host}."
    if not taught.answers.texts:
        told = f"Training texts and their labels were sent to {host}, and test texts to measure it."
    if not taught.teacher.metadata.get("redact"):
        return told
    taken_out = ", ".join(f"{n} {kind}" for kind, n in sorted(taught.teacher.metadata["redacted"].items())) or "nothing"
    return f"{told} Taken out before they left, this time: {taken_out}."


def _bundle_facts(bundle: Bundle) -> dict[str, Any]:
    return {name: value for name, value in bundle.summary().items() if isinstance(value, str | int | float | bool)}


def _notes(
    run: Run,
    bundle: Bundle,
    judgement: EvaluationResult | None,
    teacher: TeacherSummary | None,
    baselines: tuple[Baseline, ...],
) -> Iterator[str]:
    yield from bundle.notes()
    if _bundle_facts(bundle).get("precision") == "int8" and not len(run.pool.subset("validation")):
        yield "Int8 was judged on texts the student has learnt, as none were held out: that tells little."
    if bundle.multilabel_guarantees is not None:
        how = (
            "one for all labels"
            if len(bundle.multilabel_guarantees.label_thresholds.thresholds) == 1
            else "one a label"
        )
        yield f"A label is given from its threshold on ({how}), chosen on {bundle.multilabel_guarantees.n:,} held-out texts."
    # A recipe's own summary; replayed, it is noted again, so the last of its kind counts.
    yield from {
        note.description: str(note.facts["sentence"]) for note in run.store.notes() if "sentence" in note.facts
    }.values()
    if judgement is None:
        yield "There are no labelled test texts, so nothing says how good the student is: give some with --test FILE."
        return
    if teacher is None or teacher.evaluation is None:
        return
    alone = [each for each in baselines if each.name.startswith(run.spec.student.name) and each.accuracy]
    best = alone[0].main_score if alone else None
    if best and best.value >= judgement.main_score.value:
        yield (
            f"The teacher did not help: {alone[0].name} reaches {best.value:.1%} without it. "
            "Take --procedure finetune, or a better teacher."
        )
    elif best and best.value > teacher.evaluation.main_score.value:
        yield f"From the gold alone the student reaches {best.value:.1%}, more than its teacher knows."


def _write(report: Report, folder: Path) -> None:
    with atomic_file(folder / "report.json") as path:
        path.write_text(json.dumps(report.to_json(), ensure_ascii=False, indent=2), encoding="utf-8")
    with atomic_file(folder / "report.html") as path:
        path.write_text(render_html(report), encoding="utf-8")
