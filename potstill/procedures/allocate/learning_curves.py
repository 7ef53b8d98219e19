"""Learning curves: scores at a few sizes -> what more would bring, and how far that can be trusted.

Three families, all in the error e(n) = 1 - score: the power law e = a + b n^-c (Figueroa et al. 2012), the exponential
e = a + b exp(-n / c), and the piecewise power law (Jain et al. 2023), whose log-error is quadratic in log n up to a
knot and a straight line after it. Which one holds is decided by the largest size: each family is fitted without it and
has to predict it. That is done again on every bootstrap draw of the seeds, so the interval also holds the doubt about
the family; and it widens with every doubling beyond the pilot, by what the pilot's own last step was missed by.

Works for any "more": labels, unlabelled texts of a distillation, the accuracy of a teacher. Does not measure, knows no
money (`strategies.py`), and does not see what a pilot cannot: a change in the data, or another kind of model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from potstill.errors import BadData

Floats = NDArray[np.float64]
Family = Literal["power", "exponential", "piecewise"]
FAMILIES: tuple[Family, ...] = ("power", "exponential", "piecewise")
MIN_SIZES = 4  # three to fit a family and one to choose it by
N_DRAWS = 200
INTERVAL_LEVEL = 0.8
MAX_N = 10**8  # "never" begins here
MAX_EXTRAPOLATION = 16  # times the pilot: beyond it nobody checked what a curve says
MIN_ERROR = 1e-4  # an error of nought has no logarithm
# Doubt of each doubling beyond the pilot, as a share of the error: at least this much, even where the pilot's last step
# was predicted exactly, and this part of what that step was missed by. Chosen on the curves of banking77 and sst2 for
# the 80 % that the interval promises (bench/curves.py), then checked there on other data sets.
MIN_DOUBT, HOLDOUT_ERROR_SHARE = 0.05, 0.7


@dataclass(frozen=True)
class CurvePoint:
    """One size of a pilot: what `n` of something was worth, a score in [0, 1] for each seed."""

    n: int
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean over the seeds."""
        return float(np.mean(self.scores))


