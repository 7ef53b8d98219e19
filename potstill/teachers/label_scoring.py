"""Label scoring: the log-probability of every label after every text, with the prompt's constant part computed once.

For labels y_1..y_K, a constant prompt and texts x_1..x_N this computes log p(y_k | prompt, x_n) for all pairs in one
pass over the N texts. What makes it quick on a CPU:

- the prompt's keys and values are computed once and never copied: every text's queries meet them in one product, and
  the two partial attentions are merged by their log-sum-exp (cascade attention: Hydragen, Juravsky et al. 2024);
- texts are packed end to end, so that no linear layer sees padding;
- labels form a tree of tokens; its inner nodes ride behind the text under a tree mask, so that shared first tokens are
  computed once, and single-token labels add nothing at all;
- the vocabulary is only scored where a label's token is wanted.

Works on any decoder of transformers that goes through its attention interface, on the device its weights are on. Does
not cover encoder-decoders, sliding windows shorter than the prompt, prompts, or money: see `local`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.errors import BadSpec
from potstill.models.label_trie import LabelTrie, build_label_trie

ATTENTION = "potstill_shared_prompt"
EDGES_AT_ONCE = 1024


@dataclass
class PackedBatch:
    """The inputs of the attention of one pass: T tokens in all, B rows of at most L tokens.

    Attributes:
        rows: (B, L) indices into the T packed tokens; short rows repeat index 0 at their end.
        unpack_index: (T,) the position of each packed token in the flattened (B, L).
        mask: (B, 1, L, L), 0 where a token may attend and -inf elsewhere; None means plain causal rows.
        prompt: per layer the prompt's keys and values, each (1, H_kv, P, D).
        prompt_states: layer -> keys and values of this pass, filled in if it is a dict; they become a prompt.
    """

    rows: Any
    unpack_index: Any
    mask: Any = None
    prompt: Sequence[tuple[Any, Any]] = ()
    prompt_states: dict[int, tuple[Any, Any]] | None = None


def _partial(query: Any, key: Any, value: Any, scale: float, mask: Any, causal: bool) -> tuple[Any, Any]:
    """Attention over some of the keys: the result (B, H, Q, D) and its log-sum-exp (B, H, Q, 1) in float32."""
    import torch

    if query.device.type != "cpu":
        return _plain(query, key, value, scale, mask, causal)
    flash: Callable[..., Any] = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    out, lse = flash(query, key, value, is_causal=causal, attn_mask=mask, scale=scale)
    return out, lse.unsqueeze(-1).float()


def _plain(query: Any, key: Any, value: Any, scale: float, mask: Any, causal: bool) -> tuple[Any, Any]:
    """`_partial` as two matrix products, for devices whose fused kernels keep their log-sum-exp in other shapes."""
    import torch

    scores = (query @ key.transpose(2, 3)).float() * scale
    if mask is not None:
        scores = scores + mask.float()
    if causal:
        later = torch.ones(scores.shape[2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, float("-inf"))
    lse = scores.logsumexp(3, keepdim=True)
    return (scores - lse).exp().to(value.dtype) @ value, lse


def shared_prompt_attention(module: Any, query: Any, key: Any, value: Any, *_: Any, **kwargs: Any) -> tuple[Any, None]:
    """An attention function of transformers for packed rows behind one shared prompt.

    query (1, H, T, D), key and value (1, H_kv, T, D) -> (1, T, H, D). Expects `packed` among the keyword arguments.
    """
    packed: PackedBatch = kwargs["packed"]
    if kwargs.get("softcap") or kwargs.get("s_aux") is not None:
        raise BadSpec(
            "This model's attention is of a kind that label scoring does not support.", "Choose another model."
        )
    heads, tokens, width = query.shape[1:]
    heads_kv = key.shape[1]
    groups = heads // heads_kv
    scale = kwargs.get("scaling") or width**-0.5
    count, length = packed.rows.shape

    def unpack(states: Any) -> Any:  # (1, h, T, D) -> (B, h, L, D)
        return states[0].transpose(0, 1)[packed.rows].transpose(1, 2)

    own, own_lse = _partial(
        unpack(query),
        unpack(key).repeat_interleave(groups, dim=1),
        unpack(value).repeat_interleave(groups, dim=1),
        scale,
        packed.mask,
        packed.mask is None,
    )
    own = own.transpose(1, 2).reshape(count * length, heads, width)[packed.unpack_index]  # (T, H, D)
    if packed.prompt_states is not None:
        packed.prompt_states[module.layer_idx] = (key, value)
    if not packed.prompt:
        return own.unsqueeze(0), None
    own_lse = own_lse.transpose(1, 2).reshape(count * length, heads, 1)[packed.unpack_index]
    prompt_key, prompt_value = packed.prompt[module.layer_idx]
    seen = prompt_key.shape[2] + length
    if (kwargs.get("sliding_window") or seen) < seen:
        raise BadSpec(
            f"The prompt and a text together are {seen} tokens, more than this model attends to.",
            "Show fewer examples (`shots`), or cut texts shorter (`max_text_tokens`).",
        )
    # Heads that share keys become more queries of one head, so that the prompt is neither repeated nor copied.
    folded = query.reshape(1, heads_kv, groups * tokens, width)
    far, far_lse = _partial(folded, prompt_key, prompt_value, scale, None, False)
    far = far.reshape(heads, tokens, width).transpose(0, 1)
    far_lse = far_lse.reshape(heads, tokens, 1).transpose(0, 1)
    return own.lerp(far, (far_lse - own_lse).sigmoid().to(own.dtype)).unsqueeze(0), None


@dataclass
class LabelScorer:
    """Scores labels after texts with one decoder of transformers: all of them, or for each text some.

    Args:
        model: an `AutoModelForCausalLM` in eval mode; its attention function is replaced.
        prompt: token ids of the constant part, at least one.
        labels: K label token sequences.
        tokens_per_pass: about how many tokens one pass takes; larger packs better, smaller stays in the cache.
        n_given: for each label, how many of its first tokens are given and not scored, such as a question of its own.
    """

    model: Any
    prompt: Sequence[int]
    labels: Sequence[Sequence[int]]
    tokens_per_pass: int = 768
    n_given: Sequence[int] = ()
    _prompt_states: list[tuple[Any, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        from transformers import AttentionInterface

        AttentionInterface.register(ATTENTION, shared_prompt_attention)
        self.model.set_attn_implementation(ATTENTION)
        self.tree = build_label_trie(self.labels, self.n_given)

    @property
    def tokens_per_text(self) -> int:
        """How many tokens the labels add to every text."""
        return len(self.tree.tokens)

    def encode_prompt(self) -> None:
        """Compute the prompt's keys and values, once; `score` calls it if it was not called.

        Raises:
            BadSpec: the model's layers do not go through the attention interface.
        """
        import torch

        from potstill.models.int8_layers import in_two_parts

        if self._prompt_states:
            return
        prompt_states: dict[int, tuple[Any, Any]] = {}
        index = torch.arange(len(self.prompt), device=self.model.device)
        with torch.inference_mode(), in_two_parts(self.model):
            ids = torch.tensor(self.prompt).to(self.model.device)
            self._run(ids, index, PackedBatch(index.unsqueeze(0), index, prompt_states=prompt_states))
        n_layers = int(self.model.config.get_text_config().num_hidden_layers)
        if len(prompt_states) != n_layers:  # it would be scored without its prompt, and texts would see one another
            raise BadSpec(
                f"Models of the type {self.model.config.model_type!r} do not use transformers' attention interface, "
                "through which labels are scored.",
                "Take another model, or serve it with llama.cpp, vLLM or Ollama and name it openai:MODEL.",
            )
        self._prompt_states = [
            (key.contiguous(), value.contiguous()) for _, (key, value) in sorted(prompt_states.items())
        ]

    def score(
        self, texts: Sequence[Sequence[int]], among: Sequence[Sequence[int]] | None = None
    ) -> NDArray[np.float64]:
        """(N, K) natural-log probabilities of the labels after each of N texts (token ids, at least one each).

        A score depends on its text alone, up to rounding: in int8 and bfloat16 which texts share a pass moves it by
        a few hundredths, in float32 by less than 1e-4. Equal calls give equal bits with equal machines and threads.

        Args:
            texts: token ids of each text.
            among: for each text the columns to score, -inf in the others; None scores all.
        """
        import torch

        self.encode_prompt()
        tries = self._tries(len(texts), among)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]) + len(tries[i].tokens))
        scores = np.full((len(texts), len(self.labels)), -np.inf)
        with torch.inference_mode():
            for rows in self._passes([len(texts[i]) + len(tries[i].tokens) for i in order]):
                chosen = [order[row] for row in rows]
                found = self._score_pass([texts[i] for i in chosen], [tries[i] for i in chosen])
                for i, row in zip(chosen, found, strict=True):
                    scores[i, slice(None) if among is None else list(among[i])] = row
        return scores

    def count_tokens(self, texts: Sequence[Sequence[int]], among: Sequence[Sequence[int]] | None = None) -> int:
        """Tokens computed to score the texts, beyond the prompt."""
        return sum(map(len, texts)) + sum(len(trie.tokens) for trie in self._tries(len(texts), among))

    def _tries(self, n: int, among: Sequence[Sequence[int]] | None) -> list[LabelTrie]:
        if among is None:
            return [self.tree] * n
        given = self.n_given or [0] * len(self.labels)
        return [build_label_trie([self.labels[k] for k in some], [given[k] for k in some]) for some in among]

    def _passes(self, lengths: Sequence[int]) -> list[range]:
        """Consecutive runs of the sorted texts, of about `tokens_per_pass` tokens each and as even as possible."""
        sizes = np.asarray(lengths)
        n_passes = max(1, round(float(sizes.sum()) / self.tokens_per_pass))
        which = np.minimum((np.cumsum(sizes) - sizes / 2) / max(float(sizes.sum()), 1.0) * n_passes, n_passes - 1)
        starts = [0, *(np.flatnonzero(np.diff(which.astype(int))) + 1).tolist(), len(lengths)]
        return [range(a, b) for a, b in pairwise(starts) if b > a]

    def _score_pass(self, texts: Sequence[Sequence[int]], tries: Sequence[LabelTrie]) -> list[NDArray[np.float64]]:
        """The log-probabilities of each text's labels, in the order of its trie."""
        import torch

        device = self.model.device
        extra = torch.tensor([len(trie.tokens) for trie in tries])
        sizes = torch.tensor([len(text) for text in texts]) + extra
        starts = sizes.cumsum(0) - sizes
        offsets = torch.arange(int(sizes.max()))
        inside = offsets < sizes.unsqueeze(1)  # (B, L)
        rows = torch.where(inside, starts.unsqueeze(1) + offsets, 0)
        ids = torch.tensor([t for text, trie in zip(texts, tries, strict=True) for t in (*text, *trie.tokens)])
        positions = torch.tensor(
            [
                place
                for text, trie in zip(texts, tries, strict=True)
                for place in (*range(len(text)), *(len(text) + depth for depth in trie.depths))
            ]
        )
        unpack_index = inside.flatten().nonzero().squeeze(1)
        packed = PackedBatch(
            rows.to(device), unpack_index.to(device), self._tree_mask(sizes, tries), self._prompt_states
        )
        states = self._run(ids.to(device), (positions + len(self.prompt)).to(device), packed)  # (T, width)
        return self._label_scores(states, (starts + sizes - extra - 1).tolist(), tries)

    def _tree_mask(self, sizes: Any, tries: Sequence[LabelTrie]) -> Any:
        """(B, 1, L, L) for rows that end in their trie; None without one, where plain causal rows suffice."""
        import torch

        if not any(trie.tokens for trie in tries):
            return None
        longest = int(sizes.max())
        attends = torch.ones(longest, longest, dtype=torch.bool).tril().repeat(len(sizes), 1, 1)
        masks = {id(trie): torch.from_numpy(trie.ancestor_mask) for trie in tries}
        for row, (size, trie) in enumerate(zip(sizes.tolist(), tries, strict=True)):
            start = size - len(trie.tokens)
            attends[row, start:size, start:size] = masks[id(trie)]
        mask = torch.zeros(attends.shape, dtype=self.model.dtype)
        return mask.masked_fill_(~attends, float("-inf")).unsqueeze(1).to(self.model.device)

    def _run(self, ids: Any, positions: Any, packed: PackedBatch) -> Any:
        """(T,) token ids and positions -> (T, width) last hidden states."""
        body = self.model.base_model
        return body(
            input_ids=ids.unsqueeze(0), position_ids=positions.unsqueeze(0), use_cache=False, packed=packed
        ).last_hidden_state[0]

    def _label_scores(self, states: Any, roots: Sequence[int], tries: Sequence[LabelTrie]) -> list[NDArray[np.float64]]:
        """The last hidden states of a pass (T, width), and where each text ends -> log-probabilities of its labels."""
        import torch

        head, device = self.model.get_output_embeddings(), states.device
        edges = [(root + 1 + node, t) for root, trie in zip(roots, tries, strict=True) for node, t in trie.edges]
        used = sorted({place for place, _ in edges})  # others stand within what is given
        row_of = {place: row for row, place in enumerate(used)}
        kept = states[torch.tensor(used).to(device)]
        rows = torch.tensor([row_of[place] for place, _ in edges]).to(device)
        tokens = torch.tensor([token for _, token in edges]).to(device)
        cap = getattr(self.model.config.get_text_config(), "final_logit_softcapping", None)

        def capped(logits: Any) -> Any:
            return torch.tanh(logits.float() / cap) * cap if cap else logits.float()

        totals = torch.cat([capped(head(part)).logsumexp(-1) for part in torch.split(kept, 64)])
        # The labels' own logits in float32: in bfloat16 a logit near 20 is only good to an eighth.
        parts = zip(torch.split(rows, EDGES_AT_ONCE), torch.split(tokens, EDGES_AT_ONCE), strict=True)
        own = torch.cat([(kept[row].float() * head.weight[token].float()).sum(-1) for row, token in parts])
        if head.bias is not None:
            own = own + head.bias[tokens].float()
        logs = (capped(own) - totals[rows]).cpu().double().numpy()  # (E,)
        scores, start = [], 0
        for trie in tries:
            mine = logs[start : start + len(trie.edges)]
            scores.append(np.array([mine[list(path)].sum() for path in trie.paths]))
            start += len(trie.edges)
        return scores
