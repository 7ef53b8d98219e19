"""The footprint of a student: parameters, FLOPs, latency, throughput, size and energy of its exported bundle.

FLOPs are counted: the exported graph is run on real texts one at a time, the shapes of all matrix products are read
out, and a product of (M, K) by (K, N) is 2 M K N. Additions, normalisations and activations are left out (a few per
cent), and so is the tokeniser.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from potstill.bundle.export.export import export
from potstill.bundle.layout import FP32
from potstill.bundle.preprocessors import Preprocessor
from potstill.data.task import Task
from potstill.errors import PotstillError
from potstill.evaluation.energy import cpu_meter
from potstill.evaluation.latency import PredictFunction, measure_latency
from potstill.students.base import Student
from potstill.study.records import Footprint

COUNTED_TEXTS = 16
TIMED_TEXTS = 200
MATMUL_OPS = ("MatMul", "Gemm", "FusedMatMul")


def measure_footprint(student: Student, task: Task, texts: Sequence[str], note: str = "") -> Footprint:
    """Export the student and measure it on some texts; what cannot be measured is None, and the note says why."""
    with TemporaryDirectory(prefix="potstill-") as scratch:
        folder = Path(scratch) / "bundle"
        dtype_note = _predict_in_float32(student)
        try:
            bundle = export(student, folder, task=task, texts=() if dtype_note else texts[:TIMED_TEXTS])
        except (PotstillError, NotImplementedError, RuntimeError, OSError) as error:
            return without_export(student.predict_proba, texts, not_exported(error))
        speed = measure_latency(bundle.predict_proba, list(texts[:TIMED_TEXTS]), seconds=1.0, meter=cpu_meter())
        counted = count_graph(folder / FP32, bundle.preprocessor, texts[:COUNTED_TEXTS])
        return Footprint(
            parameters=counted.parameters,
            flops=counted.flops,
            texts_per_s=speed.texts_per_s,
            p50_ms=speed.p50_ms,
            p99_ms=speed.p99_ms,
            size_mb=bundle.size_mb,
            joules_per_1000=None if speed.joules_per_text is None else 1000 * speed.joules_per_text,
            dtype=bundle.precision,
            note=", ".join(each for each in (note, counted.note, dtype_note) if each),
        )


def not_exported(error: Exception) -> str:
    """Why there is no bundle, for a note."""
    return f"not exported: {(str(error).splitlines() or [''])[0][:200]}"


def without_export(predict: PredictFunction, texts: Sequence[str], note: str) -> Footprint:
    """The footprint of the student as it was trained: one that is too large for a graph is still compared."""
    speed = measure_latency(predict, list(texts[:COUNTED_TEXTS]), seconds=1.0, meter=cpu_meter())
    return Footprint(
        flops=count_torch_flops(predict, texts[:COUNTED_TEXTS]),
        texts_per_s=speed.texts_per_s,
        p50_ms=speed.p50_ms,
        p99_ms=speed.p99_ms,
        joules_per_1000=None if speed.joules_per_text is None else 1000 * speed.joules_per_text,
        dtype="fp32",
        note=f"{note}; measured as it was trained",
    )


def count_torch_flops(predict: PredictFunction, texts: Sequence[str]) -> float | None:
    """FLOPs a text of a student that predicts with PyTorch, one text at a time; None if it does not."""
    try:
        from torch.utils.flop_counter import FlopCounterMode
    except ImportError:
        return None
    with FlopCounterMode(display=False) as counter:
        for text in texts:
            predict([text])
    total = counter.get_total_flops()
    return total / len(texts) if total and len(texts) else None


def _predict_in_float32(student: Student) -> str:
    """Switch a student that predicts in bfloat16 to float32, as its graph computes; returns a note if it did."""
    options: Any = getattr(student, "options", None)
    if getattr(options, "dtype", "float32") == "float32":
        return ""
    student.options = options.model_copy(update={"dtype": "float32"})  # type: ignore[attr-defined]
    return "exported in float32, int8 not tried"


def count_parameters(graph: Path) -> int | None:
    """The numbers in an exported graph; None without the package onnx."""
    try:
        import onnx
    except ImportError:
        return None
    initializers = onnx.load(str(graph)).graph.initializer
    return sum(int(np.prod(each.dims)) for each in initializers if len(each.dims) > 0)


def count_graph(graph: Path, preprocessor: Preprocessor, texts: Sequence[str]) -> Footprint:
    """Count the parameters of an exported graph and its FLOPs per text; needs the package onnx."""
    try:
        import onnx
    except ImportError:
        return Footprint(note="parameters and FLOPs: not counted without onnx (pip install 'potstill[train]')")
    import onnxruntime

    model = onnx.load(str(graph))
    parameters = sum(int(np.prod(each.dims)) for each in model.graph.initializer if len(each.dims) > 0)
    products = [node for node in model.graph.node if node.op_type in MATMUL_OPS]
    constants = {each.name: tuple(each.dims) for each in model.graph.initializer}
    named = {each.name for each in (*model.graph.output, *model.graph.input)}
    # Shapes inside a graph are known only when it runs: the operands of each product become outputs.
    operands = dict.fromkeys(name for node in products for name in node.input[:2])
    for name in operands:
        if name not in constants and name not in named:
            model.graph.output.append(onnx.ValueInfoProto(name=name))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    totals = []
    for text in texts:
        _, feeds = next(iter(preprocessor.feeds([text])))
        names = [each.name for each in session.get_outputs()]
        shapes = constants | {name: value.shape for name, value in feeds.items()}
        shapes |= {name: value.shape for name, value in zip(names, session.run(names, feeds), strict=True)}
        totals.append(sum(_count_flops(node, shapes) for node in products))
    return Footprint(parameters=parameters, flops=float(np.mean(totals)) if totals else None)


def _count_flops(node: Any, shapes: dict[str, tuple[int, ...]]) -> int:
    left, right = list(shapes[node.input[0]]), list(shapes[node.input[1]])
    settings = {each.name: each.i for each in node.attribute if each.name in ("transA", "transB")}
    if settings.get("transA"):
        left[-2:] = left[:-3:-1]
    if settings.get("transB"):
        right[-2:] = right[:-3:-1]
    if len(right) == 1:
        right = [*right, 1]
    batch = np.broadcast_shapes(tuple(left[:-2]), tuple(right[:-2]))
    rows = left[-2] if len(left) > 1 else 1
    return int(2 * np.prod(batch, dtype=np.int64) * rows * left[-1] * right[-1])
