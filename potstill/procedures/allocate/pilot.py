"""The pilot of `allocate`: validation scores at a few sizes, and the scores they predict for every strategy.

All training and asking goes through the run, so it is paid for and done once. A teacher is measured only if the
measurement is expected to gain more, by a better choice, than its price would gain in the best strategy known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.data.pool import Subset
from potstill.evaluation.calibration import softmax
from potstill.ledger.prices import micros_to_usd
from potstill.procedures.allocate.expected_scores import PilotScores, TeacherMeasurement
from potstill.procedures.allocate.generation_rounds import GenerationRounds
from potstill.procedures.allocate.imitation import ImitationPoint
from potstill.procedures.allocate.label_sources import (
    AllocationState,
    LabelledSet,
    LabelSources,
    TeacherCost,
    combine_gold_and_soft,
)
from potstill.procedures.allocate.learning_curves import MIN_SIZES, CurvePoint, fit_learning_curve
from potstill.procedures.allocate.strategies import (
    BudgetComparison,
    InformationValue,
    Strategy,
    UnitCosts,
    compare_strategies,
    value_of_information,
)
from potstill.run import Answers
from potstill.run.open_teacher import training_reserve
from potstill.students.base import RowTrust, Student

DISTILLATION_STRATEGIES: tuple[Strategy, ...] = ("distil", "mix")
MIN_ANSWERS = 100  # answers of a language model that a pilot asks for
MAX_VALIDATION_TEXTS = 200  # validation texts that a language model is measured on
MAX_MEASURING_SHARE = 0.2  # of the free money: no measurement of one teacher costs more
REMEASURE_FACTOR = 4  # a large model is measured again once the labels have grown by this factor
MIN_SCORE_GAIN = 0.0005  # a smaller gain of accuracy is not worth a measurement
MAX_PILOT_TEXTS = 1000  # unlabelled texts that a pilot distils at most


@dataclass(frozen=True)
class MeasurementDecision:
    """Whether a teacher was measured, and why.

    Attributes:
        gain: accuracy that the measurement was expected to gain by a better choice.
        cost: accuracy that its price would gain in the best strategy.
        usd: its price.
        done: whether it was made.
    """

    gain: float
    cost: float
    usd: float
    done: bool


@dataclass(frozen=True)
class PilotFindings:
    """Measurements of teachers, which later pilots do not repeat.

    Attributes:
        large_teacher: the large student as a teacher.
        teacher_cost: what it costs.
        llm: the language model.
        information_values: "large" and "llm" -> whether the last pilot measured that teacher, and why.
    """

    large_teacher: TeacherMeasurement = field(default_factory=TeacherMeasurement)
    teacher_cost: TeacherCost | None = None
    llm: TeacherMeasurement = field(default_factory=TeacherMeasurement)
    information_values: Mapping[str, MeasurementDecision] = field(default_factory=dict)

    def with_decision(self, teacher: str, value: InformationValue, usd: float, done: bool) -> PilotFindings:
        """With the decision about measuring one teacher."""
        decision = MeasurementDecision(value.gain, value.cost, usd, done)
        return replace(self, information_values={**self.information_values, teacher: decision})


@dataclass(frozen=True)
class PilotResult:
    """The measurements with the existing labels.

    Attributes:
        expected_scores, unit_costs: for `compare_strategies`.
        score: validation accuracy of the student trained on all labels.
        curve_points: the learning curve.
        findings: the measurements of teachers, earlier ones included.
        texts_per_round: texts that the next PGKD round asks for; 0 if there is none.
        n_sampled: unlabelled texts, from the first on, that the language model was asked about.
    """

    expected_scores: PilotScores
    unit_costs: UnitCosts
    score: float
    curve_points: tuple[CurvePoint, ...]
    findings: PilotFindings
    texts_per_round: int = 0
    n_sampled: int = 0


class Pilot:
    """Measures a learning curve with the existing labels, and each teacher if that is worth its price.

    Args:
        sources: prices, options, and the run.
        validation: labelled texts that are never trained on.
        state: the labels, unlabelled texts and answers.
        rounds: the PGKD rounds so far.
    """

    def __init__(
        self, sources: LabelSources, validation: Subset, state: AllocationState, rounds: GenerationRounds
    ) -> None:
        self._sources, self._validation, self._rounds, self._answered = sources, validation, rounds, state.asked
        self._labelled, self._unlabelled = state.labelled, state.unlabelled
        # Standard error of a score on the validation texts. Scores on the same texts share about half of it.
        self._std_error = float(np.sqrt(0.25 / max(len(validation), 1)) / 2)

    def measure(self, previous: PilotFindings) -> PilotResult:
        """Measure all that is worth it and not among the `previous` findings."""
        sources, unlabelled = self._sources, self._unlabelled
        points = _learning_curve(sources, self._labelled, self._validation)
        self._curve = fit_learning_curve(points, seed=sources.run.spec.seed)
        findings = replace(previous, information_values={})
        if sources.llm is not None and len(unlabelled) and findings.llm.accuracy is None:
            findings = self._consider_llm(findings)
        # On the same validation texts only a teacher with many more labels gives a new result.
        is_due = len(self._labelled) >= REMEASURE_FACTOR * findings.large_teacher.labels
        if sources.large_model is not None and len(unlabelled) and is_due:
            findings = self._consider_large(findings)
        is_new = findings.llm.accuracy is not None and previous.llm.accuracy is None
        return PilotResult(
            self._expected_scores(findings),
            self._unit_costs(findings),
            points[-1].mean,
            tuple(points),
            findings,
            self._rounds.texts_per_round if self._rounds.remaining_texts(self._labelled) else 0,
            len(self._llm_texts) if is_new else 0,
        )

    def _consider_llm(self, findings: PilotFindings) -> PilotFindings:
        """Measure the language model if that is worth its price."""
        n_texts = 0 if self._answered else len(self._llm_texts)
        n_asked = n_texts + min(len(self._validation), MAX_VALIDATION_TEXTS)
        usd = n_asked * (self._sources.answer_usd(self._unlabelled) or 0.0)
        value = self._information_value(findings, ("llm",), usd)
        if self._answered and usd <= MAX_MEASURING_SHARE * self._free_usd:
            value = InformationValue(value.gain, 0.0)  # answers that were bought are measured: the next ones rest on it
        done = value.is_worth_it or bool(self._answered and not value.cost)
        findings = findings.with_decision("llm", value, usd, done)
        return replace(findings, llm=self._measure_llm()) if done else findings

    @property
    def _llm_texts(self) -> list[str]:
        """Texts whose answers the language model is measured by: those that were bought, or the first ones."""
        return list(self._answered or self._unlabelled[: max(MIN_ANSWERS, len(self._labelled))])

    def _consider_large(self, findings: PilotFindings) -> PilotFindings:
        """Train the large student and measure it as a teacher if that is worth its price."""
        if findings.teacher_cost is None:
            free = replace(findings, teacher_cost=TeacherCost(0.0, 0.0))
            value = self._information_value(free, DISTILLATION_STRATEGIES, 0.0)
            best = self._comparison(free)(self._free_usd).strategies[0].strategy
            is_too_expensive = self._sources.probe_usd > MAX_MEASURING_SHARE * self._free_usd
            # Even without a price it would not change the choice: then it is not timed either.
            if is_too_expensive or (value.gain < MIN_SCORE_GAIN and best not in DISTILLATION_STRATEGIES):
                value = replace(value, cost=1.0 if is_too_expensive else MIN_SCORE_GAIN)
                return findings.with_decision("large", value, 0.0, value.is_worth_it)
            findings = replace(findings, teacher_cost=self._sources.teacher_cost(self._labelled, self._unlabelled))
        assert findings.teacher_cost is not None
        cost, n_texts = findings.teacher_cost, min(len(self._unlabelled), MAX_PILOT_TEXTS)
        usd = cost.training_usd_per_label * len(self._labelled) + cost.usd_per_text * n_texts
        value = self._information_value(findings, DISTILLATION_STRATEGIES, usd)
        findings = findings.with_decision("large", value, usd, value.is_worth_it)
        if not value.is_worth_it:
            return findings
        large = self._sources.train_large(self._labelled)
        measured = self._measure_large(large)
        cost = self._sources.teacher_cost(self._labelled, self._unlabelled, large)
        return replace(findings, large_teacher=measured, teacher_cost=cost)

    @property
    def _free_usd(self) -> float:
        run = self._sources.run
        return micros_to_usd(max(0, run.ledger.free - training_reserve(run.spec)))

    def _comparison(self, findings: PilotFindings) -> Callable[[float], BudgetComparison]:
        """Budget in USD -> the comparison of all strategies."""
        scores, costs = self._expected_scores(findings), self._unit_costs(findings)
        n_labels, n_unlabelled = len(self._labelled), len(self._unlabelled)
        return partial(compare_strategies, scores, costs, n_labels_owned=n_labels, n_unlabelled=n_unlabelled)

    def _information_value(
        self, findings: PilotFindings, strategies: Sequence[Strategy], usd: float
    ) -> InformationValue:
        if usd > MAX_MEASURING_SHARE * self._free_usd:
            return InformationValue(0.0, 1.0)
        return value_of_information(self._comparison(findings), self._free_usd, usd, strategies, self._std_error)

    def _expected_scores(self, findings: PilotFindings) -> PilotScores:
        run = self._sources.run
        generation = self._rounds.expected_gain() if self._rounds.remaining_texts(self._labelled) else None
        return PilotScores(
            self._curve,
            findings.large_teacher,
            findings.llm,
            generation,
            n_labels=run.task.n_labels,
            std_error=self._std_error,
            seed=run.spec.seed,
        )

    def _unit_costs(self, findings: PilotFindings) -> UnitCosts:
        costs = self._sources.unit_costs(findings.teacher_cost, self._unlabelled)
        costs = replace(costs, n_answered=len(self._answered))
        remaining = self._rounds.remaining_texts(self._labelled)
        if not remaining:
            return costs
        usd_per_generated = self._rounds.round_usd(self._labelled) / self._rounds.texts_per_round
        return replace(costs, usd_per_generated=usd_per_generated, max_generated=remaining)

    def _measure_large(self, large: Student) -> TeacherMeasurement:
        run, validation = self._sources.run, self._validation
        texts = list(self._unlabelled[:MAX_PILOT_TEXTS])
        with run.reserve_training():
            answers = run.ask(self._sources.large_teacher(large), texts, purpose="plan")
        accuracy = float((large.predict_logits(validation.texts).argmax(axis=1) == validation.gold).mean())
        probs = softmax(answers.scores[answers.answered])
        students = self._train_students(answers, probs, accuracy, "distilled")
        return TeacherMeasurement(accuracy, len(self._labelled), students)

    def _measure_llm(self) -> TeacherMeasurement:
        sources, validation = self._sources, self._validation
        assert sources.llm is not None
        run, texts = sources.run, validation.texts[:MAX_VALIDATION_TEXTS]
        with run.reserve_training():
            on_validation = run.ask(sources.llm, texts, purpose="plan")
        answers, calibration = sources.ask_llm(self._llm_texts, self._labelled)
        answered = on_validation.answered
        if not answered.any():
            return TeacherMeasurement()
        predictions = calibration.apply(on_validation.scores[answered]).argmax(axis=1)
        accuracy = float((predictions == validation.gold[: len(texts)][answered]).mean())
        probs = calibration.apply(answers.scores[answers.answered])
        return TeacherMeasurement(accuracy, 0, self._train_students(answers, probs, accuracy, "answers"))

    def _train_students(
        self, answers: Answers, probs: NDArray[Any], teacher_accuracy: float, title: str
    ) -> tuple[ImitationPoint, ...]:
        """Scores of students of a quarter and of all answers, beside the labels."""
        run, labelled, proxy = self._sources.run, self._labelled, self._sources.proxy_student
        texts = [answers.texts[row] for row in np.flatnonzero(answers.answered)]
        points = []
        for n in sorted({len(texts) // 4, len(texts)} - {0}):
            rows = combine_gold_and_soft(labelled, texts[:n], probs[:n])
            student = run.learn(rows.texts, rows.targets, trust=RowTrust(rows.weights), student=proxy, purpose="plan")
            score = run.evaluate(student, self._validation, f"pilot, {n} {title}").accuracy.value
            points.append(ImitationPoint(teacher_accuracy, len(labelled), n, score))
        return tuple(points)


def _learning_curve(sources: LabelSources, labelled: LabelledSet, validation: Subset) -> list[CurvePoint]:
    """Scores at an eighth, a quarter, a half and all of the labels; each seed draws its own nested subsets."""
    run, seeds = sources.run, sources.options.pilot_seeds
    sizes = sorted({max(2, len(labelled) >> shift) for shift in range(MIN_SIZES)})
    scores: dict[int, list[float]] = {size: [] for size in sizes}
    for seed in range(seeds):
        order = np.random.default_rng((run.spec.seed, seed)).permutation(len(labelled))
        for size in sizes:
            if size == len(labelled) and seed:
                continue  # the full set is the same for every seed
            subset = labelled.take(order[:size])
            student = run.learn(subset.texts, subset.targets, student=sources.proxy_student, purpose="plan")
            scores[size].append(run.evaluate(student, validation, f"pilot, {size} labels").accuracy.value)
    return [CurvePoint(size, tuple(values)) for size, values in scores.items()]
