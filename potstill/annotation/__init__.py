"""People as annotators: queues, label files in and out, agreement, and the annotation page.

Labels are stored in the run's `labels.sqlite` (`ledger/store/annotations.py`).
"""

from potstill.annotation.form_summary import FormAnswerSummary, summarise_answers
from potstill.annotation.import_labels import ImportResult
from potstill.annotation.session import AnnotationSession
from potstill.annotation.summary import AnnotationSummary, AnnotatorStats, Disagreement, summarise

__all__ = [
    "AnnotationSession",
    "AnnotationSummary",
    "AnnotatorStats",
    "Disagreement",
    "FormAnswerSummary",
    "ImportResult",
    "summarise",
    "summarise_answers",
]
