"""A run, told: the record (`facts`), its sentences (`words`), the terminal (`terminal`), one HTML file (`page`)."""

from __future__ import annotations

from potstill.reports.facts import (
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
)
from potstill.reports.page import render_html
from potstill.reports.terminal import render_terminal

__all__ = [
    "AnswerFacts",
    "Baseline",
    "DataFacts",
    "MoneyFacts",
    "PriceFact",
    "Report",
    "Sample",
    "Settings",
    "StudentFacts",
    "TeacherFacts",
    "read_report",
    "render_html",
    "render_terminal",
]
