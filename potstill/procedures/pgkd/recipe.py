"""PGKD: the teacher generates what the student needs, guided by the student's errors (Palo et al., EMNLP 2024).

Algorithm 1 of the paper. Each round the teacher reads the student's validation report and training texts that the
student gets right, wrong, and confidently wrong (hard negatives); it generates labelled texts, and a student is
trained on them and on all earlier ones. The student with the lowest validation loss is returned, of those that had
training texts of as many labels as possible: a label may have none but generated ones. The paper does not
say whether its student is fine-tuned further or trained from scratch; here it is trained from scratch unless
`warm_start` is set. Validation texts are never shown, and generated copies of them are dropped: the loop stops by the
loss on them.
"""

from __future__ import annotations

from potstill.data.pool import Subset
from potstill.errors import BadData, BudgetExceeded
from potstill.procedures.base import FormRecipe, Recipe
from potstill.procedures.pgkd.form_recipe import pgkd_form
from potstill.procedures.pgkd.form_request import quote_form_generation
from potstill.procedures.pgkd.form_tasks import EntityTask, FreeTextTask
from potstill.procedures.pgkd.generation import TextSource
from potstill.procedures.pgkd.generation_request import PgkdOptions, TrainingTexts, make_generation_request
from potstill.procedures.pgkd.quote import quote_generation
from potstill.procedures.pgkd.rounds import RoundLog, RoundTrainer
from potstill.run.entity_verbs import entity_pool
from potstill.run.free_text_verbs import free_text_pool
from potstill.run.run import Run
from potstill.students.base import Student
from potstill.students.entity_student import EntityStudent
from potstill.students.free_text_student import FreeTextStudent


def pgkd(run: Run) -> Student:
    """The best student of all rounds.

    Raises:
        BadData: no validation texts, or no training text. A label may have none: the teacher generates its first ones
            from the label's name and description.
        BadSpec: a wrong option, or a teacher that cannot generate texts.
    """
    options = RECIPE.read_options(run.spec)
    gold, validation = _training_data(run), run.pool.subset("validation")
    source = TextSource(run, gold, options)
    trainer = RoundTrainer(run, options, validation)
    best = current = trainer.fit(TrainingTexts.from_subset(gold), 0)
    log = RoundLog(run, source.teacher, options.rounds, current)

    for number in range(1, options.rounds + 1):
        try:
            probs = trainer.training_probs(current)
            # The validation report, training texts that the student gets right and wrong, and hard negatives.
            request = make_generation_request(
                run.task, current.train, probs, current.evaluation, options, (run.spec.seed, number)
            )
            acquired = source.acquire(request, probs, current)  # the teacher generates labelled texts
            filtered = source.filter(acquired, current)  # no copies, duplicates or unconfirmed labels; others for them
            rows = current.train.with_generated(filtered.accepted, run.task, filtered.probs)
            student = trainer.fit(rows, number, init_from=best)
        except BudgetExceeded:
            log.budget_exhausted = True
            break
        improved = student.rank < best.rank
        log.add(request, filtered, student, improved)
        source.record_gain(filtered, current.loss - student.loss)
        best = student if improved else best
        current = best if options.roll_back else student
        if filtered.acquired.budget_exhausted or log.n_without_improvement >= options.patience:
            break

    log.close(best)
    return best.student


def _training_data(run: Run) -> Subset:
    train = run.pool.subset("train")
    if not len(run.pool.subset("validation")):
        raise BadData(
            "PGKD needs validation texts, whose loss decides when it stops, and there are none.",
            "Give some with --validation FILE, or set validation_share under [data].",
        )
    if not len(train):
        raise BadData("PGKD needs labelled training texts and there are none.", "Label a few, or take --procedure kd.")
    return train


def pgkd_on_entities(run: Run) -> EntityStudent:
    """See `form_recipe.pgkd_form`."""
    return pgkd_form(run, EntityTask(run.task, entity_pool(run)), RECIPE.read_options(run.spec))


def pgkd_on_free_text(run: Run) -> FreeTextStudent:
    """See `form_recipe.pgkd_form`."""
    return pgkd_form(run, FreeTextTask(run.task, free_text_pool(run)), RECIPE.read_options(run.spec))


RECIPE = Recipe(
    "pgkd",
    pgkd,
    PgkdOptions,
    frozenset({"single"}),
    quote=quote_generation,
    validates=True,
    forms={
        "entities": FormRecipe(pgkd_on_entities, quote_form_generation),
        "free": FormRecipe(pgkd_on_free_text, quote_form_generation),
    },
)
