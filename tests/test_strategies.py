"""Distill or annotate: which way to spend a budget is expected to bring most."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.curves import DRAWS
from potstill.outlooks import Measured, Surface
from potstill.strategies import Costs, flips, weigh

GRID = [
    *(Measured(n, 0, s) for n, s in ((100, 0.45), (1000, 0.50), (10_000, 0.80))),
    *(Measured(n, 10_000, s) for n, s in ((100, 0.44), (1000, 0.70), (10_000, 0.78))),
    *(Measured(n, 100_000, s) for n, s in ((100, 0.44), (1000, 0.72), (10_000, 0.84))),
]
COSTS = Costs(label=0.2, teacher=lambda n: 5 + n / 1000 * 8, distilled=0.001)


def test_a_small_extra_sum_after_a_thousand_labels_is_best_distilled() -> None:
    verdict = weigh(Surface(GRID), COSTS, 50, owned=1000, pool=1e6, ways=("annotate", "distil"))
    assert verdict.best.way == "distil"
    assert verdict.sure
    annotate = verdict.of("annotate")
    assert annotate is not None
    assert annotate.split.labels == 1000 + 250


def test_a_teacher_that_costs_more_than_the_budget_leaves_annotating() -> None:
    dear = Costs(label=0.2, teacher=lambda n: 1000.0, distilled=0.001)
    verdict = weigh(Surface(GRID), dear, 50, owned=1000, pool=1e6)
    assert verdict.best.way == "annotate"
    distil = verdict.of("distil")
    assert distil is not None
    assert distil.split.texts == 0
    assert distil.score.value == 0


def test_what_has_no_price_is_not_weighed() -> None:
    verdict = weigh(Surface(GRID), Costs(label=0.2), 50, owned=1000, pool=1e6)
    assert [each.way for each in verdict.ways] == ["annotate"]
    assert verdict.best.best == 1


def test_the_budgets_at_which_the_answer_flips_are_named() -> None:
    # Below about $13 the teacher cannot be taught; then distilling 1,000 labels wins.
    verdicts, turns = flips(Surface(GRID), COSTS, (5, 10, 20, 50, 100), owned=1000, pool=1e6)
    assert [verdict.budget_usd for verdict in verdicts] == [5, 10, 20, 50, 100]
    assert verdicts[0].best.way == "annotate"
    assert verdicts[-1].best.way != "annotate"
    assert 20 in turns or 50 in turns


def test_equal_ways_are_called_unsure() -> None:
    flat = Surface([Measured(100, 0, 0.6), Measured(1000, 0, 0.6), Measured(100, 10, 0.6), Measured(1000, 10, 0.6)])
    verdict = weigh(flat, Costs(label=1.0, teacher=lambda n: 0.0, distilled=0.1), 10, owned=500, pool=1e6)
    assert not verdict.sure


def test_doubt_about_a_price_reaches_the_verdict() -> None:
    doubtful = Costs(label=0.2, teacher=lambda n: np.where(np.arange(DRAWS) % 2, 1.0, 1000.0), distilled=0.001)
    verdict = weigh(Surface(GRID), doubtful, 50, owned=1000, pool=1e6, ways=("annotate", "distil"))
    distil = verdict.of("distil")
    assert distil is not None
    assert distil.best == pytest.approx(0.5, abs=0.01)


@given(st.floats(0.01, 1e5), st.integers(0, 20_000), st.floats(0, 1e6))
def test_no_way_spends_more_than_the_budget(budget: float, owned: int, pool: float) -> None:
    costs = Costs(label=0.2, teacher=lambda n: n / 1000, distilled=0.001, answer=0.002, written=0.01)
    for each in weigh(Surface(GRID), costs, budget, owned=owned, pool=pool).ways:
        assert each.split.labels_usd + each.split.compute_usd + each.split.llm_usd <= budget * (1 + 1e-9)
        assert 0 <= each.score.low <= each.score.value <= each.score.high <= 1
        assert each.split.labels >= owned
