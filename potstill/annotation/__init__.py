"""People as annotators: queues, label files in and out, agreement, and the annotation page.

The labels are kept in the run's `labels.sqlite` (`ledger/store/labels.py`).
"""

from potstill.annotation.import_labels import ImportResult
from potstill.annotation.session import AnnotationSession
from potstill.annotation.summary import AnnotationSummary, AnnotatorStats, Disagreement, summarise

__all__ = ["AnnotationSession", "AnnotationSummary", "AnnotatorStats", "Disagreement", "ImportResult", "summarise"]
