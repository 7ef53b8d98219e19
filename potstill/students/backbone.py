"""A transformer that turns token ids into one vector a text, and the linear head on it: the one door to its code.

The vector is pooled (mean over tokens, or the first token, as the weights were trained), centred, and scaled to
length one: a layer norm without parameters over sqrt(D). That keeps a well-regularised linear head at a fixed scale,
and can be written as one more layer of the same transformer, which is what `hub.py` does.
Does not cover learning, texts, or models that are not encoders.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from potstill.errors import MissingWeights
from potstill.models import device as devices
from potstill.models.device import device_of
from potstill.models.tokens.tokenizer import Ids, length_batches, pad_batch

Pooling = Literal["mean", "cls"]
Floats = NDArray[np.float32]
CPU = torch.device("cpu")
ROBERTA_LIKE = ("roberta", "xlm-roberta", "camembert", "mpnet", "xlm-roberta-xl")


class EncoderNetwork(nn.Module):
    """Backbone, pooling and head: (B, T) ids and mask -> (B, K) natural-log scores.

    Args:
        backbone: a transformers encoder whose output has `last_hidden_state`.
        n_labels: K.
        pooling: "mean" over the tokens that are not padding, or "cls", the first token.
    """

    def __init__(self, backbone: Any, n_labels: int, pooling: Pooling) -> None:
        super().__init__()
        self.backbone = backbone
        self.pooling = pooling
        self.dim = int(backbone.config.hidden_size)
        self.head = nn.Linear(self.dim, n_labels)
        # Of pairs: the token after which the second text begins, for weights that tell the two apart.
        self.segment_separator_id: int | None = None

    @property
    def max_positions(self) -> int:
        """The most tokens of a text that the positions of the backbone can number."""
        config = self.backbone.config
        rows = int(getattr(config, "max_position_embeddings", 512))
        # RoBERTa's family numbers positions from the padding id on.
        offset = int(config.pad_token_id) + 1 if config.model_type in ROBERTA_LIKE else 0
        return rows - offset

    def embed(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, T) ids and mask -> (B, D) vectors of length one."""
        kinds = (
            {}
            if self.segment_separator_id is None
            else {"token_type_ids": self._token_types(input_ids, attention_mask)}
        )
        states: Tensor = self.backbone(input_ids=input_ids, attention_mask=attention_mask, **kinds).last_hidden_state
        if self.pooling == "cls":
            pooled = states[:, 0].float()
        else:
            mask = attention_mask.unsqueeze(-1).to(torch.float32)
            pooled = (states.float() * mask).sum(1) / mask.sum(1)
        normed: Tensor = nn.functional.layer_norm(pooled, (self.dim,), eps=1e-12)
        scaled: Tensor = normed / self.dim**0.5
        return scaled

    def _token_types(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, T) 0 for the first text, 1 for the second. Part of the graph, so that nobody need hand them in."""
        assert self.segment_separator_id is not None
        ends = input_ids.eq(self.segment_separator_id).to(torch.int64)
        after: Tensor = (ends.cumsum(1) - ends).gt(0).to(torch.int64)
        return after * attention_mask

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, T) ids and mask -> (B, K) natural-log scores."""
        logits: Tensor = self.head(self.embed(input_ids, attention_mask))
        return logits


def init_network(folder: Path, n_labels: int, pooling: Pooling) -> EncoderNetwork:
    """The network on the weights of a transformers folder, its head at zero.

    Raises:
        MissingWeights: the folder holds no encoder that transformers can read.
    """
    from safetensors import SafetensorError
    from transformers import AutoModel

    try:
        with (
            silence_transformers(),
            torch.random.fork_rng(devices=[]),
        ):  # making layers draws numbers, which are then overwritten
            backbone = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
            network = EncoderNetwork(_bare(backbone), n_labels, pooling)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise MissingWeights(
            f"{folder} does not hold an encoder that transformers can read.",
            "Give a folder with config.json, model.safetensors and tokenizer.json.",
        ) from error
    nn.init.zeros_(network.head.weight)
    nn.init.zeros_(network.head.bias)
    return network.eval()


def save_network(network: EncoderNetwork, folder: Path) -> None:
    """Write what `reopen_network` reads: `config.json` and `network.safetensors`."""
    from safetensors.torch import save_file

    config = network.backbone.config.to_dict()
    (folder / "config.json").write_text(json.dumps(config, indent=1, default=str), encoding="utf-8")
    state = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
    save_file(state, folder / "network.safetensors")


def load_network(folder: Path, n_labels: int, pooling: Pooling) -> EncoderNetwork:
    """The network that `write_network` wrote, bit for bit."""
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    with torch.random.fork_rng(devices=[]):
        network = EncoderNetwork(_bare(AutoModel.from_config(config, dtype=torch.float32)), n_labels, pooling)
    network.load_state_dict(load_file(folder / "network.safetensors"))
    return network.eval()


def predict_batches(
    forward: Callable[[Tensor, Tensor], Tensor], ids: Sequence[Ids], pad_id: int, *, low_precision: bool = False
) -> Floats:
    """N arrays of token ids -> (N, ...) float32 `outputs(input_ids, attention_mask)`, in the order given.

    Args:
        outputs: a network, or a method of one: batches go to the device its weights are on.
        low_precision: compute in bfloat16 where the processor has it; 4x faster, two to three digits.
    """
    kept: list[Tensor] = []
    order: list[NDArray[np.intp]] = []
    device = device_of(getattr(forward, "__self__", forward))
    with torch.inference_mode(), autocast(low_precision, device):
        for rows in length_batches([len(own) for own in ids]):
            filled, mask = pad_batch([ids[row] for row in rows], pad_id)
            kept.append(forward(torch.from_numpy(filled).to(device), torch.from_numpy(mask).to(device)).float())
            order.append(rows)
    if not kept:
        return np.zeros((0, 0), dtype=np.float32)
    together = torch.cat(kept).cpu().numpy()
    result = np.empty_like(together)
    result[np.concatenate(order)] = together
    return result


def autocast(enabled: bool = True, device: torch.device = CPU) -> torch.autocast:
    """bfloat16 where `wanted` and the device multiplies it natively; otherwise plain float32."""
    native = cpu_has_bfloat16() if device.type == "cpu" else devices.cuda_has_bfloat16(device)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled and native)


@contextmanager
def silence_transformers() -> Iterator[None]:
    """transformers without its progress bars and warnings, as it was before afterwards."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@cache
def cpu_has_bfloat16() -> bool:
    """True if the processor multiplies bfloat16 natively; emulated, it would be slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return any(f" {flag}" in flags for flag in ("avx512_bf16", "amx_bf16", "bf16 "))


def _bare(backbone: Any) -> Any:
    """Without the pooler that some classes carry: untrained in sentence encoders, and not used here."""
    if getattr(backbone, "pooler", None) is not None:
        backbone.pooler = None
    return backbone
