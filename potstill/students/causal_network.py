"""A causal language model that answers: the scores of answers' tokens, and one step of decoding.

Knows token ids, no texts and no files. Losses are in `answer_rows`, greedy decoding in `models.greedy_decoding`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from potstill.models.device import device_of
from potstill.models.greedy_decoding import pad_left
from potstill.models.tokens.tokenizer import Ids, pad_batch
from potstill.students.answer_rows import AnswerNetwork
from potstill.students.base import Floats


class CausalNetwork(AnswerNetwork):
    """A causal language model, with its own head.

    Args:
        model: a causal language model of transformers.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model, causal=True)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, past: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """One step of decoding.

        Args:
            input_ids: (B, T) new tokens.
            attention_mask: (B, P + T), 1 for a token and 0 for padding, of all tokens.
            past: 2 L tensors (B, H, P, D), the keys and values of each layer; P may be 0.

        Returns:
            (B, 1, V) scores of the token after the last one, and 2 L tensors (B, H, P + T, D).
        """
        n_new = input_ids.shape[1]
        n_past = past[0].shape[2]
        cache = filled_cache(past)
        states = self.model.base_model(
            input_ids=input_ids,
            attention_mask=self._mask(attention_mask, n_past, n_new),
            position_ids=(attention_mask.cumsum(1) - 1).clamp(min=0)[:, n_past:],
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        present = [each for layer in cache.layers for each in (layer.keys, layer.values)]
        return (self.scores(states[:, -1:]), *present)

    def scores(self, states: Tensor) -> Tensor:
        """(..., D) states -> (..., V) scores of the next token."""
        logits: Tensor = self.model.get_output_embeddings()(states)
        cap = getattr(self.model.config.get_text_config(), "final_logit_softcapping", None)
        return torch.tanh(logits / cap) * cap if cap else logits

    def no_past(self, n_rows: int) -> list[Tensor]:
        """2 L tensors (B, H, 0, D)."""
        config = self.model.config.get_text_config()
        n_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        weight = self.model.get_input_embeddings().weight
        return [weight.new_zeros((n_rows, n_heads, 0, dim)) for _ in range(2 * len(self.blocks))]

    def _mask(self, attention_mask: Tensor, n_past: int, n_new: int) -> Tensor:
        """(B, 1, T, P + T): each new token sees itself and the tokens before it that are no padding."""
        device = attention_mask.device
        query = torch.arange(n_new, device=device)[:, None] + n_past
        key = torch.arange(n_past + n_new, device=device)[None, :]
        seen = (key <= query)[None] & (attention_mask > 0)[:, None, :]
        visible = (seen | (key == query)[None])[:, None]  # padding sees itself: a row without any would be no number
        if self.model.config._attn_implementation == "eager":
            return torch.where(visible, 0.0, torch.finfo(torch.float32).min)
        return visible

    def answer_logits(self, prompts: Sequence[Ids], answers: Sequence[Ids], pad_id: int) -> Tensor:
        """See `AnswerNetwork`."""
        device = device_of(self)
        rows = [np.concatenate(both) for both in zip(prompts, answers, strict=True)]
        padded, mask = (torch.from_numpy(array).to(device) for array in pad_batch(rows, pad_id))
        states = self.model.base_model(input_ids=padded, attention_mask=mask, use_cache=False).last_hidden_state
        starts = torch.tensor([len(prompt) for prompt in prompts], device=device)[:, None]
        ends = torch.tensor([len(row) for row in rows], device=device)[:, None]
        place = torch.arange(padded.shape[1] - 1, device=device)[None, :] + 1  # of the token that is predicted
        return self.scores(states[:, :-1][(place >= starts) & (place < ends)])

    def decoder(self) -> TorchDecoder:
        """See `AnswerNetwork`."""
        return TorchDecoder(self)


def filled_cache(past: Sequence[Tensor]) -> Any:
    """The keys and values as transformers' cache, which grows."""
    from transformers.cache_utils import Cache, DynamicLayer

    layers = []
    for keys, values in zip(past[::2], past[1::2], strict=True):
        layer = DynamicLayer()
        layer.keys, layer.values = keys, values
        layer.dtype, layer.device, layer.is_initialized = keys.dtype, keys.device, True
        layers.append(layer)
    return Cache(layers=layers)


@dataclass(frozen=True)
class TorchDecoder:
    """A network as a step of decoding; see `models.greedy_decoding.DecoderStep`."""

    network: CausalNetwork

    def begin(self, prompts: Sequence[Ids], pad_id: int) -> tuple[Ids, Ids, Any]:
        """See `DecoderStep`."""
        return *pad_left(prompts, pad_id), self.network.no_past(len(prompts))

    def step(self, input_ids: Ids, attention_mask: Ids, past: Any) -> tuple[Floats, Any]:
        """See `DecoderStep`."""
        device = device_of(self.network)
        ids, mask = (torch.from_numpy(array).to(device) for array in (input_ids, attention_mask))
        logits, *present = self.network(ids, mask, past)
        return logits[:, 0].float().cpu().numpy(), present

    def take(self, past: Any, rows: NDArray[np.intp]) -> Any:
        """See `DecoderStep`."""
        chosen = torch.from_numpy(rows).to(device_of(self.network))
        return [each.index_select(0, chosen) for each in past]
