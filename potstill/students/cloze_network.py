"""A language model that answers at a place of a pattern: token ids -> a score for each label. The one door to its code.

Two kinds: a causal model answers behind the row's last token, where the labels' further tokens ride as a tree; a masked
model answers at its masks. Covers reading the model, running it, running only its upper layers on kept states, and
which of its weights learn. Does not cover texts, patterns, verbalizers or learning itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from potstill.errors import BadInput, TeacherError
from potstill.models.causal_lm import load_causal_lm
from potstill.models.weights import Weights
from potstill.students.backbone import silence_transformers
from potstill.students.lora import add_lora, merge_lora
from potstill.students.verbalizer import VerbalizerSpec

TuningMode = Literal["lora", "full", "frozen"]


@dataclass(frozen=True)
class PretrainedLM:
    """A language model with its head, and what must be known of it to put a pattern before it.

    Attributes:
        model: a transformers model, in float32.
        tokenizer: the text of its tokenizer.json.
        begin, close: token ids that open and close a row.
        mask_id: the mask's token; None for a causal model.
        context: the most tokens it reads.
    """

    model: Any
    tokenizer: str
    prefix_ids: tuple[int, ...]
    suffix_ids: tuple[int, ...]
    mask_id: int | None
    context_length: int


def load_pretrained_lm(found: Weights) -> PretrainedLM:
    """The language model in `found`.

    Raises:
        BadInput: it is damaged, of an unknown architecture, or has no head that predicts words.
    """
    if found.kind in ("gguf", "causal"):
        try:
            loaded = load_causal_lm(found, "float32")
        except TeacherError as error:
            raise BadInput(error.message, error.hint) from error
        return PretrainedLM(
            loaded.model, _as_json(loaded.tokenizer), tuple(loaded.prefix_ids), (), None, loaded.context_length
        )
    from safetensors import SafetensorError
    from transformers import AutoModelForMaskedLM

    from potstill.models.cloze_pattern import tokenizer_from_json

    try:
        with silence_transformers(), torch.random.fork_rng(devices=[]):
            model, report = AutoModelForMaskedLM.from_pretrained(
                found.folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
            )
        text = (found.folder / "tokenizer.json").read_text(encoding="utf-8")
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise BadInput(
            f"{found.folder} does not hold a masked language model that transformers can read.",
            "Give a folder with config.json, model.safetensors and tokenizer.json.",
        ) from error
    if report["missing_keys"]:
        raise BadInput(
            f"{found.name!r} lacks {sorted(report['missing_keys'])[0]}, a part of a masked language model.",
            "Take weights that were saved with their head.",
        )
    own = tokenizer_from_json(text)
    around = own.encode("").ids
    masks = [own.token_to_id(name) for name in ("[MASK]", "<mask>")]
    mask_id = next((each for each in masks if each is not None), None)
    if mask_id is None or len(around) != 2:
        raise BadInput(f"The tokenizer of {found.name!r} has no mask token.", "Take a masked language model's.")
    config = model.config
    context = int(getattr(config, "max_position_embeddings", 512))
    context -= int(config.pad_token_id) + 1 if "roberta" in config.model_type else 0
    model.requires_grad_(False)
    return PretrainedLM(model.eval(), text, (around[0],), (around[1],), mask_id, context)


def _as_json(tokenizer: Any) -> str:
    text: str = tokenizer.backend_tokenizer.to_str()
    return text


class ClozeNetwork(nn.Module):
    """(B, T) ids and mask -> (B, K) natural-log scores.

    Args:
        model: a masked or causal language model of transformers.
        reading: how labels are read from its places.
        mask_id: a masked model's mask, which stands in every row as often as places are read; None: it is causal.
        soft: how many learnt vectors stand in the place of tokens, and from which place on.
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
        self, model: Any, reading: VerbalizerSpec, mask_id: int | None, soft: tuple[int, int] = (0, 0)
    ) -> None:
        super().__init__()
        self.model: Any = model
        self.reading = reading
        self.mask_id = mask_id
        self.causal = mask_id is None
        self.blocks: nn.ModuleList = _blocks(model)
        width = model.get_input_embeddings().weight.shape[1]
        self.bias = nn.Parameter(torch.zeros(reading.edge_weights.shape[1]))
        self.soft_prompt = nn.Parameter(torch.zeros(soft[0], width))
        self.soft_prompt_at = soft[1]
        places, tokens = zip(*reading.edges, strict=True)
        depths, ancestry = _tree(reading.parents)
        for name, value in (
            ("positions", torch.tensor(places)),
            ("tokens", torch.tensor(tokens)),
            ("edge_weights", torch.from_numpy(reading.edge_weights)),
            ("nodes", torch.tensor(reading.tokens, dtype=torch.int64)),
            ("depths", depths),
            ("ancestry", ancestry),
        ):
            self.register_buffer(name, value, persistent=False)
        self.requires_grad_(False)
        self.trained_state: dict[str, Tensor] = {}
        self.to(model.device)

    @property
    def backbone(self) -> Any:
        """The transformers model, for whoever exports."""
        return self.model

    @property
    def dim(self) -> int:
        """D of `embed`."""
        return int(self.model.get_input_embeddings().weight.shape[1])

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, T) ids and mask -> (B, K) natural-log scores."""
        return self.label_logits(self.hidden_states(input_ids, attention_mask))

    def embed(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, T) ids and mask -> (B, D) states at the first place that is read."""
        return self.hidden_states(input_ids, attention_mask)[:, 0]

    def hidden_states(self, input_ids: Tensor, attention_mask: Tensor, entry: Tensor | None = None) -> Tensor:
        """(B, T) ids and mask -> (B, P, D) last states at the P places.

        Args:
            entry: (B, T + M, D) states to go on from instead of embeddings, inside `above`.
        """
        given: dict[str, Any] = {"attention_mask": attention_mask}
        length = attention_mask.sum(1, keepdim=True)
        if self.causal:
            batch, width = attention_mask.shape
            nodes = self.nodes.expand(batch, -1)
            input_ids = torch.cat([input_ids, nodes], 1)
            at = torch.arange(width, device=input_ids.device).expand(batch, -1)
            given = {
                "attention_mask": self._mask(attention_mask),
                "position_ids": torch.cat([at, length + self.depths], 1),
                "use_cache": False,
            }
        embedded = self._embedded(input_ids) if entry is None else entry
        states: Tensor = self.model.base_model(inputs_embeds=embedded, **given).last_hidden_state
        if self.causal:
            root = _gather(states, length - 1)
            return torch.cat([root, states[:, attention_mask.shape[1] :]], 1)
        assert self.mask_id is not None
        masks = input_ids.eq(self.mask_id).to(torch.int64)
        which = torch.arange(self.reading.n_positions, device=input_ids.device) + 1
        nth = masks.cumsum(1)[:, None, :].eq(which[None, :, None]) & masks[:, None, :].eq(1)  # (B, P, T)
        return _gather(states, nth.to(torch.float32).argmax(2))

    def label_logits(self, points: Tensor) -> Tensor:
        """(B, P, D) states -> (B, K)."""
        if self.causal:
            head = self.model.get_output_embeddings()
            cap = getattr(self.model.config.get_text_config(), "final_logit_softcapping", None)
            own = (points[:, self.positions] * head.weight[self.tokens]).sum(-1)
            own = own if head.bias is None else own + head.bias[self.tokens]
            own = _capped(own, cap)
            if self.reading.normalised:
                own = own - _capped(head(points), cap).logsumexp(-1)[:, self.positions]
        else:
            words = _vocabulary(self.model, points)
            own = words[:, self.positions, self.tokens]
            if self.reading.normalised:
                own = own - words.logsumexp(-1)[:, self.positions]
        return own @ self.edge_weights + self.bias

    def token_log_probs(self, points: Tensor) -> Tensor:
        """(B, P, D) states -> (B, V) log-probabilities of every token at the first place."""
        first = points[:, :1]
        logits: Tensor = self.model.get_output_embeddings()(first) if self.causal else _vocabulary(self.model, first)
        return logits[:, 0].float().log_softmax(-1)

    def first_token_log_probs(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, T) ids and mask -> (B, V) log-probabilities of every token at the first place."""
        return self.token_log_probs(self.hidden_states(input_ids, attention_mask))

    def _embedded(self, input_ids: Tensor) -> Tensor:
        embedded: Tensor = self.model.get_input_embeddings()(input_ids)
        n, at = len(self.soft_prompt), self.soft_prompt_at
        if n:
            soft = self.soft_prompt.expand(input_ids.shape[0], -1, -1)
            embedded = torch.cat([embedded[:, :at], soft, embedded[:, at + n :]], 1)
        return embedded

    def _mask(self, attention_mask: Tensor) -> Tensor | None:
        """(B, 1, T + M, T + M): which places a place sees; None where plain causal rows suffice."""
        eager = self.model.config._attn_implementation == "eager"
        if not len(self.nodes) and not eager:
            return None
        (batch, width), device = attention_mask.shape, attention_mask.device
        at = torch.arange(width, device=device)
        sees = (at[:, None] >= at[None, :]).expand(batch, -1, -1)
        if len(self.nodes):
            m = len(self.nodes)
            sees = torch.cat([sees, torch.zeros(batch, width, m, dtype=torch.bool, device=device)], 2)
            text = (attention_mask > 0)[:, None, :].expand(-1, m, -1)
            sees = torch.cat([sees, torch.cat([text, self.ancestry.expand(batch, -1, -1)], 2)], 1)
        sees = sees[:, None]
        return torch.where(sees, 0.0, torch.finfo(torch.float32).min) if eager else sees

    # --- the upper layers alone ------------------------------------------------------------------------------

    def layer_inputs(self, input_ids: Tensor, attention_mask: Tensor, first: int) -> Tensor:
        """(B, T + M, D) states that go into layer `first`; the layers from there on are not run."""
        kept: list[Tensor] = []

        def stop(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            kept.append(args[0])
            raise _Enough

        hook = self.blocks[first].register_forward_pre_hook(stop)
        try:
            with torch.no_grad():
                self.hidden_states(input_ids, attention_mask)
        except _Enough:
            pass
        finally:
            hook.remove()
        return kept[0]

    @contextmanager
    def run_from_layer(self, first: int) -> Iterator[None]:
        """Inside the block layers below `first` hand on what they are given, and cost nothing."""
        usual = list(self.blocks[:first])
        for i, block in enumerate(usual):
            self.blocks[i] = _HandOn(block)
        try:
            yield
        finally:
            for i, block in enumerate(usual):
                self.blocks[i] = block

    # --- what learns -----------------------------------------------------------------------------------------

    def unfreeze(self, mode: TuningMode, layers: int, rank: int) -> int:
        """Let the bias, the soft prompt and, in the top `layers`, the weights or LoRA learn; the first layer that does.

        "full" on all layers of a masked model lets its embeddings and head learn, too.
        """
        first = len(self.blocks) - layers if mode != "frozen" else len(self.blocks)
        for block in self.blocks[first:]:
            if mode == "lora":
                add_lora(block, rank, 2.0 * rank)
            else:
                block.requires_grad_(True)
        if mode == "full":
            lower = {id(each) for block in self.blocks[:first] for each in block.parameters()}
            everything = not self.causal and first == 0
            for name, each in self.model.named_parameters():
                tied = each is self.model.get_input_embeddings().weight or each is _output_weight(self.model)
                if id(each) not in lower and (everything or not (tied or "embed" in name)):
                    each.requires_grad_(True)
        self.bias.requires_grad_(True)
        self.soft_prompt.requires_grad_(bool(len(self.soft_prompt)))
        return 0 if len(self.soft_prompt) else min(first, len(self.blocks) - 1)

    def merge_and_freeze(self) -> None:
        """Nothing learns any more; what did is in `learnt` by name, and LoRA is part of the weights."""
        self.trained_state = {
            name: each.detach().clone() for name, each in self.named_parameters() if each.requires_grad
        }
        merge_lora(self.model)
        self.requires_grad_(False)
        self.eval()

    def load_trained_state(self, learnt: Mapping[str, Tensor], mode: TuningMode, layers: int, rank: int) -> None:
        """Become the network whose `learnt` this is."""
        with torch.random.fork_rng(devices=[]):  # drawn on the CPU, and overwritten
            self.unfreeze(mode, layers, rank)
        known = dict(self.named_parameters())
        with torch.no_grad():
            for name, value in learnt.items():
                known[name].copy_(value)
        self.merge_and_freeze()


class _Enough(Exception):
    """The states that were wanted are there."""


class _HandOn(nn.Module):
    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        if hasattr(block, "attention_type"):  # some models choose a mask by it
            self.attention_type = block.attention_type

    def forward(self, states: Tensor, *_: Any, **__: Any) -> Tensor:
        return states


def _blocks(model: Any) -> nn.ModuleList:
    n = model.config.get_text_config().num_hidden_layers
    for module in model.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == n:
            return module
    raise BadInput(f"A {model.config.model_type} keeps its layers where none were looked for.", "Take another model.")


def _output_weight(model: Any) -> Any:
    head = model.get_output_embeddings()
    return None if head is None else head.weight


def _tree(parents: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(M,) how many tokens after the text a node is, and (M, M) which nodes it sees: itself and its ancestors."""
    depths: list[int] = []
    sees = torch.eye(len(parents), dtype=torch.bool)
    for node, parent in enumerate(parents):
        depths.append(0 if parent < 0 else depths[parent] + 1)
        if parent >= 0:
            sees[node] |= sees[parent]
    return torch.tensor(depths, dtype=torch.int64), sees


def _gather(states: Tensor, places: Tensor) -> Tensor:
    """(B, T, D) and (B, P) -> (B, P, D)."""
    return states.gather(1, places[:, :, None].expand(-1, -1, states.shape[2]))


def _capped(logits: Tensor, cap: float | None) -> Tensor:
    return torch.tanh(logits / cap) * cap if cap else logits


def _vocabulary(model: Any, points: Tensor) -> Tensor:
    """(B, P, D) -> (B, P, V) logits, by the masked model's own head."""
    for name in ("cls", "lm_head", "predictions"):  # BERT and DeBERTa; RoBERTa, MPNet and ESM; ALBERT
        if hasattr(model, name):
            logits: Tensor = getattr(model, name)(points)
            return logits
    if hasattr(model, "vocab_projector"):  # DistilBERT
        states = model.vocab_layer_norm(model.activation(model.vocab_transform(points)))
        return torch.as_tensor(model.vocab_projector(states))
    if hasattr(model, "head") and hasattr(model, "decoder"):  # ModernBERT
        return torch.as_tensor(model.decoder(model.head(points)))
    raise BadInput(f"The head of a {model.config.model_type} is of an unknown kind.", "Take a BERT or a RoBERTa.")
