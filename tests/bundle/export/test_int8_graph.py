"""The int8 twin: what is far out is kept, what is turned computes the same, and other graphs are left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tinybert import WORDS, write_tinybert

from potstill.bundle.export.int8_graph import write_static_int8
from potstill.bundle.export.linear_ops import find_linear_ops
from potstill.bundle.export.quantization_ranges import NARROW_WIDTH, QuantizationRange, calibrate_ranges
from potstill.bundle.export.quantize import write_dynamic_int8
from potstill.bundle.export.sequence_major import to_sequence_major
from potstill.bundle.saturation import saturates
from potstill.bundle.sessions import open_session

onnx = pytest.importorskip("onnx")


def write(file: Path, nodes: list[Any], constants: dict[str, Any], width: int) -> Path:
    """A graph `input (B, T, width) -> logits`."""
    held = [onnx.numpy_helper.from_array(np.asarray(own), name) for name, own in constants.items()]
    ends = [
        onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, ["B", "T", width]),
        onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, None),
    ]
    graph = onnx.helper.make_graph(nodes, "graph", ends[:1], ends[1:], held)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9), file)
    return file


def write_product(file: Path, width: int) -> tuple[Path, Any, Any]:
    rng = np.random.default_rng(width)
    weights = rng.normal(size=(width, 24)).astype(np.float32) / np.sqrt(width).astype(np.float32)
    bias = rng.normal(size=24).astype(np.float32)
    node = onnx.helper.make_node
    nodes = [node("MatMul", ["input", "weights"], ["product"]), node("Add", ["bias", "product"], ["logits"])]
    return write(file, nodes, {"weights": weights, "bias": bias}, width), weights, bias


def run(file: Path, **feeds: Any) -> Any:
    return open_session(file).run(["logits"], feeds)[0]


@pytest.mark.parametrize("width", [48, NARROW_WIDTH + 512])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_column_far_out_costs_the_others_nothing(tmp_path: Path, width: int, sign: float) -> None:
    file, weights, bias = write_product(tmp_path / "plain.onnx", width)
    rng = np.random.default_rng(0)
    values = rng.uniform(-1, 1, size=(8, 16, width)).astype(np.float32)
    values[:, 0, 3] = sign * rng.uniform(25, 30, size=8)  # one column of the first tokens
    exact = values @ weights + bias
    ranges = calibrate_ranges(file, lambda: [{"input": values}])
    assert write_static_int8(file, tmp_path / "int8.onnx", ranges)
    write_dynamic_int8(file, tmp_path / "dynamic.onnx")
    ours = np.abs(run(tmp_path / "int8.onnx", input=values) - exact)
    others = np.abs(run(tmp_path / "dynamic.onnx", input=values) - exact)
    assert ours.mean() < others.mean() / 3
    assert ours.max() < others.max()


@pytest.mark.parametrize("write_int8", ["static", "dynamic"])
def test_two_neighbouring_weights_never_saturate_on_a_processor_without_vnni(tmp_path: Path, write_int8: str) -> None:
    """AVX2 adds 0 to 255 times each of the two in 16 bits; this machine may have better, so the weights are read."""
    file, _, _ = write_product(tmp_path / "plain.onnx", NARROW_WIDTH + 512)
    values = np.random.default_rng(0).uniform(-1, 1, size=(8, 16, NARROW_WIDTH + 512)).astype(np.float32)
    values[:, 0, 3] = 28.0  # a column far out, which gets copies at the end
    target = tmp_path / "int8.onnx"
    if write_int8 == "static":
        ranges = calibrate_ranges(file, lambda: [{"input": values}])
        assert ranges["input"].copies
        assert write_static_int8(file, target, ranges)
    else:
        write_dynamic_int8(file, target)
    held = [onnx.numpy_helper.to_array(each) for each in onnx.load(target).graph.initializer]
    (weights,) = (each.astype(int) for each in held if each.dtype == np.int8 and each.ndim == 2 and len(each) > 1)
    assert np.abs(weights).max() > 60
    assert 255 * (weights[::2] + weights[1::2]).max() <= 2**15 - 1
    assert 255 * (weights[::2] + weights[1::2]).min() >= -(2**15)
    assert not saturates(target)


@given(seed=st.integers(0, 99), low=st.floats(-3, 0), high=st.floats(0.1, 3))
@settings(max_examples=15, deadline=None)
def test_a_range_without_anything_far_out_holds_nearly_all(
    tmp_path_factory: pytest.TempPathFactory, seed: int, low: float, high: float
) -> None:
    file, weights, bias = write_product(tmp_path_factory.mktemp("even") / "plain.onnx", 32)
    values = np.random.default_rng(seed).uniform(low, high, size=(4, 8, 32)).astype(np.float32)
    (found,) = calibrate_ranges(file, lambda: [{"input": values}]).values()
    assert found.copies == ()
    assert found.divisors is None
    assert found.low <= 0.5 * values.min() or values.min() > -0.5
    write_static_int8(file, file.with_name("int8.onnx"), {"input": found})
    near = run(file.with_name("int8.onnx"), input=values)
    assert np.abs(near - (values @ weights + bias)).max() < 0.1 * (high - low)


def test_what_the_mask_hides_does_not_widen_a_range(tmp_path: Path) -> None:
    file, _, _ = write_product(tmp_path / "plain.onnx", 16)
    values = np.full((2, 4, 16), 1000.0, dtype=np.float32)
    values[:, :2] = np.linspace(-1, 1, 64).reshape(2, 2, 16)
    model = onnx.load(file)
    model.graph.input.append(onnx.helper.make_tensor_value_info("attention_mask", onnx.TensorProto.INT64, ["B", "T"]))
    onnx.save(model, file)
    mask = np.array([[1, 1, 0, 0]] * 2)
    found = calibrate_ranges(file, lambda: [{"input": values, "attention_mask": mask}])["input"]
    assert found.high < 2


def test_a_product_on_one_vector_a_text_stays_exact(tmp_path: Path) -> None:
    file, _, _ = write_product(tmp_path / "plain.onnx", 16)
    model = onnx.load(file)
    model.graph.node[1].output[0] = "hidden"
    node, held = onnx.helper.make_node, onnx.numpy_helper.from_array
    model.graph.initializer.extend([held(np.array([1]), "length"), held(np.ones((24, 3), dtype=np.float32), "head")])
    pooled = node("ReduceMean", ["hidden", "length"], ["pooled"], keepdims=0)
    model.graph.node.extend([pooled, node("MatMul", ["pooled", "head"], ["logits"])])
    onnx.save(model, file)
    values = np.random.default_rng(0).normal(size=(4, 8, 16)).astype(np.float32)
    assert set(calibrate_ranges(file, lambda: [{"input": values}])) == {"input"}


def test_an_input_that_is_always_zero_has_a_range(tmp_path: Path) -> None:
    file, _, bias = write_product(tmp_path / "plain.onnx", 16)
    values = np.zeros((1, 2, 16), dtype=np.float32)
    assert write_static_int8(file, tmp_path / "int8.onnx", calibrate_ranges(file, lambda: [{"input": values}]))
    np.testing.assert_allclose(run(tmp_path / "int8.onnx", input=values), np.broadcast_to(bias, (1, 2, 24)), atol=1e-6)


def test_a_graph_without_linear_layers_is_not_rewritten(tmp_path: Path) -> None:
    file = write(tmp_path / "plain.onnx", [onnx.helper.make_node("Relu", ["input"], ["logits"])], {}, 8)
    assert calibrate_ranges(file, list) == {}
    assert not write_static_int8(file, tmp_path / "int8.onnx", {"elsewhere": QuantizationRange(1.0, 0)})
    assert not (tmp_path / "int8.onnx").exists()
    assert not to_sequence_major(onnx.load(file))


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with a head, exported."""
    pytest.importorskip("torch")
    from potstill.students.base import StudentConfig, TrainingData
    from potstill.students.encoder import EncoderStudent

    folder = tmp_path_factory.mktemp("tiny")
    weights = write_tinybert(folder / "weights")
    texts = [f"{one} {two} {one}" for one, two in zip(WORDS[:24], WORDS[4:28], strict=True)]
    targets = np.eye(3, dtype=np.float32)[np.arange(24) % 3]
    student = EncoderStudent(StudentConfig(("a", "b", "c"), weights=str(weights), options={"mode": "frozen"}))
    student.fit(TrainingData(texts, targets)).export(folder)
    return folder / "model.onnx"


