"""A causal language model on this machine: from a GGUF file or a transformers folder into PyTorch, and its tokens.

Covers what every use of such a model needs: content hash, number format, threads, safe encoding of strange text.
Does not cover chat templates, adapters, or anything that is done with the model: see `scoring` and `llamacpp`.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from potstill.errors import BadInput, TeacherError, missing_extra
from potstill.models.device import cuda_has_bfloat16
from potstill.models.weights import Weights

if TYPE_CHECKING:
    import torch

# A text is first cut at this many characters a token, so that a 50 MB cell costs no more than a page.
CHARACTERS_PER_TOKEN = 40
CPU_SAMPLE_S = 0.06


def content_hash(path: Path) -> str:
    """SHA-256 over a model file, or over the names and contents of a model folder's files.

    Remembered within this process while size and date of the files stay; nothing is written to disk.
    """
    files = [path] if path.is_file() else [each for each in sorted(path.iterdir()) if _matters(each)]
    digest = hashlib.sha256()
    for file in files:
        stat = file.stat()
        digest.update(b"" if path.is_file() else file.name.encode() + b"\0")
        digest.update(_file_hash(file.resolve(), stat.st_size, stat.st_mtime_ns))
    return digest.hexdigest()


def _matters(file: Path) -> bool:
    return file.suffix in {".json", ".safetensors", ".bin", ".model", ".txt"} and file.name != "carrier.json"


@lru_cache(maxsize=64)
def _file_hash(file: Path, _size: int, _mtime_ns: int) -> bytes:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").digest()


def best_dtype(device: torch.device) -> str:
    """`bfloat16` where the device multiplies it natively (on a CPU about three times quicker), else `float32`."""
    import torch

    if device.type != "cpu":
        return "bfloat16" if cuda_has_bfloat16(device) else "float32"
    native = any(getattr(torch.cpu, f"_is_{feature}_supported", bool)() for feature in ("avx512_bf16", "amx_tile"))
    return "bfloat16" if native else "float32"


def idle_cores() -> int:
    """How many cores this process may use without fighting others for them; at least one.

    Two threads beside one busy process can be fifty times slower than one, because each waits for the other at
    every step. So the idle share of the machine is looked at, for 60 ms, while this thread sleeps.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if os.environ.get("OMP_NUM_THREADS", "").isdigit():
        allowed = max(1, min(allowed, int(os.environ["OMP_NUM_THREADS"])))
    if allowed == 1:
        return 1
    try:
        before = _idle_seconds()
        time.sleep(CPU_SAMPLE_S)
        idle = (_idle_seconds() - before) / CPU_SAMPLE_S
    except (OSError, ValueError, IndexError):  # not Linux
        return allowed
    return max(1, min(allowed, round(idle)))


def _idle_seconds() -> float:
    fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
    return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def torch_threads(n: int) -> Iterator[None]:
    """PyTorch works with `n` threads inside the block and with as many as before after it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass
class CausalLM:
    """A causal model in PyTorch and its tokenizer.

    Attributes:
        model: an `AutoModelForCausalLM` in eval mode.
        tokenizer: its tokenizer; text is only ever read as text, so a "<|im_end|>" in it is eight plain characters.
        begin: the token ids every prompt begins with.
        context: how many tokens the model can read at once.
        n_params: its size.
    """

    model: Any
    tokenizer: Any
    prefix_ids: list[int]
    context_length: int
    n_params: int

    def encode(self, texts: Sequence[str], prefix: str = "") -> list[list[int]]:
        """Token ids of each text as it stands behind `after`, which itself is left out.

        Tokenizers glue a space to the next word and some put one before everything; encoding in context avoids both.
        """
        if not texts:
            return []
        head = self._ids([prefix])[0] if prefix else []
        found = self._ids([prefix + text for text in texts])
        if all(ids[: len(head)] == head for ids in found):
            return [ids[len(head) :] for ids in found]
        alone = self._ids(texts)
        return [ids[len(head) :] if ids[: len(head)] == head else alone[row] for row, ids in enumerate(found)]

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        encoded = self.tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)
        ids: list[list[int]] = encoded["input_ids"]
        return ids


def one_line(text: str, max_tokens: int) -> str:
    """The text as one line of clean Unicode: line breaks could forge the prompt's own structure."""
    clean = text[: 8 * max_tokens * CHARACTERS_PER_TOKEN].encode("utf-8", "replace").decode("utf-8")
    return " ".join(clean.split())[: max_tokens * CHARACTERS_PER_TOKEN]


