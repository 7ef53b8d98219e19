"""Distill or annotate on real data: the planner beside one-sided spending and beside the best split in hindsight.

    python bench/papers/allocate.py [--data ../shared/data] [--seeds 3] [--vectors FOLDER] [--sets fever_doa ...]

Real texts and real weights; the people are simulated (labels known all along, at the paper's prices) and so is the
price of compute in the "paper" rows: what the paper's figure implies for its 11B teacher. "here" rows price the time
these students take on this machine. The large teacher is a regression on frozen gte-small vectors; the student is
`linear` (weak, as the paper's is) or a regression on frozen MiniLM vectors (strong). All start with 100 labels and 100
validation labels, and may spend 25, 50, 100 or 300 dollars. The planner measures a pilot, buys at most as many labels
as it has, measures again, and ends with the strategy it expects most of. It measures the teacher only if that is
expected to gain more than it costs; the cost is paid from its budget.
The oracle is the best of eleven splits by test score. Budgets below the paper's teacher buy labels only.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from allocate_page import BUDGETS, TEST, Row, page
from distill_or_annotate import costs_of
from frozen import Vectors
from kang2023 import PARETO, USD_PER_LABEL
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent))
from curves import read
from sections import commit, write_section

from potstill.evaluation.calibration import one_hot, softmax
from potstill.procedures.allocate.decisions import MIN_WIN_PROBABILITY
from potstill.procedures.allocate.expected_scores import PilotScores, TeacherMeasurement
from potstill.procedures.allocate.imitation import ImitationPoint
from potstill.procedures.allocate.learning_curves import CurvePoint, LearningCurve, fit_learning_curve
from potstill.procedures.allocate.model_selection import Candidate, select_candidate
from potstill.procedures.allocate.next_purchase import SMALL_REMAINDER
from potstill.procedures.allocate.pilot import DISTILLATION_STRATEGIES, MAX_MEASURING_SHARE, REMEASURE_FACTOR
from potstill.procedures.allocate.strategies import (
    BudgetComparison,
    UnitCosts,
    compare_strategies,
    expected_lead,
    value_of_information,
)
from potstill.students.base import StudentConfig, TrainingData
from potstill.students.linear import LinearStudent
from potstill.students.logistic_regression import SolverOptions, fit_regression

RESULTS = Path(__file__).parent.parent / "results" / "allocate.json"
OWNED, CHECK, POOL = 100, 100, 6000
ASSUMED_LABEL = 0.15  # USD, for the sets that the paper does not price
PRICED_AS = {"fever_doa": "FEVER", "multipit_id_doa": "MultiPIT_Id"}
HERE_USD_A_TEXT = 0.10 / 3600 / 100  # an hour of this machine at $0.10, a hundred texts a second
SHARES = tuple(np.linspace(0, 1, 11).tolist())
PILOT_TEXTS = 1000
WAYS = ("labels only", "distilled")


class Dataset:
    """Texts, labels, vectors of one data set, in the order of one seed: owned, to check, pool, and test."""

    def __init__(self, name: str, data: Path, kept: Path | None, seed: int) -> None:
        learn, test = (read(data / name / f"{split}.parquet") for split in ("train", "test"))
        fixed = np.random.default_rng(5)
        learn = [learn[i] for i in fixed.permutation(len(learn))[: OWNED + CHECK + POOL]]
        test = [test[i] for i in fixed.permutation(len(test))[:TEST]]
        order = np.random.default_rng(seed).permutation(len(learn))
        learn = [learn[i] for i in order]
        self.labels = sorted({label for _, label in learn})
        self.texts = [text for text, _ in learn]
        self.gold = np.array([self.labels.index(label) for _, label in learn])
        self.asked = [text for text, _ in test]
        self.right = np.array([self.labels.index(label) if label in self.labels else -1 for _, label in test])
        self.small, self.large = (_vectors(which, name, kept) for which in ("minilm", "gte-small"))
        self.check = np.arange(OWNED, OWNED + CHECK)
        self.rest = np.r_[
            np.arange(OWNED), np.arange(OWNED + CHECK, len(learn))
        ]  # owned first, then what may be bought

    def targets(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(N, K) gold."""
        return one_hot(self.gold[rows], len(self.labels))


