"""`allocate` in text-to-text tasks: gold beside a teacher's answers, one purchase at a time (Kang et al. 2023).

The sibling of `recipe.py`. Students are trained on parts of the gold, and on all of it with parts of the teacher's
answers to a sample of the pool; both curves are of the metric on the validation texts (entity F1, or that of answers in
words), measured, without a prior. A row of gold costs what the user says. What is expected to reach most and to gain
enough per dollar is bought in part, and the curves are measured again. The better student is returned.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Generic

import numpy as np

from potstill.errors import BadData
from potstill.evaluation.calibration import Calibration
from potstill.procedures.allocate.decisions import (
    BuyAnswers,
    BuyLabels,
    Decision,
    DecisionBasis,
    GenerateTexts,
    Stop,
    StrategySummary,
)
from potstill.procedures.allocate.form_sources import FormSources, FormState, open_state
from potstill.procedures.allocate.label_sources import AllocateOptions
from potstill.procedures.allocate.learning_curves import MIN_SIZES, CurvePoint, LearningCurve, fit_learning_curve
from potstill.procedures.allocate.next_purchase import MIN_NEW_ANSWERS_SHARE, MIN_PURCHASE
from potstill.procedures.allocate.pilot import MAX_MEASURING_SHARE, MIN_ANSWERS, PilotFindings
from potstill.procedures.allocate.strategies import (
    Floats,
    StrategyEstimate,
    UnitCosts,
    compare_strategies,
)
from potstill.procedures.pgkd.form_tasks import AnsweredRows, FormTask, GoldT, ModelT
from potstill.run.notes import Allocated
from potstill.run.run import Run


@dataclass(frozen=True)
class FormScores:
    """Expected scores by the measured curves; see `strategies.ScoreModel`."""

    gold: LearningCurve
    answers: LearningCurve | None = None

    def after_labels(self, labels: float) -> Floats:
        """By the curve of gold alone."""
        return self.gold.draws(labels)

    def after_distillation(self, labels: float, texts: Floats) -> Floats:
        """No large student teaches."""
        return np.zeros_like(texts)

    def after_answers(self, texts: float) -> Floats | None:
        """By the curve of all gold with answers; None before any was bought."""
        return None if self.answers is None else self.answers.draws(max(texts, 1))

    def after_generation(self, texts: float) -> Floats | None:
        """No text is generated."""
        return None


@dataclass(frozen=True)
class FormPilot(Generic[GoldT, ModelT]):
    """Measures the curves with what was bought."""

    sources: FormSources[GoldT, ModelT]
    state: FormState[GoldT]

    def gold_points(self) -> list[CurvePoint]:
        """Scores of students of parts of the gold; the largest of all."""
        gold, run = self.state.gold, self.sources.run
        n, points = len(gold.texts), []
        for size in _sizes(n):
            seeds = 1 if size == n else self.sources.options.pilot_seeds
            draws = [np.random.default_rng([run.spec.seed, size, i]).permutation(n)[:size] for i in range(seeds)]
            points.append(CurvePoint(size, tuple(self._score(gold.select(np.sort(rows))) for rows in draws)))
        return points

    def answer_points(self, n_asked: int) -> list[CurvePoint]:
        """Scores of students of all gold with parts of the teacher's answers; empty if too few were given."""
        answered = self.sources.ask_teacher(self.state.unlabelled[:n_asked])
        n = len(answered.texts)
        if n < 2 ** (MIN_SIZES - 1):
            return []
        rows = {size: self.sources.combine(self.state.gold, answered, size) for size in _sizes(n)}
        return [CurvePoint(size, (self._score(own),)) for size, own in rows.items()]

    def _score(self, rows: AnsweredRows[GoldT]) -> float:
        """The score of a student on the validation texts; 0 if there is nothing to learn."""
        form, run = self.sources.form, self.sources.run
        try:
            student = form.learn(run, rows)
        except BadData:  # no entity in so few texts
            return 0.0
        return form.evaluate(run, student, f"pilot of {len(rows.texts)}").result.main_score.value


def allocate_form(run: Run, form: FormTask[GoldT, ModelT], options: AllocateOptions) -> ModelT:
    """The student that is best on the validation texts.

    Raises:
        BadData: too little gold, and none for sale; or no validation text.
        BadSpec: an option of tasks of labels.
    """
    sources = FormSources.open(run, form, options)
    state = open_state(sources)
    for number in range(options.max_steps):
        compute = partial(_decide, FormPilot(sources, state))
        decision = run.compute_once(Decision, compute, "form", number, len(state.gold.texts), state.n_asked)
        # The pilot may have asked the teacher about a sample; a stored decision replays that.
        state = state.with_asked(max(state.n_asked, decision.basis.n_sampled))
        match decision:
            case BuyLabels():
                state = sources.buy_gold(state, len(decision.rows))
            case BuyAnswers():
                state = state.with_asked(decision.n_texts)
                sources.ask_teacher(state.asked)
            case Stop() | GenerateTexts():
                break
    return _select(sources, state)


