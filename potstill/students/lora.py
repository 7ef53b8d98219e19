"""LoRA: train a product of two low-rank matrices beside the frozen weight of each linear layer (Hu et al. 2022).

Merged into the weight afterwards. The library peft does the same, but its import takes two seconds. Does not cover
embeddings, convolutions, or several adapters.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn


class LoraLinear(nn.Module):
    """y = base(x) + (alpha / rank) x A^T B^T, with the base frozen.

    Args:
        base: the layer, with a weight of shape (out, in).
        rank: of the product.
        alpha: the product is scaled by alpha / rank.
        dropout: on the input of A.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.base = base
        self.scale = alpha / rank
        self.dropout = nn.Dropout(dropout)
        self.lora_a = nn.Parameter(torch.empty(rank, base.in_features))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=5**0.5)
        self.to(base.weight.device)  # initialised on the CPU, so that a seed gives the same weights on every device

    @property
    def weight(self) -> Tensor:
        """The frozen weight, whose type some models look at."""
        return self.base.weight

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        low_rank = nn.functional.linear(self.dropout(inputs), self.lora_a)
        out: Tensor = self.base(inputs) + self.scale * nn.functional.linear(low_rank, self.lora_b)
        return out

    def merged(self) -> nn.Linear:
        """The base layer with the product added to its weight."""
        with torch.no_grad():
            self.base.weight += self.scale * (self.lora_b @ self.lora_a)
        return self.base


def add_lora(model: nn.Module, rank: int = 8, alpha: float = 16.0, dropout: float = 0.0) -> list[nn.Parameter]:
    """Add LoRA to every linear layer inside `model`, in place, and freeze the rest; the trainable parameters.

    Uses torch's global random state.
    """
    model.requires_grad_(False)
    for parent, name, layer in list(_linear_layers(model)):
        setattr(parent, name, LoraLinear(layer, rank, alpha, dropout))
    return [parameter for name, parameter in model.named_parameters() if name.endswith(("lora_a", "lora_b"))]


def merge_lora(model: nn.Module) -> None:
    """Undo `add_lora`, with the products added to the weights."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoraLinear):
                setattr(parent, name, child.merged())


def _linear_layers(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    for parent in model.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.Linear):
                yield parent, name, child
