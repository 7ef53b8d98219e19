"""An encoder-decoder language model of the T5 family that answers: scores of answers' tokens, and a step of decoding.

The keys and values of the prompt are computed once, by `encode`; each step reads them. Knows token ids, no texts and no
files but the pretrained weights. Losses are in `answer_rows`, greedy decoding in `models.greedy_decoding`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from potstill.errors import BadInput, BadSpec
from potstill.models.device import device_of
from potstill.models.tokens.tokenizer import Ids, pad_batch
from potstill.models.weights import Weights
from potstill.students.answer_rows import AnswerNetwork
from potstill.students.backbone import silence_transformers
from potstill.students.base import Floats
from potstill.students.causal_network import filled_cache

FAMILIES = ("t5", "mt5")  # model types of transformers with relative positions in the first layer
CONTEXT_LENGTH = 2048  # tokens of a prompt at most: positions are relative, so that the weights set no limit


def load_seq2seq(weights: Weights) -> Any:
    """Load an encoder-decoder language model with its head, in float32.

    Raises:
        BadInput: it is damaged, or of an unknown architecture.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForSeq2SeqLM

    try:
        with silence_transformers(), torch.random.fork_rng(devices=[]):
            model = AutoModelForSeq2SeqLM.from_pretrained(weights.folder, local_files_only=True, dtype=torch.float32)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise BadInput(
            f"{weights.folder} does not hold an encoder-decoder language model that transformers can load.",
            "Give a folder with config.json, model.safetensors and tokenizer.json.",
        ) from error
    if model.config.model_type not in FAMILIES:
        raise BadInput(
            f"{weights.name!r} is a {model.config.model_type}, and a seq2seq student is of the T5 family.",
            "Take a T5, Flan-T5 or mT5, or a causal student.",
        )
    model.requires_grad_(False)
    return model.eval()


def keep_seq2seq_layers(model: Any, n: int) -> None:
    """Cut encoder and decoder down to their first `n` layers, in place. Raises BadSpec if one has fewer."""
    fewest = min(len(model.encoder.block), len(model.decoder.block))
    if n > fewest:
        raise BadSpec(f"The model has {fewest} layers, and {n} are to be kept.", "Leave layers out to keep all.")
    for stack in (model.encoder, model.decoder):
        del stack.block[n:]
        stack.config.num_layers = stack.config.num_decoder_layers = n
    model.config.num_layers = model.config.num_decoder_layers = n


