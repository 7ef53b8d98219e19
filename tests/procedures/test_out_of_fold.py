"""With few labels none is set aside: the student learns them all, and out-of-fold scores calibrate it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.keyword_task import world

from potstill import load
from potstill.api import distill
from potstill.data.pool import Pool, PoolOptions, build_pool
from potstill.data.tables import Table
from potstill.data.task import Task
from potstill.evaluation import metrics
from potstill.evaluation.guarantees import Guarantees
from potstill.procedures.finetune import RECIPE
from potstill.procedures.kinds import recipe_validates
from potstill.procedures.out_of_fold import out_of_fold_scores
from potstill.run import SilentReporter
from potstill.run.inputs import read_inputs
from potstill.run.run import Run
from potstill.run.spec import Spec

SPEC = {"budget": 1, "student": {"name": "linear", "c": 1.0}, "procedure": "finetune"}


class Sentences(SilentReporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def info(self, sentence: str) -> None:
        self.said.append(sentence)


def write(path: Path, n: int = 40) -> Path:
    rows = zip(*world(n).values(), strict=True)
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows), encoding="utf-8")
    return path


def test_all_of_few_labels_are_learnt_and_the_bundle_is_calibrated(tmp_path: Path) -> None:
    reporter = Sentences()
    done = distill(write(tmp_path / "d.csv"), student="linear", procedure="finetune", budget=1, out=tmp_path / "run",
                   reporter=reporter)  # fmt: skip
    assert done.report.data.validation == 0
    assert done.report.data.gold == 96
    said = " ".join(reporter.said)
    assert "All 96 labels are learnt: with fewer than 500 none is set aside" in said
    assert "trained 5 times more" in said
    guarantees = load(done.folder).guarantees
    assert isinstance(guarantees, Guarantees)
    assert (guarantees.n, guarantees.n_folds) == (96, 5)
    assert "96 out-of-fold scores (5 folds)" in done.to_text()
    assert "expected, and not guaranteed" in (done.folder / "report.html").read_text(encoding="utf-8")
    kept = {folder.name for folder in (done.folder / "students").iterdir()}
    assert len(kept) == 1  # those of the folds are of no further use


@pytest.mark.parametrize(("share", "n_validation"), [(0.5, 48), (0.0, 0)])
def test_a_given_share_overrules(tmp_path: Path, share: float, n_validation: int) -> None:
    done = distill(write(tmp_path / "d.csv"), student="linear", procedure="finetune", budget=1, out=tmp_path / "run",
                   validation_share=share)  # fmt: skip
    assert done.report.data.validation == n_validation
    assert load(done.folder).guarantees is None


def test_many_labels_and_recipes_that_validate_keep_their_tenth() -> None:
    rule = PoolOptions(test_share=0, validation_share=None)
    many, few = (build_pool(Table.from_columns(world(n)), options=rule).report for n in (300, 100))
    assert (many.sizes["validation"], many.few_labels) == (90, 0)
    assert (few.sizes["validation"], few.few_labels) == (0, 500)
    labelled = [{"text": text, "label": label} for text, label in zip(*world(40).values(), strict=True)]
    for procedure, n_validation in (("pgkd", 10), ("allocate", 10), ("finetune", 0), ("kd", 0)):
        given = {"budget": 1, "procedure": procedure}
        pool = read_inputs(labelled, None, given, recipe_validates).pool
        assert len(pool.subset("validation")) == n_validation


def few_and_many(seed: int) -> tuple[Pool, list[str], np.ndarray[Any, Any]]:
    """A hundred labelled texts of a noisy world, and 900 others."""
    rng = np.random.default_rng(seed)
    table, n = world(350), 1050
    labels = np.array(table["label"])
    flipped = rng.random(n) < 0.15  # no student can be right on these
    labels[flipped] = rng.permutation(labels[flipped])
    order = rng.permutation(n)
    texts = [table["text"][row] for row in order]
    source = Table.from_columns({"text": texts[:120], "label": labels[order[:120]].tolist()})
    pool = build_pool(source, options=PoolOptions(test_share=0, validation_share=0, seed=seed)).pool
    names = {label: column for column, label in enumerate(pool.labels)}
    return pool, texts[120:], np.array([names[label] for label in labels[order[120:]]])


def test_what_out_of_fold_scores_promise_holds_on_other_texts(tmp_path: Path) -> None:
    from potstill.evaluation.fit_guarantees import fit_guarantees

    covered, before, after = [], [], []
    for seed in range(6):
        pool, texts, gold = few_and_many(seed)
        spec = Spec.from_dict({**SPEC, "seed": seed})
        with Run.open(tmp_path / str(seed), spec, Task(pool.labels, name="noisy"), pool) as run:
            student, scores = RECIPE(run), out_of_fold_scores(run, RECIPE)
        assert scores is not None
        logits, guarantees = student.predict_logits(texts), fit_guarantees(scores.logits, scores.gold)
        covered.append(guarantees.prediction_sets(logits, 0.9)[np.arange(len(gold)), gold].mean())
        before.append(metrics.ece(gold, student.predict_proba(texts)))
        after.append(metrics.ece(gold, guarantees.scaling.apply(logits)))
    assert 0.87 < np.mean(covered) < 0.97  # a standard error of 120 texts in six draws: 1.1 points
    assert np.mean(after) < np.mean(before)


def test_no_money_for_the_folds_means_no_promise(tmp_path: Path) -> None:
    pool, _, _ = few_and_many(0)
    reporter = Sentences()
    with Run.open(tmp_path / "run", Spec.from_dict(SPEC), Task(pool.labels, name="noisy"), pool, reporter) as run:
        RECIPE(run)
        with run.ledger.reserve("other things", run.ledger.free):
            assert out_of_fold_scores(run, RECIPE) is None
    assert reporter.said[-1] == "No money is left to calibrate the student."
