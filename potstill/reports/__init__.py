"""A run, told: the record (`facts`), its sentences (`words`), the terminal (`terminal`), one HTML file (`page`)."""

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
    "read_report",
    "render_html",
    "render_terminal",
]
