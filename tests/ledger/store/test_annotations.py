"""Annotations on the disk: one a person and text, never lost, never more than were requested."""

from __future__ import annotations

import multiprocessing
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support.concurrent_labels import label_forty

from potstill.errors import RunNotFound
from potstill.ledger.store import Annotation, AnnotationStore


def asked(folder: Path, n: int = 4, wanted: int = 1) -> AnnotationStore:
    labels = AnnotationStore(folder)
    for i in range(n):
        labels.add_request(f"t{i}", f"text {i}", wanted, f"m{i}")
    return labels


@pytest.mark.parametrize(
    "change",
    [
        "annotations SET label = x'00ff'",
        "annotations SET annotator = 3.5, label = x'01'",
        "annotations SET seconds = 'long'",
        "annotations SET seconds = -1",
        "annotations SET seconds = 9e999",
        "annotations SET created_at = 'today'",
        "annotations SET source = x'ff'",
        "requests SET n_annotators = 'all'",
        "requests SET n_annotators = 0",
        "requests SET text = x'ff'",
        "requests SET text = CAST(x'ff' AS TEXT)",
    ],
)
def test_a_value_that_potstill_does_not_write_is_named_and_nothing_is_lost(change: str, tmp_path: Path) -> None:
    labels = asked(tmp_path)
    labels.add(Annotation("t0", "a", "x"))
    labels.close()
    with sqlite3.connect(tmp_path / "labels.sqlite") as db:
        db.execute(f"UPDATE {change}")
    db.close()
    labels = AnnotationStore(tmp_path)
    with pytest.raises(RunNotFound, match=r"labels\.sqlite cannot be read"):
        _ = labels.annotations(), labels.requests()
    labels.close()
    assert sqlite3.connect(tmp_path / "labels.sqlite").execute("SELECT COUNT(*) FROM annotations").fetchone() == (1,)


def test_a_surplus_or_late_label_is_not_stored(tmp_path: Path) -> None:
    labels = asked(tmp_path, wanted=2)
    say = [labels.add(Annotation("t0", who, label)) for who, label in [("a", "x"), ("b", "y"), ("c", "x"), ("a", "x")]]
    assert say == ["new", "new", "surplus", "same"]
    assert labels.add(Annotation("t0", "b", "x")) == "changed"
    found = labels.collect("m0")
    assert found is not None
    assert [(each.annotator, each.label) for each in found] == [("a", "x"), ("b", "x")]
    assert labels.add(Annotation("t0", "a", "y")) == "collected"
    assert labels.undo("a") is None
    assert labels.collect("m1") is None
    assert labels.add(Annotation("another text", "a", "x")) == "unknown"
    labels.close()


def test_two_people_begin_at_different_texts_and_what_is_skipped_comes_last(tmp_path: Path) -> None:
    labels = asked(tmp_path)
    assert [each.id for each in labels.open_requests("a")] == ["t0", "t1", "t2", "t3"]
    assert [each.id for each in labels.open_requests("b", start=3)] == ["t2", "t3", "t0", "t1"]
    labels.skip("t0", "a")
    labels.skip("t1", "a")
    assert [each.id for each in labels.open_requests("a")] == ["t2", "t3", "t0", "t1"]
    assert [each.id for each in labels.open_requests("b")] == ["t0", "t1", "t2", "t3"]
    labels.add(Annotation("t2", "b", "x"))
    assert [each.id for each in labels.open_requests("a")] == ["t3", "t0", "t1"]
    undone = labels.undo("b")
    assert undone is not None
    assert undone.id == "t2"
    labels.close()


def test_a_closed_request_can_be_collected_incomplete_and_requested_again(tmp_path: Path) -> None:
    labels = asked(tmp_path, n=2, wanted=2)
    labels.add(Annotation("t0", "a", "x"))
    assert labels.close_unfinished() == 2
    found = [labels.collect("m0"), labels.collect("m1")]
    assert [len(each or ()) for each in found] == [1, 0]
    labels.add_request("t1", "text 1", 2, "again")
    assert [each.id for each in labels.open_requests("b")] == ["t1"]
    labels.close()


def test_processes_that_label_the_same_texts_at_once_never_get_more_than_were_requested(tmp_path: Path) -> None:
    asked(tmp_path, n=40).close()
    context = multiprocessing.get_context("spawn")
    people = [context.Process(target=label_forty, args=(tmp_path, who)) for who in "ab"]
    for each in people:
        each.start()
    label_forty(tmp_path, "c")
    for each in people:
        each.join()
        assert each.exitcode == 0
    labels = AnnotationStore(tmp_path, write=False)
    assert len(labels.annotations()) == 40
    assert labels.progress().complete == 40
    labels.close()


def test_threads_share_one_file(tmp_path: Path) -> None:
    labels = asked(tmp_path, n=30, wanted=3)
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda who: [labels.add(Annotation(f"t{i}", who, "x")) for i in range(30)], "abc"))
    assert labels.progress("a").complete == 30
    assert labels.progress("a").own == 30
    labels.close()


def test_a_file_that_is_none_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.sqlite").write_text("not a database" * 100, encoding="utf-8")
    with pytest.raises(RunNotFound):
        AnnotationStore(tmp_path)


PEOPLE, TEXTS, WORDS = st.sampled_from("abc"), st.sampled_from(["t0", "t1", "t2"]), st.sampled_from(["x", "y", ""])


class AsADictionary(RuleBasedStateMachine):
    """The file against a list in memory: after any sequence of actions both contain the same."""

    @initialize()
    def begin(self) -> None:
        import tempfile

        self.labels = asked(Path(tempfile.mkdtemp()), n=3, wanted=2)
        self.valid: list[tuple[str, str, str]] = []
        self.collected: set[str] = set()

    @rule(text=TEXTS, who=PEOPLE, label=WORDS)
    def add(self, text: str, who: str, label: str) -> None:
        outcome = self.labels.add(Annotation(text, who, label))
        own = [each for each in self.valid if each[:2] == (text, who)]
        others = [each for each in self.valid if each[0] == text and each[1] != who]
        if own and own[0][2] == label:
            assert outcome == "same"
        elif text in self.collected:
            assert outcome == "collected"
        elif not own and len(others) >= 2:
            assert outcome == "surplus"
        else:
            assert outcome == ("changed" if own else "new")
            self.valid = [each for each in self.valid if each[:2] != (text, who)] + [(text, who, label)]

    @rule(who=PEOPLE)
    def undo(self, who: str) -> None:
        mine = [each for each in self.valid if each[1] == who and each[0] not in self.collected]
        undone = self.labels.undo(who)
        assert (undone and (undone.id, undone.annotator, undone.label)) == (mine[-1] if mine else None)
        if mine:
            self.valid.remove(mine[-1])

    @rule(text=TEXTS)
    def collect(self, text: str) -> None:
        found = self.labels.collect("m" + text[1])
        there = [each for each in self.valid if each[0] == text]
        assert (found is not None) == (len(there) >= 2)
        if found is not None:
            self.collected.add(text)

    @invariant()
    def they_agree(self) -> None:
        assert [(each.id, each.annotator, each.label) for each in self.labels.annotations()] == self.valid

    def teardown(self) -> None:
        self.labels.close()


TestAsADictionary = AsADictionary.TestCase
TestAsADictionary.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
