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

from potstill.data.pool import Part
from potstill.evaluation.calibration import softmax
from potstill.ledger.prices import to_usd
from potstill.procedures import coverage_sampling as cover
from potstill.procedures import query_strategies as choose
from potstill.procedures.allocate.expected_scores import Piloted, Taught
from potstill.procedures.allocate.imitation import Imitated
from potstill.procedures.allocate.label_sources import Held, Market, Owned, Teaching, beside
from potstill.procedures.allocate.learning_curves import FEWEST_SIZES, Point, fit_curves
from potstill.procedures.allocate.strategies import Costs, Look, Verdict, Way, weigh, worth_a_look
from potstill.procedures.allocate.writing_rounds import Written
from potstill.run import Answers
from potstill.students.base import Student

DISTILLING: tuple[Way, ...] = ("distil", "mix")
FEWEST_ANSWERS, MOST_CHECKED = 100, 200  # answers of a language model that a pilot asks for; of texts to measure on
MOST_OF_THE_MONEY = 0.2  # that measuring one teacher may cost, whatever it may gain
ANEW = 4  # a large model is measured again when it has learnt so many times the labels
LEAST_GAIN = 0.0005  # of score: less than that nobody would notice
PILOT_TEXTS = 1000  # unlabelled texts that a pilot distils at most
LOOKED_AT = 5000  # unlabelled texts that a choice is made from
DIMS = 64  # of what texts look like, before any student has learnt


@dataclass(frozen=True)
class Known:
    """What pilots found out of teachers, which a later one need not pay for again.

    Attributes:
        large: the large student as a teacher. teaching: what it costs. llm: the language model.
        looks: what measuring was expected to gain and to cost, in score, and whether it was done; by what is measured.
    """

    large: Taught = field(default_factory=Taught)
    teaching: Teaching | None = None
    llm: Taught = field(default_factory=Taught)
    looks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Known:
        """What `to_json` made plain, but for the looks: each pilot weighs its own."""
        cost = record["teaching"]
        return cls(_taught(record["large"]), None if cost is None else Teaching(**cost), _taught(record["llm"]))


def _taught(record: Mapping[str, Any]) -> Taught:
    return Taught(record["accuracy"], record["labels"], tuple(Imitated(**each) for each in record["students"]))


@dataclass(frozen=True)
class Survey:
    """What was measured with the labels there are.

    Attributes:
        outlook, costs: for `strategies.weigh`.
        now: the score of the student that learnt all the labels.
        points: the learning curve.
        known: what is known of the teachers.
        texts_a_round: texts that the next round of writing asks for; 0 if there is none.
        sampled: unlabelled texts that the language model was asked about for this, the first of them.
    """

    outlook: Piloted
    costs: Costs
    now: float
    points: tuple[Point, ...]
    known: Known
    texts_a_round: int = 0
    sampled: int = 0


