"""Files of older formats, as the version that wrote them left them, are brought up to date."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from potstill.ledger.ledger import Ledger
from potstill.ledger.prices import Purchase, Usage
from potstill.ledger.store import RUN_FILE, Annotation, AnnotationStore, RunStore
from potstill.ledger.store.migrations import MIGRATIONS, parse_description

FORMATS = Path(__file__).parent / "formats"


def restore(dump: str, file: Path) -> Path:
    """Write the SQLite file that was dumped as text."""
    with sqlite3.connect(file) as db:
        db.executescript((FORMATS / dump).read_text(encoding="utf-8"))
    db.close()
    return file


def test_the_calls_of_an_older_run_get_their_teacher_and_mode(tmp_path: Path) -> None:
    restore("run-2.sql", tmp_path / RUN_FILE)
    store = RunStore(tmp_path, write=True)
    assert [(call.teacher, call.mode, call.n_texts) for call in store.calls()] == [
        ("replay", "cached", 2),
        ("replay", "direct", 4),
        ("replay", "generate", 2),
        ("", "train", 7),
        ("openai:gpt-4o", "batch", 2),
        ("human", "labels", 2),
    ]
    assert store.calls()[1].usage == Usage(input_tokens=820, output_tokens=4)
    assert store.calls()[3].usage.seconds > 0
    assert store.calls()[4].ended_at is None
    store.close()


def test_the_money_the_jobs_and_the_answers_of_an_older_run_stay(tmp_path: Path) -> None:
    restore("run-2.sql", tmp_path / RUN_FILE)
    store = RunStore(tmp_path, write=True)
    totals = Ledger(store, 1_000_000).totals()
    assert (totals.held, totals.charged, totals.paid, totals.lost) == (10_000, 412 + 824 + 211 + 1, 824 + 211 + 1, 0)
    (job,) = store.batch_jobs("key of openai:gpt-4o")
    assert (job.client_id, job.provider_id, job.keys) == (
        "mark of openai:gpt-4o",
        "place of openai:gpt-4o",
        ("a1", "a2"),
    )
    assert (job.samples, job.max_usage, job.held) == (3, Usage(input_tokens=40, output_tokens=8), 5000)
    assert store.get_meta("batch jobs key of openai:gpt-4o") == 64
    assert store.load(["cc926c08c7d45e27a9eaadec99a46a8b"])["cc926c08c7d45e27a9eaadec99a46a8b"]["raw"] == "good"
    shared = store.paid_answers(["llm"], unknown_to=Path("/runs/answers.sqlite"))
    assert [answer.settled_number for answer in shared] == sorted(answer.settled_number for answer in shared)
    assert shared[-1].key == "236d0309bc3b20a9c60f57acb0de8df3"  # once more, as the file knew them only by the time
    store.mark_shared(shared, to=Path("/runs/answers.sqlite"))
    assert store.paid_answers(["llm"], unknown_to=Path("/runs/answers.sqlite")) == []
    assert [note.name for note in store.notes()] == ["opened", "asked", "judged"]
    store.close()


def test_an_older_run_that_is_only_read_is_not_changed(tmp_path: Path) -> None:
    file = restore("run-2.sql", tmp_path / RUN_FILE)
    before = file.read_bytes()
    store = RunStore(tmp_path, write=False)
    assert store.calls()[0].teacher == "replay"
    store.close()
    assert file.read_bytes() == before


def test_a_run_of_the_first_format_runs_all_migrations(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / RUN_FILE) as db:
        MIGRATIONS[0](db)
        db.execute("PRAGMA user_version=1")
    db.close()
    store = RunStore(tmp_path, write=True)
    assert store.hold(Purchase("llm", "teach", "a call", teacher="openai:m", mode="direct"), 5, 100)
    assert store.calls()[0].teacher == "openai:m"
    store.close()


@pytest.mark.parametrize(
    ("category", "description", "expected"),
    [
        ("llm", "openai:gpt-4o: 12 texts", ("openai:gpt-4o", "direct")),
        ("llm", "openai:gpt-4o-mini: 1 texts", ("openai:gpt-4o-mini", "direct")),
        (
            "llm",
            "local:/models/a by batch writes/m.gguf writes 3 texts",
            ("local:/models/a by batch writes/m.gguf", "generate"),
        ),
        ("compute", "trained:linear: 5 texts", ("trained:linear", "direct")),
        ("compute", "probe encoder:gte-small", ("", "train")),
        ("llm", "something else", ("", "direct")),
    ],
)
def test_an_old_description_names_teacher_and_mode(category: str, description: str, expected: tuple[str, str]) -> None:
    assert parse_description(category, description) == expected


def test_labels_of_the_first_format_stay(tmp_path: Path) -> None:
    restore("labels-1.sql", tmp_path / "labels.sqlite")
    labels = AnnotationStore(tmp_path)
    assert [(each.annotator, each.label, each.seconds) for each in labels.annotations()] == [
        ("ann", "good", 1.5),
        ("bob", "good", 0.0),
    ]
    request = labels.find_request("mark of human")
    assert request is not None
    assert (request.text, request.n_annotators, request.collected) == ("a text", 2, False)
    assert labels.add(Annotation("t0", "eve", "bad")) == "surplus"
    assert labels.add(Annotation("t0", "bob", "bad")) == "changed"
    labels.skip("t0", "ann")
    assert labels.collect("mark of human") is not None
    labels.close()
