"""The int8 version of a graph, served only if it is no worse on the check texts and faster on this machine.

Static quantisation with ranges measured on a few of the check texts (`quantization_ranges`); a graph without operators
that this supports gets onnxruntime's dynamic quantisation. Does not cover other precisions, or other runtimes.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from potstill.bundle.bundle import Bundle
from potstill.bundle.export.int8_graph import write_static_int8
from potstill.bundle.export.quantization_ranges import calibrate_ranges
from potstill.bundle.preprocessors import Preprocessor
from potstill.bundle.record import QuantizationResult
from potstill.bundle.sessions import open_session
from potstill.errors import RunNotFound

# The most accuracy int8 may cost, as a share; and the speed-up from which int8 is worth a second graph.
MAX_ACCURACY_LOSS, MIN_SPEEDUP = 0.005, 1.1
TIMED_TEXTS, ROUNDS = 256, 3
# Texts that ranges are measured on, and as many tokens at most.
CALIBRATION_TEXTS, CALIBRATION_TOKENS = 64, 1024
BLOCK_WEIGHTS = 32  # weights that share a scale, where only weights are quantised
INT8_INPUTS = 4  # accuracy level of `MatMulNBits`: its inputs are rounded to 8 bits, too


class GraphBundle(Protocol):
    """What an int8 graph is made from: a folder with a graph, and texts as its inputs."""

    @property
    def folder(self) -> Path:
        """Of the bundle."""

    @property
    def graph(self) -> str:
        """The file of its fp32 graph."""

    @property
    def preprocessor(self) -> Preprocessor:
        """Texts -> batches of the graph's inputs."""


def write_int8(exact: GraphBundle, target: Path, texts: Sequence[str]) -> None:
    """Write the int8 graph of a bundle. The texts only give the ranges of values; no labels are used.

    Args:
        exact: the bundle with its fp32 graph.
        target: the file to write.
        texts: N texts like those it will be used on.
    """
    fp32 = exact.folder / exact.graph
    sample = _sample(exact, texts)
    if sample:
        ranges = calibrate_ranges(fp32, lambda: (inputs for _, inputs in exact.preprocessor.feeds(sample)))
        if write_static_int8(fp32, target, ranges) and _opens(target):
            return
    write_dynamic_int8(fp32, target)


def _sample(bundle: GraphBundle, texts: Sequence[str]) -> list[str]:
    """Texts from all over the N, until they have enough tokens."""
    found: list[str] = []
    tokens = 0
    for text in texts[:: max(1, len(texts) // CALIBRATION_TEXTS)][:CALIBRATION_TEXTS]:
        tokens += sum(next(iter(inputs.values())).size for _, inputs in bundle.preprocessor.feeds([text]))
        if found and tokens > CALIBRATION_TOKENS:
            break
        found.append(text)
    return found


def _opens(graph: Path) -> bool:
    try:
        open_session(graph)
    except RunNotFound:
        return False
    return True


def write_dynamic_int8(graph: Path, target: Path) -> None:
    """Write the int8 graph that computes the range of each product's input at every call."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(graph)
    # Shapes that the exporter noted contradict the quantised ones, and onnxruntime then refuses the graph.
    model.graph.ClearField("value_info")
    root, level = logging.getLogger(), logging.getLogger().level
    root.setLevel(logging.ERROR)  # its warning to pre-process does not apply to these graphs
    try:
        with tempfile.TemporaryDirectory() as scratch:
            plain = Path(scratch) / "plain.onnx"
            onnx.save(model, plain)
            # 7 bits a weight: with 8, processors with AVX2 and without VNNI saturate.
            quantize_dynamic(plain, target, per_channel=True, weight_type=QuantType.QInt8, reduce_range=True)
    finally:
        root.setLevel(level)


def write_weight_int8(graph: Path, target: Path) -> None:
    """Write the graph whose constant factors are stored in 8-bit blocks, with a scale each.

    What a row gives does not depend on the rows beside it, as it does with a range for a whole batch: inputs are
    rounded block by block as well.
    """
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    model = onnx.load(graph)
    model.graph.ClearField("value_info")
    root, level = logging.getLogger(), logging.getLogger().level
    root.setLevel(logging.ERROR)
    try:
        quantizer = MatMulNBitsQuantizer(
            model, bits=8, block_size=BLOCK_WEIGHTS, is_symmetric=True, accuracy_level=INT8_INPUTS
        )
        quantizer.process()
    finally:
        root.setLevel(level)
    onnx.save(quantizer.model.model, target)


def accept_int8(
    exact: Bundle, small: Bundle, texts: Sequence[str], gold: NDArray[np.integer] | None = None
) -> QuantizationResult:
    """Decide whether int8 is served: it must lose little accuracy on N check texts and be faster than fp32.

    Args:
        exact: the bundle with its fp32 graph.
        small: the same with its int8 graph.
        texts: N texts, at least one.
        gold: (N,) columns of their labels, or (N, K) zeros and ones; without them every disagreement counts as a loss.
    """
    fp32, int8 = exact.predict_logits(texts).argmax(axis=1), small.predict_logits(texts).argmax(axis=1)
    agreement = float((fp32 == int8).mean())
    if gold is None:
        loss, measure = 1 - agreement, "in agreement with fp32"
    else:
        right = np.arange(len(exact.labels)) == gold[:, None] if gold.ndim == 1 else gold == 1
        rows = np.arange(len(gold))
        loss, measure = float(right[rows, fp32].mean() - right[rows, int8].mean()), "in accuracy"
    some = texts[:TIMED_TEXTS]
    speedup = measure_speedup(lambda: exact.predict_logits(some), lambda: small.predict_logits(some))
    lost = f"{max(0.0, 100 * loss):.1f} points {measure} on {len(texts):,} texts"
    return decide_int8(loss, speedup, lost, agreement, len(texts))


def decide_int8(loss: float, speedup: float, lost: str, agreement: float, n_texts: int) -> QuantizationResult:
    """Whether int8 is served: it loses at most `MAX_ACCURACY_LOSS` and is `MIN_SPEEDUP` times as fast as fp32.

    Args:
        loss: the share of the score that int8 loses.
        speedup: seconds of fp32 over seconds of int8.
        lost: the loss in words, with the number of texts.
        agreement: the share of the texts that both predict alike.
        n_texts: the texts that were predicted.
    """
    accepted = loss <= MAX_ACCURACY_LOSS and speedup >= MIN_SPEEDUP
    if loss > MAX_ACCURACY_LOSS:
        reason = f"int8 loses {lost}: fp32 is served."
    elif not accepted:
        reason = f"int8 is {speedup:.2f} times as fast as fp32 here, not worth it: fp32 is served."
    else:
        reason = f"int8 is served: it loses {lost} and is {speedup:.1f} times as fast as fp32 here."
    return QuantizationResult(accepted, reason, loss, agreement, speedup, n_texts)


def measure_speedup(exact: Callable[[], object], small: Callable[[], object]) -> float:
    """Seconds of one over seconds of the other: best of a few interleaved rounds, so that other load hits both."""
    best = [float("inf"), float("inf")]
    for _ in range(ROUNDS):
        for i, predict in enumerate((exact, small)):
            started = time.perf_counter()
            predict()
            best[i] = min(best[i], time.perf_counter() - started)
    return best[0] / max(best[1], 1e-9)
