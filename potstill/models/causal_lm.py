"""Local causal language models: loading a GGUF file or a transformers folder into PyTorch, and tokenizing for them.

Also content hashes, number formats, and normalization of texts. Does not cover adapters or scoring.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from potstill.errors import BadInput, TeacherError, missing_extra
from potstill.models.device import cuda_has_bfloat16
from potstill.models.downloads.record import OLD_RECORD_FILE, RECORD_FILE
from potstill.models.gguf_loading import fast_gguf
from potstill.models.weights import Weights

if TYPE_CHECKING:
    import torch

# A text is first cut at this many characters per token, so that a 50 MB text costs no more than a page.
CHARACTERS_PER_TOKEN = 40
# A text on which it is seen how large a model's activations are.
_SMOOTHED_ON = """A short story about two brothers who open a restaurant is charming, and it never finds its pace.
Oil prices fell by 3 % on Monday after the ministers had met in Vienna. My card was charged twice, where do I complain?
The home team won 2:1 in the last minute. Scientists have found a protein that slows the growth of tumours in mice."""


def content_hash(path: Path) -> str:
    """SHA-256 over a model file, or over the names and contents of a model folder's files.

    Cached within this process by size and modification time of the files.
    """
    files = [path] if path.is_file() else [file for file in sorted(path.iterdir()) if _is_content(file)]
    digest = hashlib.sha256()
    for file in files:
        stat = file.stat()
        digest.update(b"" if path.is_file() else file.name.encode() + b"\0")
        digest.update(_file_hash(file.resolve(), stat.st_size, stat.st_mtime_ns))
    return digest.hexdigest()


def _is_content(file: Path) -> bool:
    suffixes = {".json", ".safetensors", ".bin", ".model", ".txt"}
    return file.suffix in suffixes and file.name not in (RECORD_FILE, OLD_RECORD_FILE)


@lru_cache(maxsize=64)
def _file_hash(file: Path, _size: int, _mtime_ns: int) -> bytes:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").digest()


def choose_dtype(wanted: str, device: torch.device) -> str:
    """The number format in which a causal language model scores.

    Args:
        wanted: "auto", or what to take. `auto` is bfloat16 if the device multiplies it natively, else float32; never
            int8, which changes some labels of texts that a model is undecided about. "int8" is what `auto` is where
            the device does not multiply it natively, as it would be slower there.
        device: where it scores.
    """
    if wanted in ("bfloat16", "float32"):
        return wanted
    if wanted == "int8" and device.type == "cpu" and int8_is_native():
        return "int8"
    return "bfloat16" if _bfloat16_is_native(device) else "float32"


def int8_is_native() -> bool:
    """Whether this processor multiplies 8-bit integers natively, and PyTorch has the operators for it."""
    import torch

    checks = ("_is_amx_tile_supported", "_is_vnni_supported")
    native = any(getattr(torch.cpu, check, bool)() for check in checks)
    onednn: Any = torch.backends.mkldnn
    return native and bool(onednn.is_available()) and hasattr(torch.ops.onednn, "qlinear_pointwise")


def _bfloat16_is_native(device: torch.device) -> bool:
    import torch

    if device.type != "cpu":
        return cuda_has_bfloat16(device)
    return any(getattr(torch.cpu, f"_is_{feature}_supported", bool)() for feature in ("avx512_bf16", "amx_tile"))


@dataclass
class CausalLM:
    """A causal model in PyTorch and its tokenizer.

    Attributes:
        model: an `AutoModelForCausalLM` in eval mode.
        tokenizer: its tokenizer; special tokens in texts are encoded as plain characters.
        prefix_ids: token ids at the beginning of every prompt.
        context_length: maximum number of tokens of an input.
        n_params: number of parameters.
    """

    model: Any
    tokenizer: Any
    prefix_ids: list[int]
    context_length: int
    n_params: int

    def encode(self, texts: Sequence[str], prefix: str = "") -> list[list[int]]:
        """Token ids of each text as it continues `prefix`, without those of the prefix.

        Encoded together because tokenizers attach a space to the next word, and some put one before the first word.
        """
        if not texts:
            return []
        prefix_ids = self._ids([prefix])[0] if prefix else []
        n = len(prefix_ids)
        whole = self._ids([prefix + text for text in texts])
        if all(ids[:n] == prefix_ids for ids in whole):
            return [ids[n:] for ids in whole]
        alone = self._ids(texts)
        return [ids[n:] if ids[:n] == prefix_ids else alone[row] for row, ids in enumerate(whole)]

    def encode_markup(self, markup: str, *, after_text: bool = True) -> list[int]:
        """Token ids of what a chat template wrote: control tokens are read as such.

        Args:
            markup: a piece of a conversation without the contents of its messages.
            after_text: whether something stands before it.
        """
        before = "x" if after_text else ""
        whole: list[int] = self.tokenizer(before + markup, add_special_tokens=False)["input_ids"]
        start: list[int] = self.tokenizer(before, add_special_tokens=False)["input_ids"] if before else []
        if whole[: len(start)] == start:
            return whole[len(start) :]
        alone: list[int] = self.tokenizer(markup, add_special_tokens=False)["input_ids"]
        return alone

    @property
    def special_tokens(self) -> dict[str, str]:
        """Name -> token, such as "bos_token" -> "<s>", of those the tokenizer has."""
        names = ("bos_token", "eos_token", "unk_token", "pad_token")
        return {name: str(getattr(self.tokenizer, name, None) or "") for name in names}

    @property
    def end_token(self) -> int:
        """Id of the token that ends a document."""
        return _end_id(self.tokenizer)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        encoded = self.tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)
        ids: list[list[int]] = encoded["input_ids"]
        return ids


def one_line(text: str, max_tokens: int) -> str:
    """The text as one line of valid Unicode: line breaks could imitate the structure of the prompt."""
    valid = text[: 8 * max_tokens * CHARACTERS_PER_TOKEN].encode("utf-8", "replace").decode("utf-8")
    return " ".join(valid.split())[: max_tokens * CHARACTERS_PER_TOKEN]


def load_causal_lm(weights: Weights, dtype: str) -> CausalLM:
    """Load a causal language model into PyTorch on the CPU.

    Args:
        weights: of the kind `gguf` or `causal`.
        dtype: "bfloat16", "float32", or "int8", which is bfloat16 with the linear layers of its blocks in 8-bit
            integers (`int8_layers`); quantized weights are converted to it.

    Raises:
        MissingExtra: torch, transformers or gguf is not installed.
        BadInput: weights of another kind.
        TeacherError: the file is damaged, or of an architecture transformers cannot read.
    """
    require_torch(weights)
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    folder, is_gguf = str(weights.folder), weights.kind == "gguf"
    source: dict[str, object] = {"gguf_file": weights.path.name} if is_gguf else {}
    options = _dequantized() if is_gguf else {}
    loaded = torch.float32 if dtype == "float32" else torch.bfloat16
    progress_bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with fast_gguf() if is_gguf else nullcontext():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, **source)
            model = AutoModelForCausalLM.from_pretrained(
                folder, local_files_only=True, dtype=loaded, **source, **options
            ).eval()
    except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError, SafetensorError) as error:
        raise _load_error(weights, error) from error
    finally:
        if progress_bar:
            logging.enable_progress_bar()
    model.requires_grad_(False)
    context = int(getattr(model.config.get_text_config(), "max_position_embeddings", 0) or 2048)
    n_params = sum(parameter.numel() for parameter in model.parameters())
    if dtype == "int8":
        from potstill.models.int8_layers import quantize_linears, smooth_inputs

        smooth_inputs(model, tokenizer(_SMOOTHED_ON, add_special_tokens=False)["input_ids"])
        quantize_linears(model)
    return CausalLM(model, tokenizer, _prefix_ids(tokenizer), context, n_params)


def load_tokenizer(weights: Weights) -> tuple[str, int]:
    """The content of the `tokenizer.json` of a causal language model, and the id of the token that ends a document.

    Raises:
        MissingExtra, BadInput, TeacherError: see `load_causal_lm`.
    """
    require_torch(weights)
    from transformers import AutoTokenizer

    is_gguf = weights.kind == "gguf"
    source = {"gguf_file": weights.path.name} if is_gguf else {}
    try:
        with fast_gguf() if is_gguf else nullcontext():
            tokenizer: Any = AutoTokenizer.from_pretrained(str(weights.folder), local_files_only=True, **source)
    except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError) as error:
        raise _load_error(weights, error) from error
    return tokenizer.backend_tokenizer.to_str(), _end_id(tokenizer)


def _end_id(tokenizer: Any) -> int:
    return int(tokenizer.eos_token_id if tokenizer.eos_token_id is not None else _prefix_ids(tokenizer)[0])


def _load_error(weights: Weights, error: Exception) -> TeacherError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, KeyError):
        reason = f"it has no {reason}"
    if "not supported" in reason or "does not recognize this architecture" in reason or "model type" in reason:
        return TeacherError(
            f"The architecture of the model in {weights.path} is unknown to the installed transformers: {reason}",
            "Update transformers, or serve the model with llama.cpp, vLLM or Ollama and name it openai:MODEL.",
        )
    again = "Copy it again"
    if weights.source == "download":  # what is there would be taken for whole
        again = f"Delete {weights.folder} and run: potstill fetch {weights.name}"
    return TeacherError(f"The model in {weights.path} cannot be loaded: {reason}", f"{again}; or name another model.")


def require_torch(weights: Weights) -> None:
    """Raise MissingExtra or BadInput unless `load_causal_lm(weights)` can load them; imports nothing."""
    if weights.kind not in ("gguf", "causal"):
        raise BadInput(
            f"{weights.name!r} is no causal language model (its kind is {weights.kind!r}).",
            "Name one, such as local:smollm2, a .gguf file, or a transformers folder.",
        )
    for library in ("torch", "transformers", *(("gguf",) if weights.kind == "gguf" else ())):
        if find_spec(library) is None:
            raise missing_extra(library, "local", "A local language model")


def _dequantized() -> dict[str, object]:
    """Makes transformers dequantize GGUF weights, which newer releases leave quantized."""
    try:
        from transformers import GgufConfig
    except ImportError:
        return {}
    return {"quantization_config": GgufConfig(dequantize=True)}


def _prefix_ids(tokenizer: Any) -> list[int]:
    """The first token of a document: the one the tokenizer adds, else the end of the previous document."""
    added: list[int] = list(tokenizer("")["input_ids"])
    if added:
        return added[:1]
    end_of_text = tokenizer.get_vocab().get("<|endoftext|>")
    candidates = (end_of_text, tokenizer.bos_token_id, tokenizer.eos_token_id, 0)
    return [next(token for token in candidates if token is not None)]
