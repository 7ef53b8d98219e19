"""The pilot of `allocate`: scores at a few sizes, measured on validation texts, and the outlook they give.

Everything here is learnt and asked through the run, so it costs what it costs and is done once. A teacher is measured
only where that is expected to gain more, by choosing better, than its price would in the best way known without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.data.pool import Subset
from potstill.evaluation.calibration import softmax
from potstill.ledger.prices import micros_to_usd
from potstill.procedures import coverage_sampling as cover
from potstill.procedures import query_strategies as choose
from potstill.procedures.allocate.expected_scores import PilotScores, TeacherMeasurement
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
from potstill.procedures.allocate.writing_rounds import GenerationRounds
from potstill.run import Answers
from potstill.students.base import Student

DISTILLATION_STRATEGIES: tuple[Strategy, ...] = ("distil", "mix")
MIN_ANSWERS, MAX_VALIDATION_TEXTS = (
    100,
    200,
)  # answers of a language model that a pilot asks for; of texts to measure on
MAX_MEASURING_SHARE = 0.2  # that measuring one teacher may cost, whatever it may gain
REMEASURE_FACTOR = 4  # a large model is measured again when it has learnt so many times the labels
MIN_SCORE_GAIN = 0.0005  # of score: less than that nobody would notice
MAX_PILOT_TEXTS = 1000  # unlabelled texts that a pilot distils at most
MAX_CANDIDATE_TEXTS = 5000  # unlabelled texts that a choice is made from
LSA_DIMS = 64  # of what texts look like, before any student has learnt


@dataclass(frozen=True)
class PilotFindings:
    """What pilots found out of teachers, which a later one need not pay for again.

    Attributes:
        large: the large student as a teacher. teaching: what it costs. llm: the language model.
        looks: what measuring was expected to gain and to cost, in score, and whether it was done; by what is measured.
    """

    large_teacher: TeacherMeasurement = field(default_factory=TeacherMeasurement)
    teacher_cost: TeacherCost | None = None
    llm: TeacherMeasurement = field(default_factory=TeacherMeasurement)
    information_values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> PilotFindings:
        """What `to_json` made plain, but for the looks: each pilot weighs its own."""
        cost = record["teaching"]
        return cls(_taught(record["large"]), None if cost is None else TeacherCost(**cost), _taught(record["llm"]))


def _taught(record: Mapping[str, Any]) -> TeacherMeasurement:
    return TeacherMeasurement(
        record["accuracy"], record["labels"], tuple(ImitationPoint(**each) for each in record["students"])
    )


@dataclass(frozen=True)
class PilotResult:
    """What was measured with the labels there are.

    Attributes:
        outlook, costs: for `strategies.weigh`.
        now: the score of the student that learnt all the labels.
        points: the learning curve.
        known: what is known of the teachers.
        texts_a_round: texts that the next round of writing asks for; 0 if there is none.
        sampled: unlabelled texts that the language model was asked about for this, the first of them.
    """

    expected_scores: PilotScores
    unit_costs: UnitCosts
    score: float
    curve_points: tuple[CurvePoint, ...]
    findings: PilotFindings
    texts_per_round: int = 0
    n_sampled: int = 0


class Pilot:
    """A pilot with the labels there are: a learning curve first; a teacher is measured where that is worth its price.

    Args:
        check: labelled texts to measure on, which nobody learns.
        held: what there is.
        written: what the language model wrote so far, and what that brought.
    """

    def __init__(self, market: LabelSources, check: Subset, held: AllocationState, written: GenerationRounds) -> None:
        self._market, self._check, self._written, self._answers = market, check, written, held.asked
        self._owned, self._pool = held.labelled, held.unlabelled
        # The same texts for all: about half of what is missed is shared.
        self._doubt = float(np.sqrt(0.25 / max(len(check), 1)) / 2)

    def measure(self, before: PilotFindings) -> PilotResult:
        """Measure what is worth it, `before` being what is known already."""
        market, pool, seed = self._market, self._pool, self._market.run.spec.seed
        points = _curve(market, self._owned, self._check)
        self._fitted, known = fit_learning_curve(points, seed=seed), before
        if market.llm is not None and len(pool) and known.llm.accuracy is None:
            known = self._look_at_llm(known)
        # The texts to measure on are the same: only another teacher, of many more labels, tells anything new.
        if (
            market.large_model is not None
            and len(pool)
            and len(self._owned) >= REMEASURE_FACTOR * known.large_teacher.labels
        ):
            known = self._look_at_large(known)
        texts = self._written.texts if self._written.remaining_texts(self._owned) else 0
        sampled = len(self._sample) if known.llm.accuracy is not None and before.llm.accuracy is None else 0
        return PilotResult(
            self._outlook(known), self._costs(known), points[-1].mean, tuple(points), known, texts, sampled
        )

    def _look_at_llm(self, known: PilotFindings) -> PilotFindings:
        new = 0 if self._answers else len(self._sample)
        price = (new + min(len(self._check), MAX_VALIDATION_TEXTS)) * (self._market.answer_usd(self._pool) or 0.0)
        look = self._look(known, ("llm",), price)
        if self._answers and price <= MAX_MEASURING_SHARE * self._money:
            look = InformationValue(look.gain, 0.0)  # what was bought is measured: the next slice rests on it
        done = look.is_worth_it or bool(self._answers and not look.cost)
        known = replace(
            known, information_values={**known.information_values, "llm": {**asdict(look), "usd": price, "done": done}}
        )
        return replace(known, llm=self._answered()) if done else known

    @property
    def _sample(self) -> list[str]:
        """Texts whose answers tell what the language model is worth: those that were bought, or the first ones."""
        return list(self._answers or self._pool[: max(MIN_ANSWERS, len(self._owned))])

    def _look_at_large(self, known: PilotFindings) -> PilotFindings:
        """Train the large student for the pilot only where that can turn the choice, by more than it costs."""
        if known.teacher_cost is None:
            free = replace(known, teacher_cost=TeacherCost(0.0, 0.0))
            for_nothing, best = (
                self._look(free, DISTILLATION_STRATEGIES, 0.0),
                self._asked(free)(self._money).strategies[0].strategy,
            )
            dear = self._market.probe_usd > MAX_MEASURING_SHARE * self._money
            if dear or (
                for_nothing.gain < MIN_SCORE_GAIN and best not in DISTILLATION_STRATEGIES
            ):  # then it need not even be timed
                return _looked(known, "large", replace(for_nothing, cost=1.0 if dear else MIN_SCORE_GAIN), 0.0)
            known = replace(known, teacher_cost=self._market.teacher_cost(self._owned, self._pool))
        assert known.teacher_cost is not None
        price = known.teacher_cost.usd_per_label_learnt * len(self._owned) + known.teacher_cost.usd_per_text * min(
            len(self._pool), MAX_PILOT_TEXTS
        )
        look = self._look(known, DISTILLATION_STRATEGIES, price)
        known = _looked(known, "large", look, price)
        if not look.is_worth_it:
            return known
        large = self._market.train_large(self._owned)
        taught = self._distilled(large)
        return replace(
            known, large_teacher=taught, teacher_cost=self._market.teacher_cost(self._owned, self._pool, large)
        )

    @property
    def _money(self) -> float:
        run = self._market.run
        return micros_to_usd(max(0, run.ledger.free - run.training_reserve))

    def _asked(self, known: PilotFindings) -> Callable[[float], BudgetComparison]:
        outlook, costs = self._outlook(known), self._costs(known)
        return partial(
            compare_strategies, outlook, costs, n_labels_owned=len(self._owned), n_unlabelled=len(self._pool)
        )

    def _look(self, known: PilotFindings, ways: Sequence[Strategy], price: float) -> InformationValue:
        if price > MAX_MEASURING_SHARE * self._money:
            return InformationValue(0.0, 1.0)
        return value_of_information(self._asked(known), self._money, price, ways, self._doubt)

    def _outlook(self, known: PilotFindings) -> PilotScores:
        task, seed = self._market.run.task, self._market.run.spec.seed
        writing = self._written.expected_gain() if self._written.remaining_texts(self._owned) else None
        return PilotScores(
            self._fitted, known.large_teacher, known.llm, writing, n_labels=task.n_labels, doubt=self._doubt, seed=seed
        )

    def _costs(self, known: PilotFindings) -> UnitCosts:
        costs, left = (
            self._market.unit_costs(known.teacher_cost, self._pool),
            self._written.remaining_texts(self._owned),
        )
        costs = replace(costs, n_answered=len(self._answers))
        if not left:
            return costs
        return replace(
            costs, usd_per_generated=self._written.round_usd(self._owned) / self._written.texts, max_generated=left
        )

    def _distilled(self, large: Student) -> TeacherMeasurement:
        run = self._market.run
        teacher = self._market.large_teacher(large)
        texts = list(self._pool[:MAX_PILOT_TEXTS])
        said = run.ask(teacher, texts, purpose="plan", reserve_micros=run.training_reserve)
        right = float((large.predict_logits(self._check.texts).argmax(axis=1) == self._check.gold).mean())
        probs = softmax(said.scores[said.answered])
        return TeacherMeasurement(right, len(self._owned), self._students(said, probs, right, "distilled"))

    def _answered(self) -> TeacherMeasurement:
        market, check = self._market, self._check
        assert market.llm is not None
        some = check.texts[:MAX_VALIDATION_TEXTS]
        on_check = market.run.ask(market.llm, some, purpose="plan", reserve_micros=market.run.training_reserve)
        said, reading = market.ask_llm(self._sample, self._owned)
        there = on_check.answered
        if not there.any():
            return TeacherMeasurement()
        guessed = reading.apply(on_check.scores[there]).argmax(axis=1)
        right = float((guessed == check.gold[: len(some)][there]).mean())
        return TeacherMeasurement(
            right, 0, self._students(said, reading.apply(said.scores[said.answered]), right, "answers")
        )

    def _students(self, said: Answers, probs: NDArray[Any], right: float, words: str) -> tuple[ImitationPoint, ...]:
        """Students of a quarter and of all that was said, beside the labels there are."""
        run, owned = self._market.run, self._owned
        there = np.flatnonzero(said.answered)
        found = []
        for n in sorted({len(there) // 4, len(there)} - {0}):
            lesson = combine_gold_and_soft(owned, [said.texts[row] for row in there[:n]], probs[:n])
            student = run.learn(
                lesson.texts, lesson.targets, weights=lesson.weights, student=self._market.proxy_student, purpose="plan"
            )
            score = run.judge(student, self._check, f"pilot, {n} {words}").accuracy.value
            found.append(ImitationPoint(right, len(owned), n, score))
        return tuple(found)


def _looked(known: PilotFindings, what: str, look: InformationValue, usd: float) -> PilotFindings:
    return replace(
        known,
        information_values={**known.information_values, what: {**asdict(look), "usd": usd, "done": look.is_worth_it}},
    )


def _curve(market: LabelSources, owned: LabelledSet, check: Subset) -> list[CurvePoint]:
    """Scores at an eighth, a quarter, a half and all of the labels; each seed draws its own nested subsets."""
    run, seeds = market.run, market.options.pilot_seeds
    sizes = sorted({max(2, len(owned) >> shift) for shift in range(MIN_SIZES)})
    scores: dict[int, list[float]] = {size: [] for size in sizes}
    for seed in range(seeds):
        order = np.random.default_rng((run.spec.seed, seed)).permutation(len(owned))
        for size in sizes:
            if size == len(owned) and seed:
                continue  # all of them are all of them
            some = owned.take(order[:size])
            student = run.learn(some.texts, some.targets, student=market.proxy_student, purpose="plan")
            scores[size].append(run.judge(student, check, f"pilot, {size} labels").accuracy.value)
    return [CurvePoint(size, tuple(found)) for size, found in scores.items()]


def select_texts(market: LabelSources, owned: LabelledSet, pool: Sequence[str], n: int) -> list[int]:
    """Which of the pool people are asked about next; typical ones where nobody labelled anything yet."""
    run, how = market.run, market.options.query_strategy
    draw = np.random.default_rng((run.spec.seed, len(owned)))
    rows = draw.permutation(len(pool))[:MAX_CANDIDATE_TEXTS]
    texts = [pool[row] for row in rows]
    if how == "random" or not len(texts):
        return list(rows[:n].tolist())
    if len(set(owned.gold.tolist())) < 2:
        return list(rows[cover.typiclust_sampling(lsa_features(texts), n, run.spec.seed)].tolist())
    student = run.learn(owned.texts, owned.targets, student=market.proxy_student, purpose="plan")
    probs = student.predict_proba(texts)
    if how == "margin":
        picked = choose.margin_sampling(probs, n)
    elif how == "entropy":
        picked = choose.entropy_sampling(probs, n)
    elif how == "diverse":
        both = student.embed([*texts, *owned.texts])
        picked = cover.coreset_sampling(both, n, selected=np.arange(len(texts), len(both)))
    else:
        picked = cover.badge_sampling(probs, student.embed(texts), n, draw)
    return list(rows[picked].tolist())


def lsa_features(texts: Sequence[str]) -> np.ndarray:
    """(N, D) what texts look like before anything was learnt: their words, reduced (latent semantic analysis)."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    words = TfidfVectorizer(sublinear_tf=True, min_df=1, max_features=20_000).fit_transform(texts)
    dims = min(LSA_DIMS, min(words.shape) - 1)
    if dims < 1:
        return np.asarray(words.todense())
    return np.asarray(normalize(TruncatedSVD(dims, random_state=0).fit_transform(words)))
