"""The SQLite files of a run: its ledger and results, its annotations, and the answers a workspace shares.

The only folder with SQL.
"""

from potstill.ledger.store.annotations import Annotation, AnnotationProgress, AnnotationStore, LabelRequest
from potstill.ledger.store.answer_cache import AnswerCache
from potstill.ledger.store.migrations import MIGRATIONS
from potstill.ledger.store.records import BatchJobRecord, CallRecord, Claim, PaidAnswer, StoredNote, decoded
from potstill.ledger.store.run_lock import LOCK_FILE, RUN_FILE, holds_no_run, is_locked, remove_start
from potstill.ledger.store.run_store import HEARTBEAT_SLACK_S, RunStore, is_begun
from potstill.ledger.store.unshared_answers import unshared_answers

__all__ = [
    "HEARTBEAT_SLACK_S",
    "LOCK_FILE",
    "MIGRATIONS",
    "RUN_FILE",
    "Annotation",
    "AnnotationProgress",
    "AnnotationStore",
    "AnswerCache",
    "BatchJobRecord",
    "CallRecord",
    "Claim",
    "LabelRequest",
    "PaidAnswer",
    "RunStore",
    "StoredNote",
    "decoded",
    "holds_no_run",
    "is_begun",
    "is_locked",
    "remove_start",
    "unshared_answers",
]
