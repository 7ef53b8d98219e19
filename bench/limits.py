"""Upper limits of this machine: matrix products per second in onnxruntime, texts per second of the tokenizer alone.

A student cannot be faster than its matrix products. A module of `runtime.py`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from potstill.bundle.sessions import open_session
from potstill.models.tokens.tokenizer import TextTokenizer

ROWS, IN, OUT = 256, 384, 1536  # the widest product of a small encoder, on a batch of tokens
SECONDS = 1.5


@dataclass(frozen=True)
class Limits:
    """10^9 operations per second of all threads, texts per second of the tokenizer, tokens and operations per text."""

    int8_gops: float
    fp32_gops: float
    tokenizer_texts_per_s: float
    tokens_per_text: float
    gflop_per_text: float

    @property
    def int8_texts_per_s(self) -> float:
        """Texts per second of the int8 products alone."""
        return self.int8_gops / self.gflop_per_text

    @property
    def fp32_texts_per_s(self) -> float:
        """Texts per second of the fp32 products alone."""
        return self.fp32_gops / self.gflop_per_text


def measure_limits(tokens: TextTokenizer, texts: Sequence[str], linear: int, threads: int, scratch: Path) -> Limits:
    """Measure the limits; `linear` is the number of weights that every token is multiplied with."""
    lengths = np.array([len(own) for own in tokens.encode(texts).ids])
    rates = []
    for _ in range(5):
        began = time.perf_counter()
        tokens.encode(texts)
        rates.append(len(texts) / (time.perf_counter() - began))
    return Limits(
        int8_gops=_products(scratch, "int8", threads),
        fp32_gops=_products(scratch, "fp32", threads),
        tokenizer_texts_per_s=max(rates),
        tokens_per_text=float(lengths.mean()),
        gflop_per_text=float(2 * linear * lengths.mean() / 1e9),
    )


def _products(scratch: Path, precision: str, threads: int) -> float:
    """10^9 operations per second of `threads` threads, each with its own products."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = rng.integers(-127, 127, (IN, OUT)).astype(np.int8 if precision == "int8" else np.float32)
    feed = rng.integers(0, 255, (ROWS, IN)).astype(np.uint8 if precision == "int8" else np.float32)
    operator, kind, out = (
        ("MatMulInteger", TensorProto.UINT8, TensorProto.INT32)
        if precision == "int8"
        else ("MatMul", TensorProto.FLOAT, TensorProto.FLOAT)
    )
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", kind, [ROWS, IN])],
        [helper.make_tensor_value_info("y", out, [ROWS, OUT])],
        [numpy_helper.from_array(weights, "w")],
    )
    file = scratch / f"{precision}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), file)
    session = open_session(file)

    def multiply(until: float) -> int:
        binding = session.io_binding()
        binding.bind_cpu_input("x", feed)
        binding.bind_output("y")
        done = 0
        while time.perf_counter() < until:
            session.run_with_iobinding(binding)
            done += 1
        return done

    best = 0.0
    for _ in range(3):
        began = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            done = sum(pool.map(multiply, [began + SECONDS / 3] * threads))
        best = max(best, 2 * ROWS * IN * OUT * done / (time.perf_counter() - began) / 1e9)
    return best
