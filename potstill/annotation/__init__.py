"""People as annotators: queues, label files in and out, agreement, and the annotation page.

The labels are kept in the run's `labels.sqlite` (`ledger/store/labels.py`).
"""

from potstill.annotation.import_labels import Taken
from potstill.annotation.session import Desk
from potstill.annotation.summary import Disagreement, Person, Summary, summarise

__all__ = ["Desk", "Disagreement", "Person", "Summary", "Taken", "summarise"]