class Pilot:
    """A pilot with the labels there are: a learning curve first; a teacher is measured where that is worth its price.

    Args:
        check: labelled texts to measure on, which nobody learns.
        held: what there is.
        written: what the language model wrote so far, and what that brought.
    """

    def __init__(self, market: Market, check: Part, held: Held, written: Written) -> None:
        self._market, self._check, self._written, self._answers = market, check, written, held.asked
        self._owned, self._pool = held.owned, held.left
        # The same texts for all: about half of what is missed is shared.
        self._doubt = float(np.sqrt(0.25 / max(len(check), 1)) / 2)

    def survey(self, before: Known) -> Survey:
        """Measure what is worth it, `before` being what is known already."""
        market, pool, seed = self._market, self._pool, self._market.run.spec.seed
        points = _curve(market, self._owned, self._check)
        self._fitted, known = fit_curves(points, seed=seed), before
        if market.llm is not None and len(pool) and known.llm.accuracy is None:
            known = self._look_at_llm(known)
        # The texts to measure on are the same: only another teacher, of many more labels, tells anything new.
        if market.large is not None and len(pool) and len(self._owned) >= ANEW * known.large.labels:
            known = self._look_at_large(known)
        texts = self._written.texts if self._written.left(self._owned) else 0
        sampled = len(self._sample) if known.llm.accuracy is not None and before.llm.accuracy is None else 0
        return Survey(self._outlook(known), self._costs(known), points[-1].mean, tuple(points), known, texts, sampled)

    def _look_at_llm(self, known: Known) -> Known:
        new = 0 if self._answers else len(self._sample)
        price = (new + min(len(self._check), MOST_CHECKED)) * (self._market.answer_usd(self._pool) or 0.0)
        look = self._look(known, ("llm",), price)
        if self._answers and price <= MOST_OF_THE_MONEY * self._money:
            look = Look(look.gains, 0.0)  # what was bought is measured: the next slice rests on it
        done = look.pays or bool(self._answers and not look.costs)
        known = replace(known, looks={**known.looks, "llm": {**asdict(look), "usd": price, "done": done}})
        return replace(known, llm=self._answered()) if done else known

    @property
    def _sample(self) -> list[str]:
        """Texts whose answers tell what the language model is worth: those that were bought, or the first ones."""
        return list(self._answers or self._pool[: max(FEWEST_ANSWERS, len(self._owned))])

    def _look_at_large(self, known: Known) -> Known:
        """Train the large student for the pilot only where that can turn the choice, by more than it costs."""
        if known.teaching is None:
            free = replace(known, teaching=Teaching(0.0, 0.0))
            for_nothing, best = self._look(free, DISTILLING, 0.0), self._asked(free)(self._money).ways[0].way
            dear = self._market.probe_usd > MOST_OF_THE_MONEY * self._money
            if dear or (for_nothing.gains < LEAST_GAIN and best not in DISTILLING):  # then it need not even be timed
                return _looked(known, "large", replace(for_nothing, costs=1.0 if dear else LEAST_GAIN), 0.0)
            known = replace(known, teaching=self._market.teaching(self._owned, self._pool))
        assert known.teaching is not None
        price = known.teaching.a_label * len(self._owned) + known.teaching.a_text * min(len(self._pool), PILOT_TEXTS)
        look = self._look(known, DISTILLING, price)
        known = _looked(known, "large", look, price)
        if not look.pays:
            return known
        large = self._market.teach_large(self._owned)
        taught = self._distilled(large)
        return replace(known, large=taught, teaching=self._market.teaching(self._owned, self._pool, large))

    @property
    def _money(self) -> float:
        run = self._market.run
        return to_usd(max(0, run.ledger.free - run.training_reserve))

    def _asked(self, known: Known) -> Callable[[float], Verdict]:
        outlook, costs = self._outlook(known), self._costs(known)
        return partial(weigh, outlook, costs, owned=len(self._owned), pool=len(self._pool))

    def _look(self, known: Known, ways: Sequence[Way], price: float) -> Look:
        if price > MOST_OF_THE_MONEY * self._money:
            return Look(0.0, 1.0)
        return worth_a_look(self._asked(known), self._money, price, ways, self._doubt)

    def _outlook(self, known: Known) -> Piloted:
        task, seed = self._market.run.task, self._market.run.spec.seed
        writing = self._written.expected() if self._written.left(self._owned) else None
        return Piloted(
            self._fitted, known.large, known.llm, writing, n_labels=task.n_labels, doubt=self._doubt, seed=seed
        )

    def _costs(self, known: Known) -> Costs:
        costs, left = self._market.costs(known.teaching, self._pool), self._written.left(self._owned)
        costs = replace(costs, answered=len(self._answers))
        if not left:
            return costs
        return replace(costs, written=self._written.round_usd(self._owned) / self._written.texts, writes=left)

    def _distilled(self, large: Student) -> Taught:
        run = self._market.run
        teacher = self._market.large_teacher(large)
        texts = list(self._pool[:PILOT_TEXTS])
        said = run.ask(teacher, texts, purpose="plan", leave_micros=run.training_reserve)
        right = float((large.predict_logits(self._check.texts).argmax(axis=1) == self._check.gold).mean())
        probs = softmax(said.scores[said.answered])
        return Taught(right, len(self._owned), self._students(said, probs, right, "distilled"))

    def _answered(self) -> Taught:
        market, check = self._market, self._check
        assert market.llm is not None
        some = check.texts[:MOST_CHECKED]
        on_check = market.run.ask(market.llm, some, purpose="plan", leave_micros=market.run.training_reserve)
        said, reading = market.answered(self._sample, self._owned)
        there = on_check.answered
        if not there.any():
            return Taught()
        guessed = reading.probs(on_check.scores[there]).argmax(axis=1)
        right = float((guessed == check.gold[: len(some)][there]).mean())
        return Taught(right, 0, self._students(said, reading.probs(said.scores[said.answered]), right, "answers"))

    def _students(self, said: Answers, probs: NDArray[Any], right: float, words: str) -> tuple[Imitated, ...]:
        """Students of a quarter and of all that was said, beside the labels there are."""
        run, owned = self._market.run, self._owned
        there = np.flatnonzero(said.answered)
        found = []
        for n in sorted({len(there) // 4, len(there)} - {0}):
            lesson = beside(owned, [said.texts[row] for row in there[:n]], probs[:n])
            student = run.learn(
                lesson.texts, lesson.targets, weights=lesson.weights, student=self._market.proxy, purpose="plan"
            )
            score = run.judge(student, self._check, f"pilot, {n} {words}").accuracy.value
            found.append(Imitated(right, len(owned), n, score))
        return tuple(found)


def _looked(known: Known, what: str, look: Look, usd: float) -> Known:
    return replace(known, looks={**known.looks, what: {**asdict(look), "usd": usd, "done": look.pays}})


def _curve(market: Market, owned: Owned, check: Part) -> list[Point]:
    """Scores at an eighth, a quarter, a half and all of the labels; each seed draws its own nested subsets."""
    run, seeds = market.run, market.options.seeds
    sizes = sorted({max(2, len(owned) >> shift) for shift in range(FEWEST_SIZES)})
    scores: dict[int, list[float]] = {size: [] for size in sizes}
    for seed in range(seeds):
        order = np.random.default_rng((run.spec.seed, seed)).permutation(len(owned))
        for size in sizes:
            if size == len(owned) and seed:
                continue  # all of them are all of them
            some = owned.at(order[:size])
            student = run.learn(some.texts, some.targets, student=market.proxy, purpose="plan")
            scores[size].append(run.judge(student, check, f"pilot, {size} labels").accuracy.value)
    return [Point(size, tuple(found)) for size, found in scores.items()]


def chosen(market: Market, owned: Owned, pool: Sequence[str], n: int) -> list[int]:
    """Which of the pool people are asked about next; typical ones where nobody labelled anything yet."""
    run, how = market.run, market.options.choose
    draw = np.random.default_rng((run.spec.seed, len(owned)))
    rows = draw.permutation(len(pool))[:LOOKED_AT]
    texts = [pool[row] for row in rows]
    if how == "random" or not len(texts):
        return list(rows[:n].tolist())
    if len(set(owned.gold.tolist())) < 2:
        return list(rows[cover.typical(looks(texts), n, run.spec.seed)].tolist())
    student = run.learn(owned.texts, owned.targets, student=market.proxy, purpose="plan")
    probs = student.predict_proba(texts)
    if how == "margin":
        picked = choose.by_margin(probs, n)
    elif how == "entropy":
        picked = choose.by_entropy(probs, n)
    elif how == "diverse":
        both = student.embed([*texts, *owned.texts])
        picked = cover.by_coverage(both, n, taken=np.arange(len(texts), len(both)))
    else:
        picked = cover.by_gradient(probs, student.embed(texts), n, draw)
    return list(rows[picked].tolist())


def looks(texts: Sequence[str]) -> np.ndarray:
    """(N, D) what texts look like before anything was learnt: their words, reduced (latent semantic analysis)."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    words = TfidfVectorizer(sublinear_tf=True, min_df=1, max_features=20_000).fit_transform(texts)
    dims = min(DIMS, min(words.shape) - 1)
    if dims < 1:
        return np.asarray(words.todense())
    return np.asarray(normalize(TruncatedSVD(dims, random_state=0).fit_transform(words)))