def batch(rows: int, length: int) -> dict[str, Any]:
    rng = np.random.default_rng(rows)
    mask = (np.arange(length) < rng.integers(1, length + 1, size=(rows, 1))).astype(np.int64)
    return {"input_ids": rng.integers(5, 30, size=(rows, length)) * mask, "attention_mask": mask}


def test_a_turned_transformer_computes_the_same_with_fewer_copies(graph: Path, tmp_path: Path) -> None:
    model = onnx.load(graph)
    assert to_sequence_major(model)
    model.graph.ClearField("value_info")
    onnx.save(model, tmp_path / "turned.onnx")
    for rows, length in ((1, 1), (5, 7), (9, 3)):
        feeds = batch(rows, length)
        np.testing.assert_allclose(run(tmp_path / "turned.onnx", **feeds), run(graph, **feeds), atol=1e-5)


def test_a_transformer_of_another_form_stays_as_it_is(graph: Path) -> None:
    model = onnx.load(graph)
    for node in model.graph.node:
        if node.op_type == "Softmax":
            node.op_type = "Unheard"
        if node.op_type == "Transpose":  # heads that lie otherwise
            node.attribute[0].ints[:] = [2, 0, 1, 3]
    before = model.SerializeToString()
    assert not to_sequence_major(model)
    assert model.SerializeToString() == before