@cache
def _vectors(which: str, name: str, kept: Path | None) -> Vectors:
    return Vectors(which, kept / f"{name}-{which}.npz" if kept else None)


@dataclass(frozen=True)
class TrainedStudent:
    """A student: whether it is right on each validation text, and its accuracy on the test texts."""

    right: NDArray[np.bool_]
    test: float

    @property
    def score(self) -> float:
        """Accuracy on the validation texts."""
        return float(self.right.mean())


@dataclass(frozen=True)
class PlannerResult:
    """The planner's test accuracy, labels in all, its last strategy, and the price of measuring teachers."""

    score: float
    labels: int
    way: str
    looks_usd: float = 0.0


Scores = Callable[[Sequence[str]], NDArray[np.floating[Any]]]


def fit_student(dataset: Dataset, student: str, texts: Sequence[str], targets: Any, weights: Any) -> Scores:
    """A trained student, as a function texts -> (N, K) scores."""
    if student == "linear":
        made = LinearStudent(StudentConfig(tuple(dataset.labels), options={"c": 10.0})).fit(
            TrainingData(texts, targets, weights)
        )
        return made.predict_logits
    vectors = dataset.large if student == "large" else dataset.small
    found = fit_regression(vectors.of(texts), targets, weights, SolverOptions(c=10.0, tolerance=1e-4))
    return lambda asked: vectors.of(asked) @ found.weights + found.bias


class Bench:
    """Students of one dataset by labels and distilled texts, each trained once."""

    def __init__(self, dataset: Dataset, student: str) -> None:
        self.dataset, self.student = dataset, student
        self._known: dict[tuple[int, int, int], TrainedStudent] = {}
        self._soft: dict[int, NDArray[np.float32]] = {}

    def train(self, labels: int, texts: int, seed: int = -1) -> TrainedStudent:
        """The student after `labels`, and `texts` distilled from a teacher of those.

        A seed of the pilot draws which of the owned labels; -1 takes the first.
        """
        key = (labels, texts, seed)
        if key not in self._known:
            dataset = self.dataset
            rows = dataset.rest[:labels]
            if seed >= 0:
                rows = dataset.rest[np.random.default_rng(seed).permutation(max(labels, self.pilot))[:labels]]
            learnt, targets = [dataset.texts[row] for row in rows], dataset.targets(rows)
            weights = np.ones(len(rows), np.float32)
            if texts:
                others = dataset.rest[-texts:] if texts < len(dataset.rest) - labels else dataset.rest[labels:]
                soft = self._teacher_probs(labels)[others]
                share = float(np.clip(0.25 * len(others) / len(rows), 1.0, 10.0))
                learnt = [*learnt, *(dataset.texts[row] for row in others)]
                weights = np.concatenate([np.full(len(rows), share), np.ones(len(others))]).astype(np.float32)
                targets = np.concatenate([targets, soft])
            predict = fit_student(dataset, self.student, learnt, targets, weights)
            check = predict([dataset.texts[row] for row in dataset.check]).argmax(1) == dataset.gold[dataset.check]
            self._known[key] = TrainedStudent(check, float((predict(dataset.asked).argmax(1) == dataset.right).mean()))
        return self._known[key]

    pilot = OWNED

    def teacher_right(self, labels: int) -> float:
        """Accuracy of the large teacher on the validation texts."""
        check = self.dataset.check
        return float((self._teacher_probs(labels)[check].argmax(1) == self.dataset.gold[check]).mean())

    def _teacher_probs(self, labels: int) -> NDArray[np.float32]:
        if labels not in self._soft:
            rows = self.dataset.rest[:labels]
            ones = np.ones(labels, np.float32)
            texts = [self.dataset.texts[row] for row in rows]
            teacher = fit_student(self.dataset, "large", texts, self.dataset.targets(rows), ones)
            self._soft[labels] = softmax(teacher(self.dataset.texts)).astype(np.float32)
        return self._soft[labels]


