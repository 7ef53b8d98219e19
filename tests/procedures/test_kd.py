"""KD and FT on a small world where words tell the labels apart; the teacher is the replay teacher (a simulation)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.keyword_task import WORDS, world
from support.tinybert import write_tinybert

from potstill.data.pool import Pool, PoolOptions, build_pool
from potstill.data.tables import Table
from potstill.data.task import Task
from potstill.errors import BadData
from potstill.procedures.finetune import finetune
from potstill.procedures.kd import kd
from potstill.procedures.label_correction import GoldPredictions, correct_soft_labels
from potstill.procedures.soft_labels import gold_row_weight
from potstill.reports.finish_run import finish_run
from potstill.run.few_shot import select_examples
from potstill.run.run import Run
from potstill.run.spec import Spec


@pytest.fixture(scope="module")
def pool() -> Pool:
    return build_pool(Table.from_columns(world(200)), options=PoolOptions(gold=9, validation_share=0)).pool


def begin(folder: Path, pool: Pool, keyword_labels: Path, **over: object) -> Run:
    teacher = {"name": "replay", "file": str(keyword_labels), "accuracy": 0.85, "usd_per_million_tokens": 1.0}
    spec = Spec.from_dict({"budget": 1, "teacher": teacher, "student": "linear", **over})
    return Run.open(folder, spec, Task(pool.labels, name="world"), pool)


def test_a_student_of_a_mediocre_teacher_beats_the_gold_alone_and_its_teacher(tmp_path, pool, keyword_labels):
    with begin(tmp_path / "run", pool, keyword_labels) as run:
        report = finish_run(run, kd(run))
    assert report.student.evaluation is not None
    assert report.teacher is not None
    assert report.teacher.evaluation is not None
    alone = next(each for each in report.baselines if each.name.startswith("linear"))
    student = report.student.evaluation.accuracy.value
    assert alone.accuracy is not None
    assert student > alone.accuracy.value + 0.05
    assert student > report.teacher.evaluation.accuracy.value + 0.02


def answers(run: Run, wrong: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N,) labels of a teacher that errs on a share `wrong` of the texts, (N, K) its probabilities, (N,) the truth."""
    truth = run.pool.hidden_labels[run.pool.subset("pool").rows]
    rng = np.random.default_rng(3)
    said = np.where(rng.random(len(truth)) < wrong, (truth + 1) % 3, truth)
    soft = np.full((len(truth), 3), 0.15, dtype=np.float32)
    soft[np.arange(len(truth)), said] = 0.7
    return said, soft, truth


@pytest.fixture(scope="module")
def more_gold() -> Pool:
    return build_pool(Table.from_columns(world(200)), options=PoolOptions(gold=60, validation_share=0)).pool


def test_a_teacher_weaker_than_the_gold_only_student_is_corrected(
    tmp_path, more_gold, keyword_labels, potion, monkeypatch
):
    with begin(tmp_path / "run", more_gold, keyword_labels, student="static:potion-8m") as run:
        gold, texts = run.pool.subset("train"), run.pool.subset("pool").texts
        said, soft, truth = answers(run, 0.45)
        before, asked = soft.copy(), np.arange(len(gold.texts))
        good, bad = (GoldPredictions(asked, (gold.gold + (asked % 5 < wrong)) % 3) for wrong in (0, 4))
        assert correct_soft_labels(texts, soft, good, 10, run) is soft
        assert not run.store.calls()  # nothing needs to be learnt to know that
        heard = correct_soft_labels(texts, soft, bad, 10, run)
        assert (heard.argmax(axis=1) == truth).mean() > (said == truth).mean() + 0.1
        np.testing.assert_allclose(heard.sum(axis=1), 1, atol=1e-5)
        np.testing.assert_array_equal(soft, before)
        calls = len(run.store.calls())
        monkeypatch.setattr(
            "potstill.procedures.label_correction.MAX_GRAPH_TEXTS", 100
        )  # in parts, as many texts would be
        in_parts = correct_soft_labels(texts, soft, bad, 10, run).argmax(axis=1)
        assert (in_parts == truth).mean() > (said == truth).mean() + 0.1
        assert len(run.store.calls()) == calls
        assert [note.name for note in run.notes()].count("labels_corrected") == 2


