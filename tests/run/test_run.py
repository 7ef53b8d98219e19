"""A run: everything is bought once, and a run continues where it was interrupted."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from potstill.data.pool import Pool, build_pool
from potstill.data.tables import Table
from potstill.data.task import Answer, GenerationRequest, Task
from potstill.errors import BadData, BoundExceeded, BudgetExceeded, RunBusy, RunNotFound, SpecMismatch, TeacherError
from potstill.evaluation.calibration import one_hot
from potstill.ledger.prices import Usage
from potstill.ledger.store import RunStore
from potstill.run.ask import SilentReporter
from potstill.run.notes import Evaluated
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec, Spec
from potstill.students.base import RowTrust
from potstill.teachers.base import Reply
from potstill.teachers.replay import ReplayTeacher

WORDS = {"good": ["fine", "lovely", "superb", "warm"], "bad": ["dull", "poor", "cold", "weak"]}


def rows(n: int) -> dict[str, list[str]]:
    texts = [f"{WORDS[label][i % 4]} {WORDS[label][(i // 4) % 4]} thing {i}" for i in range(n) for label in WORDS]
    return {"text": texts, "label": [label for _ in range(n) for label in WORDS]}


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with every text's true label, for the replay teacher."""
    table = rows(60)
    path = tmp_path_factory.mktemp("known") / "known.jsonl"
    lines = [json.dumps({"text": t, "label": y}) for t, y in zip(table["text"], table["label"], strict=True)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def pool() -> Pool:
    from potstill.data.pool import PoolOptions

    return build_pool(Table.from_columns(rows(60)), options=PoolOptions(gold=8)).pool


@pytest.fixture
def spec(known: Path) -> Spec:
    teacher = {"name": "replay", "file": str(known), "accuracy": 0.9, "usd_per_million_tokens": 1.0, "batch_size": 4}
    return Spec.from_dict({"budget": 1, "teacher": teacher, "student": "linear"})


@pytest.fixture
def run(tmp_path: Path, spec: Spec, pool: Pool) -> Iterator[Run]:
    with Run.open(tmp_path / "run", spec, Task(pool.labels), pool) as opened:
        yield opened


class Watched:
    """A teacher that records its texts, and misbehaves on request."""

    def __init__(self, teacher: ReplayTeacher) -> None:
        self._teacher = teacher
        self.asked: list[str] = []
        self.dearer = 1
        self.error: Exception | None = None
        self.state = "ok"

    def __getattr__(self, name: str) -> object:
        return getattr(self._teacher, name)

    def answer(self, texts: Sequence[str]) -> Reply:
        self.asked += texts
        if self.error:
            raise self.error
        reply = self._teacher.answer(texts)
        if self.state != "ok":
            reply = Reply(tuple(Answer(self.state) for _ in texts), reply.usage)  # type: ignore[arg-type]
        return Reply(reply.answers, Usage(input_tokens=reply.usage.input_tokens * self.dearer))


def watched(run: Run) -> Watched:
    return Watched(run.teacher())  # type: ignore[arg-type]


def test_a_text_is_bought_once_however_often_it_is_asked(run: Run, pool: Pool):
    teacher, texts = watched(run), pool.subset("pool").texts
    first = run.ask(teacher, [*texts, *texts])
    spent = run.ledger.totals().charged
    again = run.ask(teacher, texts)
    assert sorted(teacher.asked) == sorted(texts)
    assert run.ledger.totals().charged == spent > 0
    np.testing.assert_array_equal(first.scores[: len(texts)], again.scores)
    np.testing.assert_array_equal(first.scores[len(texts) :], again.scores)


def test_answers_come_in_the_order_of_the_texts_with_many_calls_in_flight(run: Run, pool: Pool):
    texts = pool.subset("pool").texts
    answers = run.ask(run.teacher(latency_ms=2, parallel=16, batch_size=1), texts)
    for text, scores in zip(texts, answers.scores, strict=True):
        np.testing.assert_array_equal(
            scores, run.ask(run.teacher(latency_ms=2, parallel=16, batch_size=1), [text]).scores[0]
        )


def test_asking_stops_quietly_where_the_money_ends_and_never_passes_it(run: Run, pool: Pool):
    run.ledger.limit = 3000
    answers = run.ask(watched(run), pool.subset("pool").texts)
    totals = run.ledger.totals()
    assert 0 < answers.answered.sum() < len(answers.texts)
    assert answers.state_counts["unasked"] == len(answers.texts) - answers.answered.sum()
    assert np.isnan(answers.scores[~answers.answered]).all()
    assert totals.held == 0
    assert totals.charged <= 3000


class Listening(SilentReporter):
    """A reporter that keeps the sentences."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def info(self, sentence: str) -> None:
        self.sentences.append(sentence)


def test_asking_leaves_reserved_money_and_says_that_more_is_kept(tmp_path: Path, spec: Spec, pool: Pool):
    reporter = Listening()
    with Run.open(tmp_path / "run", spec, Task(pool.labels), pool, reporter) as run:
        with run.ledger.reserve("training", 999_000):
            run.ask(watched(run), pool.subset("pool").texts)
        assert 0 < run.ledger.totals().charged <= 1000
        said = [sentence for sentence in reporter.sentences if "ends here" in sentence]
        assert len(said) == 1
        assert "$1.00 is kept for other steps" in said[0]


def test_a_failed_answer_is_asked_again_another_day_and_a_refused_one_is_not(run: Run, pool: Pool):
    teacher, texts = watched(run), pool.subset("pool").texts[:8]
    for state, asked_again in [("failed", 8), ("refused", 0)]:
        teacher.state = state
        assert run.ask(teacher, texts).state_counts in ({state: 8}, {"unasked": 8})
        teacher.asked.clear()
        run.ask(teacher, texts)
        assert len(teacher.asked) == asked_again


def test_a_teacher_that_charges_above_its_bound_stops_the_run_and_its_answers_are_stored(run: Run, pool: Pool):
    teacher = watched(run)
    teacher.dearer = 50
    with pytest.raises(BoundExceeded):
        run.ask(teacher, pool.subset("pool").texts[:4])
    teacher.asked.clear()
    assert run.ask(teacher, pool.subset("pool").texts[:4]).answered.all()
    assert teacher.asked == []


def test_an_error_that_may_have_been_billed_is_lost_and_one_that_surely_was_not_is_free(run: Run, pool: Pool):
    teacher = watched(run)
    teacher.error = TeacherError("The host is unreachable.", "Look at the network.")
    teacher.error.billed = False
    with pytest.raises(TeacherError):
        run.ask(teacher, pool.subset("pool").texts[:4])
    assert run.ledger.totals().charged == 0
    teacher.error = ConnectionError("cut in the middle")
    with pytest.raises(ConnectionError):
        run.ask(teacher, pool.subset("pool").texts[:4])
    assert run.ledger.totals().lost > 0


def test_another_run_of_the_workspace_is_charged_what_it_cost_before_and_pays_nothing(run: Run, spec: Spec, pool: Pool):
    texts = pool.subset("pool").texts
    first = run.ask(run.teacher(), texts)
    before = run.ledger.totals()
    with Run.open(run.folder.parent / "second", spec, run.task, pool) as second:
        teacher = watched(second)
        again = second.ask(teacher, texts)
        totals = second.ledger.totals()
    np.testing.assert_array_equal(first.scores, again.scores)
    assert teacher.asked == []
    assert totals.paid == 0
    assert before.charged <= totals.charged <= before.charged + 1
    with Run.open(run.folder.parent / "third", spec.model_copy(update={"cache": False}), run.task, pool) as third:
        third.ask(third.teacher(), texts[:4])
        assert third.ledger.totals().paid > 0


def test_answers_from_the_workspace_stay_within_the_budget_too(run: Run, spec: Spec, pool: Pool):
    run.ask(run.teacher(), pool.subset("pool").texts)
    with Run.open(run.folder.parent / "poor", spec, run.task, pool) as poor:
        poor.ledger.limit = 100
        answers = poor.ask(poor.teacher(), pool.subset("pool").texts)
        assert poor.ledger.totals().charged <= 100
    assert not answers.answered.any()


def test_answers_that_a_crash_did_not_share_are_shared_when_the_run_is_opened_again(run: Run, spec: Spec, pool: Pool):
    run.client._shared._cache = None  # as if the process had died before it could share
    run.ask(run.teacher(), pool.subset("pool").texts)
    run.store.close()
    with Run.open(run.folder, spec, run.task, pool):
        pass
    with Run.open(run.folder.parent / "second", spec, run.task, pool) as second:
        second.ask(second.teacher(), pool.subset("pool").texts)
        assert second.ledger.totals().paid == 0


def test_generated_texts_are_bought_once(run: Run, known: Path):
    teacher = run.teacher(generate_from=str(known))
    brief = GenerationRequest("good", 3)
    first = run.generate(teacher, brief)
    calls = len(run.store.calls())
    assert run.generate(teacher, brief) == first
    assert len(run.store.calls()) == calls
    assert {each.label for each in first} == {"good"}


def test_a_student_is_trained_once_and_found_again_predicting_the_same(run: Run, pool: Pool):
    gold, texts = pool.subset("train"), pool.subset("pool").texts
    first = run.learn(gold.texts, one_hot(gold.gold, 2))
    calls = len(run.store.calls())
    again = run.learn(gold.texts, one_hot(gold.gold, 2))
    assert len(run.store.calls()) == calls
    np.testing.assert_array_equal(first.predict_proba(texts), again.predict_proba(texts))
    trust = RowTrust(np.linspace(1, 2, len(gold.texts)).astype(np.float32))
    other = run.learn(gold.texts, one_hot(gold.gold, 2), trust=trust)
    assert len(run.store.calls()) == calls + 1
    assert run.student_key(other) != run.student_key(first)


def test_a_kind_with_a_new_revision_is_trained_again(run: Run, pool: Pool, monkeypatch: pytest.MonkeyPatch):
    gold = pool.subset("train")
    first = run.student_key(run.learn(gold.texts, one_hot(gold.gold, 2)))
    monkeypatch.setattr("potstill.students.linear.LinearStudent.revision", 99, raising=False)
    calls = len(run.store.calls())
    assert run.student_key(run.learn(gold.texts, one_hot(gold.gold, 2))) != first
    assert len(run.store.calls()) == calls + 1


def test_training_is_charged_as_compute_and_refused_without_money(run: Run, pool: Pool):
    gold = pool.subset("train")
    run.learn(gold.texts, one_hot(gold.gold, 2))
    assert run.ledger.totals().by_category["compute"] > 0
    run.ledger.limit = run.ledger.totals().charged
    with pytest.raises(BudgetExceeded):
        run.learn(gold.texts, one_hot(gold.gold, 2), student=ComponentSpec(name="linear", c=3.0))


def test_an_evaluation_is_computed_once(run: Run, pool: Pool):
    gold, test = pool.subset("train"), pool.subset("test")
    student = run.learn(gold.texts, one_hot(gold.gold, 2))
    first = run.evaluate(student, test)
    assert first == run.evaluate(student, test)
    assert [note.name for note in run.notes()].count("evaluated") == 1


def test_an_evaluation_noted_by_an_older_version_is_still_read(run: Run):
    run.store.note("judged", {"student": "round 3", "n_texts": 8, "accuracy": 0.5})
    assert run.notes()[-1].record == Evaluated("round 3", 8, 0.5)


def test_a_run_cannot_be_opened_twice_nor_with_other_options(run: Run, spec: Spec, pool: Pool):
    with pytest.raises(RunBusy):
        Run.open(run.folder, spec, run.task, pool)
    run.store.close()
    with pytest.raises(SpecMismatch, match="seed was 0 and is 7"):
        Run.open(run.folder, spec.model_copy(update={"seed": 7}), run.task, pool)
    with pytest.raises(SpecMismatch, match="task was"):
        Run.open(run.folder, spec, Task(pool.labels, instruction="Something else."), pool)
    with Run.open(run.folder, spec, run.task, pool):
        pass


def test_a_folder_with_other_files_is_not_changed(tmp_path: Path, spec: Spec, pool: Pool):
    (tmp_path / "letter.txt").write_text("Dear Sir")
    with pytest.raises(RunNotFound):
        Run.open(tmp_path, spec, Task(pool.labels), pool)
    with pytest.raises(RunNotFound):
        Run.open(tmp_path / "letter.txt", spec, Task(pool.labels), pool)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_run_that_was_refused_before_it_bought_anything_leaves_nothing_behind(tmp_path, spec, pool):
    with pytest.raises(BadData), Run.open(tmp_path / "run", spec, Task(pool.labels), pool):
        raise BadData("Something cannot be.", "Mend it.")
    assert not (tmp_path / "run").exists()


# --- killed, and run again ----------------------------------------------------------------------------------------


def distilling(toml: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "potstill", "distill", str(toml), "-o", str(out), "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_calls(out: Path, n: int, process: subprocess.Popen[str]) -> None:
    """Wait until the run's store has `n` calls, or the process has ended."""
    while process.poll() is None:
        with contextlib.suppress(RunNotFound), contextlib.closing(RunStore(out, write=False)) as store:
            if len(store.calls()) >= n:
                return
        time.sleep(0.01)


def outcome(process: subprocess.Popen[str]) -> dict[str, object]:
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    found: dict[str, object] = json.loads(stdout)
    return found


@pytest.mark.nightly  # tests/run/test_crash.py kills a run twice, too, with a server and its bills
def test_killed_again_and_again_it_still_ends_as_if_it_had_never_been(known: Path, tmp_path: Path):
    toml = tmp_path / "potstill.toml"
    toml.write_text(
        f"""budget = 1
[data]
file = "{known}"
gold = 8
[teacher]
name = "replay"
file = "{known}"
usd_per_million_tokens = 1.0
latency_ms = 150
batch_size = 1
parallel = 4
[student]
name = "linear"
""",
        encoding="utf-8",
    )
    uncut = outcome(distilling(toml, tmp_path / "one" / "uncut"))
    kills = 0
    for n_calls in (1, 15):
        process = distilling(toml, tmp_path / "two" / "cut")
        wait_for_calls(tmp_path / "two" / "cut", n_calls, process)
        kills += process.poll() is None
        process.kill()
        process.communicate()
    cut = outcome(distilling(toml, tmp_path / "two" / "cut"))
    assert kills, "every process ended before it could be killed: the test shows nothing"
    for part in ("student", "teacher"):
        assert cut[part]["evaluation"] == uncut[part]["evaluation"]  # type: ignore[index]
    money, uncut_money = cut["money"], uncut["money"]
    in_flight = 4 * kills
    dearest = 3 * 10**-6 * 400  # a call's bound here, generously
    assert money["charged_usd"] <= money["limit_usd"]  # type: ignore[index]
    assert money["by_category"]["llm"] <= uncut_money["by_category"]["llm"] + in_flight * dearest  # type: ignore[index]
    assert cut["answers"] == uncut["answers"]
