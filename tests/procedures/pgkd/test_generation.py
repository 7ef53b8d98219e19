"""PGKD generation and the options of pgkd beyond the paper; the teacher is the replay teacher, a simulation."""

from __future__ import annotations

import gc
from weakref import ref

import numpy as np
import pytest
from support.toy_data import (
    LABEL_WORDS,
    LABELS,
    OpenRun,
    finished_rounds,
    notes,
    record_requests,
    script_teacher,
    table,
)

from potstill.data.pool import Pool, PoolOptions, build_pool
from potstill.data.tables import Table
from potstill.data.task import LabelledText
from potstill.errors import BadData
from potstill.procedures.pgkd.filters import passes_pvi
from potstill.procedures.pgkd.generation import SourceGain, better_source
from potstill.procedures.pgkd.recipe import pgkd
from potstill.run.inputs import spec_overrides
from potstill.run.notes import RoundsFinished
from potstill.run.spec import Spec, merge_specs


@pytest.fixture(scope="module")
def unlabelled() -> Pool:
    """The toy data with sixty texts of the replay teacher's file as its pool."""
    rows = [*table(12, 1, "train"), *table(25, 2, "validation"), *table(15, 4, "pool")]
    columns = {name: [row[name] for row in rows] for name in ("text", "label", "split")}
    return build_pool(Table.from_columns(columns), labels=LABELS, options=PoolOptions(split="split", test_share=0)).pool


# --- real texts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query_strategy", ["margin", "hard_negatives", "random"])
def test_in_turns_the_teacher_generates_and_labels_texts_of_the_pool(
    begin: OpenRun, unlabelled: Pool, query_strategy: str
) -> None:
    with begin(
        f"{query_strategy}/run",
        unlabelled,
        rounds=4,
        texts_per_round=20,
        query_strategy=query_strategy,
        source_schedule="alternate",
    ) as run:
        pgkd(run)
        rounds, (end,) = finished_rounds(run), notes(run, RoundsFinished)
    assert [each.acquired.source for each in rounds] == ["generate", "label", "generate", "label"]
    assert end.n_labelled == 40
    assert "labelled 40 texts of the pool" in end.sentence()
    assert all(each.acquired.usd > 0 for each in rounds)


def test_when_the_pool_is_used_up_the_teacher_generates(begin: OpenRun, unlabelled: Pool) -> None:
    with begin(
        "run", unlabelled, rounds=6, texts_per_round=40, query_strategy="random", source_schedule="alternate"
    ) as run:
        pgkd(run)
        rounds = finished_rounds(run)
    assert sum(each.acquired.n_texts for each in rounds if each.acquired.source == "label") == 60
    assert rounds[5].acquired.source == "generate"


def test_a_repeated_run_takes_the_same_sources_though_nothing_is_paid(begin: OpenRun, unlabelled: Pool) -> None:
    with begin("run", unlabelled, rounds=4, texts_per_round=10, query_strategy="margin") as run:
        first = run.student_key(pgkd(run))
        sources = [each.acquired.source for each in finished_rounds(run)]
        assert run.student_key(pgkd(run)) == first
        assert [each.acquired.source for each in finished_rounds(run)] == sources * 2
    assert sources[:2] == ["generate", "label"]


def test_without_unlabelled_texts_it_says_what_to_do(begin: OpenRun) -> None:
    with begin(query_strategy="margin") as run, pytest.raises(BadData, match="--pool"):
        pgkd(run)


def test_each_source_is_tried_then_the_one_that_gains_more_per_dollar_and_sometimes_the_other() -> None:
    generate, label = SourceGain("generate", 0.2, 0.01), SourceGain("label", 0.1, 0.001)
    assert better_source([]) == "generate"
    assert better_source([generate]) == "label"
    assert better_source([generate, label]) == "label"
    assert better_source([generate, label, label]) == "generate"
    assert better_source([SourceGain("generate", 0.2, 0.0001), label]) == "generate"


# --- training targets -------------------------------------------------------------------------------------


