"""A transformer encoder with pooling and a linear head: token ids -> logits. Loading, saving and batched prediction.

The embedding is pooled (mean over tokens, or the first token, as the weights were trained), centred, and scaled to
length one: a layer norm without parameters, over sqrt(D). This fixes the scale of the head, and can be expressed as one
more layer of the same transformer (`transformers_export`). Does not cover training or texts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from potstill.errors import MissingWeights
from potstill.models import device as devices
from potstill.models.device import device_of
from potstill.models.threads import idle_threads
from potstill.models.tokens.tokenizer import Ids, length_batches, pad_batch

Pooling = Literal["mean", "cls"]
Floats = NDArray[np.float32]
CPU = torch.device("cpu")
# Families that number positions from the padding id on.
ROBERTA_FAMILY = ("roberta", "xlm-roberta", "camembert", "mpnet", "xlm-roberta-xl")


class HeadedNetwork(Protocol):
    """What is fine-tuned: a module that is a transformers model and a head, whose learning rates differ."""

    @property
    def backbone(self) -> Any:
        """The transformers model."""

    @property
    def head(self) -> nn.Module:
        """The head; may be without parameters."""

    @property
    def dim(self) -> int:
        """D, width of the states."""

    def train(self, mode: bool = True) -> Any:
        """Set the module into training mode."""

    def eval(self) -> Any:
        """Set the module into evaluation mode."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """All parameters."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """All parameters by name."""

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> Any:
        """Set parameters and buffers by name."""


class EncoderNetwork(nn.Module):
    """Backbone, pooling and head: (B, T) ids and mask -> (B, K) logits.

    Args:
        backbone: a transformers encoder whose output has `last_hidden_state`.
        n_labels: K.
        pooling: "mean" over the tokens that are not padding, or "cls", the first token.

    Attributes:
        dim: D, width of the embeddings.
        segment_separator_id: of pairs: id of the token before the second text, for weights with token types.
    """

    def __init__(self, backbone: Any, n_labels: int, pooling: Pooling) -> None:
        super().__init__()
        self.backbone = backbone
        self.pooling = pooling
        self.dim = int(backbone.config.hidden_size)
        self.head = nn.Linear(self.dim, n_labels)
        self.segment_separator_id: int | None = None

    @property
    def max_positions(self) -> int:
        """Maximum number of tokens of a text, by the position embeddings of the backbone."""
        config = self.backbone.config
        n_positions = int(getattr(config, "max_position_embeddings", 512))
        offset = int(config.pad_token_id) + 1 if config.model_type in ROBERTA_FAMILY else 0
        return n_positions - offset

    def embed(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, T) ids and mask -> (B, D) embeddings of length one."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if self.segment_separator_id is not None:
            inputs["token_type_ids"] = self._token_types(input_ids, attention_mask)
        states: Tensor = self.backbone(**inputs).last_hidden_state
        if self.pooling == "cls":
            pooled = states[:, 0].float()
        else:
            mask = attention_mask.unsqueeze(-1).to(torch.float32)
            pooled = (states.float() * mask).sum(1) / mask.sum(1)
        normed: Tensor = nn.functional.layer_norm(pooled, (self.dim,), eps=1e-12)
        scaled: Tensor = normed / self.dim**0.5
        return scaled

    def _token_types(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, T) 0 for the first text, 1 for the second. Part of the graph, so that they are no input of it."""
        assert self.segment_separator_id is not None
        separators = input_ids.eq(self.segment_separator_id).to(torch.int64)
        second: Tensor = (separators.cumsum(1) - separators).gt(0).to(torch.int64)
        return second * attention_mask

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, T) ids and mask -> (B, K) logits."""
        logits: Tensor = self.head(self.embed(input_ids, attention_mask))
        return logits


def init_network(folder: Path, n_labels: int, pooling: Pooling) -> EncoderNetwork:
    """Load the pretrained backbone of a transformers folder, under a head of zeros.

    Raises:
        MissingWeights: the folder holds no encoder that transformers can load.
    """
    from safetensors import SafetensorError
    from transformers import AutoModel

    try:
        with (
            silence_transformers(),
            torch.random.fork_rng(devices=[]),
        ):  # layers are initialised at random before the weights are loaded
            backbone = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
            network = EncoderNetwork(_without_pooler(backbone), n_labels, pooling)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise MissingWeights(
            f"{folder} does not hold an encoder that transformers can load.",
            "Give a folder with config.json, model.safetensors and tokenizer.json.",
        ) from error
    nn.init.zeros_(network.head.weight)
    nn.init.zeros_(network.head.bias)
    return network.eval()


def save_network(network: EncoderNetwork, folder: Path) -> None:
    """Write `config.json` and `network.safetensors`, which `load_network` reads."""
    from safetensors.torch import save_file

    config = network.backbone.config.to_dict()
    (folder / "config.json").write_text(json.dumps(config, indent=1, default=str), encoding="utf-8")
    state = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
    save_file(state, folder / "network.safetensors")


def load_network(folder: Path, n_labels: int, pooling: Pooling) -> EncoderNetwork:
    """Load the network that `save_network` wrote, bit for bit."""
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    with torch.random.fork_rng(devices=[]):
        network = EncoderNetwork(_without_pooler(AutoModel.from_config(config, dtype=torch.float32)), n_labels, pooling)
    network.load_state_dict(load_file(folder / "network.safetensors"))
    return network.eval()


def predict_batches(
    forward: Callable[[Tensor, Tensor], Tensor], ids: Sequence[Ids], pad_id: int, *, low_precision: bool = False
) -> Floats:
    """N arrays of token ids -> (N, ...) float32 `forward(input_ids, attention_mask)`, in the order given.

    Args:
        forward: a network, or a method of one: batches are moved to the device of its weights.
        ids: N arrays of token ids.
        pad_id: id of the padding token.
        low_precision: compute in bfloat16 if the processor supports it; four times as fast, two to three digits.
    """
    outputs: list[Tensor] = []
    order: list[NDArray[np.intp]] = []
    device = device_of(getattr(forward, "__self__", forward))
    with torch.inference_mode(), autocast(low_precision, device), idle_threads(len(ids)) as follow_idle_cores:
        for rows in length_batches([len(row) for row in ids]):
            follow_idle_cores()
            batch = (torch.from_numpy(array).to(device) for array in pad_batch([ids[row] for row in rows], pad_id))
            outputs.append(forward(*batch).float())
            order.append(rows)
    if not outputs:
        return np.zeros((0, 0), dtype=np.float32)
    by_length = torch.cat(outputs).cpu().numpy()
    result = np.empty_like(by_length)
    result[np.concatenate(order)] = by_length
    return result


def autocast(enabled: bool = True, device: torch.device = CPU) -> torch.autocast:
    """Autocast to bfloat16 if `enabled` and the device multiplies it natively; else float32."""
    native = cpu_has_bfloat16() if device.type == "cpu" else devices.cuda_has_bfloat16(device)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled and native)


@contextmanager
def silence_transformers() -> Iterator[None]:
    """Turn off transformers' progress bars and warnings inside the block."""
    from transformers.utils import logging

    level, progress_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if progress_bar:
            logging.enable_progress_bar()


@cache
def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 natively; emulated, it is slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return any(f" {flag}" in flags for flag in ("avx512_bf16", "amx_bf16", "bf16 "))


def _without_pooler(backbone: Any) -> Any:
    """The backbone without the pooler that some classes have; sentence encoders do not train it."""
    if getattr(backbone, "pooler", None) is not None:
        backbone.pooler = None
    return backbone