def prices(name: str, compute: str) -> UnitCosts:
    """The unit prices of a data set."""
    label = USD_PER_LABEL.get(PRICED_AS.get(name, ""), ASSUMED_LABEL)
    if compute == "here":
        return UnitCosts(
            usd_per_label=label, teacher_training=lambda n: n * HERE_USD_A_TEXT, usd_per_distilled=HERE_USD_A_TEXT
        )
    task = PRICED_AS.get(name, "FEVER")
    found = costs_of(task, [seen for seen in PARETO if seen.task == task and seen.texts])
    assert found.teacher_training is not None
    fixed, at_one = float(np.median(found.teacher_training(0))), float(np.median(found.teacher_training(1)))
    a_text = float(np.median(found.usd_per_distilled))
    # Its 100,000 texts are our pool: the paper's student needs many times the texts, so a text costs that much more.
    scale = 100_000 / POOL
    return UnitCosts(
        usd_per_label=label, teacher_training=lambda n: fixed + (at_one - fixed) * n, usd_per_distilled=a_text * scale
    )


def at_split(bench: Bench, costs: UnitCosts, budget: float, share: float) -> tuple[int, int]:
    """Labels in all and texts distilled, if this share of the budget goes to labels and the rest to compute."""
    assert costs.usd_per_label is not None
    assert costs.teacher_training is not None
    room = len(bench.dataset.rest)
    labels = min(OWNED + int(budget * share / costs.usd_per_label), room - 1)
    left = budget - (labels - OWNED) * costs.usd_per_label - float(np.median(costs.teacher_training(labels)))
    texts = int(np.clip(left / float(np.median(costs.usd_per_distilled)), 0, room - labels))
    return labels, texts if share < 1 and left > 0 else 0


