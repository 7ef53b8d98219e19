"""What people are asked and what they said: queues, label files in and out, and how far they agree.

The labels themselves lie in the run's `labels.sqlite` (`store/labels.py`). Knows no money and no web page.
"""

from potstill.annotation.desk import Desk
from potstill.annotation.options import AnnotateOptions, read_options
from potstill.annotation.summary import Disagreement, Person, Summary, summarise
from potstill.annotation.taking import Taken

__all__ = ["AnnotateOptions", "Desk", "Disagreement", "Person", "Summary", "Taken", "read_options", "summarise"]
