"""Linear layers of a decoder in 8-bit integers, on processors that multiply these natively (AMX, AVX512-VNNI).

A row of a weight has one scale, computed once from its largest value; a token has one, computed as it comes. What goes
into the last layer of a gated MLP has a long tail, so there a token has several, each for a part of its activations.
Some tokens of a prompt carry activations hundreds of times larger than the others ("massive activations", Sun et al.
2024), beside which one scale leaves little of the rest: inside `in_two_parts` what rounding leaves is rounded and
multiplied once more, so that a token keeps about 15 bits. oneDNN multiplies, through PyTorch's own operators, and
nothing is compiled. Does not cover training or GPUs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

# So many scales for a token's input of the last layer of a gated MLP.
MLP_SCALES = 4
# So many activations are rounded at once: with what is made of them they stay in the processor's second-level cache.
_VALUES_AT_ONCE = 1 << 18
SMOOTHED_TYPES = {"llama", "mistral", "qwen2", "qwen3"}
_TILE = 64  # 8-bit integers that AMX multiplies at once
# A little below 127, so that rounding a scale and its inverse to bfloat16 never gives more than 127.
_LARGEST = 126.0
_SMALLEST = 1e-30  # no division by zero for a token of zeros


class Int8Tokens:
    """T tokens of K activations as 8-bit integers, with G scales a token.

    Attributes:
        values: (T, K) int8.
        scales: (T, G) bfloat16; scale g is of the activations g K / G to (g + 1) K / G.
        rest: what rounding left, in the same form; None if it is not kept.
    """

    def __init__(self, shape: tuple[int, int], n_scales: int, *, two_parts: bool) -> None:
        self.values = torch.empty(shape, dtype=torch.int8)
        self.scales = torch.empty(shape[0], n_scales, dtype=torch.bfloat16)
        self.rest = Int8Tokens(shape, n_scales, two_parts=False) if two_parts else None

    def put(self, start: int, inputs: Tensor) -> None:
        """Store tokens from `start` on: (T', K) bfloat16, which is overwritten."""
        rows = slice(start, start + len(inputs))
        groups = inputs.view(len(inputs), self.scales.shape[1], -1)
        # A scale that is exact in bfloat16 makes the product with it the only rounding after the matrix product.
        scales = groups.abs().amax(2, keepdim=True).mul_(1 / _LARGEST).clamp_(min=_SMALLEST)
        scaled = groups * scales.reciprocal() if self.rest is not None else groups.mul_(scales.reciprocal())
        self.values[rows] = scaled.round_().view(inputs.shape)
        self.scales[rows] = scales.squeeze(2)
        if self.rest is not None:
            self.rest.put(start, groups.sub_(scaled.mul_(scales)).view(inputs.shape))


class Int8Activations:
    """Rounds the inputs of all layers of one model; layers that share an input share its rounding.

    Attributes:
        two_parts: whether what rounding leaves is kept, see `in_two_parts`.
    """

    def __init__(self) -> None:
        self.two_parts = False
        self._seen: tuple[Tensor, Int8Tokens] | None = None

    def of(self, inputs: Tensor, n_scales: int) -> Int8Tokens:
        """(..., K) activations -> T tokens of K, with `n_scales` scales each."""
        if self._seen is None or self._seen[0] is not inputs:
            tokens = self.empty(inputs.numel() // inputs.shape[-1], inputs.shape[-1], n_scales)
            flat = inputs.reshape(-1, inputs.shape[-1])
            for rows in _row_blocks(*flat.shape):
                tokens.put(rows.start, flat[rows].to(torch.bfloat16, copy=True))
            self._seen = inputs, tokens
        return self._seen[1]

    def empty(self, n_tokens: int, width: int, n_scales: int) -> Int8Tokens:
        """Room for tokens."""
        return Int8Tokens((n_tokens, width), n_scales, two_parts=self.two_parts)


class Int8Linear(nn.Module):
    """A linear layer, (..., K) -> (..., N).

    Args:
        linear: the layer in floating point; its weight is read once.
        activations: rounds its inputs.
        n_scales: scales of a token's input, a divisor of K.
    """

    def __init__(self, linear: nn.Linear, activations: Int8Activations, n_scales: int = 1) -> None:
        super().__init__()
        self.in_features, self.out_features, self.n_scales = linear.in_features, linear.out_features, n_scales
        self.activations = activations
        self.bias = None if linear.bias is None else linear.bias.data
        self.zero = torch.zeros(self.out_features, dtype=torch.int64)
        rounded = [_round_weight(part) for part in torch.split(linear.weight.data, self.in_features // n_scales, dim=1)]
        self.parts = [(torch.ops.onednn.qlinear_prepack(values, None), scales) for values, scales in rounded]

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., K) -> (..., N) in the dtype of the inputs."""
        return self.of(self.activations.of(inputs, self.n_scales)).view(*inputs.shape[:-1], -1).to(inputs.dtype)

    def of(self, tokens: Int8Tokens) -> Tensor:
        """T tokens -> (T, N) bfloat16."""
        made = self._product(tokens, self.bias)
        return made if tokens.rest is None else made.add_(self._product(tokens.rest, None))

    def unscaled(self, values: Tensor, part: int = 0) -> Tensor:
        """(T, K / G) int8 -> (T, N) bfloat16, to be multiplied by the scales of the tokens."""
        weight, scales = self.parts[part]
        made: Tensor = torch.ops.onednn.qlinear_pointwise(
            values, 1.0, 0, weight, scales, self.zero, None, 1.0, 0, torch.bfloat16, "none", [], ""
        )
        return made

    def _product(self, tokens: Int8Tokens, bias: Tensor | None) -> Tensor:
        values = torch.split(tokens.values, self.in_features // self.n_scales, dim=1)
        total = self.unscaled(values[0])
        if bias is None:
            total.mul_(tokens.scales[:, :1])
        else:
            total = torch.addcmul(bias, total, tokens.scales[:, :1])
        for part in range(1, self.n_scales):
            total.addcmul_(self.unscaled(values[part], part), tokens.scales[:, part : part + 1])
        return total


def _round_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(N, K) -> int8 values and the N scales in float32."""
    values = torch.empty(weight.shape, dtype=torch.int8)
    scales = torch.empty(len(weight))
    for rows in _row_blocks(*weight.shape):
        block = weight[rows].to(torch.float32, copy=True)
        scale = block.abs().amax(1, keepdim=True).div_(_LARGEST).clamp_(min=_SMALLEST)
        values[rows] = block.div_(scale).round_()
        scales[rows] = scale.squeeze(1)
    return values, scales


def _row_blocks(n_rows: int, width: int) -> Iterator[slice]:
    """The rows of a matrix, of about `_VALUES_AT_ONCE` values each."""
    step = max(1, _VALUES_AT_ONCE // width)
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


class Int8GatedMLP(nn.Module):
    """down(act(gate(x)) * up(x)), of which nothing but the two products gate and up is written out as a whole."""

    def __init__(self, mlp: Any, activations: Int8Activations) -> None:
        super().__init__()
        width = mlp.down_proj.in_features
        n_scales = next((n for n in range(MLP_SCALES, 1, -1) if width % (n * _TILE) == 0), 1)
        self.gate_proj, self.up_proj = (Int8Linear(each, activations) for each in (mlp.gate_proj, mlp.up_proj))
        self.down_proj = Int8Linear(mlp.down_proj, activations, n_scales)
        self.act_fn, self.activations = mlp.act_fn, activations

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        tokens = self.activations.of(inputs, 1)
        if tokens.rest is not None:
            inner_states = self.act_fn(self.gate_proj.of(tokens)).mul_(self.up_proj.of(tokens))
            made: Tensor = self.down_proj(inner_states).view(inputs.shape).to(inputs.dtype)
            return made
        gate, up = self.gate_proj.unscaled(tokens.values), self.up_proj.unscaled(tokens.values)
        inner = self.activations.empty(len(gate), gate.shape[1], self.down_proj.n_scales)
        for rows in _row_blocks(*gate.shape):
            inner.put(rows.start, self.act_fn(gate[rows].mul_(tokens.scales[rows])).mul_(up[rows]))
        inner.scales.mul_(tokens.scales)  # of up, which a product takes as well afterwards
        return self.down_proj.of(inner).view(inputs.shape).to(inputs.dtype)


def quantize_linears(model: Any) -> None:
    """Replace the linear layers of an `AutoModelForCausalLM` on the CPU by 8-bit ones, except its output layer."""
    activations = Int8Activations()
    head = model.get_output_embeddings()
    gated = [(name, each) for name, each in model.named_modules() if _is_gated_mlp(each)]
    for name, mlp in gated:
        model.set_submodule(name, Int8GatedMLP(mlp, activations))
    plain = [(name, each) for name, each in model.named_modules() if type(each) is nn.Linear and each is not head]
    for name, linear in plain:
        model.set_submodule(name, Int8Linear(linear, activations))


def _is_gated_mlp(module: Any) -> bool:
    names = ["gate_proj", "up_proj", "down_proj"]
    linears = [getattr(module, name, None) for name in names]
    if not all(type(each) is nn.Linear and each.bias is None for each in linears):
        return False
    return [name for name, _ in module.named_children()] == [*names, "act_fn"]


def smooth_inputs(model: Any, tokens: Sequence[int]) -> None:
    """Even out the channels of what goes into a block's layers, at the cost of weights (SmoothQuant, Xiao et al. 2023).

    A channel is divided in the norm before the layers and multiplied in their weights, by the root of the ratio of
    both, as a power of two, so that nothing is rounded. For `SMOOTHED_TYPES`, where layers follow right on norms.

    Args:
        model: an `AutoModelForCausalLM` in floating point, on the CPU.
        tokens: a text, of which the first token is left out: its activations are like no other's.
    """
    if model.config.model_type not in SMOOTHED_TYPES:
        return
    followers: dict[nn.Module, list[nn.Linear]] = {}
    for layer in model.base_model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        followers[layer.input_layernorm] = [attention.q_proj, attention.k_proj, attention.v_proj]
        followers[layer.post_attention_layernorm] = [mlp.gate_proj, mlp.up_proj]
    sizes: dict[nn.Module, Tensor] = {}

    def keep(norm: nn.Module, _: Any, states: Tensor) -> None:
        sizes[norm] = states[0, 1:].float().square().mean(0).sqrt()

    hooks = [norm.register_forward_hook(keep) for norm in followers]
    with torch.inference_mode():
        model.base_model(input_ids=torch.tensor([list(tokens)]), use_cache=False)
    for hook in hooks:
        hook.remove()
    norm: Any
    for norm, linears in followers.items():
        largest = torch.stack([each.weight.data.abs().amax(0) for each in linears]).amax(0).float()
        ratio = (sizes[norm] / largest.clamp(min=_SMALLEST)).clamp(1e-4, 1e4).sqrt()
        factor = torch.exp2(torch.log2(ratio).round()).to(norm.weight.dtype)
        norm.weight.data.div_(factor)
        for each in linears:
            each.weight.data.mul_(factor)


@contextmanager
def in_two_parts(model: Any) -> Iterator[None]:
    """Inside the block the activations of a model's 8-bit layers keep about 15 bits, at twice the time."""
    activations = [each.activations for each in model.modules() if isinstance(each, Int8Linear)]
    for each in activations:
        each.two_parts = True
    try:
        yield
    finally:
        for each in activations:
            each.two_parts = False
