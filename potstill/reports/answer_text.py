"""What a report says of answers in words: the metric beside the main one, and a sentence with every score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from potstill.evaluation.metrics import EvaluationResult, Score
from potstill.evaluation.text2text.answer_metrics import METRIC_NAMES, AnswerScores
from potstill.reports.records import Baseline, Report
from potstill.reports.text import interval, percent


@dataclass(frozen=True)
class SecondMetric:
    """The score that stands beside the main one, by its name and its field in `EvaluationResult` and `Baseline`."""

    name: str = "macro F1"
    field: Literal["macro_f1", "accuracy"] = "macro_f1"

    def of(self, scored: EvaluationResult | Baseline) -> Score | None:
        """The score of a model."""
        return scored.accuracy if self.field == "accuracy" else scored.macro_f1


def second_metric(report: Report) -> SecondMetric:
    """Macro F1; of answers in words exact match, or token F1 if exact match is the main score."""
    if report.free_text is None:
        return SecondMetric()
    if report.free_text.metric == "exact_match":
        return SecondMetric(METRIC_NAMES["token_f1"])
    return SecondMetric(METRIC_NAMES["exact_match"], "accuracy")


def answer_sentence(scores: AnswerScores) -> str:
    """The score of each metric, how long the answers are, and how many are empty or cut."""
    shown = ", ".join(
        f"{METRIC_NAMES[name]} {percent(score.value)} ({interval(score)})" for name, score in scores.scores.items()
    )
    counted = [(scores.n_empty, "empty"), (scores.n_unfinished, "cut at the limit of tokens")]
    odd = "".join(f"; {n:,} {'is' if n == 1 else 'are'} {what}" for n, what in counted if n)
    lengths = f"{scores.mean_words:.1f} words, the references {scores.mean_reference_words:.1f}"
    return f"{shown[0].upper()}{shown[1:]}. The answers have {lengths}{odd}."
