"""A run's SQLite file: values are loaded as they were saved, and a file of another sort is refused."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.errors import PotstillError, RunBusy, RunNotFound
from potstill.ledger.prices import Purchase, Usage
from potstill.ledger.store import MIGRATIONS, RUN_FILE, RunStore

json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def store(tmp_path):
    opened = RunStore(tmp_path, write=True)
    yield opened
    opened.close()


@settings(max_examples=40, deadline=None)
@given(values=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), json_values, max_size=8))
def test_values_that_are_saved_are_loaded_by_the_next_process(values, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    first = RunStore(folder, write=True)
    first.save(values)
    first.close()
    second = RunStore(folder, write=False)
    assert second.load([*values, "something else"]) == values
    second.close()


def test_thousands_of_keys_are_looked_up_at_once(store):
    store.save({str(i): i for i in range(3000)})
    assert store.load(str(i) for i in range(2000, 4000)) == {str(i): i for i in range(2000, 3000)}


def test_notes_come_back_in_order(store):
    store.note("first", {"n": 1})
    store.note("second", {"words": ["ä", "☃"]})
    assert [(note.name, note.facts) for note in store.notes()] == [
        ("first", {"n": 1}),
        ("second", {"words": ["ä", "☃"]}),
    ]


def test_two_processes_cannot_work_in_one_run_but_one_may_read(store, tmp_path):
    with pytest.raises(RunBusy, match="Another process"):
        RunStore(tmp_path, write=True)
    store.note("still working", {})
    looking = RunStore(tmp_path, write=False)
    assert looking.notes()[0].name == "still working"
    looking.close()


def test_the_lock_goes_when_the_store_closes(tmp_path):
    RunStore(tmp_path, write=True).close()
    RunStore(tmp_path, write=True).close()


def test_reading_a_folder_that_is_no_run_changes_nothing(tmp_path):
    with pytest.raises(RunNotFound, match="is not a run"):
        RunStore(tmp_path, write=False)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_store_is_refused_and_not_changed(tmp_path):
    (tmp_path / RUN_FILE).write_bytes(b"my thesis, chapter one" * 100)
    with pytest.raises(RunNotFound, match="cannot be read"):
        RunStore(tmp_path, write=True)
    assert (tmp_path / RUN_FILE).read_bytes().startswith(b"my thesis")


def test_a_store_of_a_newer_format_is_refused_and_not_changed(tmp_path):
    RunStore(tmp_path, write=True).close()
    with sqlite3.connect(tmp_path / RUN_FILE) as db:
        db.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    with pytest.raises(RunNotFound, match="Upgrade"):
        RunStore(tmp_path, write=True)


def test_a_store_of_an_older_format_can_be_looked_at_and_stays_as_it_is(tmp_path):
    with sqlite3.connect(tmp_path / RUN_FILE) as db:
        MIGRATIONS[0](db)
        db.execute("PRAGMA user_version=1")
        db.execute(
            """INSERT INTO calls (category, purpose, what, n, state, held, charged, paid, began)
               VALUES ('llm', 'teach', 'a call', 1, 'settled', 9, 7, 7, 0)"""
        )
    db.close()
    before = (tmp_path / RUN_FILE).read_bytes()
    store = RunStore(tmp_path, write=False)
    assert (store.totals(100).charged, store.batch_jobs("any")) == (7, [])
    store.close()
    assert (tmp_path / RUN_FILE).read_bytes() == before
    work = RunStore(tmp_path, write=True)
    assert (work.committed(), work.batch_jobs("any")) == (7, [])
    work.close()


def test_a_store_that_is_just_being_made_is_no_run_yet(tmp_path):
    sqlite3.connect(tmp_path / RUN_FILE).close()
    (tmp_path / RUN_FILE).touch()
    with pytest.raises(RunNotFound, match="is still empty"):
        RunStore(tmp_path, write=False)


def test_a_settled_call_cannot_be_settled_again(store):
    hold = store.hold(Purchase("llm", "teach", "a call"), 10, 100)
    store.settle(hold, charged=5, paid=5, usage=Usage(), results={})
    with pytest.raises(LookupError):
        store.settle(hold, charged=5, paid=5, usage=Usage(), results={})
    assert store.committed() == 5


def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path):
    store = RunStore(tmp_path, write=True)
    store.save({"before": 1})
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count={pages + 1}")
    with pytest.raises(PotstillError, match="is full or failing"):
        store.save({f"key {i}": "x" * 1000 for i in range(1000)})
    assert store.load(["before", "key 0"]) == {"before": 1}
    store.close()
