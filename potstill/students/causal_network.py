"""A causal language model that answers: its loss on the tokens of answers, and one step of decoding.

Knows token ids, no texts and no files. Optimiser steps are in `encoder_training`, greedy decoding in
`models.greedy_decoding`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from potstill.evaluation.text2text.answer_metrics import AnswerMetric, answer_score
from potstill.models.device import device_of
from potstill.models.greedy_decoding import DecodingLimits, GeneratedIds, generate_ids
from potstill.models.tokens.tokenizer import Ids, length_batches, pad_batch
from potstill.students.backbone import HeadedNetwork, autocast
from potstill.students.base import Floats
from potstill.students.tuned_lm import TunedLM

TIE_WEIGHT = 1e-3  # of the cross-entropy beside the metric
UNLABELLED = -100  # of tokens that are not learnt


class CausalNetwork(TunedLM):
    """A causal language model, with its own head.

    Args:
        model: a causal language model of transformers.

    Attributes:
        head: without parameters; the language model's head is part of the model.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model, causal=True)
        self.head = nn.Identity()
        self.requires_grad_(False)

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
        cache = _cache(past)
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

    def answer_losses(self, ids: Sequence[Ids], prompt_lengths: Sequence[int], pad_id: int) -> Tensor:
        """(B,) mean cross-entropies of the answers' tokens, of B rows of prompt and answer."""
        device = device_of(self)
        padded, mask = (torch.from_numpy(array).to(device) for array in pad_batch(ids, pad_id))
        states = self.model.base_model(input_ids=padded, attention_mask=mask, use_cache=False).last_hidden_state
        lengths = torch.tensor([len(row) for row in ids], device=device)[:, None]
        starts = torch.tensor(prompt_lengths, device=device)[:, None]
        place = torch.arange(padded.shape[1] - 1, device=device)[None, :] + 1  # of the token that is predicted
        learnt = (place >= starts) & (place < lengths)
        rows = learnt.nonzero()[:, 0]
        losses = nn.functional.cross_entropy(
            self.scores(states[:, :-1][learnt]).float(), padded[:, 1:][learnt], reduction="none"
        )
        sums = torch.zeros(len(ids), device=device).index_add(0, rows, losses)
        return sums / learnt.sum(1).clamp(min=1)


def _cache(past: Sequence[Tensor]) -> Any:
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

    def step(self, input_ids: Ids, attention_mask: Ids, past: Any) -> tuple[Floats, Any]:
        """See `DecoderStep`."""
        device = device_of(self.network)
        ids, mask = (torch.from_numpy(array).to(device) for array in (input_ids, attention_mask))
        logits, *present = self.network(ids, mask, self.network.no_past(len(ids)) if past is None else past)
        return logits[:, 0].float().cpu().numpy(), present

    def take(self, past: Any, rows: NDArray[np.intp]) -> Any:
        """See `DecoderStep`."""
        chosen = torch.from_numpy(rows).to(device_of(self.network))
        return [each.index_select(0, chosen) for each in past]


def generate(
    network: CausalNetwork, prompts: Sequence[Ids], limits: DecodingLimits, *, low_precision: bool = False
) -> list[GeneratedIds]:
    """The most probable answers to N prompts, of a network in evaluation mode."""
    with torch.inference_mode(), autocast(low_precision, device_of(network)):
        return generate_ids(TorchDecoder(network), prompts, limits)


@dataclass(frozen=True)
class ValidationAnswers:
    """Texts whose answers say which weights are kept.

    Attributes:
        prompts: of the texts that are answered.
        references: of these texts.
        metric: what is measured of the answers.
        limits: when an answer ends.
        decode: token ids -> text.
    """

    prompts: Sequence[Ids]
    references: Sequence[Sequence[str]]
    metric: AnswerMetric
    limits: DecodingLimits
    decode: Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class AnswerRows:
    """N rows of prompt and answer: rows of `encoder_training.fine_tune`.

    Attributes:
        ids: N arrays of token ids.
        prompt_lengths: N lengths of the prompts, whose tokens are not learnt.
        answers: what `validation_loss` measures beside the cross-entropy of the rows.
    """

    ids: Sequence[Ids]
    prompt_lengths: Sequence[int]
    answers: ValidationAnswers | None = None

    @property
    def hint_features(self) -> Floats | None:
        """See `TrainingRows`: never any."""
        return None

    def take(self, rows: NDArray[np.intp]) -> Self:
        """These rows only."""
        return replace(self, ids=[self.ids[row] for row in rows], prompt_lengths=[self.prompt_lengths[r] for r in rows])

    def block_loss(self, network: HeadedNetwork, pad_id: int, hint_map: nn.Linear | None, dropout: float) -> Tensor:
        """See `TrainingRows`: the mean cross-entropy of a row's answer, summed over the rows."""
        assert isinstance(network, CausalNetwork)
        return network.answer_losses(self.ids, self.prompt_lengths, pad_id).sum()

    def validation_loss(self, network: HeadedNetwork, pad_id: int) -> float:
        """See `TrainingRows`: 1 - metric of the generated answers; of equal ones the smaller cross-entropy counts."""
        assert isinstance(network, CausalNetwork)
        assert self.answers is not None
        losses = []
        with torch.inference_mode(), autocast(device=device_of(network)):
            for rows in length_batches([len(row) for row in self.ids]):
                some = self.take(rows)
                losses += network.answer_losses(some.ids, some.prompt_lengths, pad_id).cpu().tolist()
        found = generate(network, self.answers.prompts, self.answers.limits, low_precision=True)
        texts = [self.answers.decode(each.ids) for each in found]
        score = answer_score(self.answers.metric, texts, self.answers.references)
        return 1 - score + TIE_WEIGHT * float(np.mean(losses))
