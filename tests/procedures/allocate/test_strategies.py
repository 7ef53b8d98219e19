"""Distill or annotate: which way to spend a budget is expected to bring most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.procedures.allocate.expected_scores import Measured, Surface
from potstill.procedures.allocate.learning_curves import DRAWS, Expect
from potstill.procedures.allocate.strategies import (
    Ahead,
    Costs,
    Split,
    Verdict,
    Weighed,
    ahead,
    flips,
    weigh,
    worth_a_look,
)

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


def coin(mean: float, spread: float) -> Callable[[float], Verdict]:
    """Annotating is 0.7 and a little better with money; distilling is that plus something in doubt."""
    draws = np.random.default_rng(0).standard_normal(DRAWS)

    def asked(budget: float) -> Verdict:
        alone = np.full(DRAWS, 0.7 + budget / 1000)
        both = [("annotate", alone), ("distil", alone + mean + spread * draws)]
        split = Split("annotate", 0, 0, 0.0, 0.0, 0.0)
        ways = [Weighed(way, split, Expect(float(np.median(d)), 0.0, 1.0), 0.5, d) for way, d in both]  # type: ignore[arg-type]
        return Verdict(budget, tuple(sorted(ways, key=lambda each: -each.score.value)))

    return asked


def test_a_look_is_worth_most_where_the_choice_is_open() -> None:
    open_, settled, known = (
        worth_a_look(coin(*at), 10, 0.1, ("distil",), 0.02) for at in ((0, 0.05), (-0.2, 0.05), (0, 0))
    )
    assert open_.gains > 0.01
    assert settled.gains < 1e-3
    assert known.gains == 0
    assert open_.pays
    assert not settled.pays


def test_a_look_that_costs_more_than_it_can_gain_is_not_taken() -> None:
    assert worth_a_look(coin(0, 0.02), 100, 0.5, ("distil",), 0.01).pays
    assert not worth_a_look(coin(0, 0.02), 100, 50, ("distil",), 0.01).pays
    assert not worth_a_look(coin(0, 0.5), 100, 101, ("distil",), 0.01).pays


def test_a_noisy_look_is_worth_less() -> None:
    gains = [worth_a_look(coin(0, 0.05), 10, 0.1, ("distil",), noise).gains for noise in (0.001, 0.05, 0.5)]
    assert gains == sorted(gains, reverse=True)


@given(st.floats(-0.5, 0.5), st.floats(0, 0.5), st.floats(0.001, 1))
def test_a_look_never_costs_or_gains_less_than_nothing(mean: float, spread: float, noise: float) -> None:
    look = worth_a_look(coin(mean, spread), 10, 1, ("distil",), noise)
    assert look.gains >= 0
    assert look.costs >= 0


def test_what_was_expected_and_what_was_seen_meet_in_between() -> None:
    lead = ahead(coin(0.05, 0.02)(10), ("distil",))
    assert lead.mean == pytest.approx(0.05, abs=0.01)
    assert -0.05 < lead.given(-0.05, 0.02) < 0.05
    assert lead.given(-0.05, 1e-6) == pytest.approx(-0.05, abs=1e-3)
    assert Ahead().given(0.03, 0.1) == 0.03
    assert ahead(coin(0, 1)(10), ("llm",)) == Ahead()


def test_what_nobody_measured_is_bought_only_where_it_is_sure() -> None:
    open_, sure = coin(0.02, 0.05)(10), coin(0.2, 0.05)(10)
    assert open_.best.way == "distil"
    open_ = replace(open_, ways=tuple(replace(w, best=0.6 if w.way == "distil" else 0.4) for w in open_.ways))
    sure = replace(sure, ways=tuple(replace(w, best=1.0 if w.way == "distil" else 0.0) for w in sure.ways))
    assert open_.without_unproven(("distil",), measured=False)[0].way == "annotate"
    assert open_.without_unproven(("distil",), measured=True)[0].way == "distil"
    assert sure.without_unproven(("distil",), measured=False)[0].way == "distil"
    alone = replace(open_, ways=open_.ways[:1])
    assert alone.without_unproven(("distil",), measured=False) == alone.ways
