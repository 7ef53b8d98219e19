"""The end of a run: evaluated once, its report built and written as `report.json` and `report.html`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from potstill.data.atomic import atomic_file
from potstill.data.tables import Layout
from potstill.data.task import OutputForm
from potstill.errors import RunNotFound
from potstill.evaluation.cross_validation import OutOfFoldScores
from potstill.reports.build_report import build_report
from potstill.reports.evaluate import evaluate
from potstill.reports.evaluate_entities import ENTITY_EVALUATION
from potstill.reports.evaluate_form import DataFacts, FormEvaluation, evaluate_form_run
from potstill.reports.evaluate_free_text import FREE_TEXT_EVALUATION
from potstill.reports.html import render_html
from potstill.reports.records import Report, read_report
from potstill.run.run import Run
from potstill.students.base import Student, TrainedModel

FORM_EVALUATIONS: Mapping[OutputForm, FormEvaluation[Any, Any]] = {
    "entities": ENTITY_EVALUATION,
    "free": FREE_TEXT_EVALUATION,
}
FINISHED = (
    "This run is finished and buys nothing more: this is its report. Raise the budget to go on with it, or give a new "
    "folder with -o."
)


def finished_report(run: Run) -> Report | None:
    """The report of a run that was finished with this budget or a larger one; None if there is work to do."""
    if not run.is_finished or not (run.folder / "bundle").is_dir():
        return None
    try:
        report = read_report(run.folder / "report.json")
    except RunNotFound:  # removed, or of an older format
        return None
    run.reporter.info(FINISHED)
    return report


def finish_run(
    run: Run,
    student: TrainedModel,
    *,
    source: str = "",
    cleaning: tuple[str, ...] = (),
    text_columns: tuple[str, ...] = (),
    layout: Layout = Layout(),  # noqa: B008 - frozen
    out_of_fold: OutOfFoldScores | None = None,
) -> Report:
    """The report of a run with the student of its recipe; the stored one if it was finished with this student.

    A bundle that was deleted is exported again.

    Args:
        run: the run the student comes from.
        student: the student its recipe returned.
        source: where the data comes from, in a few words.
        cleaning: notes on data cleaning.
        text_columns: the column of the texts, or the two of a pair; stored in the bundle.
        layout: how the file they come from is laid out; stored in the bundle.
        out_of_fold: scores to calibrate the bundle on if too few texts were held out.
    """
    key, path = run.student_key(student), run.folder / "report.json"
    if run.store.get_meta("finished") == key and (run.folder / "bundle").is_dir():
        try:
            report = read_report(path)
            run.set_finished(student)
            return report
        except RunNotFound:  # removed, or of an older format
            run.reporter.info("Building the report anew.")
    if run.task.form is not None:
        facts = DataFacts(source, cleaning, text_columns, layout)
        made = evaluate_form_run(run, student, FORM_EVALUATIONS[run.task.form], facts)
    else:
        made = evaluate(
            run,
            cast(Student, student),
            source=source,
            cleaning=cleaning,
            text_columns=text_columns,
            layout=layout,
            out_of_fold=out_of_fold,
        )
    report = build_report(made)
    write_report(report, run.folder)
    run.set_finished(student)
    return report


def write_report(report: Report, folder: Path) -> None:
    """Write `report.json` and `report.html` into the run's folder."""
    with atomic_file(folder / "report.json") as path:
        path.write_text(json.dumps(report.to_json(), ensure_ascii=False, indent=2), encoding="utf-8")
    with atomic_file(folder / "report.html") as path:
        path.write_text(render_html(report), encoding="utf-8")
