"""`annotate` and `label_errors`: people label the texts a run asks about; labels that are probably wrong are found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Unpack

from potstill.api.table_options import SEVERAL, FileOptions, TableOptions, file_reading
from potstill.data.paths import as_path, as_path_or_none
from potstill.errors import BadSpec
from potstill.students import BASELINE_STUDENT

if TYPE_CHECKING:
    from potstill.annotation import AnnotationSession, AnnotationSummary, FormAnswerSummary, ImportResult
    from potstill.annotation.label_errors import LabelIssueReport
    from potstill.data.task import JsonObject
    from potstill.run import ProgressReporter

JSON = ".json"  # Label Studio's; every other suffix is a table


@dataclass(frozen=True)
class AnnotateResult:
    """The state of the labels, what was imported from a file, what was exported to one."""

    folder: Path
    summary: AnnotationSummary | FormAnswerSummary
    imported: ImportResult | None = None
    exported_to: Path | None = None
    unlabelled: int = 0
    n_closed: int | None = None

    def to_json(self) -> JsonObject:
        """All of it."""
        return {
            "run": str(self.folder),
            "summary": self.summary.to_json(),
            "taken": None if self.imported is None else self.imported.to_json(),
            "written": None if self.exported_to is None else str(self.exported_to),
            "open": self.unlabelled,
            "closed": self.n_closed,
        }

    def to_text(self) -> str:
        """What was done, the state of the labels, and the next command."""
        from potstill.annotation import AnnotationSummary

        labels, lines = isinstance(self.summary, AnnotationSummary), list[str]()
        one = "a label" if labels else "an answer"
        if self.imported is not None:
            lines += [self.imported.to_text(), ""]
        if self.exported_to is not None:
            lines += [f"{self.unlabelled} texts without {one} are in {self.exported_to}.", ""]
        if self.n_closed is not None:
            lines += [f"{self.n_closed} texts were closed without {one}.", ""]
        lines.append(self.summary.to_text())
        if labels and self.summary.n_overlapping and all(each.quality is None for each in self.summary.annotators):
            lines.append(f"Each annotator's quality, and a consensus by it: potstill annotate {self.folder} --quality")
        if self.summary.complete == self.summary.texts or self.n_closed is not None:
            lines += ["", f"Now run the same distill command again: it uses the {'labels' if labels else 'answers'}."]
        return "\n".join(lines)


class AnnotationOptions(FileOptions, total=False):
    """The options of `annotate` besides its main parameters."""

    label: Annotated[str, "With --import: the column, question or control with the label, if there are several."]
    quality: Annotated[bool, "No page: show each annotator's quality and the consensus labels, which takes a while."]


def annotate(
    run: Annotated[str | Path, "The folder of a run that waits for people (begun with --teacher human)."],
    *,
    export: Annotated[str | Path | None, "Write the texts to a table, or to FILE.json for Label Studio."] = None,
    import_from: Annotated[str | Path | None, "Read labels from such a file.", "--import"] = None,
    annotator: Annotated[str | None, "The name of the annotator; with --export, the one to export for.", "-a"] = None,
    port: Annotated[int | None, "The port of the page; else any free one."] = None,
    close: Annotated[bool | None, "Close the open texts: the run goes on with the labels it has."] = None,
    reporter: ProgressReporter | None = None,
    **options: Unpack[AnnotationOptions],
) -> AnnotateResult:
    """Label the texts a run asks people about: on a page in the browser, or in a file.

    Without --export, --import, --close or --quality a page is served on this machine until Ctrl-C. Each label is on the
    disk before the page shows the next text, so none is lost. At the end it shows how much each annotator labelled and
    how far they agree.

    Raises:
        BadData: the run asks no people, or a label in the file is wrong; then none is imported.
        MissingExtra: the page's libraries are not installed.
    """
    from potstill.annotation import AnnotationSession, summarise, summarise_answers

    folder = as_path(run)
    imports, exports = (as_path_or_none(file) for file in (import_from, export))
    session = AnnotationSession(folder)
    try:
        if session.form is not None and options.get("quality"):
            raise BadSpec(
                "The quality of annotators is measured for labels, and these are answers.", "Leave --quality out."
            )
        imported = None if imports is None else _import_file(session, imports, annotator or "", options)
        n_open = 0 if exports is None else _export_file(session, exports, annotator or "")
        closed = session.store.close_unfinished() if close else None
        quality = options.get("quality", False)
        if import_from is None and export is None and not close and not quality:
            _serve(session, port or 0, reporter)
        answers = None if session.form is None else summarise_answers(session.store, session.task)
        summary = answers or summarise(session.store, session.task, quality=quality)
        return AnnotateResult(folder, summary, imported, exports, n_open, closed)
    finally:
        session.close()


def _import_file(session: AnnotationSession, path: Path, annotator: str, options: AnnotationOptions) -> ImportResult:
    from potstill.annotation.import_labels import import_labels
    from potstill.annotation.session import clean_annotator_name

    task, named = session.task, options.get("label", "")
    if task.form is not None:
        from potstill.annotation.form_labelstudio import is_form_task_list, read_form_tasks
        from potstill.annotation.form_table import read_form_table

        studio, read = is_form_task_list(path), file_reading(options)
        entries = read_form_tasks(path, task, named) if studio else read_form_table(path, task, read, named)
    else:
        from potstill.annotation.labelstudio import is_task_list, read_tasks
        from potstill.annotation.spreadsheet import read_spreadsheet

        studio, read = is_task_list(path), file_reading(options)
        labels = task.labels
        entries = read_tasks(path, labels, named) if studio else read_spreadsheet(path, read, labels, named)
    name = clean_annotator_name(annotator) if annotator else ""
    source = "label-studio" if studio else "csv"
    return import_labels(entries, session.store, session.task, file=path.name, source=source, annotator=name)


def _export_file(session: AnnotationSession, path: Path, annotator: str) -> int:
    from potstill.annotation.labelstudio import write_tasks
    from potstill.annotation.session import clean_annotator_name
    from potstill.annotation.spreadsheet import write_spreadsheet

    name = clean_annotator_name(annotator) if annotator else ""
    if path.suffix.lower() == JSON:
        return write_tasks(path, session.store, session.task, name)
    return write_spreadsheet(path, session.store, name, session.form)


def _serve(session: AnnotationSession, port: int, reporter: ProgressReporter | None) -> None:
    from potstill.annotation.web.app import create_app
    from potstill.annotation.web.server import serve

    def ready(url: str) -> None:
        if reporter is not None:
            reporter.info(f"Label at {url}   (Ctrl-C ends it; every label is stored)")

    serve(create_app(session), port, ready)


def label_errors(
    data: Annotated[str | Path | Any, "The file with the texts and labels, or several, or a potstill.toml.", SEVERAL],
    *,
    out: Annotated[str | Path | None, "The table to write all of them to.", "-o"] = None,
    student: Annotated[str, "The student: linear, static[:WEIGHTS], encoder[:WEIGHTS].", "-s"] = BASELINE_STUDENT,
    seed: Annotated[int, "The seed of the folds."] = 0,
    guard_formulas: Annotated[
        bool,
        "Write a quote before cells of the table that a spreadsheet would read as a formula (the default).",
        "--guard-formulas/--no-guard-formulas",
    ] = True,
    **options: Unpack[TableOptions],
) -> LabelIssueReport:
    """List the labels of a data file that are probably wrong, before training on them.

    Five students are each trained on four fifths of the labelled texts and predict the rest; confident learning
    (cleanlab) finds the labels that contradict them. Check the list before you change a label: on a file with a fifth
    of its labels wrong, some of the listed ones are right.

    Raises:
        BadData: the file cannot be read, or has too few labels.
        MissingExtra: cleanlab is not installed.
    """
    from potstill.annotation.label_errors import find_label_errors
    from potstill.data.task import ANSWERS
    from potstill.run.inputs import read_inputs, spec_overrides

    given = spec_overrides(None, None, 1, {**options, "test_share": 0, "validation_share": 0})
    order = read_inputs(data, None, given)
    if order.task.form is not None:
        raise BadSpec(
            f"Labels are checked, and these data have {ANSWERS[order.task.form]}.",
            "To check a column of labels: --kind single --label COLUMN",
        )
    found = find_label_errors(order.pool.labelled("train"), order.task, student=student, seed=seed)
    return found if out is None else found.write(as_path(out), guard_formulas=guard_formulas)
