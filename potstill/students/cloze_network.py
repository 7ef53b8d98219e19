"""A language model as a classifier: token ids of a text in a pattern -> logits of the labels.

A causal model predicts after the last token of a row; further tokens of label words are appended as a trie. A masked
model predicts at its masks. Covers loading, running, running only the upper layers on cached states, and which weights
are trained. Does not cover texts, patterns, verbalizers or training itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from potstill.errors import BadInput, TeacherError
from potstill.models.causal_lm import load_causal_lm
from potstill.models.cloze_pattern import tokenizer_from_json
from potstill.models.weights import Weights
from potstill.students.backbone import silence_transformers
from potstill.students.tuned_lm import TunedLM
from potstill.students.tuned_lm import TuningMode as TuningMode
from potstill.students.verbalizer import VerbalizerSpec


@dataclass(frozen=True)
class PretrainedLM:
    """A language model with its head, and its tokenizer.

    Attributes:
        model: a transformers model, in float32.
        tokenizer: the content of its tokenizer.json.
        prefix_ids, suffix_ids: special token ids at the beginning and end of a row.
        mask_id: id of the mask token; None for a causal model.
        context_length: maximum number of tokens of a row.
        end_id: id of the token that ends a document; of a masked model -1.
    """

    model: Any
    tokenizer: str
    prefix_ids: tuple[int, ...]
    suffix_ids: tuple[int, ...]
    mask_id: int | None
    context_length: int
    end_id: int = -1


def load_pretrained_lm(weights: Weights) -> PretrainedLM:
    """Load a language model with its head.

    Raises:
        BadInput: it is damaged, of an unknown architecture, or has no language-model head.
    """
    if weights.kind in ("gguf", "causal"):
        try:
            loaded = load_causal_lm(weights, "float32")
        except TeacherError as error:
            raise BadInput(error.message, error.hint) from error
        return PretrainedLM(
            loaded.model,
            loaded.tokenizer.backend_tokenizer.to_str(),
            tuple(loaded.prefix_ids),
            (),
            None,
            loaded.context_length,
            loaded.end_token,
        )
    return _load_masked_lm(weights)


def _load_masked_lm(weights: Weights) -> PretrainedLM:
    from safetensors import SafetensorError
    from transformers import AutoModelForMaskedLM

    try:
        with silence_transformers(), torch.random.fork_rng(devices=[]):
            model, report = AutoModelForMaskedLM.from_pretrained(
                weights.folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
            )
        text = (weights.folder / "tokenizer.json").read_text(encoding="utf-8")
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise BadInput(
            f"{weights.folder} does not hold a masked language model that transformers can load.",
            "Give a folder with config.json, model.safetensors and tokenizer.json.",
        ) from error
    if report["missing_keys"]:
        raise BadInput(
            f"{weights.name!r} has no {sorted(report['missing_keys'])[0]}, a part of a masked language model.",
            "Use weights that were saved with their head.",
        )
    tokenizer = tokenizer_from_json(text)
    special = tokenizer.encode("").ids
    mask_ids = [tokenizer.token_to_id(name) for name in ("[MASK]", "<mask>")]
    mask_id = next((token for token in mask_ids if token is not None), None)
    if mask_id is None or len(special) != 2:
        raise BadInput(f"The tokenizer of {weights.name!r} has no mask token.", "Use a masked language model.")
    config = model.config
    context_length = int(getattr(config, "max_position_embeddings", 512))
    context_length -= int(config.pad_token_id) + 1 if "roberta" in config.model_type else 0
    model.requires_grad_(False)
    return PretrainedLM(model.eval(), text, (special[0],), (special[1],), mask_id, context_length)


class ClozeNetwork(TunedLM):
    """(B, T) ids and mask -> (B, K) logits.

    Args:
        model: a masked or causal language model of transformers.
        verbalizer: how label logits are computed from its outputs.
        mask_id: id of the mask token, of which each row has P; None for a causal model.
        soft_prompt: number of trained vectors that replace tokens, and the position of the first.

    Attributes:
        bias: (K,) label bias.
        soft_prompt: (S, D) trained vectors at positions from `soft_prompt_at` on.
    """

    bias: nn.Parameter
    soft_prompt: nn.Parameter
    positions: Tensor
    tokens: Tensor
    edge_weights: Tensor
    nodes: Tensor
    depths: Tensor
    ancestry: Tensor

    def __init__(
        self, model: Any, verbalizer: VerbalizerSpec, mask_id: int | None, soft_prompt: tuple[int, int] = (0, 0)
    ) -> None:
        super().__init__(model, causal=mask_id is None)
        self.verbalizer = verbalizer
        self.mask_id = mask_id
        width = model.get_input_embeddings().weight.shape[1]
        self.bias = nn.Parameter(torch.zeros(verbalizer.edge_weights.shape[1]))
        self.soft_prompt = nn.Parameter(torch.zeros(soft_prompt[0], width))
        self.soft_prompt_at = soft_prompt[1]
        positions, tokens = zip(*verbalizer.edges, strict=True)
        depths, ancestry = _tree(verbalizer.parents)
        for name, value in (
            ("positions", torch.tensor(positions)),
            ("tokens", torch.tensor(tokens)),
            ("edge_weights", torch.from_numpy(verbalizer.edge_weights)),
            ("nodes", torch.tensor(verbalizer.tokens, dtype=torch.int64)),
            ("depths", depths),
            ("ancestry", ancestry),
        ):
            self.register_buffer(name, value, persistent=False)
        self.requires_grad_(False)
        self.to(model.device)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, T) ids and mask -> (B, K) logits."""
        return self.label_logits(self.hidden_states(input_ids, attention_mask))

    def embed(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, T) ids and mask -> (B, D) hidden states at the first position."""
        return self.hidden_states(input_ids, attention_mask)[:, 0]

    def hidden_states(self, input_ids: Tensor, attention_mask: Tensor, layer_inputs: Tensor | None = None) -> Tensor:
        """(B, T) ids and mask -> (B, P, D) last hidden states at the P positions.

        Args:
            input_ids: (B, T).
            attention_mask: (B, T), 1 for a token and 0 for padding.
            layer_inputs: (B, T + M, D) states that replace the embeddings, inside `run_from_layer`.
        """
        inputs: dict[str, object] = {"attention_mask": attention_mask}
        length = attention_mask.sum(1, keepdim=True)
        if self.causal:
            batch, width = attention_mask.shape
            nodes = self.nodes.expand(batch, -1)
            input_ids = torch.cat([input_ids, nodes], 1)
            positions = torch.arange(width, device=input_ids.device).expand(batch, -1)
            inputs = {
                "attention_mask": self._trie_mask(attention_mask),
                "position_ids": torch.cat([positions, length + self.depths], 1),
                "use_cache": False,
            }
        embedded = self._input_embeddings(input_ids) if layer_inputs is None else layer_inputs
        states: Tensor = self.model.base_model(inputs_embeds=embedded, **inputs).last_hidden_state
        if self.causal:
            root = _gather(states, length - 1)
            return torch.cat([root, states[:, attention_mask.shape[1] :]], 1)
        assert self.mask_id is not None
        masks = input_ids.eq(self.mask_id).to(torch.int64)
        which = torch.arange(self.verbalizer.n_positions, device=input_ids.device) + 1
        nth = masks.cumsum(1)[:, None, :].eq(which[None, :, None]) & masks[:, None, :].eq(1)  # (B, P, T)
        return _gather(states, nth.to(torch.float32).argmax(2))

    def label_logits(self, states: Tensor) -> Tensor:
        """(B, P, D) hidden states -> (B, K) logits."""
        if self.causal:
            head = self.model.get_output_embeddings()
            cap = getattr(self.model.config.get_text_config(), "final_logit_softcapping", None)
            scores = (states[:, self.positions] * head.weight[self.tokens]).sum(-1)
            scores = scores if head.bias is None else scores + head.bias[self.tokens]
            scores = _capped(scores, cap)
            if self.verbalizer.normalised:
                scores = scores - _capped(head(states), cap).logsumexp(-1)[:, self.positions]
        else:
            logits = _lm_head(self.model, states)
            scores = logits[:, self.positions, self.tokens]
            if self.verbalizer.normalised:
                scores = scores - logits.logsumexp(-1)[:, self.positions]
        return scores @ self.edge_weights + self.bias

    def token_log_probs(self, states: Tensor) -> Tensor:
        """(B, P, D) hidden states -> (B, V) log-probabilities of every token at the first position."""
        first = states[:, :1]
        logits: Tensor = self.model.get_output_embeddings()(first) if self.causal else _lm_head(self.model, first)
        return logits[:, 0].float().log_softmax(-1)

    def first_token_log_probs(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, T) ids and mask -> (B, V) log-probabilities of every token at the first position."""
        return self.token_log_probs(self.hidden_states(input_ids, attention_mask))

    def _input_embeddings(self, input_ids: Tensor) -> Tensor:
        embedded: Tensor = self.model.get_input_embeddings()(input_ids)
        n, start = len(self.soft_prompt), self.soft_prompt_at
        if n:
            prompt = self.soft_prompt.expand(input_ids.shape[0], -1, -1)
            embedded = torch.cat([embedded[:, :start], prompt, embedded[:, start + n :]], 1)
        return embedded

    def _trie_mask(self, attention_mask: Tensor) -> Tensor | None:
        """(B, 1, T + M, T + M) attention mask of text and trie; None if the model's own causal mask suffices."""
        eager = self.model.config._attn_implementation == "eager"
        if not len(self.nodes) and not eager:
            return None
        (batch, width), device = attention_mask.shape, attention_mask.device
        positions = torch.arange(width, device=device)
        visible = (positions[:, None] >= positions[None, :]).expand(batch, -1, -1)
        if len(self.nodes):
            m = len(self.nodes)
            visible = torch.cat([visible, torch.zeros(batch, width, m, dtype=torch.bool, device=device)], 2)
            text = (attention_mask > 0)[:, None, :].expand(-1, m, -1)
            visible = torch.cat([visible, torch.cat([text, self.ancestry.expand(batch, -1, -1)], 2)], 1)
        visible = visible[:, None]
        return torch.where(visible, 0.0, torch.finfo(torch.float32).min) if eager else visible

    # --- running the upper layers only -----------------------------------------------------------------------

    def layer_inputs(self, input_ids: Tensor, attention_mask: Tensor, first: int) -> Tensor:
        """(B, T + M, D) inputs of layer `first`; the layers from there on are not run."""
        inputs: list[Tensor] = []

        def stop(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            inputs.append(args[0])
            raise _StopForward

        hook = self.blocks[first].register_forward_pre_hook(stop)
        try:
            with torch.no_grad():
                self.hidden_states(input_ids, attention_mask)
        except _StopForward:
            pass
        finally:
            hook.remove()
        return inputs[0]

    @contextmanager
    def run_from_layer(self, first: int) -> Iterator[None]:
        """Inside the block the layers below `first` are identities."""
        lower = list(self.blocks[:first])
        for i, block in enumerate(lower):
            self.blocks[i] = _Identity(block)
        try:
            yield
        finally:
            for i, block in enumerate(lower):
                self.blocks[i] = block

    def unfreeze(self, mode: TuningMode, layers: int, rank: int) -> int:
        """As in `TunedLM`; bias and soft prompt always."""
        first = super().unfreeze(mode, layers, rank)
        self.bias.requires_grad_(True)
        self.soft_prompt.requires_grad_(bool(len(self.soft_prompt)))
        return 0 if len(self.soft_prompt) else first


class _StopForward(Exception):
    """Ends a forward pass before a layer."""


class _Identity(nn.Module):
    """A layer that returns its inputs."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        if hasattr(block, "attention_type"):  # some models select a mask by it
            self.attention_type = block.attention_type

    def forward(self, states: Tensor, *_: Any, **__: Any) -> Tensor:
        return states


def _tree(parents: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(M,) depth of each trie node, and (M, M) bool, True for the node itself and its ancestors."""
    depths: list[int] = []
    mask = torch.eye(len(parents), dtype=torch.bool)
    for node, parent in enumerate(parents):
        depths.append(0 if parent < 0 else depths[parent] + 1)
        if parent >= 0:
            mask[node] |= mask[parent]
    return torch.tensor(depths, dtype=torch.int64), mask


def _gather(states: Tensor, positions: Tensor) -> Tensor:
    """(B, T, D) and (B, P) -> (B, P, D)."""
    return states.gather(1, positions[:, :, None].expand(-1, -1, states.shape[2]))


def _capped(logits: Tensor, cap: float | None) -> Tensor:
    return torch.tanh(logits / cap) * cap if cap else logits


def _lm_head(model: Any, states: Tensor) -> Tensor:
    """(B, P, D) hidden states -> (B, P, V) logits of a masked model."""
    for name in ("cls", "lm_head", "predictions"):  # BERT and DeBERTa; RoBERTa, MPNet and ESM; ALBERT
        if hasattr(model, name):
            logits: Tensor = getattr(model, name)(states)
            return logits
    if hasattr(model, "vocab_projector"):  # DistilBERT
        transformed = model.vocab_layer_norm(model.activation(model.vocab_transform(states)))
        return torch.as_tensor(model.vocab_projector(transformed))
    if hasattr(model, "head") and hasattr(model, "decoder"):  # ModernBERT
        return torch.as_tensor(model.decoder(model.head(states)))
    raise BadInput(f"The head of a {model.config.model_type} is not supported.", "Use a BERT or a RoBERTa.")
