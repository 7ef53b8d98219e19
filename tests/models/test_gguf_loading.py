"""The fast way through transformers' GGUF reader gives what the slow one gives, and is undone afterwards."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from potstill.models.gguf_loading import fast_gguf


def fields(path: Path) -> dict[str, Any]:
    """Key -> value as transformers reads a file."""
    import gguf
    from transformers import modeling_gguf_pytorch_utils as gguf_utils

    reader = gguf.GGUFReader(str(path))
    found = {name: gguf_utils.read_field(reader, name) for name in reader.fields}
    # transformers reads an array with one item as that item
    return {
        name: (value[0][0] if len(value[0]) == 1 else value[0])
        if value and isinstance(value[0], list)
        else (value[0] if len(value) == 1 else value)
        for name, value in found.items()
    }


@pytest.fixture
def written(tmp_path: Path) -> Path:
    import gguf

    path = tmp_path / "some.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_uint32("a.number", 7)
    writer.add_float32("a.float", 0.5)
    writer.add_bool("a.bool", True)
    writer.add_string("a.string", "größe")
    writer.add_array("words", ["a", "", "ü", "<|end|>"])
    writer.add_array("one", ["only"])
    writer.add_array("numbers", [1, 2, 300])
    writer.add_array("floats", [0.5, -1.0])
    writer.add_array("bools", [True, False])
    writer.add_tensor("w", np.ones((2, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_fields_are_the_same_and_the_library_is_left_as_it_was(written: Path) -> None:
    import gguf
    from transformers import modeling_gguf_pytorch_utils as gguf_utils

    before = gguf.GGUFReader, gguf.dequantize, gguf_utils._gguf_parse_value
    slow = fields(written)
    with fast_gguf():
        assert gguf.GGUFReader is not before[0]
        fast = fields(written)
        assert gguf.GGUFReader(str(written)) is gguf.GGUFReader(str(written)), "a file is parsed once"
    assert fast == slow
    assert slow["words"] == ["a", "", "ü", "<|end|>"]
    assert slow["numbers"] == [1, 2, 300]
    assert before == (gguf.GGUFReader, gguf.dequantize, gguf_utils._gguf_parse_value)


@pytest.mark.parametrize("kind", ["Q4_K", "Q6_K", "Q8_0", "Q4_1", "F16", "Q5_0"])
def test_weights_are_the_same(kind: str) -> None:
    import gguf

    which = gguf.GGMLQuantizationType[kind]
    n_values, n_bytes = gguf.GGML_QUANT_SIZES[which]
    rows, blocks = 700, 3 * 256 // n_values
    random = np.random.default_rng(0)
    data = random.integers(0, 255, (rows, blocks, n_bytes), dtype=np.uint8)
    for at in {"Q4_K": (0, 2), "Q6_K": (208,), "Q8_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,)}.get(kind, ()):  # finite
        data[:, :, at : at + 2] = np.frombuffer(struct.pack("<e", 0.01), dtype=np.uint8)
    raw = data.reshape(rows, -1)
    if kind == "F16":
        raw = random.standard_normal((rows, 64)).astype(np.float16)
    slow = gguf.dequantize(raw, which)
    with fast_gguf():
        fast = gguf.dequantize(raw, which)
    assert fast.shape == slow.shape
    assert np.ptp(slow) > 0.1
    np.testing.assert_allclose(fast, slow, rtol=1e-6, atol=1e-6)
