"""PGKD: the teacher generates what the student needs, guided by the student's errors (Palo et al., EMNLP 2024).

Algorithm 1 of the paper. Each round the teacher reads the student's validation report and training texts that the
student gets right, wrong, and confidently wrong (hard negatives); it generates labelled texts, and a student is
trained on them and all before. The student with the lowest validation loss is returned. The paper does not say whether
its student is trained further or anew; by default this one is trained from scratch. Validation texts are never shown,
and the teacher may not copy one: the loss on them decides when to stop.
"""

from __future__ import annotations

from potstill.data.pool import Subset
from potstill.errors import BadData, BudgetExceeded
from potstill.procedures.base import Recipe
from potstill.procedures.pgkd.generation import TextAcquisition
from potstill.procedures.pgkd.generation_request import PgkdOptions, TrainingTexts
from potstill.procedures.pgkd.quote import quote_generation
from potstill.procedures.pgkd.rounds import RoundLog, RoundTrainer, run_round
from potstill.run.run import Run
from potstill.students.base import Student


def pgkd(run: Run) -> Student:
    """The best student of all rounds.

    Raises:
        BadData: no validation texts, or a label without a training text.
        BadSpec: a wrong option, or a teacher that cannot generate texts.
    """
    options = RECIPE.read_options(run.spec)
    gold, validation = _training_data(run), run.pool.subset("validation")
    acquisition, trainer = TextAcquisition(run, gold, options), RoundTrainer(run, options, validation)
    best = current = trainer.fit(TrainingTexts.from_subset(gold), 0)
    log, without_improvement = RoundLog(run, acquisition.teacher, options.rounds, current), 0

    for number in range(1, options.rounds + 1):
        try:
            result = run_round(trainer, acquisition.acquire, current, number, best)
        except BudgetExceeded:
            log.budget_exhausted = True
            break
        improved = result.student.loss < best.loss
        acquisition.record_gain(result.acquired, current.loss - result.student.loss)
        log.add(result, improved)
        best, without_improvement = (result.student, 0) if improved else (best, without_improvement + 1)
        current = best if options.roll_back else result.student
        if result.acquired.budget_exhausted or without_improvement >= options.patience:
            break

    log.close(best)
    return best.student


def _training_data(run: Run) -> Subset:
    train = run.pool.subset("train")
    if not len(run.pool.subset("validation")):
        raise BadData(
            "PGKD stops by the loss on validation texts and there are none.",
            "Give some with --validation FILE, or set validation_share under [data].",
        )
    empty = [label for label, n in run.pool.counts("train").items() if not n]
    if empty:
        listed = ", ".join(map(repr, empty[:3])) + (f" and {len(empty) - 3} more" if len(empty) > 3 else "")
        raise BadData(
            f"PGKD needs a training text of every label and has none of {listed}.", "Label one or two of each."
        )
    return train


RECIPE = Recipe("pgkd", pgkd, PgkdOptions, frozenset({"single"}), quote=quote_generation)
