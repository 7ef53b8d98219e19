"""The answers of a workspace: what its runs bought from models and people, for the next run that asks the same.

Only good answers are here, under a hash of task, teacher, prompt, parameters and text, so that nothing can be mistaken
for anything else. Several runs may use it at once. It is a cache: losing it loses money saved, never money spent.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

from potstill.ledger.store.records import PaidAnswer
from potstill.ledger.store.sqlite_file import Migration, SqliteFile

FILE = "answers.sqlite"
# An answer that is one, or texts that were written. Asked of SQLite, which is quicker than reading all of it here.
_GOOD = """CASE json_type(?2) WHEN 'object' THEN json_extract(?2, '$.state') IS 'ok'
           WHEN 'array' THEN json_array_length(?2) > 0 ELSE 0 END"""


def _first_format(db: sqlite3.Connection) -> None:
    db.execute(
        "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, value TEXT NOT NULL, nanos INTEGER NOT NULL)"
        " WITHOUT ROWID"
    )


MIGRATIONS: list[Migration] = [_first_format]


class AnswerCache(SqliteFile):
    """The answers in one workspace folder. Raises NotARun for a file that is none of ours."""

    def __init__(self, workspace: Path) -> None:
        workspace.mkdir(parents=True, exist_ok=True)
        super().__init__(workspace / FILE, MIGRATIONS, write=True, durable=False)

    def get(self, keys: Iterable[str]) -> dict[str, PaidAnswer]:
        """Those of `keys` that are here."""
        rows = self._select("key, value, nanos FROM answers", keys)
        return {key: PaidAnswer(key, value, nanos) for key, value, nanos in rows}

    def put(self, bought: Iterable[PaidAnswer]) -> None:
        """Keep the good ones; the first price an answer was bought for stays."""
        rows = [(each.key, each.json, each.price_nanos) for each in bought]
        if not rows:
            return
        with self._transaction():
            self._db.executemany(
                f"INSERT OR IGNORE INTO answers (key, value, nanos) SELECT ?1, ?2, ?3 WHERE {_GOOD}", rows
            )
