"""The metadata of a GGUF file, read without its weights and without a library: architecture, chat template, size.

Covers versions 2 and 3, which is all that llama.cpp has written since 2023. Arrays (the vocabulary) are skipped.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from potstill.errors import BadInput

# Value types of the format: scalars by their number, strings, arrays.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_ALIGNMENT = 32  # of the tensors, in bytes, unless the file names another
_VERSIONS, _LAST_BELIEVED_VERSION = (2, 3), 99
_MAX_KEYS, _MAX_DIMENSIONS = 65_536, 8


@dataclass(frozen=True)
class GgufMetadata:
    """What a GGUF file says about its model.

    Attributes:
        architecture: such as "llama" or "qwen2"; empty if the file does not say.
        chat_template: the Jinja template of a conversation; empty if there is none.
        name: of the model.
        context_length: tokens it reads at most; 0 if the file does not say.
        n_parameters: number of its weights.
    """

    architecture: str = ""
    chat_template: str = ""
    name: str = ""
    context_length: int = 0
    n_parameters: int = 0


def read_gguf_metadata(path: Path) -> GgufMetadata:
    """The metadata of a GGUF file.

    Raises:
        BadInput: the file is damaged, cut off, or of another version of the format.
    """
    stat = path.stat()
    return _read(path.resolve(), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=16)
def _read(path: Path, size: int, _mtime_ns: int) -> GgufMetadata:
    try:
        with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            reader = _Reader(data)
            values = reader.values()
            tensors = reader.tensors()
            needed = reader.needed_bytes(tensors, values.get("general.alignment"))
    except _UnknownVersion as error:
        raise BadInput(
            f"{path} is a GGUF file of version {error}; versions 2 and 3 can be read.",
            "Convert it again with a current llama.cpp, or update potstill.",
        ) from error
    except (struct.error, ValueError, OverflowError, KeyError) as error:
        raise BadInput(f"{path} is damaged: its metadata cannot be read.", "Fetch or copy it again.") from error

    if needed > size:
        raise BadInput(
            f"{path} is cut off: it has {size:,} bytes, and its weights need more than {needed:,}.",
            "Fetch or copy it again.",
        )

    def text(key: str) -> str:
        return str(values.get(key) or "")

    architecture = text("general.architecture")
    context = values.get(f"{architecture}.context_length")
    return GgufMetadata(
        architecture,
        text("tokenizer.chat_template"),
        text("general.name"),
        int(context) if isinstance(context, int) else 0,
        sum(n for n, _ in tensors),
    )


class _UnknownVersion(Exception):
    """The version that a file says it has."""


class _Reader:
    """Reads the beginning of a file: key-value pairs, then the shapes of its tensors."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = 4  # after the magic bytes
        self._n_tensors = 0

    def values(self) -> dict[str, object]:
        """Key -> value; None for arrays."""
        version = self._scalar("I")
        if version not in _VERSIONS:
            raise (
                _UnknownVersion(version) if 0 < version <= _LAST_BELIEVED_VERSION else ValueError(f"version {version}")
            )
        self._n_tensors = int(self._scalar("Q"))
        n_keys = int(self._scalar("Q"))
        if max(n_keys, self._n_tensors) > _MAX_KEYS:
            raise ValueError(f"{n_keys} keys, {self._n_tensors} tensors")
        return {self._string(): self._value(int(self._scalar("I"))) for _ in range(n_keys)}

    def tensors(self) -> list[tuple[int, int]]:
        """(Number of weights, offset in bytes) of every tensor; call it after `values`."""
        found: list[tuple[int, int]] = []
        for _ in range(self._n_tensors):
            self._string()  # its name
            n_dimensions = int(self._scalar("I"))
            if n_dimensions > _MAX_DIMENSIONS:
                raise ValueError(f"{n_dimensions} dimensions")
            n_weights = math.prod(int(self._scalar("Q")) for _ in range(n_dimensions))
            self._scalar("I")  # its type
            found.append((n_weights, int(self._scalar("Q"))))
        return found

    def needed_bytes(self, tensors: list[tuple[int, int]], alignment: object) -> int:
        """The least size of the whole file, a bit for each weight; call it after `tensors`."""
        step = alignment if isinstance(alignment, int) and alignment > 0 else _ALIGNMENT
        begin = -(-self._at // step) * step
        return max((begin + offset + n_weights // 8 for n_weights, offset in tensors), default=0)

    def _value(self, kind: int) -> object:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            self._skip_array()
            return None
        return self._scalar(_SCALARS[kind])

    def _skip_array(self) -> None:
        kind, length = int(self._scalar("I")), int(self._scalar("Q"))
        if kind in _SCALARS:
            self._at += struct.calcsize(_SCALARS[kind]) * length
            return
        if kind not in (_STRING, _ARRAY) or length > len(self._data):
            raise ValueError(f"array of {length} values of the type {kind}")
        for _ in range(length):
            if kind == _STRING:
                n_bytes = int(self._scalar("Q"))  # which moves on, so that it is no part of the next line
                self._at += n_bytes
            else:
                self._skip_array()

    def _scalar(self, code: str) -> int | float | bool:
        (value,) = struct.unpack_from("<" + code, self._data, self._at)
        self._at += struct.calcsize("<" + code)
        return value  # type: ignore[no-any-return]

    def _string(self) -> str:
        length = int(self._scalar("Q"))
        if length > len(self._data) - self._at:
            raise ValueError(f"string of {length} bytes")
        value = self._data[self._at : self._at + length].decode("utf-8", "replace")
        self._at += length
        return value
