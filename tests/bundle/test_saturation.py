"""A bundle whose int8 graph saturates on a processor without VNNI says so when it is loaded there."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from potstill import cli, load
from potstill.bundle import saturation
from potstill.bundle.saturation import adds_in_16_bits, saturates
from potstill.errors import PotstillWarning

OLD_BUNDLE = Path(__file__).parent / "format2" / "linear"


@pytest.mark.parametrize("reduce_range", [False, True])
def test_weights_of_eight_bits_saturate_and_those_of_seven_do_not(tmp_path: Path, reduce_range: bool) -> None:
    onnx = pytest.importorskip("onnx")
    from onnxruntime.quantization import QuantType, quantize_dynamic

    weights = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("input", "logits")]
    node = onnx.helper.make_node("MatMul", ["input", "weights"], ["logits"])
    held = [onnx.numpy_helper.from_array(weights, "weights")]
    graph = onnx.helper.make_graph([node], "graph", ends[:1], ends[1:], held)
    plain, int8 = tmp_path / "plain.onnx", tmp_path / "int8.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9), plain)
    quantize_dynamic(plain, int8, per_channel=True, weight_type=QuantType.QInt8, reduce_range=reduce_range)
    assert not saturates(plain)
    assert saturates(int8) != reduce_range


@pytest.mark.parametrize(
    ("said", "adds"),
    [
        ("processor: 0\nflags\t\t: fpu sse4_1 avx2 fma\n", True),
        ("flags\t\t: fpu avx2 avx512f avx512_vnni\n", False),
        ("flags\t\t: fpu avx2 avx_vnni\n", False),
        ("Features\t: fp asimd asimddp\n", False),
        ("", False),
    ],
)
def test_only_an_x86_processor_without_vnni_adds_in_16_bits(tmp_path: Path, said: str, adds: bool) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(said, encoding="utf-8")
    assert adds_in_16_bits(info) == adds
    assert not adds_in_16_bits(tmp_path / "none")


def test_loading_warns_in_one_sentence_with_the_mend(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(saturation, "saturates", lambda file: True)
    monkeypatch.setattr(saturation, "adds_in_16_bits", lambda: True)
    with pytest.warns(PotstillWarning, match=r"linear has an int8 graph .* run the same distill command again"):
        load(OLD_BUNDLE)
    monkeypatch.setattr(sys, "argv", ["potstill", "predict", str(OLD_BUNDLE), "a text"])
    cli.main()
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if "VNNI" in line] == said
    assert said[0].startswith(f"potstill: {OLD_BUNDLE} has an int8 graph")
    monkeypatch.setattr(saturation, "adds_in_16_bits", lambda: False)
    cli.main()
    assert "VNNI" not in capsys.readouterr().err
