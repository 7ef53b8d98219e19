"""Makes transformers read a GGUF file quickly: inside `fast_gguf` its parsing and dequantizing are replaced.

transformers parses the file some seven times (for the config, the tokenizer and the weights), each word of the
vocabulary byte by byte, and dequantizes in NumPy on one thread. Here arrays are read whole, what was parsed is kept,
and weights are dequantized by the operators that transformers has for other architectures, a megabyte at a time, which
stays in the processor's cache. The values are the same. What a release of transformers or gguf lacks is left alone.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

_STRING, _ARRAY = 8, 9  # types of a value
_SCALARS = {0: "u1", 1: "i1", 2: "u2", 3: "i2", 4: "u4", 5: "i4", 6: "f4", 7: "?", 10: "u8", 11: "i8", 12: "f8"}
_VALUES_AT_ONCE = 1 << 18  # one megabyte in float32
_Q4_K = 12  # type of a block of weights


@contextmanager
def fast_gguf() -> Iterator[None]:
    """Inside the block transformers reads GGUF files quickly, and without a progress bar."""
    import gguf
    from transformers import modeling_gguf_pytorch_utils as gguf_utils

    patched: list[tuple[Any, str, Any]] = [
        (gguf, "GGUFReader", lru_cache(_reader_class(gguf.GGUFReader))),
        (gguf, "get_tensor_name_map", lru_cache(gguf.get_tensor_name_map)),
        (gguf, "dequantize", _dequantize(gguf.dequantize)),
        (gguf_utils, "_gguf_parse_value", _parse_value(getattr(gguf_utils, "_gguf_parse_value", None))),
        (gguf_utils, "tqdm", lambda rows, **_: rows),
        *_metadata_patch(),
    ]
    originals = [(module, name, getattr(module, name)) for module, name, _ in patched if hasattr(module, name)]
    for module, name, replacement in patched:
        if hasattr(module, name):
            setattr(module, name, replacement)
    try:
        yield
    finally:
        for module, name, original in originals:
            setattr(module, name, original)


def _reader_class(original: Any) -> Any:
    """gguf's reader, which reads an array as one list instead of two NumPy arrays an item."""
    import numpy as np

    class ArrayReader(original):  # type: ignore[misc]
        def _build_fields(self, offs: int, count: int) -> int:
            data = vars(self)["data"]
            self.data = data.view(np.ndarray)  # slicing a memmap is five times slower than slicing an array
            return int(super()._build_fields(offs, count))

        def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
            if raw_type != _ARRAY or self.byte_order != "I":
                return super()._get_field_parts(orig_offs, raw_type)
            kind, length = struct.unpack_from("<IQ", self.data, orig_offs)
            begin = orig_offs + 12
            if kind == _STRING:
                values, end = _strings(self.data, begin, length)
            elif kind in _SCALARS:
                form = np.dtype("<" + _SCALARS[kind])
                end = begin + form.itemsize * length
                values = self.data[begin:end].view(form).tolist()
            else:
                return super()._get_field_parts(orig_offs, raw_type)
            types = [self._kind(raw_type), self._kind(kind)]
            return end - orig_offs, [values[0] if length == 1 else values], [0], types

        @staticmethod
        def _kind(number: int) -> Any:
            from gguf import GGUFValueType

            return GGUFValueType(number)

    return ArrayReader


def _strings(data: Any, begin: int, count: int) -> tuple[list[str], int]:
    """`count` strings of a file from `begin` on, and where the last one ends."""
    values = []
    for _ in range(count):
        (length,) = struct.unpack_from("<Q", data, begin)
        begin += 8 + length
        values.append(data[begin - length : begin].tobytes().decode())
    return values, begin


def _parse_value(original: Any) -> Any:
    def parse(value: Any, types: Any) -> Any:
        if not hasattr(value, "tobytes"):  # an array that was read whole, or its only item
            return value
        kinds = types if isinstance(types, list) else [types]
        return value.tobytes().decode() if kinds[-1] == _STRING else original(value, types)

    return parse


def _metadata_patch() -> list[tuple[Any, str, Any]]:
    """The other parser of transformers, with its result kept."""
    try:
        from transformers.integrations.gguf import reader
    except ImportError:
        return []
    original = getattr(reader, "_read_metadata", None)
    kept: dict[tuple[str, tuple[str, ...]], Any] = {}

    def read(blob: Any, path: str, string_arrays: Any = ()) -> Any:
        key = path, tuple(string_arrays)
        if key not in kept:
            kept[key] = original(blob, path, string_arrays)  # type: ignore[misc]
        metadata, n_tensors, end = kept[key]
        return dict(metadata), n_tensors, end

    return [(reader, "_read_metadata", read)]


def _dequantize(original: Any) -> Any:
    """gguf's function, by PyTorch where that knows the type of the blocks."""
    import torch

    try:
        from transformers.integrations.gguf.dequant import GGML_BLOCK, dequantize
    except ImportError:
        return original

    def dequantized(data: Any, kind: Any) -> Any:
        if int(kind) not in GGML_BLOCK or data.ndim != 2:
            return original(data, kind)
        n_values, n_bytes = GGML_BLOCK[int(kind)]
        blocks = torch.from_numpy(data.copy()).view(-1, n_bytes)
        made = torch.empty(len(blocks), n_values)
        step = max(1, _VALUES_AT_ONCE // n_values)
        for start in range(0, len(blocks), step):
            some, values = blocks[start : start + step], made[start : start + step]
            if int(kind) == _Q4_K:
                _dequantize_q4_k(some, values)
            else:
                values.copy_(dequantize(some, int(kind)).view(values.shape))
        return made.view(len(data), -1).numpy()

    return dequantized


def _dequantize_q4_k(blocks: Any, values: Any) -> None:
    """(B, 144) bytes -> (B, 256) weights, twice as fast as transformers' way: four weights in five are of this type.

    A block holds two float16 factors, eight scales and eight minima of six bits, and 256 weights of four bits.
    """
    import torch

    factors = blocks[:, :4].contiguous().view(torch.float16).float()
    low, middle, high = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scales = torch.cat([low & 63, (high & 15) | ((low >> 6) << 4)], dim=1).float().mul_(factors[:, :1])
    minima = torch.cat([middle & 63, (high >> 4) | ((middle >> 6) << 4)], dim=1).float().mul_(factors[:, 1:])
    bits, pairs = blocks[:, 16:].view(-1, 4, 32), values.view(-1, 4, 2, 32)
    pairs[:, :, 0] = bits & 15
    pairs[:, :, 1] = bits >> 4
    values.view(-1, 8, 32).mul_(scales.unsqueeze(2)).sub_(minima.unsqueeze(2))
