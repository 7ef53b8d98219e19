"""The formats of a run's SQLite file: one function per version; an older file runs the ones it has not seen.

Format 3 gave the columns the field's names, and a call its teacher and its mode, which until then stood in the
sentence that describes it. Only here is such a sentence parsed. Format 4 numbered the settled calls.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable

_OLD_DESCRIPTIONS = (
    ("generate", re.compile(r"(?P<teacher>.+) writes \d+ texts")),
    ("cached", re.compile(r"(?P<teacher>.+), bought before: \d+ texts")),
    ("batch", re.compile(r"(?P<teacher>.+) by batch: \d+ texts")),
    ("labels", re.compile(r"(?P<teacher>.+) labels: \d+ texts")),
    ("direct", re.compile(r"(?P<teacher>.+): \d+ texts")),
)


def _format_1(db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
    db.execute(
        """CREATE TABLE calls (
            id INTEGER PRIMARY KEY, category TEXT NOT NULL, purpose TEXT NOT NULL, what TEXT NOT NULL,
            n INTEGER NOT NULL, state TEXT NOT NULL CHECK (state IN ('held', 'settled', 'lost', 'released')),
            held INTEGER NOT NULL CHECK (held >= 0), charged INTEGER NOT NULL DEFAULT 0,
            paid INTEGER NOT NULL DEFAULT 0, usage TEXT NOT NULL DEFAULT '{}',
            micros_per_second REAL, began REAL NOT NULL, ended REAL)"""
    )
    db.execute(
        """CREATE TABLE kept (
            key TEXT PRIMARY KEY, value TEXT NOT NULL, call INTEGER REFERENCES calls (id)) WITHOUT ROWID"""
    )
    db.execute(
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, time REAL NOT NULL, what TEXT NOT NULL, facts TEXT NOT NULL)"
    )


def _format_2(db: sqlite3.Connection) -> None:
    db.execute(
        """CREATE TABLE tickets (
            call INTEGER PRIMARY KEY REFERENCES calls (id), teacher TEXT NOT NULL, mark TEXT NOT NULL UNIQUE,
            place TEXT NOT NULL DEFAULT '', keys TEXT NOT NULL, facts TEXT NOT NULL)"""
    )


def _format_3(db: sqlite3.Connection) -> None:
    for table, column, name in (
        ("calls", "what", "description"),
        ("calls", "n", "n_texts"),
        ("calls", "began", "started_at"),
        ("calls", "ended", "ended_at"),
        ("kept", "call", "call_id"),
        ("notes", "what", "name"),
    ):
        db.execute(f"ALTER TABLE {table} RENAME COLUMN {column} TO {name}")
    db.execute("ALTER TABLE kept RENAME TO results")
    db.execute(
        """CREATE TABLE batch_jobs (
            call_id INTEGER PRIMARY KEY REFERENCES calls (id), teacher_key TEXT NOT NULL,
            client_id TEXT NOT NULL UNIQUE, provider_id TEXT NOT NULL DEFAULT '', keys TEXT NOT NULL,
            samples INTEGER NOT NULL, max_usage TEXT NOT NULL)"""
    )
    for *columns, facts in db.execute("SELECT call, teacher, mark, place, keys, facts FROM tickets").fetchall():
        known = json.loads(facts)
        db.execute(
            "INSERT INTO batch_jobs VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*columns, known.get("samples", 1), json.dumps(known.get("most", {}))),
        )
    db.execute("DROP TABLE tickets")
    db.execute("ALTER TABLE calls ADD COLUMN teacher TEXT NOT NULL DEFAULT ''")
    db.execute("ALTER TABLE calls ADD COLUMN mode TEXT NOT NULL DEFAULT 'direct'")
    for call_id, category, description in db.execute("SELECT id, category, description FROM calls").fetchall():
        db.execute(
            "UPDATE calls SET teacher = ?, mode = ? WHERE id = ?", (*parse_description(category, description), call_id)
        )
    for old, new in (("given to ", "shared with "), ("tickets ", "batch jobs ")):
        db.execute("UPDATE meta SET name = ? || substr(name, ?) WHERE name GLOB ?", (new, len(old) + 1, f"{old}*"))


def parse_description(category: str, description: str) -> tuple[str, str]:
    """Teacher and mode of a call that was described by a version before format 3."""
    if category == "compute" and description.startswith(("train ", "probe ")):
        return "", "train"
    for mode, pattern in _OLD_DESCRIPTIONS:
        found = pattern.fullmatch(description)
        if found:
            return found["teacher"], mode
    return "", "direct"


def _format_4(db: sqlite3.Connection) -> None:
    """Number the settled calls: until then what was shared with a cache was known by the time, which may go back."""
    db.execute("ALTER TABLE calls ADD COLUMN settled_number INTEGER")
    db.execute(
        """UPDATE calls SET settled_number = number FROM (
               SELECT id AS settled, ROW_NUMBER() OVER (ORDER BY ended_at, id) AS number
               FROM calls WHERE state = 'settled'
           ) WHERE id = settled"""
    )
    db.execute("CREATE INDEX calls_by_settled_number ON calls (settled_number)")
    db.execute("DELETE FROM meta WHERE name GLOB 'shared with *'")  # all are shared once more, which changes nothing


MIGRATIONS: list[Callable[[sqlite3.Connection], None]] = [_format_1, _format_2, _format_3, _format_4]