@pytest.mark.parametrize(
    "over", [{"student": "linear"}, {"student": "static:potion-8m", "n_neighbors": 0}], ids=["no space", "not wanted"]
)
def test_a_teacher_is_not_corrected_without_vectors_or_neighbours(tmp_path, pool, keyword_labels, potion, over):
    n_neighbors = over.pop("n_neighbors", 10)
    with begin(tmp_path / "run", pool, keyword_labels, **over) as run:
        gold, soft = run.pool.subset("train"), np.full((5, 3), 1 / 3, dtype=np.float32)
        wrong = GoldPredictions(np.arange(len(gold.texts)), (gold.gold + 1) % 3)
        assert correct_soft_labels(run.pool.subset("pool").texts[:5], soft, wrong, n_neighbors, run) is soft
        assert not run.store.calls()


def test_without_any_gold_the_teacher_is_not_corrected(tmp_path, keyword_labels, potion):
    unlabelled = build_pool({"pool": Table.from_columns({"text": world(40)["text"]})}, labels=tuple(WORDS)).pool
    with begin(tmp_path / "run", unlabelled, keyword_labels, student="static:potion-8m") as run:
        student = kd(run)
        assert not [note for note in run.notes() if note.name == "labels_corrected"]
        assert student.predict_proba(["a goal of the team"]).argmax() == unlabelled.labels.index("sport")


def test_a_weak_teachers_student_is_better_than_the_teacher(tmp_path, more_gold, keyword_labels, potion):
    teacher = {"name": "replay", "file": str(keyword_labels), "accuracy": 0.4, "usd_per_million_tokens": 1.0}
    scores = []
    for neighbours in (0, 10):
        procedure = {"name": "kd", "n_neighbors": neighbours}
        over = {"student": "static:potion-8m", "teacher": teacher, "procedure": procedure}
        with begin(tmp_path / str(neighbours), more_gold, keyword_labels, **over) as run:
            scores.append(run.evaluate(kd(run), run.pool.subset("test")).accuracy.value)
    assert scores[1] > scores[0] + 0.1


def test_a_simulation_is_called_one_wherever_its_figures_are_shown(tmp_path, pool, keyword_labels):
    with begin(tmp_path / "run", pool, keyword_labels) as run:
        report = finish_run(run, kd(run))
    assert "imulation" in report.simulation
    assert json.loads((tmp_path / "run" / "report.json").read_text())["simulated"] is True
    assert "imulat" in (tmp_path / "run" / "report.html").read_text()


def test_the_report_adds_up(tmp_path, pool, keyword_labels):
    with begin(tmp_path / "run", pool, keyword_labels) as run:
        report = finish_run(run, kd(run))
        totals = run.ledger.totals()
    money = report.money
    assert round(money.charged_usd * 1e6) == totals.charged
    assert sum(round(usd * 1e6) for usd in money.by_category.values()) == totals.charged
    assert (report.data.gold, report.data.pool, report.data.test) == tuple(
        len(pool.subset(split)) for split in ("train", "pool", "test")
    )
    assert report.answers is not None
    assert report.answers.asked == report.data.pool
    assert report.egress == "No text left this machine."
    assert report.duration_s is not None
    assert report.duration_s > 0


def test_the_test_part_is_neither_trained_on_nor_asked_before_the_end(tmp_path, pool, keyword_labels, monkeypatch):
    asked: list[str] = []
    with begin(tmp_path / "run", pool, keyword_labels) as run:
        ask, learn = run.ask, run.learn
        monkeypatch.setattr(
            run, "ask", lambda teacher, texts, **more: (asked.extend(texts), ask(teacher, texts, **more))[1]
        )
        monkeypatch.setattr(
            run, "learn", lambda texts, *rest, **more: (asked.extend(texts), learn(texts, *rest, **more))[1]
        )
        kd(run)
    assert asked
    assert not set(asked) & set(pool.subset("test").texts)


