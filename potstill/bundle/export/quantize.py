"""An int8 twin of a graph, and whether it deserves to be served: no worse on the check texts, and faster here.

Ranges are measured on a few of the check texts (`ranges`), then fixed; of a graph in which nothing is found that this
works for, onnxruntime's dynamic quantisation is taken. Does not cover other precisions, or other runtimes.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potstill.bundle.bundle import Bundle, load
from potstill.bundle.export.int8_graph import write_static_int8
from potstill.bundle.export.quantization_ranges import calibrate_ranges
from potstill.bundle.sessions import open_session
from potstill.errors import RunNotFound

# The most accuracy int8 may cost, as a share; and how much faster it must be for the trouble of a second graph.
MAX_ACCURACY_LOSS, MIN_SPEEDUP = 0.005, 1.1
TIMED_TEXTS, ROUNDS = 256, 3
# Texts that ranges are measured on, and as many tokens at most.
CALIBRATION_TEXTS, CALIBRATION_TOKENS = 64, 1024


@dataclass(frozen=True)
class QuantizationResult:
    """Whether int8 is kept, and the figures it was decided on.

    Attributes:
        kept: True if int8 is served.
        why: one sentence.
        loss: share of check texts it lost; against gold the net loss, without gold every disagreement with fp32.
        agreement: share of check texts on which int8 and fp32 name the same label.
        speedup: fp32's seconds over int8's on the same texts, on this machine.
        texts: how many check texts.
    """

    accepted: bool
    reason: str
    accuracy_loss: float
    agreement: float
    speedup: float
    texts: int


def write_int8(folder: Path, fp32: str, int8: str, texts: Sequence[str]) -> None:
    """Write the int8 twin of a bundle's fp32 graph; of the texts only what values they lead to is used, no labels.

    Args:
        folder: the bundle, the fp32 graph in it.
        fp32, int8: their file names.
        texts: N texts like those it will be used on.
    """
    exact = load(folder, graph=fp32)
    some = _few(exact, texts)
    if some:
        ranges = calibrate_ranges(folder / fp32, lambda: (fed for _, fed in exact._reader.feeds(some)))
        if write_static_int8(folder / fp32, folder / int8, ranges) and _opens(folder / int8):
            return
    write_dynamic_int8(folder / fp32, folder / int8)


def _few(bundle: Bundle, texts: Sequence[str]) -> list[str]:
    """Texts from all over the N, until they have enough tokens."""
    found: list[str] = []
    tokens = 0
    for text in texts[:: max(1, len(texts) // CALIBRATION_TEXTS)][:CALIBRATION_TEXTS]:
        tokens += sum(next(iter(inputs.values())).size for _, inputs in bundle._reader.feeds([text]))
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
    """The int8 twin that finds the range of each product's input anew each time."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(graph)
    # Shapes that the exporter noted contradict the quantised ones, and onnxruntime then refuses the graph.
    model.graph.ClearField("value_info")
    root, level = logging.getLogger(), logging.getLogger().level
    root.setLevel(logging.ERROR)  # its advice to pre-process is about graphs of another kind
    try:
        with tempfile.TemporaryDirectory() as scratch:
            plain = Path(scratch) / "plain.onnx"
            onnx.save(model, plain)
            quantize_dynamic(plain, target, per_channel=True, weight_type=QuantType.QInt8)
    finally:
        root.setLevel(level)


def compare_int8(
    folder: Path, fp32: str, int8: str, texts: Sequence[str], gold: NDArray[np.integer] | None = None
) -> QuantizationResult:
    """Compare the two graphs of a bundle folder on N check texts.

    Args:
        folder: the bundle, both graphs in it.
        fp32, int8: their file names.
        texts: N texts, at least one.
        gold: (N,) columns of the right labels, or (N, K) truths; without them every disagreement counts as a loss.
            Compared are the likeliest labels.
    """
    exact, small = load(folder, graph=fp32), load(folder, graph=int8)
    said, guessed = exact.predict_logits(texts).argmax(axis=1), small.predict_logits(texts).argmax(axis=1)
    agreement = float((said == guessed).mean())
    if gold is None:
        loss, than = 1 - agreement, "in agreement with fp32"
    else:
        right = np.arange(exact.predict_logits([]).shape[1]) == gold[:, None] if gold.ndim == 1 else gold == 1
        rows = np.arange(len(gold))
        loss, than = float(right[rows, said].mean() - right[rows, guessed].mean()), "in accuracy"
    speedup = _speedup(exact, small, texts[:TIMED_TEXTS])
    if loss > MAX_ACCURACY_LOSS:
        kept, why = False, f"int8 loses {100 * loss:.1f} points {than} on {len(texts):,} texts: fp32 is served."
    elif speedup < MIN_SPEEDUP:
        kept, why = False, f"int8 is {speedup:.2f} times as fast as fp32 here, not worth it: fp32 is served."
    else:
        kept, why = True, _kept(loss, than, len(texts), speedup)
    return QuantizationResult(kept, why, loss, agreement, speedup, len(texts))


def _kept(loss: float, than: str, n: int, speedup: float) -> str:
    return (
        f"int8 is served: it loses {max(0.0, 100 * loss):.1f} points {than} on {n:,} texts and is {speedup:.1f} times "
        "as fast as fp32 here."
    )


def _speedup(exact: Bundle, small: Bundle, texts: Sequence[str]) -> float:
    """Best of a few interleaved rounds each, so that a neighbour's burst of work hits both."""
    best = [float("inf"), float("inf")]
    for _ in range(ROUNDS):
        for i, bundle in enumerate((exact, small)):
            began = time.perf_counter()
            bundle.predict_logits(texts)
            best[i] = min(best[i], time.perf_counter() - began)
    return best[0] / max(best[1], 1e-9)