def run_planner(bench: Bench, costs: UnitCosts, budget: float) -> PlannerResult:
    """The planner of `procedures/allocate/`, on cached vectors."""
    assert costs.usd_per_label is not None
    assert costs.teacher_training is not None
    labels, money, known, there, looks = OWNED, budget, TeacherMeasurement(), 0, 0.0
    room, k = len(bench.dataset.rest), len(bench.dataset.labels)
    for _ in range(8):
        bench.pilot = labels
        sizes = [labels >> shift for shift in (3, 2, 1)]
        points = [CurvePoint(n, tuple(bench.train(n, 0, seed).score for seed in range(3))) for n in sizes]
        points.append(CurvePoint(labels, (bench.train(labels, 0).score,)))
        curve, std_error = fit_learning_curve(points), float(np.sqrt(0.25 / CHECK) / 2)

        def compare(
            usd: float, curve: LearningCurve = curve, std_error: float = std_error, owned: int = labels
        ) -> BudgetComparison:
            scores = PilotScores(curve, known, n_labels=k, std_error=std_error)  # noqa: B023 - called at once
            return compare_strategies(scores, costs, usd, n_labels_owned=owned, n_unlabelled=room - owned)

        texts = min(PILOT_TEXTS, room - labels)
        price = float(np.median(costs.teacher_training(labels))) + texts * float(np.median(costs.usd_per_distilled))
        anew = labels >= REMEASURE_FACTOR * known.labels
        if (
            anew
            and price <= MAX_MEASURING_SHARE * money
            and value_of_information(compare, money, price, DISTILLATION_STRATEGIES, std_error).is_worth_it
        ):
            money, looks, there = money - price, looks + price, labels
            right = bench.teacher_right(labels)
            students = tuple(
                ImitationPoint(right, labels, n, bench.train(labels, n).score) for n in (texts // 4, texts) if n
            )
            known = TeacherMeasurement(right, labels, students)
        comparison = compare(money)
        best = comparison.exclude_unmeasured(DISTILLATION_STRATEGIES, known.accuracy is not None)[0]
        more = min(best.allocation.labels, room - 1) - labels
        if more < 1:
            break
        bought = more if more - labels < SMALL_REMAINDER * labels else min(more, labels)
        labels, money = labels + bought, money - bought * costs.usd_per_label
        if bought == more:
            break
    tried = [bench.train(labels, 0)]
    lead = expected_lead(comparison, DISTILLATION_STRATEGIES)
    if (
        sum(each.win_probability for each in comparison.strategies if each.strategy in DISTILLATION_STRATEGIES)
        >= MIN_WIN_PROBABILITY
    ):
        # A teacher of the same labels was taught for the pilot, and its texts are labelled.
        left = money - (0.0 if there == labels else float(np.median(costs.teacher_training(labels))))
        texts = (
            (PILOT_TEXTS if there == labels else 0) + int(left / float(np.median(costs.usd_per_distilled)))
            if left > 0
            else 0
        )
        if texts >= 1:
            tried.append(bench.train(labels, min(texts, room - labels)))
    taken = select_candidate(
        [Candidate(way, None, each.right) for way, each in zip(WAYS, tried, strict=False)], {"distilled": lead}
    )
    return PlannerResult(tried[WAYS.index(taken.strategy)].test, labels, taken.strategy, looks)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--vectors", type=Path, help="a folder that keeps the frozen vectors for the next time")
    parser.add_argument("--sets", nargs="*", default=["fever_doa", "multipit_id_doa", "banking77", "ag_news"])
    parser.add_argument("--compute", nargs="*", default=["paper", "here"], help="prices of compute to measure with")
    parser.add_argument("--table", action="store_true", help="measure nothing, write the section again")
    options = parser.parse_args()
    rows: list[Row] = []
    before: dict[tuple[str, str, str, int, float], Row] = {}
    if RESULTS.exists():  # sets that were measured before stay, unless they are measured again
        there = [Row(**row) for row in json.loads(RESULTS.read_text())["rows"]]

        def again(row: Row) -> bool:
            return row.data in options.sets and row.compute in options.compute and row.seed < options.seeds

        rows = [row for row in there if options.table or not again(row)]
        before = {_key(row): row for row in there}
    for name in options.sets if not options.table else ():
        for seed in range(options.seeds):
            dataset = Dataset(name, options.data, options.vectors, seed)
            for student in ("linear", "frozen minilm"):
                bench = Bench(dataset, student)
                for compute in options.compute:
                    for budget in BUDGETS:
                        at = before.get((name, student, compute, seed, budget))
                        rows.append(one(name, bench, compute, seed, budget, at))
                        print(rows[-1], flush=True)
        dataset.small.save()
        dataset.large.save()
        record = {"format": 1, "bench": "allocate", "commit": commit(), "seeds": options.seeds}
        RESULTS.write_text(json.dumps(record | {"rows": [asdict(row) for row in rows]}, indent=1))
    section = page(rows, options.seeds)
    write_section("allocate", section)
    print(section)


def _key(row: Row) -> tuple[str, str, str, int, float]:
    return row.data, row.student, row.compute, row.seed, row.budget_usd


def one(name: str, bench: Bench, compute: str, seed: int, budget: float, before: Row | None) -> Row:
    """All ways for one budget; of splits measured `before` only the best is measured again: no planner is in them."""
    costs = prices(name, compute)
    shares = SHARES if before is None else (before.oracle_share,)
    tried = {share: bench.train(*at_split(bench, costs, budget, share)).test for share in shares}
    best = max(tried, key=lambda share: tried[share])
    if before is not None:
        tried |= {1.0: before.annotate / 100, 0.0: before.distil / 100}
    spent = run_planner(bench, costs, budget)
    percent = [100 * value for value in (tried[1.0], tried[0.0], spent.score, max(tried[best], spent.score))]
    return Row(name, bench.student, compute, seed, budget, *percent, best, spent.labels, spent.way, spent.looks_usd)


if __name__ == "__main__":
    main()