@dataclass(frozen=True)
class Estimate:
    """An expected value and its interval of `LEVEL`, in the unit of what is expected."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class LearningCurve:
    """What a pilot tells of sizes that were not tried: one fitted curve for each bootstrap draw.

    Attributes:
        points: the pilot, ascending.
        family: the family that most draws chose.
        shares: family -> share of the draws that chose it.
        missed: the error of the family's prediction of the largest size from the smaller ones, in log-error.
    """

    points: tuple[CurvePoint, ...]
    family: Family
    family_shares: dict[Family, float]
    holdout_error: float
    _kinds: NDArray[np.int64]
    _params: Floats
    _noise: Floats

    @property
    def largest(self) -> int:
        """The largest size that was tried."""
        return self.points[-1].n

    def draws(self, n: float) -> Floats:
        """(DRAWS,) scores that may be expected of `n`."""
        errors = np.empty(len(self._kinds))
        for kind, family in enumerate(FAMILIES):
            rows = self._kinds == kind
            errors[rows] = _error(family, self._params[rows], max(n, 1e-9))
        octaves = max(0.0, np.log2(max(n, 1e-9) / self.largest))
        doubt = float(np.hypot(MIN_DOUBT, HOLDOUT_ERROR_SHARE * self.holdout_error / self._last_octaves)) * octaves
        return np.asarray(1 - np.clip(errors * np.exp(self._noise * doubt), 0.0, 1.0))

    def predict(self, n: float, level: float = INTERVAL_LEVEL) -> Estimate:
        """The score expected of `n`, with its interval of `level`."""
        return _interval(self.draws(n), level)

    def labels_for(self, target: float, level: float = INTERVAL_LEVEL) -> Estimate:
        """How many it takes to reach the score `target`; infinite where a curve never gets there."""
        low, high = np.zeros(len(self._kinds)), np.full(len(self._kinds), np.log(MAX_N))
        never = self.draws(MAX_N) < target
        for _ in range(50):
            middle = (low + high) / 2
            reached = np.array([self.draws(np.exp(at))[row] >= target for row, at in enumerate(middle)])
            low, high = np.where(reached, low, middle), np.where(reached, middle, high)
        return _interval(np.where(never, np.inf, np.exp(high)), level)

    def max_reliable_n(self, points: float = 0.02, level: float = INTERVAL_LEVEL) -> int:
        """The largest n whose interval is no wider than +- `points` of score; `HORIZON` times the pilot at most."""
        n = self.largest
        while n < MAX_EXTRAPOLATION * self.largest:
            expected = self.predict(n * 2, level)
            if expected.high - expected.low > 2 * points:
                break
            n *= 2
        return n

    @property
    def _last_octaves(self) -> float:
        return float(np.log2(self.points[-1].n / self.points[-2].n))


def fit_learning_curve(
    points: Sequence[CurvePoint], *, seed: int = 0, families: Sequence[Family] = FAMILIES
) -> LearningCurve:
    """The curves of a pilot.

    Args:
        points: at least `FEWEST_SIZES` sizes, each with the scores of one or more seeds, on the same test texts.
        seed: draws the bootstrap.
        families: those that may be chosen.

    Raises:
        BadData: too few sizes (says how many more), or scores outside [0, 1].
    """
    kept = tuple(sorted(points, key=lambda point: point.n))
    sizes = np.array([point.n for point in kept], dtype=np.float64)
    if len(set(sizes)) < MIN_SIZES or (sizes <= 0).any():
        missing = MIN_SIZES - len(set(sizes[sizes > 0]))
        raise BadData(
            f"A learning curve needs {MIN_SIZES} sizes above zero and the pilot has {len(set(sizes[sizes > 0]))}.",
            f"Measure {missing} more, each about twice the one before.",
        )
    if len(set(sizes)) < len(sizes):
        raise BadData("The pilot names a size twice.", "Put all scores of a size into one point.")
    if any(not 0 <= score <= 1 for point in kept for score in point.scores) or any(not p.scores for p in kept):
        raise BadData("The pilot has a score outside [0, 1], or a size without one.", "Give scores as shares.")
    draw = np.random.default_rng(seed)
    errors = _resampled(kept, draw)
    chosen = [FAMILIES.index(family) for family in families]
    held = np.stack([np.abs(_fitted_error(FAMILIES[k], sizes, errors) - errors[:, -1]) for k in chosen], axis=1)
    kinds = np.array(chosen)[held.argmin(axis=1)]
    params = np.zeros((N_DRAWS, 4))
    for kind in set(kinds.tolist()):
        rows = kinds == kind
        params[rows] = _fit(FAMILIES[kind], sizes, errors[rows])
    shares = {family: float((kinds == k).mean()) for k, family in enumerate(FAMILIES)}
    best = max(families, key=lambda family: shares[family])
    true = np.maximum(errors[:, -1], MIN_ERROR)
    guessed = np.maximum(_fitted_error(best, sizes, errors), MIN_ERROR)
    missed = float(np.sqrt(np.mean(np.log(guessed / true) ** 2)))
    return LearningCurve(kept, best, shares, min(missed, 1.0), kinds, params, draw.standard_normal(N_DRAWS))


def _resampled(points: Sequence[CurvePoint], draw: np.random.Generator) -> Floats:
    """(DRAWS, M) mean errors, the seeds of each size drawn with repetition.

    A size with few seeds borrows the spread of all: the residual of a draw is scaled up by sqrt(S / (S - 1)), and a
    pilot with one seed everywhere has no spread at all to draw from.
    """
    columns = []
    for point in points:
        scores = np.asarray(point.scores)
        rows = draw.integers(0, len(scores), (N_DRAWS, len(scores)))
        widen = np.sqrt(len(scores) / max(len(scores) - 1, 1))
        columns.append(1 - (scores.mean() + (scores[rows].mean(axis=1) - scores.mean()) * widen))
    return np.asarray(np.clip(np.stack(columns, axis=1), 0.0, 1.0))


def _fitted_error(family: Family, sizes: Floats, errors: Floats) -> Floats:
    """(DRAWS,) the error at the last size as predicted from those before it."""
    return _error(family, _fit(family, sizes[:-1], errors[:, :-1]), float(sizes[-1]))


def _fit(family: Family, sizes: Floats, errors: Floats) -> Floats:
    """(B, M) errors -> (B, 4) parameters with the least weighted squares; a size weighs by its square root."""
    weights = np.sqrt(sizes / sizes.max())
    if family == "piecewise":
        return _fit_piecewise(sizes, errors, weights)
    if family == "power":
        shapes, basis = np.geomspace(0.05, 1.5, 40), _power
    else:
        shapes, basis = np.geomspace(sizes.min() / 2, sizes.max() * 4, 40), _decay
    best, least = np.zeros((len(errors), 4)), np.full(len(errors), np.inf)
    for shape in shapes:
        falling = basis(sizes, float(shape))
        a, b = _line(falling, errors, weights)
        loss = (weights * (a[:, None] + b[:, None] * falling - errors) ** 2).sum(axis=1)
        better = loss < least
        least = np.where(better, loss, least)
        best[better] = np.stack([a, b, np.full(len(a), shape), np.zeros(len(a))], axis=1)[better]
    return best


def _line(x: Floats, y: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """a >= 0 and b >= 0 of y = a + b x, for each row of (B, M) y."""
    total = weights.sum()
    mean_x, mean_y = (weights * x).sum() / total, (y * weights).sum(axis=1) / total
    spread = (weights * (x - mean_x) ** 2).sum()
    b = ((y - mean_y[:, None]) * (weights * (x - mean_x))).sum(axis=1) / max(spread, 1e-12)
    a = mean_y - b * mean_x
    through_zero = (y * weights * x).sum(axis=1) / (weights * x * x).sum()
    b = np.where(a < 0, through_zero, b)
    a = np.where(b < 0, mean_y, np.maximum(a, 0.0))
    return a, np.maximum(b, 0.0)


def _fit_piecewise(sizes: Floats, errors: Floats, weights: Floats) -> Floats:
    x, y = np.log(sizes), np.log(np.maximum(errors, MIN_ERROR))
    best, least = np.zeros((len(errors), 4)), np.full(len(errors), np.inf)
    root = np.sqrt(weights)
    for knot in [*x[2:], None]:
        if knot is None:  # a plain power law without a floor, in logs
            design, bent = np.stack([np.ones_like(x), x, np.zeros_like(x)], axis=1), float(x[-1])
        else:
            design, bent = np.stack([np.ones_like(x), x, _bent(x, knot)], axis=1), float(knot)
        theta = (y * root) @ np.linalg.pinv(design * root[:, None]).T
        tail = theta[:, 1] + 2 * theta[:, 2] * bent
        loss = (weights * (theta @ design.T - y) ** 2).sum(axis=1)
        # A curve that rises again at its end is refused, and bending is charged for, as it can always fit better.
        loss = np.where((tail > -0.01) & (knot is not None), np.inf, loss * (1.0 if knot is None else 1.1))
        theta[:, 1] = np.where(knot is None, np.minimum(theta[:, 1], -0.01), theta[:, 1])
        better = loss < least
        least = np.where(better, loss, least)
        best[better] = np.column_stack([theta, np.full(len(theta), bent)])[better]
    return best


def _bent(x: Floats, knot: float) -> Floats:
    """x squared up to the knot, its tangent after it."""
    return np.where(x <= knot, x * x, 2 * knot * x - knot * knot)


def _power(sizes: Floats, c: float) -> Floats:
    return np.asarray(sizes**-c)


def _decay(sizes: Floats, c: float) -> Floats:
    return np.asarray(np.exp(-sizes / c))


def _error(family: Family, params: Floats, n: float) -> Floats:
    """(B, 4) parameters -> (B,) errors at n, in [0, 1]."""
    a, b, c, knot = params.T
    if family == "power":
        return np.asarray(np.clip(a + b * n**-c, 0.0, 1.0))
    if family == "exponential":
        return np.asarray(np.clip(a + b * np.exp(-n / np.maximum(c, 1e-9)), 0.0, 1.0))
    x = np.log(n)
    bent = np.where(x <= knot, x * x, 2 * knot * x - knot * knot)
    return np.asarray(np.exp(np.minimum(a + b * x + c * bent, 0.0)))


def _interval(values: ArrayLike, level: float) -> Estimate:
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    # By order and not by interpolation: infinities are values here.
    pick: Callable[[float], float] = lambda share: float(ordered[min(int(share * len(ordered)), len(ordered) - 1)])  # noqa: E731
    return Estimate(pick(0.5), pick((1 - level) / 2), pick((1 + level) / 2))
