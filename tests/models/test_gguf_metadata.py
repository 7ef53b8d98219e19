"""The metadata of GGUF files: what is read of a real one, and that a damaged one is one sentence."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import BadInput
from potstill.models.gguf_metadata import read_gguf_metadata


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


TENSOR = string("blk.0.ffn") + struct.pack("<IQQIQ", 2, 30, 5, 0, 0)


def gguf(*pairs: tuple[str, int, bytes], version: int = 3, tensors: tuple[bytes, ...] = ()) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs))
    values = (string(key) + struct.pack("<I", kind) + value for key, kind, value in pairs)
    return b"".join((head, *values, *tensors))


WORDS = struct.pack("<IQ", 8, 3) + string("a") + string("") + string("ü")
NESTED = struct.pack("<IQ", 9, 2) + struct.pack("<IQ3H", 2, 3, 1, 2, 3) + struct.pack("<IQ", 4, 0)
WHOLE = gguf(
    ("general.architecture", 8, string("qwen2")),
    ("tokenizer.ggml.tokens", 9, WORDS),
    ("nested", 9, NESTED),
    ("qwen2.context_length", 4, struct.pack("<I", 32768)),
    ("a.float", 6, struct.pack("<f", 0.5)),
    ("a.bool", 7, b"\x01"),
    ("general.name", 8, string("Qwen")),
    ("tokenizer.chat_template", 8, string("{{ messages }}")),
    tensors=(TENSOR, TENSOR),
)


def test_architecture_template_and_context_are_read_past_arrays(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(WHOLE + b"weights" * 10)
    found = read_gguf_metadata(tmp_path / "a.gguf")
    assert (found.architecture, found.name, found.context_length) == ("qwen2", "Qwen", 32768)
    assert found.chat_template == "{{ messages }}"
    assert found.n_parameters == 2 * 30 * 5


def test_a_file_without_all_of_its_weights_is_cut_off_and_says_so(tmp_path: Path) -> None:
    file = tmp_path / "half.gguf"
    file.write_bytes(WHOLE + b"weights")
    with pytest.raises(BadInput, match=f"cut off: it has {len(WHOLE) + 7} bytes"):
        read_gguf_metadata(file)


def test_a_real_file_says_what_it_is(smollm2: Path) -> None:
    found = read_gguf_metadata(smollm2)
    assert found.architecture == "llama"
    assert "<|im_start|>" in found.chat_template
    assert found.context_length >= 2048
    assert 130e6 < found.n_parameters < 140e6


def test_a_file_without_these_keys_has_none_of_them(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(gguf())
    assert read_gguf_metadata(tmp_path / "a.gguf").chat_template == ""


@given(st.integers(5, len(WHOLE) - 1))
def test_a_file_that_was_cut_off_is_one_sentence(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    path = tmp_path_factory.mktemp("cut") / "a.gguf"
    path.write_bytes(WHOLE[:length])
    with pytest.raises(BadInput, match="damaged"):
        read_gguf_metadata(path)


@given(st.integers(4, len(WHOLE) - 1), st.binary(min_size=1, max_size=8))
def test_any_damage_is_read_or_refused_and_quickly(
    tmp_path_factory: pytest.TempPathFactory, at: int, noise: bytes
) -> None:
    path = tmp_path_factory.mktemp("noise") / "a.gguf"
    path.write_bytes(WHOLE[:at] + noise + WHOLE[at + len(noise) :])
    with suppress(BadInput):
        read_gguf_metadata(path)


@pytest.mark.parametrize(
    ("version", "said"), [(1, "of version 1;"), (4, "of version 4;"), (0, "damaged"), (2**31, "damaged")]
)
def test_another_version_is_refused(tmp_path: Path, version: int, said: str) -> None:
    (tmp_path / "a.gguf").write_bytes(gguf(version=version))
    with pytest.raises(BadInput, match=said):
        read_gguf_metadata(tmp_path / "a.gguf")