def test_soft_targets_are_half_the_label_and_half_the_teachers_probabilities(
    begin: OpenRun, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with begin(rounds=1, soft_labels=True) as run:
        seen = []
        learn = run.learn
        monkeypatch.setattr(run, "learn", lambda *a, **b: (seen.append(a[1]), learn(*a, **b))[1])
        pgkd(run)
    gold, written = seen[1][: len(pool.subset("train"))], seen[1][len(pool.subset("train")) :]
    assert set(np.unique(gold)) == {0.0, 1.0}
    np.testing.assert_allclose(written.sum(axis=1), 1, atol=1e-5)
    assert ((written.max(axis=1) > 0.5 - 1e-6) & (written.max(axis=1) < 1)).all()


def test_a_text_passes_pvi_if_its_label_is_as_probable_as_those_of_validation_texts() -> None:
    validation_probs, gold = [[0.8, 0.2], [0.6, 0.4], [0.5, 0.5]], [0, 0, 1]
    assert passes_pvi([[0.9, 0.1], [0.6, 0.4], [0.6, 0.4], [0.4, 0.6]], [0, 0, 1, 1], validation_probs, gold) == [
        True,
        False,
        False,
        True,
    ]


def test_pvi_rejects_wrong_labels_more_often_than_right_ones(begin: OpenRun, monkeypatch: pytest.MonkeyPatch) -> None:
    def half_wrong(original, request):  # type: ignore[no-untyped-def]
        texts = original.generate(request).texts
        return [
            LabelledText(each.text, LABELS[(LABELS.index(each.label) + i % 2) % len(LABELS)])
            for i, each in enumerate(texts)
        ]

    learnt: list[tuple[str, str]] = []
    with begin(rounds=2, agree="pvi") as run:
        script_teacher(run, monkeypatch, half_wrong)
        learn = run.learn
        monkeypatch.setattr(
            run,
            "learn",
            lambda texts, targets, **more: (
                learnt.extend(zip(texts, (LABELS[k] for k in targets.argmax(1)), strict=True)),
                learn(texts, targets, **more),
            )[1],
        )
        pgkd(run)
        (end,) = notes(run, RoundsFinished)
    truth = {row["text"]: row["label"] for row in table(150, 4, "")}
    mine = {(text, label) for text, label in learnt if text in truth}
    assert end.rejected_by_reason["disagreed"] > 10
    assert mine
    assert np.mean([truth[text] != label for text, label in mine]) < 0.3


# --- the request ------------------------------------------------------------------------------------------


def test_a_request_about_the_confused_labels_names_no_other(begin: OpenRun, monkeypatch: pytest.MonkeyPatch) -> None:
    with begin(rounds=1, cv_folds=3, labels_per_request=2) as run:
        requests = record_requests(run, monkeypatch)
        pgkd(run)
        (rounds,) = finished_rounds(run)
    feedback = requests[0].feedback
    assert feedback is not None
    assert len(feedback.labels) == 2
    assert [each.label for each in feedback.report] == list(feedback.labels)
    assert {each.label for each in (*requests[0].examples, *feedback.correct, *feedback.incorrect)} <= set(
        feedback.labels
    )
    assert rounds.acquired.n_texts == 32


def test_each_request_asks_for_another_style_with_vary_style(begin: OpenRun, monkeypatch: pytest.MonkeyPatch) -> None:
    with begin(rounds=3, vary_style=True) as run:
        requests = record_requests(run, monkeypatch)
        pgkd(run)
    styles = {request.feedback.style for request in requests if request.feedback}
    assert len(styles) == 3
    assert all(styles)


@pytest.mark.parametrize("allocation", ["error", "error_reduction"])
def test_the_number_of_texts_of_a_label_follows_its_errors(
    begin: OpenRun, monkeypatch: pytest.MonkeyPatch, allocation: str
) -> None:
    rows = [row for row in table(12, 1, "train") if row["label"] != "food"]
    strange = [{"text": f"{word} only", "label": "food", "split": "train"} for word in LABEL_WORDS["money"][:12]]
    rows += [*strange, *table(25, 2, "validation")]
    columns = {name: [row[name] for row in rows] for name in ("text", "label", "split")}
    pool = build_pool(Table.from_columns(columns), labels=LABELS, options=PoolOptions(split="split", test_share=0)).pool
    with begin(f"{allocation}/run", pool, rounds=1, label_allocation=allocation) as run:
        requests = record_requests(run, monkeypatch)
        pgkd(run)
    assert requests[0].feedback is not None
    wanted = requests[0].feedback.label_counts
    assert sum(wanted.values()) == 32
    assert wanted["food"] == max(wanted.values())


# --- the student, and the command line -----------------------------------------------------------------------


def test_a_student_starts_from_the_best_one_with_warm_start(begin: OpenRun, monkeypatch: pytest.MonkeyPatch) -> None:
    with begin(rounds=2, warm_start=True) as run:
        starts = []
        learn = run.learn
        monkeypatch.setattr(run, "learn", lambda *a, **b: (starts.append(b["init_from"]), learn(*a, **b))[1])
        pgkd(run)
    assert starts[0] is None
    assert all(each is not None for each in starts[1:])


def test_of_all_the_students_of_a_loop_only_the_best_and_the_last_stay_in_memory(
    begin: OpenRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    with begin(rounds=4, cv_folds=3) as run:
        made = []
        learn = run.learn

        def learnt(*a, **b):  # type: ignore[no-untyped-def]
            student = learn(*a, **b)
            made.append(ref(student))
            return student

        monkeypatch.setattr(run, "learn", learnt)
        best = pgkd(run)
        gc.collect()
        alive = [each() for each in made if each() is not None]
        assert len(made) == 1 + 4 * 4
        assert alive == [best]
        assert run.student_key(best) in run.student_keys
        assert len(run.student_keys) == len(made)


def test_the_ablation_flags_select_pgkd() -> None:
    over = spec_overrides("replay", None, 1, {"no_validation_report": True, "no_hard_negatives": True})
    assert over["procedure"] == {"name": "pgkd", "validation_report": False, "hard_negatives": False}
    file = {"budget": 1, "procedure": {"name": "pgkd", "rounds": 3}}
    assert Spec.from_dict(
        merge_specs(file, spec_overrides(None, None, None, {"no_validation_report": True}))
    ).procedure.options == {
        "rounds": 3,
        "validation_report": False,
    }