class Seq2SeqNetwork(AnswerNetwork):
    """An encoder-decoder language model of the T5 family, with its own head.

    Args:
        model: a `T5ForConditionalGeneration`, or one like it.

    Attributes:
        blocks: the layers of encoder and decoder in pairs, the topmost last.
        start_id: id of the token that every answer begins behind.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model, causal=False)
        encoder, decoder = list(model.encoder.block), list(model.decoder.block)
        n = max(len(encoder), len(decoder))
        lower = [None] * n
        pairs = zip([*lower, *encoder][-n:], [*lower, *decoder][-n:], strict=True)
        self.blocks = nn.ModuleList(nn.ModuleList(each for each in pair if each is not None) for pair in pairs)
        self.start_id = int(model.config.decoder_start_token_id)

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """(B, S) prompts and their mask -> 2 L tensors (B, H, S, D), the keys and values that the decoder reads."""
        states = self._encoded(input_ids, attention_mask)
        found = []
        for block in self.model.decoder.block:
            attention = block.layer[1].EncDecAttention
            for projection in (attention.k, attention.v):
                heads = projection(states).unflatten(-1, (-1, attention.key_value_proj_dim))
                found.append(heads.transpose(1, 2))
        return tuple(found)

    def forward(
        self, input_ids: Tensor, encoder_attention_mask: Tensor, past: Sequence[Tensor], encoded: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """One step of decoding.

        Args:
            input_ids: (B, T) new tokens of the answers.
            encoder_attention_mask: (B, S), 1 for a token of a prompt and 0 for padding.
            past: 2 L tensors (B, H, P, D), the keys and values of the answers' tokens before; P may be 0.
            encoded: what `encode` returned.

        Returns:
            (B, 1, V) scores of the token after the last one, and 2 L tensors (B, H, P + T, D).
        """
        from transformers.cache_utils import EncoderDecoderCache

        n_new, n_past = input_ids.shape[1], past[0].shape[2]
        own = filled_cache(past)
        cache = EncoderDecoderCache(own, filled_cache(encoded))
        cache.is_updated = dict.fromkeys(range(len(past) // 2), True)
        device = input_ids.device
        query = torch.arange(n_new, device=device)[:, None] + n_past
        seen = torch.arange(n_past + n_new, device=device)[None, :] <= query
        states = self.model.decoder(
            input_ids=input_ids,
            attention_mask=_additive(seen)[None, None],
            encoder_hidden_states=encoded[0][:, 0],  # not read: the keys and values are there
            encoder_attention_mask=_additive(encoder_attention_mask > 0)[:, None, None],
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        present = [each for layer in own.layers for each in (layer.keys, layer.values)]
        return (self.scores(states[:, -1:]), *present)

    def scores(self, states: Tensor) -> Tensor:
        """(..., D) states of the decoder -> (..., V) scores of the next token."""
        scale = self.dim**-0.5 if getattr(self.model.config, "scale_decoder_outputs", False) else 1.0
        logits: Tensor = self.model.lm_head(states * scale)
        return logits

    def no_past(self, n_rows: int) -> list[Tensor]:
        """2 L tensors (B, H, 0, D)."""
        config = self.model.decoder.config
        weight = self.model.get_input_embeddings().weight
        shape = (n_rows, config.num_heads, 0, config.d_kv)
        return [weight.new_zeros(shape) for _ in range(2 * len(self.model.decoder.block))]

    def answer_logits(self, prompts: Sequence[Ids], answers: Sequence[Ids], pad_id: int) -> Tensor:
        """See `AnswerNetwork`."""
        device = device_of(self)
        ids, mask = (torch.from_numpy(array).to(device) for array in pad_batch(prompts, pad_id))
        written, learnt = (torch.from_numpy(array).to(device) for array in pad_batch(answers, pad_id))
        begun = torch.cat([written.new_full((len(answers), 1), self.start_id), written[:, :-1]], 1)
        n = begun.shape[1]
        seen = torch.ones((n, n), dtype=torch.bool, device=device).tril()
        states = self.model.decoder(
            input_ids=begun,
            attention_mask=_additive(seen)[None, None],
            encoder_hidden_states=self._encoded(ids, mask),
            encoder_attention_mask=_additive(mask > 0)[:, None, None],
            use_cache=False,
        ).last_hidden_state
        return self.scores(states[learnt > 0])

    def decoder(self) -> TorchSeq2SeqDecoder:
        """See `AnswerNetwork`."""
        return TorchSeq2SeqDecoder(self)

    def _encoded(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, S, D) states of the encoder."""
        mask = _additive(attention_mask > 0)[:, None, None]
        states: Tensor = self.model.encoder(input_ids=input_ids, attention_mask=mask).last_hidden_state
        return states


class Seq2SeqEncoder(nn.Module):
    """`Seq2SeqNetwork.encode` as a module of its own, which is exported."""

    def __init__(self, network: Seq2SeqNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """See `Seq2SeqNetwork.encode`."""
        return self.network.encode(input_ids, attention_mask)


def _additive(seen: Tensor) -> Tensor:
    """True where a token is seen -> 0 there, and the smallest number elsewhere."""
    return torch.where(seen, 0.0, torch.finfo(torch.float32).min)


@dataclass(frozen=True)
class TorchSeq2SeqDecoder:
    """A network as a step of decoding; see `models.greedy_decoding.DecoderStep`."""

    network: Seq2SeqNetwork

    def begin(self, prompts: Sequence[Ids], pad_id: int) -> tuple[Ids, Ids, Any]:
        """See `DecoderStep`."""
        device = device_of(self.network)
        ids, mask = (torch.from_numpy(array).to(device) for array in pad_batch(prompts, pad_id))
        encoded = list(self.network.encode(ids, mask))
        first = np.full((len(prompts), 1), self.network.start_id, dtype=np.int64)
        return first, np.ones_like(first), (mask, encoded, self.network.no_past(len(prompts)))

    def step(self, input_ids: Ids, attention_mask: Ids, past: Any) -> tuple[Floats, Any]:
        """See `DecoderStep`."""
        mask, encoded, own = past
        ids = torch.from_numpy(input_ids).to(device_of(self.network))
        logits, *present = self.network(ids, mask, own, encoded)
        return logits[:, 0].float().cpu().numpy(), (mask, encoded, present)

    def take(self, past: Any, rows: NDArray[np.intp]) -> Any:
        """See `DecoderStep`."""
        mask, encoded, own = past
        chosen = torch.from_numpy(rows).to(device_of(self.network))
        return mask[chosen], *([each.index_select(0, chosen) for each in part] for part in (encoded, own))
