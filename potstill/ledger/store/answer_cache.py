"""The answers of a workspace: what its runs bought from models and people, for the next run with the same questions.

It contains only good answers, by a hash of task, teacher, prompt, parameters and text, so that none can be taken for
another's. Several runs may use it at once. Deleting it costs the answers it would have saved, no record of spending.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

from potstill.ledger.store.records import PaidAnswer
from potstill.ledger.store.sqlite_file import Migration, SqliteFile

FILE = "answers.sqlite"
# An answer in the state ok, or generated texts; NaN is no JSON. SQLite checks this faster than Python could.
_GOOD = """CASE WHEN NOT json_valid(?2) THEN 0 ELSE CASE json_type(?2)
           WHEN 'object' THEN json_extract(?2, '$.state') IS 'ok'
           WHEN 'array' THEN json_array_length(?2) > 0 ELSE 0 END END"""


def _format_1(db: sqlite3.Connection) -> None:
    db.execute(
        "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, value TEXT NOT NULL, nanos INTEGER NOT NULL)"
        " WITHOUT ROWID"
    )


MIGRATIONS: list[Migration] = [_format_1]


class AnswerCache(SqliteFile):
    """The answers of one workspace folder. Raises RunNotFound if the file is not one of potstill."""

    def __init__(self, workspace: Path) -> None:
        workspace.mkdir(parents=True, exist_ok=True)
        super().__init__(workspace / FILE, MIGRATIONS, write=True, durable=False)

    def get(self, keys: Iterable[str]) -> dict[str, PaidAnswer]:
        """The answers of those `keys` that are in the cache."""
        rows = self._select("key, value, nanos FROM answers", keys)
        return {key: PaidAnswer(key, value, nanos) for key, value, nanos in rows}

    def put(self, answers: Iterable[PaidAnswer]) -> None:
        """Add the good ones; an answer that is there already keeps its price."""
        rows = [(each.key, each.json, each.price_nanos) for each in answers]
        if not rows:
            return
        with self._transaction():
            self._db.executemany(
                f"INSERT OR IGNORE INTO answers (key, value, nanos) SELECT ?1, ?2, ?3 WHERE {_GOOD}", rows
            )
