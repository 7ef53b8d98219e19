"""reports/build_report.py and finish_run.py: the sentences follow from the facts, and a run is evaluated once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support.reports import evaluation, full
from support.toy_data import LABELS, table

from potstill.bundle.record import BundleRecord, PreprocessorRecord, QuantizationResult
from potstill.data.pool import PoolOptions, build_pool
from potstill.data.tables import Table
from potstill.data.task import Task
from potstill.errors import RunNotFound
from potstill.procedures.finetune import finetune
from potstill.reports import Baseline, read_report
from potstill.reports.build_report import build_report
from potstill.reports.finish_run import finish_run
from potstill.reports.records import EgressFacts, Evaluation
from potstill.run.run import Run
from potstill.run.spec import Spec


def facts(**changes: object) -> Evaluation:
    """An evaluation with everything in it, and some fields changed."""
    report, task = full(), Task(("World", "Sports", "Business"), name="news")
    bundle = BundleRecord(
        made_by="potstill", made_at="", task=task, preprocessor=PreprocessorRecord("x", {}), graph="g"
    )
    whole = Evaluation(
        folder=Path("runs/news"),
        task=task,
        bundle=bundle,
        student=report.student,
        money=report.money,
        settings=report.settings,
        data=report.data,
        egress=EgressFacts(),
        duration_s=1.0,
        finished_at="",
        teacher=report.teacher,
        baselines=report.baselines,
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def test_a_report_has_the_facts_of_its_evaluation() -> None:
    found = facts()
    report = build_report(found)
    assert (report.task, report.labels) == ("news", found.task.labels)
    assert (report.student, report.teacher, report.baselines) == (found.student, found.teacher, found.baselines)
    assert report.next_command == 'potstill predict runs/news "your own text"'
    pair = replace(found.task, kind="pair")
    assert build_report(facts(task=pair)).next_command.endswith('"one text" "another"')


@pytest.mark.parametrize(
    ("egress", "sentence"),
    [
        (EgressFacts(), "No text left this machine."),
        (
            EgressFacts(host="api.example", pool_texts=30),
            "30 texts of the pool, and the gold examples in the prompt, were sent to",
        ),
        (EgressFacts(host="api.example"), "Training texts and their labels were sent to api.example"),
        (
            EgressFacts(host="api.example", pool_texts=30, redacted={"email": 2}),
            "Removed from them before, in this session: 2 email.",
        ),
        (EgressFacts(host="api.example", pool_texts=30, redacted={}), "in this session: nothing."),
    ],
)
def test_one_sentence_says_what_left_the_machine(egress: EgressFacts, sentence: str) -> None:
    assert sentence in build_report(facts(egress=egress)).egress


def test_simulated_teachers_are_named() -> None:
    assert build_report(facts()).simulation == ""
    assert build_report(facts(simulated_teachers=("replay",))).simulation.startswith("Simulation: replay returns")
    assert "human and replay return" in build_report(facts(simulated_teachers=("human", "replay"))).simulation


def test_a_teacher_that_did_not_help_is_noted() -> None:
    student = full().student.name
    as_good = Baseline.from_evaluation(f"{student} on 32 labels", evaluation(84, 100))
    assert "The teacher did not help" in " ".join(build_report(facts(baselines=(as_good,))).notes)
    between = Baseline.from_evaluation(f"{student} on 32 labels", evaluation(82, 100))
    assert "more than its teacher" in " ".join(build_report(facts(baselines=(between,))).notes)
    worse = Baseline.from_evaluation(f"{student} on 32 labels", evaluation(60, 100))
    assert build_report(facts(baselines=(worse,))).notes == ()


def test_int8_that_was_checked_on_training_texts_is_noted() -> None:
    accepted = QuantizationResult(True, "int8 is served.", 0.0, 1.0, 2.0, 100)
    bundle = replace(facts().bundle, int8=accepted)
    unchecked = replace(facts().data, validation=0)
    assert "checked on training texts" in " ".join(build_report(facts(bundle=bundle, data=unchecked)).notes)
    assert build_report(facts(bundle=bundle)).notes == ()


def test_a_report_of_an_older_format_is_refused_and_built_anew_without_a_second_charge(tmp_path: Path) -> None:
    rows = [*table(10, 1, "train"), *table(10, 3, "test")]
    columns = {name: [row[name] for row in rows] for name in ("text", "label", "split")}
    pool = build_pool(Table.from_columns(columns), labels=LABELS, options=PoolOptions(split="split")).pool
    spec = Spec.from_dict({"budget": 1, "student": "linear", "procedure": "finetune"})
    path = tmp_path / "run" / "report.json"
    with Run.open(tmp_path / "run", spec, Task(LABELS, name="world"), pool) as run:
        student = finetune(run)
        first = finish_run(run, student)
        charged = run.ledger.totals().charged
        assert finish_run(run, student) == first
        path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "format": 1}), encoding="utf-8")
        with pytest.raises(RunNotFound, match="format 1") as refused:
            read_report(path)
        assert "same distill command" in refused.value.hint
        again = finish_run(run, student)
        assert run.ledger.totals().charged == charged
    assert read_report(path) == again
    assert again.student.evaluation == first.student.evaluation
