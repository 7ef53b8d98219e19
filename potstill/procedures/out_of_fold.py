"""Out-of-fold scores: a recipe is run anew without a part of the gold, and its student scores that part.

With few labels none is set aside: the student learns all of them, and its calibration is fitted on the scores of
students that were trained in the same way on the other folds (cross-conformal prediction: Vovk 2015; Barber et al.
2021). They learnt fewer labels, so that their scores are those of a slightly weaker student. The whole recipe is run
anew, not its last step alone: pseudo-labels that came from a text would tell its label.
"""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np

from potstill.data.pool import Subset
from potstill.data.task import content_key
from potstill.errors import BudgetExceeded
from potstill.evaluation.cross_validation import OutOfFoldScores, fold_splits, random_folds, stratified_folds
from potstill.procedures.base import Recipe
from potstill.run.evaluate_student import MIN_HELD_OUT
from potstill.run.run import Run
from potstill.students.base import Floats


def out_of_fold_scores(run: Run, recipe: Recipe[Any]) -> OutOfFoldScores | None:
    """Scores of the gold texts by students that did not learn them.

    None if neither the recipe nor its options have `calibration_folds`; if `validation_share` is 0, which turns this
    off; if there are enough validation texts, or too few gold texts; and if the money ends before.
    """
    gold, options = run.pool.labelled("train"), recipe.read_options(run.spec)
    n_folds = getattr(options, "calibration_folds", recipe.calibration_folds)
    enough = len(run.pool.labelled("validation")) >= MIN_HELD_OUT or len(gold) < MIN_HELD_OUT
    if n_folds < 2 or run.spec.data.validation_share == 0 or enough:
        return None
    run.reporter.info(
        f"To calibrate it, the student is trained {n_folds} times more, each time without a part of the labels."
    )
    seed, one_label = run.spec.seed, gold.gold.ndim == 1
    fold = stratified_folds(gold.gold, n_folds, seed) if one_label else random_folds(len(gold), n_folds, seed)
    logits = np.empty((len(gold), run.task.n_labels), dtype=np.float32)
    for _, held_out in fold_splits(fold):
        try:
            logits[held_out] = _fold_scores(run, recipe, run.pool.take(gold.rows[held_out]))
        except BudgetExceeded:
            run.reporter.info("No money is left to calibrate the student.")
            return None
    return OutOfFoldScores(logits, gold.gold, n_folds)


def _fold_scores(run: Run, recipe: Recipe[Any], held_out: Subset) -> Floats:
    """(M, K) scores of M gold texts by the student of a run without them; computed once, then read from the store."""
    part = run.fold(run.pool.without(held_out.rows))
    key = content_key("out of fold", run.spec.identity(), part.pool.key, list(held_out.texts))
    if (stored := run.store.load([key]).get(key)) is not None:
        return np.array(stored["logits"], dtype=np.float32)
    logits = recipe(part).predict_logits(held_out.texts)
    run.store.save({key: {"logits": logits.tolist()}})
    for trained in set(part.student_keys) - set(run.student_keys):  # large, and of no further use
        shutil.rmtree(run.folder / "students" / trained, ignore_errors=True)
    return logits
