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
from potstill.bundle.export.export import describe, entrust, export
from potstill.data.atomic import whole_file
from potstill.data.pool import Part, Split
from potstill.errors import OverBudget
from potstill.evaluation.latency import Speed, measure
from potstill.evaluation.metrics import Judgement, McNemar
from potstill.evaluation.multilabel_thresholds import Cut
from potstill.evaluation.reliability import examine
from potstill.ledger.prices import MICROS, Usage
from potstill.ledger.store import CallRow
from potstill.reports import (
    AnswerFacts,
    Baseline,
    DataFacts,
    MoneyFacts,
    PriceFact,
    Report,
    Sample,
    Settings,
    StudentFacts,
    TeacherFacts,
    read_report,
    render_html,
)
from potstill.reports.rounds import read_rounds
from potstill.run.judge import cut_of, differ, judge_probs, majority, shown
from potstill.run.run import Run, Taught
from potstill.run.spec import Named
from potstill.students.base import Student

TEACHER_TEST = 2000  # test texts the teacher is asked about, at most
ALONE = 15  # of them one at a time, for its latency
ENOUGH_TO_CALIBRATE = 50  # validation texts below which a calibration is noise
MEASURED_SHARE = 10  # and for at most one tenth of the budget
BENCH_TEXTS = 256
OWN = {"single": '"your own text"', "pair": '"one text" "another"'}
LIBRARIES = ("numpy", "onnxruntime", "scikit-learn", "tokenizers", "torch", "transformers")


