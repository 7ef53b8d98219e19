"""Reports: evaluate a finished run, build its report, show it in a terminal or as one HTML file."""

from __future__ import annotations

from potstill.reports.html import render_html
from potstill.reports.records import (
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
    read_report,
)
from potstill.reports.terminal import render_terminal

__all__ = [
    "AnswerSummary",
    "Baseline",
    "CostSummary",
    "DataSummary",
    "PriceRecord",
    "Report",
    "RunSettings",
    "SamplePrediction",
    "StudentSummary",
    "TeacherSummary",
    "UnreadableSummary",
    "read_report",
    "render_html",
    "render_terminal",
]