def test_without_unlabelled_texts_it_is_refused(tmp_path, keyword_labels):
    table = world(10)
    pool = build_pool(Table.from_columns(table)).pool
    with begin(tmp_path / "run", pool, keyword_labels) as run, pytest.raises(BadData, match="unlabelled"):
        kd(run)


def test_a_budget_too_small_for_one_answer_says_so_and_trains_nothing(tmp_path, pool, keyword_labels):
    with begin(tmp_path / "run", pool, keyword_labels, budget=0.0001) as run:
        with pytest.raises(BadData, match="answered none") as caught:
            kd(run)
        assert "--budget USD" in caught.value.hint
        assert run.ledger.totals().charged <= 100


def test_a_larger_model_trained_on_the_gold_can_be_the_teacher(tmp_path, pool):
    pytest.importorskip("torch")
    name = f"trained:{write_tinybert(tmp_path / 'weights')}"
    spec = Spec.from_dict({"budget": 1, "teacher": name, "student": "linear"})
    with Run.open(tmp_path / "run", spec, Task(pool.labels), pool) as run:
        report = finish_run(run, kd(run))
    assert report.teacher is not None
    assert report.teacher.name == name
    assert report.money.by_category["llm"] == 0
    assert report.money.by_category["compute"] > 0
    assert report.simulation == ""


def test_fine_tuning_trains_on_the_gold_and_calls_no_teacher(tmp_path, pool, keyword_labels):
    with begin(tmp_path / "run", pool, keyword_labels, teacher=None) as run:
        report = finish_run(run, finetune(run))
    assert report.teacher is None
    assert report.money.by_category["llm"] == 0


def test_fine_tuning_without_gold_is_refused(tmp_path, keyword_labels):
    table = {"text": ["a", "b", "c"], "label": ["", "", ""]}
    pool = build_pool({"pool": Table.from_columns(table)}, labels=["x", "y"]).pool
    with begin(tmp_path / "run", pool, keyword_labels) as run, pytest.raises(BadData, match="labelled"):
        finetune(run)


def test_the_prompt_shows_as_many_examples_of_each_label_as_asked(pool):
    spec = Spec.from_dict({"budget": 1, "procedure": {"name": "kd", "shots": 2}})
    shown = select_examples(pool.subset("train"), spec, Task(pool.labels))
    labels = [each.label for each in shown]
    assert sorted(labels) == sorted([*pool.labels] * 2)
    assert {each.text for each in shown} <= set(pool.subset("train").texts)


def test_a_teacher_that_selects_its_examples_is_given_all_gold(pool):
    gold, many = pool.subset("train"), Task((*pool.labels, *(f"label {i}" for i in range(40))))

    def offered(task: Task, teacher: dict[str, object], **procedure: object) -> int:
        spec = Spec.from_dict({"budget": 1, "teacher": teacher, "procedure": {"name": "kd", **procedure}})
        return len(select_examples(gold, spec, task))

    everything = len(gold.texts)
    assert offered(Task(pool.labels), {"name": "openai:m", "examples": "nearest"}) == everything
    assert offered(Task(pool.labels), {"name": "openai:m", "shortlist": 5}) == everything
    assert offered(many, {"name": "openai:m"}) == offered(many, {"name": "anthropic:m"}) == everything
    assert offered(Task(pool.labels), {"name": "openai:m"}) == len(pool.labels)
    assert offered(many, {"name": "openai:m", "examples": "fixed"}) == offered(many, {"name": "local"}) == 0
    assert offered(many, {"name": "local", "shortlist": 20}) == 0  # it would show all of the gold
    assert offered(many, {"name": "openai:m"}, shots=1) == len(pool.labels)


def test_rare_gold_weighs_more_than_soft_labels_but_never_more_than_ten_times():
    assert gold_row_weight(0, 100) == 1
    assert gold_row_weight(100, 100) == 1
    assert gold_row_weight(10, 100) == pytest.approx(2.5)
    assert gold_row_weight(10, 100_000) == 10
