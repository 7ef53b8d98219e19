"""PGKD in text-to-text tasks: the teacher writes texts with their answers, guided by the student's wrong answers.

The rounds are those of `recipe.py`. The student with the highest score on the validation texts is returned (entity F1,
or the metric of answers in words), of those that had training texts of as many types as possible. Hard negatives are
the wrong answers with the highest mean log-probability. Validation texts are never shown, and copies are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

import numpy as np

from potstill.data.form_feedback import FormFeedback
from potstill.data.task import StudentPrediction
from potstill.errors import BadData, BudgetExceeded
from potstill.evaluation.cross_validation import fold_splits, random_folds
from potstill.procedures.pgkd.form_request import check_form_options, make_form_request, require_gold
from potstill.procedures.pgkd.form_tasks import AnsweredRows, FormPredictions, FormTask, GoldT, ModelT
from potstill.procedures.pgkd.form_texts import FormTextSource
from potstill.procedures.pgkd.generation_request import PgkdOptions
from potstill.procedures.pgkd.rounds import RoundLog, RoundScores
from potstill.run.free_text_verbs import AnswerEvaluation
from potstill.run.run import Run


@dataclass(frozen=True)
class FormRound(Generic[GoldT, ModelT]):
    """The student after a round, the texts it was trained on, and its evaluation on the validation texts."""

    form: FormTask[GoldT, ModelT]
    round: int
    train: AnsweredRows[GoldT]
    student: ModelT
    evaluation: AnswerEvaluation

    @property
    def rank(self) -> tuple[int, float]:
        """The lower, the better: types without a training text, then what the score lacks."""
        return len(self.untrained_labels), 1 - self.evaluation.result.main_score.value

    @property
    def n_train(self) -> int:
        """Texts it was trained on."""
        return len(self.train.texts)

    @property
    def scores(self) -> RoundScores:
        """See `EvaluatedRound.scores`."""
        result, groups = self.evaluation.result, self.evaluation.groups
        by_label = {each.label: round(each.f1, 4) for each in result.per_class}
        by_group = {each.group: round(each.score, 4) for each in groups}
        return RoundScores(result.main_score, result.macro_f1.value, by_label | by_group, metric=self.form.metric)

    @property
    def untrained_labels(self) -> tuple[str, ...]:
        """See `EvaluatedRound.untrained_labels`."""
        return self.form.untrained(self.train)

    @property
    def unmeasured_labels(self) -> tuple[str, ...]:
        """See `EvaluatedRound.unmeasured_labels`."""
        measured = {each.label for each in self.evaluation.result.per_class if each.support}
        return tuple(label for label in self.untrained_labels if label not in measured)

    @property
    def feedback(self) -> FormFeedback:
        """What a teacher is shown of the evaluation."""
        result = self.evaluation.result
        return FormFeedback(
            accuracy=result.main_score.value,
            report=result.per_class,
            metric=self.form.metric,
            groups=self.evaluation.groups,
        )


def pgkd_form(run: Run, form: FormTask[GoldT, ModelT], options: PgkdOptions) -> ModelT:
    """The best student of all rounds.

    Raises:
        BadData: no validation texts, or no training text.
        BadSpec: an option of tasks of labels, or a teacher that cannot write texts.
    """
    check_form_options(options, form.of)
    gold = form.gold
    require_gold(len(gold.texts))
    if not any(form.held_out["validation"]):
        raise BadData(
            "PGKD needs validation texts, whose score decides when it stops, and there are none.",
            "Give some with --validation FILE, or set validation_share under [data].",
        )
    source = FormTextSource.open(run, form, options)
    best = current = _fit(run, form, gold, 0)
    log = RoundLog(run, source.teacher, options.rounds, current, form.describe)

    for number in range(1, options.rounds + 1):
        try:
            predictions = _predict(run, current, options)
            # The scores by type or group, training texts that the student gets right and wrong, and hard negatives.
            request = make_form_request(predictions, gold.n_gold, current.feedback, options, (run.spec.seed, number))
            acquired = source.acquire(request)  # the teacher writes texts with their answers
            filtered = source.filter(acquired, current.n_train)  # no copies, duplicates or answers without a place
            written = filtered.accepted
            rows = current.train.with_generated([each.text for each in written], [form.read(each) for each in written])
            student = _fit(run, form, rows, number)
        except BudgetExceeded:
            log.budget_exhausted = True
            break
        improved = student.rank < best.rank
        log.add(request, filtered, student, improved)
        best = student if improved else best
        current = best if options.roll_back else student
        if acquired.budget_exhausted or filtered.acquired.budget_exhausted:
            break
        if log.n_without_improvement >= options.patience:
            break

    log.close(best)
    return best.student


def _fit(run: Run, form: FormTask[GoldT, ModelT], rows: AnsweredRows[GoldT], number: int) -> FormRound[GoldT, ModelT]:
    """Train a student on the rows and evaluate it."""
    student = form.learn(run, rows)
    return FormRound(form, number, rows, student, form.evaluate(run, student, f"round {number}"))


def _predict(run: Run, current: FormRound[GoldT, ModelT], options: PgkdOptions) -> FormPredictions:
    """The student's answers to its training texts; with `cv_folds`, those of students not trained on them."""
    form, rows = current.form, current.train
    if options.cv_folds < 2:
        return form.predict(current.student, rows)
    shown: dict[int, StudentPrediction] = {}
    scores = np.zeros(len(rows.texts))
    for train, held_out in fold_splits(random_folds(len(rows.texts), options.cv_folds, run.spec.seed)):
        found = form.predict(form.learn(run, rows.select(train)), rows.select(held_out))
        shown |= dict(zip(held_out.tolist(), found.shown, strict=True))
        scores[held_out] = found.scores
    return FormPredictions(tuple(shown[i] for i in range(len(rows.texts))), scores)
