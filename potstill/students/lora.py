"""LoRA: a linear layer learns a product of two thin matrices beside its frozen weight (Hu et al. 2022).

Merged into the weight afterwards, so nothing downstream knows of it. Written out here: the library for it (peft) works
as well, and costs two seconds at every start. Does not cover embeddings, convolutions, or several adapters at once.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn


class LoraLinear(nn.Module):
    """y = base(x) + (alpha / rank) x A^T B^T, with the base frozen.

    Args:
        base: the layer, (out, in).
        rank: of the product.
        alpha: its scale is alpha / rank.
        dropout: on the input of A.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.base = base
        self.scale = alpha / rank
        self.drop = nn.Dropout(dropout)
        self.lora_a = nn.Parameter(torch.empty(rank, base.in_features))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=5**0.5)
        self.to(base.weight.device)  # drawn on the CPU, so that a seed gives the same start everywhere

    def forward(self, given: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        thin = nn.functional.linear(self.drop(given), self.lora_a)
        out: Tensor = self.base(given) + self.scale * nn.functional.linear(thin, self.lora_b)
        return out

    def merged(self) -> nn.Linear:
        """The base with the product added to its weight."""
        with torch.no_grad():
            self.base.weight += self.scale * (self.lora_b @ self.lora_a)
        return self.base


def add_lora(model: nn.Module, rank: int = 8, alpha: float = 16.0, dropout: float = 0.0) -> list[nn.Parameter]:
    """Put LoRA beside every linear layer inside `model`, in place, and freeze all the rest; what is left to learn.

    Draws from torch's global random state.
    """
    model.requires_grad_(False)
    for parent, name, layer in list(_linears(model)):
        setattr(parent, name, LoraLinear(layer, rank, alpha, dropout))
    return [each for name, each in model.named_parameters() if name.endswith(("lora_a", "lora_b"))]


def merge_lora(model: nn.Module) -> None:
    """Undo `add_lora` and keep what was learnt, in the weights."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoraLinear):
                setattr(parent, name, child.merged())


def _linears(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    for parent in model.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.Linear):
                yield parent, name, child
