"""The range of each linear layer's input that an int8 graph covers with its 256 steps, measured on a few texts.

In an encoder a few columns of a few tokens (the first one's above all) are many times as large as all the rest, and
always the same ones; a range that covers them leaves few steps for the rest. So the range is clipped, and outliers are
represented in one of two ways. Narrow inputs: their columns are scaled down and the weights up (SmoothQuant, Xiao et
al. 2023, arXiv:2211.10438, with the factors of least estimated error). Wide inputs, where that would cost more time:
their columns get copies; the part above the range goes into the first copy, the part above that into the second
(outlier channel splitting, Zhao et al. 2019, arXiv:1901.09504, split where the range ends).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.bundle.export.linear_ops import find_linear_ops, initializer_array

Floats = NDArray[np.float64]
# Candidate ends of a range, as shares of the largest value seen.
CLIP_RATIOS = 0.75 ** np.arange(14)
# Wider inputs get copies, at most one in so many columns; neither is done unless the error falls to this ratio. The
# margin of a copied column above the largest value seen.
NARROW_WIDTH, COLUMNS_A_COPY, MAX_COST_RATIO, RANGE_MARGIN = 1024, 384, 0.3, 1.1


# Weights of a layer that is quantised for its size alone.
LARGE_WEIGHT = 1_000_000


@dataclass(frozen=True)
class ChannelSplit:
    """One copy of a column: represents its values in 255 steps from `start` on, and clips the others.

    Attributes:
        column: the index of the column.
        start: the value of the copy's first step.
        rest: its step for values inside the range: 0, or 255 if the copy lies below it.
    """

    column: int
    start: float
    rest: int


@dataclass(frozen=True, eq=False)
class QuantizationRange:
    """A range in 256 steps.

    Attributes:
        scale: the width of a step.
        zero_point: the step of zero, 0 to 255.
        copies: of the columns whose outliers matter.
        divisors: (K,) the columns are divided by them, and the rows of the weights multiplied; None for neither.
    """

    scale: float
    zero_point: int
    copies: tuple[ChannelSplit, ...] = ()
    divisors: Floats | None = None

    @property
    def low(self) -> float:
        """The smallest value that is represented."""
        return -self.zero_point * self.scale

    @property
    def high(self) -> float:
        """The largest value that is represented."""
        return (255 - self.zero_point) * self.scale


class _ObservedRange:
    """The values seen of one input with K columns, and the (K, N) weights of all layers that read it."""

    def __init__(self, weights: NDArray[np.float32]) -> None:
        self.weights, k = weights, len(weights)
        self.weight = (weights.astype(np.float64) ** 2).sum(axis=1)
        self.low, self.high, self.squares = np.zeros(k), np.zeros(k), np.zeros(k)
        # The squared error of a column, before its weights, when clipped at a ratio of the largest value of all.
        self.above, self.below = np.zeros((len(CLIP_RATIOS), k)), np.zeros((len(CLIP_RATIOS), k))
        self.rows = 0

    def extremes(self, values: NDArray[np.float32]) -> None:
        self.low, self.high = np.minimum(self.low, values.min(axis=0)), np.maximum(self.high, values.max(axis=0))
        self.squares += np.square(values, dtype=np.float64).sum(axis=0)
        self.rows += len(values)

    def costs(self, values: NDArray[np.float32]) -> None:
        for costs, most, sign in ((self.above, self.high, 1.0), (self.below, -self.low, -1.0)):
            for i, end in enumerate(CLIP_RATIOS * most.max()):
                outliers = np.flatnonzero(most > end)
                costs[i, outliers] += (np.maximum(sign * values[:, outliers] - end, 0) ** 2).sum(axis=0)


def calibrate_ranges(
    file: Path, feeds: Callable[[], Iterable[Mapping[str, NDArray[Any]]]]
) -> dict[str, QuantizationRange]:
    """The range of the input of every linear layer in the fp32 graph, without heads on one vector a text.

    Args:
        file: the graph.
        feeds: returns the graph's inputs for a few hundred tokens or more, the same each time; called twice. Masked
            positions are left out if an input is called `attention_mask`.
    """
    import onnx

    model = onnx.load(file)
    weights: dict[str, list[NDArray[np.float32]]] = {}
    for product in find_linear_ops(model.graph):
        weights.setdefault(product.source, []).append(initializer_array(model.graph, product.weights))
    seen = {name: _ObservedRange(np.concatenate(each, axis=1)) for name, each in weights.items()}
    if not seen:
        return {}
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in seen)
    session = _session(model)
    for step in (_ObservedRange.extremes, _ObservedRange.costs):
        for inputs in feeds():
            visible = inputs["attention_mask"].astype(bool) if "attention_mask" in inputs else None
            for observed, values in zip(seen.values(), session.run(list(seen), dict(inputs)), strict=True):
                fits = visible is not None and values.shape[:-1] == visible.shape
                step(observed, values[visible] if fits else values.reshape(-1, values.shape[-1]))
    most = max(observed.rows for observed in seen.values())
    return {
        name: _best(observed)
        for name, observed in seen.items()
        if 2 * observed.rows >= most
        or observed.weights.size >= LARGE_WEIGHT  # else it is a head, which would gain little and lose much
    }


def _session(model: Any) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _best(seen: _ObservedRange) -> QuantizationRange:
    """The range of least squared error, by rounding and by clipping."""
    if seen.high.max() <= seen.low.min() or not seen.rows:
        return QuantizationRange(1.0, 0)
    narrow = len(seen.weight) <= NARROW_WIDTH
    plain = better = (np.inf, QuantizationRange(1.0, 0))
    for i, high in enumerate(CLIP_RATIOS * seen.high.max()):
        for j, low in enumerate(CLIP_RATIOS * seen.low.min()):
            step = float(high - low) / 255
            range_ = QuantizationRange(step, int(np.clip(round(-low / step), 0, 255)))
            rounding = step**2 / 12 * float(seen.weight.sum()) * seen.rows
            cut = (seen.above[i] + seen.below[j]) * seen.weight
            plain = min(plain, (rounding + float(cut.sum()), range_), key=_cost)
            if not narrow:
                better = min(better, _copied(seen, rounding, cut, range_), key=_cost)
            elif i % 2 == j % 2 == 0:
                better = min(better, _divided(seen, range_), key=_cost)
    if narrow:  # the error of the weights is in the cost of dividing, so it must be in the other cost
        plain = (plain[0] + _weights_error(seen, np.ones(len(seen.weight))), plain[1])
    return better[1] if better[0] < MAX_COST_RATIO * plain[0] else plain[1]


def _cost(known: tuple[float, QuantizationRange]) -> float:
    return known[0]


def _divided(seen: _ObservedRange, range_: QuantizationRange) -> tuple[float, QuantizationRange]:
    """The range with every outlier column divided until it fits, and its cost."""
    with np.errstate(divide="ignore", invalid="ignore"):
        passed = np.fmax(seen.high / range_.high, seen.low / range_.low)
    divisors = np.maximum(np.nan_to_num(passed, posinf=np.inf), 1.0)
    if not np.isfinite(divisors).all():
        return np.inf, range_
    rounding = range_.scale**2 / 12 * float((seen.weight * divisors**2).sum()) * seen.rows
    return rounding + _weights_error(seen, divisors), QuantizationRange(range_.scale, range_.zero_point, (), divisors)


def _weights_error(seen: _ObservedRange, divisors: Floats) -> float:
    """The error of rounding the weights to 127 steps a side, their rows multiplied with the divisors."""
    raised = np.flatnonzero(divisors > 1)
    most = np.abs(seen.weights).max(axis=0)
    if len(raised):
        most = np.maximum(most, (np.abs(seen.weights[raised]) * divisors[raised, None]).max(axis=0))
    return float(((most / 127) ** 2).sum() / 12 * (seen.squares / divisors**2).sum())


def _copied(
    seen: _ObservedRange, rounding: float, cut: Floats, range_: QuantizationRange
) -> tuple[float, QuantizationRange]:
    """The range with copies of the columns whose clipping costs most, and its cost."""
    copies: list[ChannelSplit] = []
    left, width, budget = rounding + float(cut.sum()), 255 * range_.scale, 4 * round(len(cut) / COLUMNS_A_COPY / 4)
    for column in np.argsort(-cut)[:budget]:
        above, below = (
            int(np.ceil((RANGE_MARGIN * most - end) / width)) if most > 1.001 * end else 0
            for most, end in ((seen.high[column], range_.high), (-seen.low[column], -range_.low))
        )
        if not above + below or len(copies) + above + below > budget:
            break
        copies += [ChannelSplit(int(column), range_.high + k * width, 0) for k in range(above)]
        copies += [ChannelSplit(int(column), range_.low - (k + 1) * width, 255) for k in range(below)]
        left -= float(cut[column])
    return left, QuantizationRange(range_.scale, range_.zero_point, tuple(copies))
