"""What was done and bought, in SQLite files. The only room that knows SQL.

`Store` is a run's own file, `Labels` what people said in it, `AnswerCache` the answers that the runs of a workspace
share.
"""

from potstill.ledger.store.answers import AnswerCache
from potstill.ledger.store.labels import Label, Labels, Progress, Question
from potstill.ledger.store.records import Bought, CallRow, Note, TicketRow
from potstill.ledger.store.run import BEAT_SLACK_S, FILE, LOCK, MIGRATIONS, Store

__all__ = [
    "BEAT_SLACK_S",
    "FILE",
    "LOCK",
    "MIGRATIONS",
    "AnswerCache",
    "Bought",
    "CallRow",
    "Label",
    "Labels",
    "Note",
    "Progress",
    "Question",
    "Store",
    "TicketRow",
]
