"""Reports to test with: everything measured, nothing measured, and all between. Not a test itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from functools import cache

import numpy as np

from potstill.evaluation.calibration import softmax
from potstill.evaluation.fit_guarantees import fit_guarantees
from potstill.evaluation.metrics import EvaluationResult, McNemar, compute_metrics
from potstill.evaluation.reliability import Reliability, measure_reliability
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
    UnreadableSummary,
)

LABELS = ("World", "Sports", "Business")
HOSTILE = "<script>alert('x')</script> [bold]\x1b[31m\x00\u202e \ud800 {{ 7*7 }} \"'&"


def evaluation(right: int, n: int, labels: tuple[str, ...] = LABELS) -> EvaluationResult:
    """`right` of `n` texts are right; the others are taken for the next label."""
    gold = np.arange(n) % len(labels)
    predicted = np.where(np.arange(n) < right, gold, (gold + 1) % len(labels))
    return compute_metrics(gold, np.eye(len(labels))[predicted] * 0.9 + 0.1 / len(labels), labels, n_resamples=50)


@cache
def reliability(held_out: int = 600, n: int = 400) -> Reliability:
    """A calibrated student, with guarantees from some texts and measured on others."""
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=4.0, size=(held_out + n, 3))
    gold = (softmax(logits).cumsum(axis=1) > rng.random((len(logits), 1))).argmax(axis=1)
    guarantees = fit_guarantees(logits[:held_out], gold[:held_out]) if held_out else None
    probs = softmax(logits[held_out:])
    return measure_reliability(gold[held_out:], logits[held_out:], probs, guarantees)


def full(labels: tuple[str, ...] = LABELS, say: str = "fine") -> Report:
    """A report in which everything was measured, and every free text is `say`."""
    return Report(
        task=say,
        labels=labels,
        teacher=TeacherSummary(
            name=f"local:{say}",
            evaluation=evaluation(79, 100, labels),
            texts_per_s=46.3,
            p50_ms=31.2,
            metadata={"model": say},
        ),
        student=StudentSummary(
            name=f"encoder:{say}",
            bundle=f"runs/{say}",
            evaluation=evaluation(84, 100, labels),
            texts_per_s=1850.2,
            p50_ms=1.72,
            p99_ms=3.9,
            size_mb=22.9,
            metadata={say: say},
        ),
        money=CostSummary(
            limit_usd=0.02,
            charged_usd=0.0061,
            paid_usd=0.0058,
            held_usd=0.0011,
            lost_usd=0.0003,
            by_category={"llm": 0.0014, "human": 0.0, "compute": 0.0047},
            by_purpose={"teach": 0.0061},
            calls=131,
            teacher_usd_per_million_texts=0.62,
            student_usd_per_million_texts=0.0153,
        ),
        baselines=(Baseline.from_evaluation(f"TF-IDF {say}", evaluation(62, 100, labels), say),),
        duration_s=252.3,
        data=DataSummary(gold=32, pool=3000, validation=64, test=100, source=say, cleaning=(say,)),
        answers=AnswerSummary(asked=3000, by_state={"ok": 2991, "failed": 9}, score_source=say),
        unreadable=(UnreadableSummary(teacher=say, n_replies=7, replies=(say, "")),),
        reliability=reliability(),
        mcnemar=McNemar(93, 42, 0.00002, 0.00001),
        samples=(SamplePrediction(text=say, student=labels[0], gold=labels[1], teacher=labels[1], confidence=0.61),),
        settings=RunSettings(
            procedure="kd",
            seed=0,
            machine=say,
            versions={"torch": say},
            options={say: 3},
            prices=(PriceRecord(item=say, price=say, source=say),),
        ),
        simulation=say,
        egress=say,
        notes=(say,),
        finished_at=say,
        next_command=f"potstill predict {say}",
    )


def empty() -> Report:
    return Report(task="reviews", student=StudentSummary(name="linear"), money=CostSummary(limit_usd=20.0))


def partly() -> Iterator[Report]:
    """The full report with each of its optional parts taken away in turn."""
    whole = full()
    assert whole.teacher is not None
    for name in ("evaluation", "texts_per_s", "p50_ms", "p99_ms", "size_mb"):
        yield replace(whole, student=replace(whole.student, **{name: None}))
    for name in ("evaluation", "texts_per_s", "p50_ms"):
        yield replace(whole, teacher=replace(whole.teacher, **{name: None}))
    for field in fields(Report):
        if field.name not in ("task", "student", "money", "format"):
            yield replace(whole, **{field.name: getattr(empty(), field.name)})
    yield replace(whole, reliability=reliability(held_out=0))
    yield replace(
        whole, reliability=replace(reliability(), threshold=None, confident_share=None, confident_accuracy=None)
    )
    yield replace(whole, reliability=replace(reliability(), threshold=0.0, confident_share=1.0))
    yield replace(whole, reliability=replace(reliability(), confident_share=0.0, confident_accuracy=None))
    yield replace(whole, baselines=(Baseline(name="unmeasured"),))
    yield replace(whole, samples=(SamplePrediction(text="t", student="World"),))
    yield replace(whole, money=CostSummary(limit_usd=1.0, charged_usd=1.2))
    yield empty()