def _decide(pilot: FormPilot[GoldT, ModelT]) -> Decision:
    """Measure the curves, compare gold and answers for the money left, and decide what to buy."""
    sources, state = pilot.sources, pilot.state
    points, answers, n_asked = pilot.gold_points(), [], state.n_asked
    usd = sources.answer_usd(state.unlabelled)
    if usd is not None:
        n_asked = n_asked or min(max(MIN_ANSWERS, len(state.gold.texts)), len(state.unlabelled))
        if state.n_asked or n_asked * usd <= MAX_MEASURING_SHARE * sources.free_usd:
            answers = pilot.answer_points(n_asked)
    n_asked = n_asked if answers else state.n_asked
    seed, free_usd = sources.run.spec.seed, sources.free_usd
    curve = fit_learning_curve(answers, seed=seed) if len(answers) >= MIN_SIZES else None
    comparison = compare_strategies(
        FormScores(fit_learning_curve(points, seed=seed), curve),
        UnitCosts(usd_per_label=sources.usd_per_label, usd_per_answer=usd if curve else None, n_answered=n_asked),
        free_usd,
        n_labels_owned=len(state.gold.texts),
        n_unlabelled=len(state.unlabelled),
        strategies=("annotate", "llm"),
    )
    score = max([points[-1].mean, *(each.mean for each in answers[-1:])])
    basis = DecisionBasis(
        free_usd=free_usd,
        score=score,
        is_sure=comparison.sure,
        curve=tuple(points),
        findings=PilotFindings(),
        n_sampled=n_asked,
        strategies=tuple(
            StrategySummary(each.strategy, each.win_probability, each.score, each.allocation)
            for each in comparison.strategies
        ),
    )
    decision = _purchase(sources, state.with_asked(n_asked), basis, comparison.strategies)
    sources.run.reporter.info(f"{decision.reason[:1].upper()}{decision.reason[1:]}.")
    return decision


def _purchase(
    sources: FormSources[GoldT, ModelT],
    state: FormState[GoldT],
    basis: DecisionBasis,
    strategies: tuple[StrategyEstimate, ...],
) -> Decision:
    n_gold, min_gain, unsold = len(state.gold.texts), sources.options.min_gain, ""
    for each in strategies:
        usd = each.allocation.usd
        gain = 100 * (each.score.value - basis.score) / max(usd, 1e-9)
        expected = f"{each.strategy!r} is expected to reach {each.score.value:.1%} for ${usd:,.2f}"
        reason = f"{expected}, {gain:.2f} points per dollar"
        if gain <= 0 or gain < min_gain:
            continue
        affordable = min(each.allocation.labels - n_gold, state.n_sellable)
        if each.strategy == "annotate" and affordable >= 1:
            if sources.annotator is None:
                unsold = f"; gold that you answer yourself is: {reason}"
                continue
            n = min(affordable, max(n_gold, MIN_PURCHASE))
            rows = tuple(range(len(state.unlabelled) - n, len(state.unlabelled)))
            return BuyLabels(reason=f"buying gold: {reason}", basis=basis, rows=rows, is_last=False)
        if each.strategy == "llm" and each.allocation.texts >= max(1, (1 + MIN_NEW_ANSWERS_SHARE) * state.n_asked):
            more = min(each.allocation.texts - state.n_asked, max(MIN_ANSWERS, n_gold, state.n_asked))
            n_texts = state.n_asked + more
            return BuyAnswers(reason=f"buying answers of the teacher: {reason}", basis=basis, n_texts=n_texts)
    return Stop(reason=f"buying nothing more: nothing for sale is expected to gain enough{unsold}", basis=basis)


def _select(sources: FormSources[GoldT, ModelT], state: FormState[GoldT]) -> ModelT:
    """The better of the students of the gold alone, and of the gold with the teacher's answers."""
    run, form = sources.run, sources.form
    students = {"labels only": form.learn(run, state.gold)}
    if state.n_asked and sources.teacher is not None:
        answered = sources.ask_teacher(state.asked)
        run.record_teacher(sources.teacher, Calibration(()), answered.asked)
        if answered.texts:
            rows = sources.combine(state.gold, answered, len(answered.texts))
            students["answers"] = form.learn(run, rows)
    scores = {name: form.evaluate(run, each, name).result.main_score.value for name, each in students.items()}
    best = max(scores, key=lambda name: scores[name])
    n_validation, n_gold = len(form.held_out["validation"]), len(state.gold.texts)
    run.note(Allocated(best, scores[best], n_validation, n_gold - len(form.gold.texts), 0, scores))
    return students[best]


def _sizes(n: int) -> list[int]:
    """An eighth, a quarter, a half of n, and n; different, if n is 8 at least."""
    return sorted({max(1, n // 8), max(2, n // 4), max(3, n // 2), n})
