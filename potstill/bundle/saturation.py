"""Warns of an int8 graph that this processor computes less exactly than others do.

Processors of the x86 family without VNNI (AVX2 alone: AMD Zen 2 and 3, Intel before 2019) multiply 8-bit integers in
pairs and add both products in 16 bits, which saturates if two neighbouring weights add up to more than 128. The graphs
of potstill 0.1 and 0.2 have such weights, and a copy keeps them under a record of today: so the weights are read.
Where the system does not say what the processor can, nothing is said. Reads no other operations than products.
"""

from __future__ import annotations

import mmap
import warnings
from pathlib import Path

import numpy as np

from potstill.bundle.protobuf import read_fields
from potstill.errors import PotstillWarning

CPU_INFO = Path("/proc/cpuinfo")
VNNI = frozenset({"avx512_vnni", "avx_vnni"})
MAX_SUM = 128  # of two neighbouring weights: 255 times as much still fits into 16 bits
PRODUCTS = frozenset({b"MatMulIntegerToFloat", b"MatMulInteger", b"DynamicQuantizeMatMul", b"QLinearMatMul"})
# Field numbers and a value of onnx.proto.
_GRAPH, _NODE, _TENSOR = 7, 1, 5
_INPUT, _OPERATION = 1, 4
_DIMENSION, _TYPE, _NAME, _RAW = 1, 2, 8, 9
_INT8 = 3


def warn_of_saturation(folder: Path, graph: str) -> None:
    """Warn if a bundle's graph has weights with which this processor saturates."""
    if adds_in_16_bits() and saturates(folder / graph):
        warnings.warn(
            f"{folder} has an int8 graph of an older potstill, which this processor (no VNNI) computes less exactly "
            "than the one that checked it. Delete the folder and run the same distill command again: it exports the "
            "student anew and buys nothing.",
            PotstillWarning,
            stacklevel=2,
        )


def adds_in_16_bits(cpu_info: Path = CPU_INFO) -> bool:
    """Whether this processor adds two products of 8-bit integers in 16 bits; False if the system does not say."""
    try:
        lines = cpu_info.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), None)
    return flags is not None and VNNI.isdisjoint(flags)


def saturates(file: Path) -> bool:
    """Whether two neighbouring weights of an int8 product in a graph add up to more than `MAX_SUM`.

    The graph has passed `check_graph`.
    """
    with file.open("rb") as opened:
        model = memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
    graph = next((each.value for each in read_fields(model) if each.number == _GRAPH), None) or memoryview(b"")
    parts = [(each.number, each.value) for each in read_fields(graph) if each.value is not None]
    factors = {name for number, value in parts if number == _NODE for name in _factors(value)}
    return any(_overflows(value, factors) for number, value in parts if number == _TENSOR)


def _factors(node: memoryview) -> list[bytes]:
    """The names that an int8 product reads; none of another node."""
    fields = [(each.number, bytes(each.value)) for each in read_fields(node) if each.value is not None]
    is_product = any(number == _OPERATION and value in PRODUCTS for number, value in fields)
    return [value for number, value in fields if number == _INPUT] if is_product else []


def _overflows(tensor: memoryview, factors: set[bytes]) -> bool:
    """Whether a tensor is a matrix (K, N) of int8 among the factors, with two neighbours in K that are too large."""
    fields = list(read_fields(tensor))
    named = any(each.number == _NAME and each.value is not None and bytes(each.value) in factors for each in fields)
    shape = [each.integer for each in fields if each.number == _DIMENSION and each.integer is not None]
    raw = next((each.value for each in fields if each.number == _RAW), None)
    is_int8 = any(each.number == _TYPE and each.integer == _INT8 for each in fields)
    if not named or not is_int8 or len(shape) != 2 or raw is None or len(raw) != shape[0] * shape[1]:
        return False
    weights = np.frombuffer(raw, dtype=np.int8).reshape(shape)
    end = len(weights) // 2 * 2
    sums = weights[:end:2].astype(np.int16) + weights[1:end:2]
    return bool(sums.size and np.abs(sums).max() > MAX_SUM)
