"""`report`, `show` and `ledger`: what a run was worth, what it did, where its money went."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from potstill.reports.console import terminal_options

if TYPE_CHECKING:
    from potstill.data.task import JsonObject
    from potstill.reports import Report
    from potstill.reports.status import RunStatus, SpendingReport


@dataclass(frozen=True)
class ReportResult:
    """What `report` found: the report, and where its page lies."""

    page: Path
    report: Report

    def to_json(self) -> JsonObject:
        """The report."""
        return self.report.to_json()

    def to_text(self) -> str:
        """The report for a terminal."""
        from potstill.reports import render_terminal

        return render_terminal(self.report, page=str(self.page), **terminal_options())


def report(run: Annotated[Path, "The folder of a finished run."]) -> ReportResult:
    """Tell what a run was worth: quality, money, speed; writes the page again.

    Raises:
        NotARun: the folder holds no finished run.
    """
    from potstill.data.atomic import atomic_file
    from potstill.reports import read_report, render_html

    told = read_report(Path(run) / "report.json")
    page = Path(run) / "report.html"
    with atomic_file(page) as path:
        path.write_text(render_html(told), encoding="utf-8")
    return ReportResult(page, told)


def show(run: Annotated[Path, "A run's folder, finished or not."]) -> RunStatus:
    """Show what a run did so far: its steps, its calls, its money.

    It may be still working in another window.

    Raises:
        NotARun: the folder holds no run.
    """
    from potstill.reports.status import read_status

    return read_status(Path(run))


def ledger(
    run: Annotated[Path, "A run's folder, finished or not."],
    *,
    calls: Annotated[bool | None, "List every call."] = None,
    as_csv: Annotated[bool | None, "Every call as CSV.", "--csv"] = None,
) -> SpendingReport:
    """Show where the money of a run went, to the micro-dollar.

    Raises:
        NotARun: the folder holds no run.
    """
    from potstill.reports.status import read_spending

    return read_spending(Path(run), calls=bool(calls), as_csv=bool(as_csv))
