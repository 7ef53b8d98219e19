"""`report`, `show` and `ledger`: the results of a run, its steps, its spending."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from potstill.data.paths import as_path
from potstill.reports.console import terminal_options

if TYPE_CHECKING:
    from potstill.data.task import JsonObject
    from potstill.reports import Report
    from potstill.reports.status import RunStatus, SpendingReport


@dataclass(frozen=True)
class ReportResult:
    """The report, and the path of its page; None if there is none and none can be written."""

    page: Path | None
    report: Report

    def to_json(self) -> JsonObject:
        """The report."""
        return self.report.to_json()

    def to_text(self) -> str:
        """The report for a terminal."""
        from potstill.reports import render_terminal

        return render_terminal(self.report, page="" if self.page is None else str(self.page), **terminal_options())


def report(run: Annotated[str | Path, "The folder of a finished run."]) -> ReportResult:
    """Show the report of a run: quality, money, speed; writes its page anew, except where nothing can be written.

    Raises:
        RunNotFound: the folder holds no finished run, or its report is of an older format.
    """
    from potstill.data.atomic import atomic_file
    from potstill.errors import DiskError
    from potstill.reports import read_report, render_html

    found = read_report(as_path(run) / "report.json")
    page = as_path(run) / "report.html"
    try:
        with atomic_file(page) as path:
            path.write_text(render_html(found), encoding="utf-8", errors="backslashreplace")
    except DiskError:
        return ReportResult(page if page.exists() else None, found)
    return ReportResult(page, found)


def show(run: Annotated[str | Path, "A run's folder, finished or not."]) -> RunStatus:
    """Show the steps, calls and money of a run so far.

    It may still be working in another window.

    Raises:
        RunNotFound: the folder holds no run.
    """
    from potstill.reports.status import read_status

    return read_status(as_path(run))


def ledger(
    run: Annotated[str | Path, "A run's folder, finished or not."],
    *,
    calls: Annotated[bool | None, "List every call."] = None,
    as_csv: Annotated[bool | None, "Every call as CSV.", "--csv"] = None,
) -> SpendingReport:
    """Show the spending of a run, to the micro-dollar.

    Raises:
        RunNotFound: the folder holds no run.
    """
    from potstill.reports.status import read_spending

    return read_spending(as_path(run), calls=bool(calls), as_csv=bool(as_csv))
