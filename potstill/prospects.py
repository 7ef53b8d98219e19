"""Distill or annotate, before any money moves: what each way to spend this budget can be expected to bring.

Measured or prior, and it says which: with `measure` the student is taught the labels there are, at a few sizes, and its
learning curve is drawn on; without, the outlook is experience with other data sets (`outlooks.Experience`). Asks nobody
and spends nothing; measuring takes this machine's time. How a run then spends is `procedures/allocate.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from potstill import charts
from potstill.calibrate import one_hot
from potstill.curves import FEWEST_SIZES, Curves, Point, fit_curves
from potstill.errors import BadData, PotstillError, UnknownPrice
from potstill.forecast import forecast
from potstill.money import Usage, to_usd
from potstill.order import Order
from potstill.outlooks import Experience, Measured, Piloted
from potstill.paper import templates
from potstill.run import open_teacher, training_reserve
from potstill.spec import Named
from potstill.strategies import Costs, Outlook, Verdict, Way, flips
from potstill.students import MENU as STUDENTS
from potstill.students.base import Lesson, Make, Student

BUDGETS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # shares of the budget that the chart shows
LARGE = "encoder:gte-small"
FEWEST_MEASURED = 60  # labels below which there is nothing to measure a curve with
CHECK_SHARE, MOST_CHECKED, SEEDS, DISTILLED = 0.25, 500, 2, 1000
WORDS: dict[Way, str] = {
    "annotate": "labels by people only",
    "distil": "the labels there are teach a large model, that teaches the student",
    "mix": "more labels, then the same through a large model",
    "llm": "answers of the language model",
    "pgkd": "texts the language model writes",
}


@dataclass(frozen=True)
class Prospects:
    """What each way is expected to bring, for the budget and around it.

    Attributes:
        basis: "measured" or "prior", and on what, in words.
        owned: labels there are. owned_usd: what they would cost today; None where labels have no price.
        verdicts: by rising budget; `budget_usd` is the one that was asked for.
        turns: budgets at which another way becomes the best.
        missing: ways that cannot be weighed, each with what is missing.
    """

    basis: str
    budget_usd: float
    owned: int
    owned_usd: float | None
    verdicts: tuple[Verdict, ...]
    turns: tuple[float, ...]
    missing: tuple[str, ...] = ()

    def page(self) -> str:
        """The chart and the table as one self-contained HTML file."""
        return templates().get_template("prospects.html.j2").render(told=self, words=WORDS, chart=self.chart())

    @property
    def asked(self) -> Verdict:
        """The verdict for the budget that was asked for."""
        return min(self.verdicts, key=lambda verdict: abs(verdict.budget_usd - self.budget_usd))

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return {
            "basis": self.basis,
            "owned": self.owned,
            "owned_usd": self.owned_usd,
            "turns": list(self.turns),
            "missing": list(self.missing),
            "budgets": [
                {
                    "budget_usd": verdict.budget_usd,
                    "sure": verdict.sure,
                    "ways": [_plain(each) for each in verdict.ways],
                }
                for verdict in self.verdicts
            ],
        }

    def to_text(self) -> str:
        """A table for a terminal."""
        lines = [f"Distill or annotate? {self.basis}", ""]
        verdict = self.asked
        if verdict.ways:
            lines.append(f"  with ${verdict.budget_usd:,.2f}      accuracy      best in   labels  distilled   answers")
        for each in verdict.ways:
            score = f"{100 * each.score.value:5.1f} ({100 * each.score.low:.0f}–{100 * each.score.high:.0f})"
            asked = each.split.texts if each.way in ("llm", "pgkd") else 0
            distilled = each.split.texts if each.way in ("distil", "mix") else 0
            counts = f"{each.split.labels:>8,}  {distilled:>9,} {asked:>9,}"
            lines.append(f"  {each.way:<12} {score:>18}  {each.best:>6.0%}  {counts}")
        if verdict.ways and not verdict.sure:
            lines.append("  Too close to call: no way is the best in nine draws of ten.")
        lines += ["", *_strip(self.verdicts), *self._turning()]
        if self.owned_usd:
            worth = f"bought today they are ${self.owned_usd:,.2f} more."
            lines.append(f"  The {self.owned:,} labels there are count as paid; {worth}")
        lines += [f"  Not weighed: {sentence}" for sentence in self.missing]
        return "\n".join(lines)

    def _turning(self) -> list[str]:
        if not self.turns:
            return []
        said = ", ".join(f"${turn:,.2f}" for turn in self.turns)
        return [f"  The answer turns at about {said}."]

    def chart(self) -> str:
        """Budget on x (doubling), the best way and its expected score on y, as inline SVG."""
        there = [verdict for verdict in self.verdicts if verdict.ways]
        if len(there) < 2:
            return ""
        places = np.linspace(0, 1, len(there))
        dots = [
            charts.Dot(float(x), v.best.score.value, v.best.score.low, v.best.score.high)
            for x, v in zip(places, there, strict=True)
        ]
        axis = [charts.Tick(float(x), f"${v.budget_usd:,.2f} {v.best.way}") for x, v in zip(places, there, strict=True)]
        at = there.index(self.asked) if self.asked in there else 0
        return charts.curve(dots, key="prospects", title="The best way and its score", axis=axis, mark=dots[at])


def make_prospects(order: Order, *, measure: bool = False) -> Prospects:
    """Weigh every way that has a price, for the order's budget and for parts and multiples of it.

    Raises:
        BadData: `measure`, and too few labels.
    """
    spec, pool = order.spec, order.pool
    gold, unlabelled = pool.part("train"), pool.part("pool")
    missing: list[str] = []
    costs = _costs(order, missing)
    if measure:
        outlook, basis = _measured(order, with_large=costs.teacher is not None)
    else:
        outlook = Experience(order.task.n_labels, seed=spec.seed)
        basis = "Prior: experience with other data sets, not yours; --measure tries it on the labels there are."
    budget = to_usd(spec.limit_micros - training_reserve(spec))
    verdicts, turns = flips(
        outlook, costs, [budget * share for share in BUDGETS], owned=len(gold), pool=float(len(unlabelled))
    )
    paid = None if costs.label is None else costs.label * len(gold)
    return Prospects(basis, budget, len(gold), paid, verdicts, turns, tuple(missing))


def _costs(order: Order, missing: list[str]) -> Costs:
    spec, task = order.spec, order.task
    gold, texts = order.pool.part("train"), order.pool.part("pool").texts
    label = answer = None
    teacher, distilled = None, 0.0
    try:
        people = open_teacher(spec, task, Named(name="human"), asks=False)
        label = to_usd(people.price.cost_micros(people.bound(texts[:1] or ("",))))
    except UnknownPrice:
        missing.append("people, whose label has no price: set [prices] usd_per_label.")
    if not texts:
        missing.append("teaching by a large model or a language model, which needs unlabelled texts.")
        return Costs(label=label)
    named = spec.teacher
    if named is not None and named.kind not in ("human", "trained"):
        try:
            llm = open_teacher(spec, task, named, asks=False)
            answer = float(np.mean([to_usd(llm.price.cost_micros(llm.expect([text]).high)) for text in texts[:50]]))
        except PotstillError as error:
            missing.append(f"the language model: {error.happened}")
    if len(gold) >= 2:
        try:
            rates = spec.compute_rates
            told = forecast(
                Named(name=LARGE), task, gold.texts, one_hot(gold.gold, task.n_labels), rates, seed=spec.seed
            )
            a_label = told.usd / len(gold)
            teacher = lambda n: a_label * n  # noqa: E731
            # Reading a text takes about a third of learning it once, and it is learnt a few times.
            distilled = (
                to_usd(1000 * rates.cost_micros(Usage(seconds=(told.low_s + told.high_s) / 2 / len(gold) / 10))) / 1000
            )
        except PotstillError as error:
            missing.append(f"a large model: {error.happened}")
    return Costs(label=label, teacher=teacher, distilled=distilled, answer=answer)


def _measured(order: Order, *, with_large: bool) -> tuple[Outlook, str]:
    """The outlook of the student on the labels there are, a quarter of them kept to measure on."""
    gold = order.pool.part("train")
    if len(gold) < FEWEST_MEASURED:
        raise BadData(
            f"Measuring needs {FEWEST_MEASURED} labels and there are {len(gold)}.",
            f"Label {FEWEST_MEASURED - len(gold)} more, or leave out --measure.",
        )
    targets, seed = one_hot(gold.gold, order.task.n_labels), order.spec.seed
    check = order.pool.part("validation")
    order_ = np.random.default_rng(seed).permutation(len(gold))
    spared = 0 if len(check) >= FEWEST_MEASURED else min(MOST_CHECKED, int(len(gold) * CHECK_SHARE))
    texts = check.texts if not spared else tuple(gold.texts[row] for row in order_[:spared])
    right = check.gold if not spared else gold.gold[order_[:spared]]
    rows = order_[spared:]

    def score(named: Named, learnt: Sequence[str], aims: Any) -> tuple[Student, float]:
        student: Student = STUDENTS.resolve(named.kind)(
            Make(order.task.labels, named.model, order.task.descriptions, named.options, kind=order.task.kind)
        ).fit(Lesson(learnt, aims, seed=seed))
        return student, float((student.predict_logits(texts).argmax(axis=1) == right).mean())

    own = _quick(order.spec.student)
    points = []
    for shift in reversed(range(FEWEST_SIZES)):
        n = len(rows) >> shift
        found = []
        for draw in range(SEEDS if shift else 1):
            some = np.random.default_rng((seed, draw)).permutation(rows)[:n]
            found.append(score(own, [gold.texts[row] for row in some], targets[some])[1])
        points.append(Point(n, tuple(found)))
    learnt, aims = [gold.texts[row] for row in rows], targets[rows]
    distilled: list[Measured] = []
    pool = list(order.pool.part("pool").texts[:DISTILLED])
    if pool and with_large:
        large, _ = score(_quick(Named(name=LARGE)), learnt, aims)
        soft = large.predict_proba(pool)
        for n in sorted({len(pool) // 4, len(pool)}):
            if n:
                both = np.concatenate([aims, soft[:n]])
                distilled.append(Measured(len(rows), n, score(own, [*learnt, *pool[:n]], both)[1]))
    curves: Curves = fit_curves(points, seed=seed)
    doubt = float(np.sqrt(0.25 / len(texts)) / 2)
    reach = f"{len(texts)} texts to check; trusted to {curves.trusted(0.05):,} labels"
    said = f"Measured on the labels there are ({own.name}, {reach})."
    return Piloted(curves, distilled, doubt=doubt, seed=seed), said


def _quick(named: Named) -> Named:
    """An encoder frozen: the shape of its curve is what is wanted, in seconds."""
    if named.kind != "encoder":
        return named
    return Named(name=named.name, **{**named.options, "mode": "frozen"})


def _strip(verdicts: Sequence[Verdict]) -> list[str]:
    there = [verdict for verdict in verdicts if verdict.ways]
    if not there:
        return []
    width = max(11, *(len(f"${verdict.budget_usd:,.2f}") + 2 for verdict in there))
    return [
        "  budget     " + "".join(f"{f'${verdict.budget_usd:,.2f}':>{width}}" for verdict in there),
        "  best       " + "".join(f"{verdict.best.way + ('' if verdict.sure else '?'):>{width}}" for verdict in there),
        "  accuracy   " + "".join(f"{f'{100 * verdict.best.score.value:.1f} %':>{width}}" for verdict in there),
    ]


def _plain(each: Any) -> dict[str, Any]:
    split, score = each.split, each.score
    return {
        "way": each.way,
        "is": WORDS[each.way],
        "score": score.value,
        "low": score.low,
        "high": score.high,
        "best": each.best,
        "labels": split.labels,
        "texts": split.texts,
        "labels_usd": split.labels_usd,
        "compute_usd": split.compute_usd,
        "llm_usd": split.llm_usd,
    }