def test_an_int8_transformer_is_near_the_exact_one(graph: Path, tmp_path: Path) -> None:
    feeds = batch(9, 12)
    ranges = calibrate_ranges(graph, lambda: [feeds])
    assert set(ranges) == {each.source for each in find_linear_ops(onnx.load(graph).graph)}
    assert write_static_int8(graph, tmp_path / "int8.onnx", ranges)
    exact, near = run(graph, **feeds), run(tmp_path / "int8.onnx", **feeds)
    assert np.abs(near - exact).mean() < 0.05 * exact.std()
    operators = {node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node}
    assert "MatMulIntegerToFloat" in operators
    assert "DynamicQuantizeLinear" not in operators


def test_a_large_table_is_looked_up_in_int8(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = (rng.normal(size=(5000, 8)) * rng.uniform(0.01, 10, size=(5000, 1))).astype(np.float32)
    node = onnx.helper.make_node
    nodes = [
        node("Cast", ["input"], ["ids"], to=onnx.TensorProto.INT64),
        node("Gather", ["table", "ids"], ["found"]),
        node("MatMul", ["found", "weights"], ["logits"]),
    ]
    file = write(tmp_path / "plain.onnx", nodes, {"table": table, "weights": np.eye(8, dtype=np.float32)}, 1)
    values = np.arange(40, dtype=np.float32).reshape(4, 10, 1)
    assert write_static_int8(file, tmp_path / "int8.onnx", calibrate_ranges(file, lambda: [{"input": values}]))
    assert (tmp_path / "int8.onnx").stat().st_size < file.stat().st_size / 2
    exact = run(file, input=values)
    assert np.abs(run(tmp_path / "int8.onnx", input=values) - exact).max() < 0.02 * np.abs(exact).max()