def load_causal_lm(weights: Weights, dtype: str) -> CausalLM:
    """The model in `weights`, in PyTorch, on the CPU.

    Args:
        weights: of the kind `gguf` or `causal`.
        dtype: "bfloat16" or "float32"; quantised weights are unpacked into it.

    Raises:
        MissingExtra: torch, transformers or gguf is not installed.
        BadInput: weights of another kind.
        TeacherError: the file is damaged, or of an architecture transformers cannot read.
    """
    require_torch(weights)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    how: dict[str, Any] = {"dtype": getattr(torch, dtype)}
    where: dict[str, Any] = {"pretrained_model_name_or_path": str(weights.folder), "local_files_only": True}
    if weights.kind == "gguf":
        where["gguf_file"] = weights.path.name
        how |= _unpacked()
    talkative = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with _brisk_gguf() if weights.kind == "gguf" else nullcontext():
            tokenizer = AutoTokenizer.from_pretrained(**where)
            model = AutoModelForCausalLM.from_pretrained(**where, **how).eval()
    except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise TeacherError(
            f"The model in {weights.path} cannot be loaded: {reason}", "Fetch it again, or name another model."
        ) from error
    finally:
        if talkative:
            logging.enable_progress_bar()
    model.requires_grad_(False)
    context = int(getattr(model.config.get_text_config(), "max_position_embeddings", 0) or 2048)
    n_params = sum(each.numel() for each in model.parameters())
    return CausalLM(model, tokenizer, _begin(tokenizer), context, n_params)


def require_torch(weights: Weights) -> None:
    """Raise MissingExtra or BadInput unless `load_causal(weights)` has what it needs; imports nothing."""
    if weights.kind not in ("gguf", "causal"):
        raise BadInput(
            f"{weights.name!r} is no causal language model (its kind is {weights.kind!r}).",
            "Name one, such as local:smollm2, a .gguf file, or a transformers folder.",
        )
    for library in ("torch", "transformers", *(("gguf",) if weights.kind == "gguf" else ())):
        if find_spec(library) is None:
            raise missing_extra(library, "local", "A local language model")


def _unpacked() -> dict[str, Any]:
    """From some release on, transformers leaves GGUF weights packed; here they are wanted dense."""
    try:
        from transformers import GgufConfig
    except ImportError:
        return {}
    return {"quantization_config": GgufConfig(dequantize=True)}


@contextmanager
def _brisk_gguf() -> Iterator[None]:
    """Inside the block transformers parses a GGUF file once instead of three times, and draws no bar.

    It asks for config, tokenizer and weights one after the other, and for the names of the tensors once a module:
    ten seconds become three. Only what is read twice is remembered, and only inside the block.
    """
    import gguf
    import numpy as np
    from transformers import modeling_gguf_pytorch_utils as user

    usual_reader: Any = gguf.GGUFReader

    def build_fields(reader: Any, offs: int, count: int) -> int:
        reader.data = reader.data.view(np.ndarray)  # slicing a memmap is five times slower than slicing an array
        return int(usual_reader._build_fields(reader, offs, count))

    plain_reader = type("PlainReader", (usual_reader,), {"_build_fields": build_fields})
    patched = [
        (gguf, "GGUFReader", lru_cache(plain_reader)),
        (gguf, "get_tensor_name_map", lru_cache(gguf.get_tensor_name_map)),
        (user, "tqdm", lambda rows, **_: rows),
    ]
    before = [(room, name, getattr(room, name)) for room, name, _ in patched if hasattr(room, name)]
    for room, name, quick in patched:
        setattr(room, name, quick)
    try:
        yield
    finally:
        for room, name, usual in before:
            setattr(room, name, usual)


def _begin(tokenizer: Any) -> list[int]:
    """What a document begins with: what the tokenizer adds by itself, else the end of the document before it."""
    added: list[int] = list(tokenizer("")["input_ids"])
    if added:
        return added[:1]
    between = tokenizer.get_vocab().get("<|endoftext|>")
    known = (between, tokenizer.bos_token_id, tokenizer.eos_token_id, 0)
    return [next(token for token in known if token is not None)]
