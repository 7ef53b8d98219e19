"""No label at all: label names are refined over the pool, and are an opinion beside a teacher's answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.keyword_task import world
from support.tinybert import write_tinybert

from potstill.data.pool import Pool, build_pool
from potstill.data.tables import Table
from potstill.data.task import Task
from potstill.errors import BadData, BadSpec
from potstill.evaluation.calibration import softmax
from potstill.evaluation.label_free_accuracy import accuracy_from_agreement, labels_for_interval
from potstill.planning.cost_estimate import estimate_cost
from potstill.procedures.kd import kd
from potstill.procedures.label_correction import NamesLeftOut
from potstill.procedures.name_opinions import balance_labels, refine_names, refine_until_settled, standardize
from potstill.procedures.opinions import AgreementEstimated, NamesRefined
from potstill.procedures.selftrain import selftrain
from potstill.procedures.trained_teacher_kd import ft_kd
from potstill.run.inputs import RunInputs
from potstill.run.run import Run
from potstill.run.spec import Spec

LABELS = ("soup", "tennis", "loan")


@pytest.fixture(scope="module")
def bare() -> Pool:
    return build_pool(Table.from_columns({"text": world(30)["text"]}), labels=LABELS).pool


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tinybert(tmp_path_factory.mktemp("weights") / "tinybert")


def spec(weights: Path, procedure: object, teacher: object) -> Spec:
    student = {"name": f"encoder:{weights}", "mode": "frozen"}
    return Spec.from_dict({"budget": 1, "student": student, "procedure": procedure, "teacher": teacher})


def estimates(run: Run) -> list[AgreementEstimated]:
    return [note.record for note in run.notes() if isinstance(note.record, AgreementEstimated)]


def unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def test_refined_names_label_more_texts_right_than_the_names() -> None:
    rng = np.random.default_rng(0)
    gold, centres = rng.integers(0, 6, 900), rng.normal(size=(6, 32))
    vectors = unit(centres[gold] + 1.2 * rng.normal(size=(900, 32)))
    names = unit(centres + 1.5 * rng.normal(size=(6, 32)))
    scores = 20 * vectors @ names.T

    def accuracy(found: np.ndarray) -> float:
        return float((found.argmax(axis=1) == gold).mean())

    (balanced,), (refined,) = (refine_names([scores], [vectors], [1.0], rounds) for rounds in (0, 3))
    assert accuracy(refined) > accuracy(scores) + 0.05
    assert accuracy(refined) > accuracy(balanced)
    np.testing.assert_allclose(np.exp(refined).sum(axis=1), 1, atol=1e-4)
    pair = refine_names([scores, scores], [vectors, vectors], [0.5, 0.5], 3)
    np.testing.assert_allclose(pair[0], refined, atol=1e-3)


def test_rounds_end_by_themselves_and_a_given_number_is_kept() -> None:
    rng = np.random.default_rng(0)
    gold, centres = rng.integers(0, 6, 900), rng.normal(size=(6, 32))
    pairs = [unit(centres[gold] + noise * rng.normal(size=(900, 32))) for noise in (1.2, 1.4)]
    scores = [20 * vectors @ unit(centres + 1.5 * rng.normal(size=(6, 32))).T for vectors in pairs]
    alone = refine_until_settled(scores[:1], pairs[:1], [1.0])
    assert alone.kept.reason == "settled"
    assert alone.kept.round == len(alone.changed) > 1
    assert alone.changed[0] > alone.changed[-1]
    assert alone.agreement == ()
    both = refine_until_settled(scores, pairs, [0.5, 0.5], 2)
    assert (both.kept.round, both.kept.reason, len(both.changed), len(both.agreement)) == (2, "given", 2, 3)
    for found, expected in zip(both.scores, refine_names(scores, pairs, [0.5, 0.5], 2), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert both.agreement[-1] > both.agreement[0]


def test_a_note_says_which_round_is_kept_and_why() -> None:
    settled = NamesRefined(900, 2, "settled", (0.2, 0.004)).sentence()
    assert "round 2 of 2 is kept, which changed 0.4% of the labels" in settled
    assert "a second one does" in settled
    assert (
        "agree on 80% of the texts, after round 2 on 60%"
        in NamesRefined(900, 1, "agreement", (0.2, 0.1), (0.7, 0.8, 0.6)).sentence()
    )
    assert "describe them" in NamesRefined(900, 3, "unsettled", (0.1,) * 10).sentence()
    assert "as name_rounds asks" in NamesRefined(900, 0, "given", (), (0.5,)).sentence()


def test_labels_are_balanced_by_half_of_what_would_make_them_equally_frequent() -> None:
    scores = standardize(np.random.default_rng(1).normal(loc=(1.0, 0.0, 0.0), size=(500, 3)))
    shares = [softmax(balance_labels(scores, share)).mean(axis=0)[0] for share in (0.0, 0.5, 1.0)]
    assert shares[0] > shares[1] + 0.03
    assert shares[1] > shares[2] + 0.03
    assert shares[2] == pytest.approx(1 / 3, abs=0.01)


def test_agreement_gives_the_accuracy_of_independent_opinions() -> None:
    rng, n = np.random.default_rng(2), 40_000
    gold = rng.integers(0, 4, n)
    one, other = (np.where(rng.random(n) < 0.7, gold, (gold + rng.integers(1, 4, n)) % 4) for _ in range(2))
    assert accuracy_from_agreement(one, other, 4) == pytest.approx(0.7, abs=0.01)
    assert accuracy_from_agreement(one, one, 4) == 1  # shared errors are not seen
    assert accuracy_from_agreement(gold, (gold + 1) % 4, 4) == 0.25


def test_the_labels_that_measure_an_accuracy_to_within_five_points() -> None:
    assert 375 <= labels_for_interval(0.5) <= 385
    assert labels_for_interval(0.9) < labels_for_interval(0.8) < labels_for_interval(0.5)
    assert labels_for_interval(0.5, 0.1) < 100


def test_without_gold_a_larger_encoder_reads_the_label_names_too(tmp_path: Path, bare: Pool, weights: Path) -> None:
    other = write_tinybert(tmp_path / "other", hidden=64)
    given = spec(weights, "selftrain", f"trained:{other}")
    with Run.open(tmp_path / "run", given, Task(bare.labels, name="world"), bare) as run:
        student = selftrain(run)
        assert student.predict_proba(["a loan"]).shape == (1, 3)
        assert len(run.student_keys) == 3
        assert run.ledger.totals().by_purpose["teach"] > 0
        (note,) = estimates(run)
        assert note.n_texts == len(bare.texts)
        assert 0 <= note.agreement <= 1
        assert "labelled test texts measure the accuracy" in note.sentence()
        (rounds,) = (each.record for each in run.notes() if isinstance(each.record, NamesRefined))
        assert len(rounds.agreement) == len(rounds.changed) + 1
    plan = estimate_cost(RunInputs(given, Task(bare.labels, name="world"), bare, "world", "", (), {}))
    assert plan is not None
    assert plan.n_texts == len(bare.texts)


def test_a_teacher_that_cannot_read_label_names_is_refused(tmp_path: Path, bare: Pool, weights: Path) -> None:
    task = Task(bare.labels, name="world")
    with (
        Run.open(tmp_path / "run", spec(weights, "kd", "trained:linear"), task, bare) as run,
        pytest.raises(BadSpec, match="linear cannot begin without a labelled text"),
    ):
        kd(run)
    with (
        Run.open(tmp_path / "other", spec(weights, "ft-kd", f"trained:{weights}"), task, bare) as run,
        pytest.raises(BadData, match="learns from labelled texts"),
    ):
        ft_kd(run)


def test_label_names_are_an_opinion_beside_a_teacher_s(tmp_path: Path, weights: Path, keyword_labels: Path) -> None:
    columns = world(30)
    pool = build_pool(Table.from_columns({"text": columns["text"]}), labels=("money", "sport", "weather")).pool
    task = Task(pool.labels, "world", {"money": "bank loan", "sport": "goal match", "weather": "word text"})
    teacher = {"name": "replay", "file": str(keyword_labels), "accuracy": 0.95, "usd_per_million_tokens": 1.0}
    found = {}
    for weight in (0.0, 0.1, 1.0):
        given = spec(weights, {"name": "kd", "names_weight": weight}, teacher)
        with Run.open(tmp_path / f"run{weight}", given, task, pool) as run:
            found[weight] = kd(run).predict_proba(list(pool.texts)).argmax(axis=1)
            assert len(estimates(run)) == bool(weight)
            assert run.ledger.totals().by_category["llm"] > 0
    assert (found[0.0] == found[0.1]).mean() > (found[0.0] == found[1.0]).mean()


def test_names_that_agree_with_the_teacher_by_chance_are_left_out(
    tmp_path: Path, weights: Path, keyword_labels: Path
) -> None:
    """Names that are codes would spoil the answers, and without gold only their agreement with them shows it."""
    columns = world(30)
    pool = build_pool(Table.from_columns({"text": columns["text"]}), labels=("money", "sport", "weather")).pool
    teacher = {"name": "replay", "file": str(keyword_labels), "accuracy": 0.95, "usd_per_million_tokens": 1.0}
    words = {"money": "bank loan", "sport": "goal match", "weather": "word text"}
    codes = {"money": "goal match", "sport": "word text", "weather": "bank loan"}
    found = {}
    for name, described, weight in (("auto", words, "auto"), ("codes", codes, "auto"), ("off", codes, 0)):
        given = spec(weights, {"name": "kd", "names_weight": weight}, teacher)
        with Run.open(tmp_path / name, given, Task(pool.labels, "world", described), pool) as run:
            found[name] = kd(run).predict_proba(list(pool.texts))
            left_out = [note.record for note in run.notes() if isinstance(note.record, NamesLeftOut)]
            assert (len(estimates(run)), len(left_out)) == {"auto": (1, 0), "codes": (0, 1), "off": (0, 0)}[name]
            assert all("[task.descriptions]" in note.sentence() for note in left_out)
    np.testing.assert_array_equal(found["codes"], found["off"])


def test_a_student_that_reads_no_label_names_takes_the_teacher_s_answers_alone(
    tmp_path: Path, keyword_labels: Path
) -> None:
    pool = build_pool(Table.from_columns({"text": world(30)["text"]}), labels=("money", "sport", "weather")).pool
    teacher = {"name": "replay", "file": str(keyword_labels), "usd_per_million_tokens": 1.0}
    given = Spec.from_dict({"budget": 1, "student": "linear", "procedure": "kd", "teacher": teacher})
    with Run.open(tmp_path / "run", given, Task(pool.labels, "world"), pool) as run:
        kd(run)
        assert len(run.student_keys) == 1
        assert not estimates(run)