def finish(run: Run, student: Student, cleaning: tuple[str, ...] = (), source: str = "") -> Report:
    """Export, measure and tell; what was finished before with the same student is read again, not done again.

    Args:
        run: the run the student comes from.
        student: what the recipe returned.
        cleaning: sentences about what reading the data did to them.
        source: where the data came from, in a few words.
    """
    key, report_path = run.key_of(student), run.folder / "report.json"
    if run.store.get_meta("finished") == key and report_path.exists():
        return read_report(report_path)
    bundle = _shipped(run, student, key)
    test = run.pool.part("test")
    teacher, theirs = _teacher(run, test)
    judgement, exam = None, None
    probs = np.empty((0, run.task.n_labels), dtype=np.float32)
    if test.texts:
        logits = bundle.predict_logits(test.texts)
        probs = bundle.probs(logits)
        exam = None if bundle.multi else examine(test.gold, logits, probs, bundle.trust)
        judgement = judge_probs(run.task, test.gold, probs, bundle.several.cut if bundle.several else None)
        figures = {"accuracy": judgement.accuracy, "macro_f1": judgement.macro_f1, "micro_f1": judgement.micro_f1}
        describe(bundle.folder, {name: score.to_json() for name, score in figures.items() if score is not None})
    texts = test.texts or run.pool.part("pool").texts or run.pool.part("train").texts
    speed = measure(bundle.predict_proba, texts[:2000])
    baselines = tuple(_baselines(run, test, student))
    run.note("finished", student=key)
    report = Report(
        task=run.task.name,
        labels=run.task.labels,
        student=StudentFacts(
            name=run.spec.student.name,
            bundle=str(bundle.folder),
            judgement=judgement,
            texts_per_s=speed.texts_per_s,
            p50_ms=speed.p50_ms,
            p99_ms=speed.p99_ms,
            size_mb=bundle.size_mb,
            about=_bundle_facts(bundle),
        ),
        teacher=teacher,
        money=_money(run, speed),
        baselines=baselines,
        seconds=worked_seconds(run),
        data=DataFacts(
            **{name: len(run.pool.part(split).texts) for name, split in _PARTS.items()},
            source=source,
            cleaning=cleaning,
        ),
        answers=_answers(run.taught),
        exam=exam,
        rounds=read_rounds(run.store.notes()),
        mcnemar=_mcnemar(run, test, bundle.chosen(probs), theirs),
        samples=tuple(_samples(run, test, probs, bundle.chosen(probs), theirs)),
        settings=_settings(run),
        simulation=_simulation(run),
        egress=_egress(run.taught),
        notes=tuple(_notes(run, bundle, judgement, teacher, baselines)),
        finished=datetime.now().astimezone().isoformat(timespec="seconds"),
        next_command=f"potstill predict {run.folder} {OWN.get(run.task.kind, OWN['single'])}",
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
        run.tell.say("Exporting the student and checking that it predicts the same.")
        check = run.pool.part("validation") if run.pool.part("validation").texts else run.pool.part("train")
        texts = check.texts or run.pool.part("pool").texts[:500]
        lineage = {"run": run.folder.name, "procedure": run.spec.procedure.name, "student": run.spec.student.name}
        if run.taught is not None:
            lineage["teacher"] = run.taught.teacher.name
        held_out = run.pool.part("validation")
        gold = check.gold if check.texts else None
        export(student, folder, task=run.task, texts=texts, gold=gold, lineage=lineage)
        if len(held_out) >= ENOUGH_TO_CALIBRATE:
            entrust(folder, held_out.texts, held_out.gold)
        run.store.set_meta("exported", key)
    return load(folder)


@dataclass(frozen=True)
class _Theirs:
    """What the teacher says of the test texts: (N,) whether it was asked and answered, (N, K) the labels it gives."""

    answered: NDArray[np.bool_]
    chosen: NDArray[np.bool_]


def _teacher(run: Run, test: Part) -> tuple[TeacherFacts | None, _Theirs | None]:
    """The teacher measured as the student is, and what it says of the test texts."""
    if run.taught is None:
        return None, None
    teacher, reading = run.taught.teacher, run.taught.reading
    probs = np.full((len(test.texts), run.task.n_labels), np.nan)
    asked = np.random.default_rng(run.spec.seed).permutation(len(test.texts))[:TEACHER_TEST]
    judgement, cut = None, Cut()
    if teacher.name == "human":
        asked = asked[:0]  # people have better to do than to label what is labelled
    if len(asked):
        leave = max(run.ledger.free - run.ledger.limit // MEASURED_SHARE, 0)
        texts = [test.texts[i] for i in asked]
        for text in texts[: ALONE if teacher.batch > 1 else 0]:
            run.ask(teacher, [text], purpose="measure", leave_micros=leave)
        answers = run.ask(teacher, texts, purpose="measure", leave_micros=leave)
        asked = asked[[state != "unasked" for state in answers.states]]
        answered = answers.answered[: len(asked)]
        probs[asked[answered]] = reading.probs(answers.scores[: len(asked)][answered])
        if len(asked) and run.task.kind == "multi" and teacher.category == "compute":
            held_out = run.pool.part("validation")  # its thresholds are chosen as the student's are
            said = run.ask(teacher, held_out.texts, purpose="measure", leave_micros=leave)
            cut = cut_of(held_out, reading.probs(said.scores))
        if len(asked):
            judgement = judge_probs(run.task, test.gold[asked], probs[asked], cut)
    # The ledger remembers every call, so a resumed run knows the speed of answers it was given earlier.
    calls = [(row.n, (row.ended or row.began) - row.began) for row in _calls_of(run, teacher.name)]
    seconds = sum(took for _, took in calls) / teacher.parallel
    alone_ms = [took * 1000 for n, took in calls if n == 1]
    facts = TeacherFacts(
        name=teacher.name,
        judgement=judgement,
        texts_per_s=sum(n for n, _ in calls) / seconds if seconds else None,
        p50_ms=median(alone_ms) if alone_ms else None,
        about=dict(teacher.about),
    )
    there = np.isfinite(probs).all(axis=1)
    likely = np.where(there[:, None], probs, 0.0)
    chosen = (
        cut.chosen(likely) if run.task.kind == "multi" else likely.argmax(axis=1)[:, None] == np.arange(len(likely.T))
    )
    return facts, _Theirs(there, np.asarray(chosen))


def _calls_of(run: Run, teacher: str) -> list[CallRow]:
    return [row for row in run.store.calls() if row.state == "settled" and row.what.startswith(f"{teacher}: ")]


def _baselines(run: Run, test: Part, student: Student) -> Iterator[Baseline]:
    """Simpler models on the same gold: the most frequent label, TF-IDF + LR, the student without a teacher."""
    gold = run.pool.part("train")
    if not gold.texts or not test.texts:
        return
    constant = majority(run.task, gold, test)
    yield Baseline.of("majority", constant.judgement, constant.about)
    targets = gold.targets(run.task.n_labels)
    rivals = [
        (Named(name="linear"), "TF-IDF + logistic regression"),
        (run.spec.student, "the student without a teacher"),
    ]
    told = {run.key_of(student)}
    for named, about in rivals:
        try:
            rival = run.learn(gold.texts, targets, student=named, purpose="measure")
        except OverBudget:
            run.tell.say(f"No money is left to train the baseline {named.name}.")
            return
        if run.key_of(rival) not in told:
            told.add(run.key_of(rival))
            judged = run.judge(rival, test, f"{named.name} on gold")
            yield Baseline.of(f"{named.name} on {len(gold.texts)} gold", judged, about)


def _money(run: Run, speed: Speed) -> MoneyFacts:
    per_hour = run.spec.compute_rates.cost_micros(Usage(seconds=3600)) / MICROS
    teacher_price = None
    if run.taught is not None:
        calls = _calls_of(run, run.taught.teacher.name)
        if calls:
            teacher_price = sum(row.charged for row in calls) / sum(row.n for row in calls)
    return MoneyFacts.of(
        run.ledger.totals(),
        teacher_usd_per_million=teacher_price,
        student_usd_per_million=per_hour / 3600 / speed.texts_per_s * 1e6,
    )


def worked_seconds(run: Run) -> float:
    """Wall time spent in this run, over all its sessions; the pauses between them do not count."""
    events = [(note.time, note.what == "opened") for note in run.store.notes()]
    events += [(moment, False) for row in run.store.calls() for moment in (row.began, row.ended or row.began)]
    total, opened, last = 0.0, 0.0, 0.0
    for moment, is_opening in sorted(events):
        if is_opening:
            total += last - opened
            opened = moment
        last = moment
    return total + last - opened


def _answers(taught: Taught | None) -> AnswerFacts | None:
    if taught is None or not taught.answers.texts:
        return None
    asked = [state for state in taught.answers.states if state != "unasked"]
    how = sorted(set(taught.answers.how) - {""})
    return AnswerFacts(asked=len(asked), by_state=taught.answers.by_state, how=", ".join(how))


def _mcnemar(run: Run, test: Part, ours: NDArray[np.bool_], theirs: _Theirs | None) -> McNemar | None:
    if theirs is None or not len(ours) or not theirs.answered.any():
        return None
    both = theirs.answered
    return differ(run.task, test.gold[both], ours[both], theirs.chosen[both])


def _samples(
    run: Run, test: Part, probs: np.ndarray, ours: NDArray[np.bool_], theirs: _Theirs | None, n: int = 8
) -> Iterator[Sample]:
    task = run.task
    gold = test.gold == 1 if task.kind == "multi" else np.arange(task.n_labels) == test.gold[:, None]
    for i in np.random.default_rng(run.spec.seed).permutation(len(test.texts))[:n]:
        yield Sample(
            text=test.texts[i],
            student=shown(task, ours[i], probs[i]),
            gold=shown(task, gold[i], probs[i]),
            teacher=shown(task, theirs.chosen[i], probs[i]) if theirs is not None and theirs.answered[i] else None,
            confidence=float(probs[i].max()),
        )


def _settings(run: Run) -> Settings:
    spec = run.spec
    options = {"student." + name: value for name, value in spec.student.options.items()}
    if spec.teacher is not None:
        options |= {"teacher." + name: value for name, value in spec.teacher.options.items()}
    options |= {"procedure." + name: value for name, value in spec.procedure.options.items()}
    hour = spec.compute_rates
    prices = [PriceFact(what="this machine", price=f"${hour.usd_per_hour}/hour", source=hour.source)]
    if run.taught is not None and run.taught.teacher.category == "llm":
        source = run.taught.teacher.price.source
        prices.append(PriceFact(what=run.taught.teacher.name, price="as listed", source=source))
    return Settings(
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
    names = set(run.simulators)
    if run.taught is not None and run.taught.teacher.simulated:
        names.add(run.taught.teacher.name)
    if not names:
        return ""
    who, whose = " and ".join(sorted(names)), "its" if len(names) == 1 else "their"
    does = "replays" if len(names) == 1 else "replay"
    return f"Simulation: {who} {does} labels that were already known; {whose} cost and skill are assumed."


def _egress(taught: Taught | None) -> str:
    host = taught.teacher.about.get("host") if taught is not None else None
    if taught is None or not host:
        return "No text left this machine."
    sent = sum(state != "unasked" for state in taught.answers.states)
    told = f"{sent} texts of the pool, and the gold examples in the prompt, were sent to {host}."
    if not taught.answers.texts:
        told = f"Training texts and their labels were sent to {host}, and test texts to measure it."
    if not taught.teacher.about.get("redact"):
        return told
    taken_out = ", ".join(f"{n} {kind}" for kind, n in sorted(taught.teacher.about["redacted"].items())) or "nothing"
    return f"{told} Taken out before they left, this time: {taken_out}."


def _bundle_facts(bundle: Bundle) -> dict[str, Any]:
    return {name: value for name, value in bundle.facts().items() if isinstance(value, str | int | float | bool)}


def _notes(
    run: Run, bundle: Bundle, judgement: Judgement | None, teacher: TeacherFacts | None, baselines: tuple[Baseline, ...]
) -> Iterator[str]:
    yield from bundle.notes()
    if _bundle_facts(bundle).get("precision") == "int8" and not len(run.pool.part("validation")):
        yield "Int8 was judged on texts the student has learnt, as none were held out: that tells little."
    if bundle.several is not None:
        how = "one for all labels" if len(bundle.several.cut.thresholds) == 1 else "one a label"
        yield f"A label is given from its threshold on ({how}), chosen on {bundle.several.n:,} held-out texts."
    # A recipe's own summary; replayed, it is noted again, so the last of its kind counts.
    yield from {
        note.what: str(note.facts["sentence"]) for note in run.store.notes() if "sentence" in note.facts
    }.values()
    if judgement is None:
        yield "There are no labelled test texts, so nothing says how good the student is: give some with --test FILE."
        return
    if teacher is None or teacher.judgement is None:
        return
    alone = [each for each in baselines if each.name.startswith(run.spec.student.name) and each.accuracy]
    best = alone[0].main if alone else None
    if best and best.value >= judgement.main.value:
        yield (
            f"The teacher did not help: {alone[0].name} reaches {best.value:.1%} without it. "
            "Take --procedure finetune, or a better teacher."
        )
    elif best and best.value > teacher.judgement.main.value:
        yield f"From the gold alone the student reaches {best.value:.1%}, more than its teacher knows."


def _write(report: Report, folder: Path) -> None:
    with whole_file(folder / "report.json") as path:
        path.write_text(json.dumps(report.to_json(), ensure_ascii=False, indent=2), encoding="utf-8")
    with whole_file(folder / "report.html") as path:
        path.write_text(render_html(report), encoding="utf-8")
