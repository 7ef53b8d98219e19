"""PGKD: the teacher writes what the student needs, guided by what the student gets wrong (Palo et al., EMNLP 2024).

Each round the teacher is shown the student's validation report, and training texts it gets right, wrong, and surely
wrong; it writes some labelled texts, and a student learns them with all before. The student with the lowest validation
loss is returned. The paper does not say whether its student goes on or begins anew; by default this one begins anew.
Validation texts are never shown, nor may the teacher write one: the loss on them decides when to stop.
"""

from __future__ import annotations

from potstill.data.pool import Subset
from potstill.errors import BadData, BudgetExceeded
from potstill.procedures.base import Recipe
from potstill.procedures.pgkd.generation import TextAcquisition
from potstill.procedures.pgkd.generation_request import PgkdOptions, TrainingTexts, read_pgkd_options
from potstill.procedures.pgkd.quote import quote_generation
from potstill.procedures.pgkd.rounds import RoundLog, RoundTrainer, run_round
from potstill.run.run import Run
from potstill.students.base import Student


def pgkd(run: Run) -> Student:
    """The best student of all rounds.

    Raises:
        BadData: no validation texts, or a label without gold.
        BadSpec: an option nobody knows, or a teacher that cannot write.
    """
    options = read_pgkd_options(run.spec.procedure.options)
    gold = _checked(run)
    supply, pupil = TextAcquisition(run, gold, options), RoundTrainer(run, options, run.pool.subset("validation"))
    best = now = pupil.fit(TrainingTexts.from_part(gold), 0)
    diary = RoundLog(run, supply.teacher, options.rounds, now)
    waited = 0

    for number in range(1, options.rounds + 1):
        try:
            taken = run_round(pupil, supply.acquire, now, number, best)
        except BudgetExceeded:
            diary.budget_exhausted = True
            break
        after, bought = taken.student, taken.acquired
        better = after.loss < best.loss
        supply.record_gain(bought, now.loss - after.loss)
        diary.add(after, taken.make_request, bought, better)
        best, waited = (after, 0) if better else (best, waited + 1)
        now = best if options.roll_back else after
        if bought.budget_exhausted or waited >= options.patience:
            break

    diary.close(best)
    return best.student


def _checked(run: Run) -> Subset:
    gold = run.pool.subset("train")
    if not len(run.pool.subset("validation")):
        raise BadData(
            "PGKD stops by the loss on validation texts and there are none.",
            "Give some with --validation FILE, or set validation_share under [data].",
        )
    empty = [label for label, n in run.pool.counts("train").items() if not n]
    if empty:
        named = ", ".join(map(repr, empty[:3])) + (f" and {len(empty) - 3} more" if len(empty) > 3 else "")
        raise BadData(f"PGKD needs a gold text of every label and has none of {named}.", "Label one or two of each.")
    return gold


RECIPE = Recipe("pgkd", pgkd, PgkdOptions, frozenset({"single"}), quote=quote_generation)
