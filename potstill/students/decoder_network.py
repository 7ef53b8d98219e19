"""A causal language model under a classification head: token ids of a text -> logits of the labels.

The head reads the last hidden state of the row's last token, in place of the language model's own head. Which layers
are trained, and how, is as in `cloze_network`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from potstill.students.cloze_network import ClozeNetwork, TuningMode
from potstill.students.verbalizer import VerbalizerSpec

Floats = NDArray[np.float32]


class DecoderNetwork(ClozeNetwork):
    """(B, T) ids and mask -> (B, K) logits.

    Args:
        model: a causal language model of transformers.
        n_labels: K.

    Attributes:
        head: (D -> K) linear layer without a bias, which is `bias`; zero before training.
        shift, scale: (D,) features of the head are (state - shift) * scale; both are merged into the head at the end.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, model: Any, n_labels: int) -> None:
        weights = np.zeros((1, n_labels), dtype=np.float32)
        super().__init__(model, VerbalizerSpec((), (), ((0, 0),), weights, normalised=False), None)
        self.head = nn.Linear(self.dim, n_labels, bias=False)
        nn.init.zeros_(self.head.weight)
        self.head.requires_grad_(False)
        self.register_buffer("shift", torch.zeros(self.dim), persistent=False)
        self.register_buffer("scale", torch.ones(self.dim), persistent=False)
        self.to(model.device)

    def label_logits(self, states: Tensor) -> Tensor:
        """(B, 1, D) hidden states -> (B, K) logits."""
        logits: Tensor = self.head((states[:, 0] - self.shift) * self.scale)
        return logits + self.bias

    def standardise(self, states: Floats) -> Floats:
        """Set `shift` and `scale` so that (N, D) states have mean zero and length one on average; those features."""
        shift, spread = states.mean(axis=0), states.std(axis=0)
        scale = 1 / ((spread + 1e-6) * np.float32(np.sqrt(states.shape[1])))
        with torch.no_grad():
            self.shift.copy_(torch.from_numpy(shift))
            self.scale.copy_(torch.from_numpy(scale))
        return np.asarray((states - shift) * scale, dtype=np.float32)

    def set_head(self, weights: Floats, bias: Floats) -> None:
        """Set the head to (D, K) weights and a (K,) bias on the standardised states."""
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(weights.T))
            self.bias.copy_(torch.from_numpy(bias))

    def unfreeze(self, mode: TuningMode, layers: int, rank: int) -> int:
        """As in `ClozeNetwork`, and the head."""
        first = super().unfreeze(mode, layers, rank)
        self.head.requires_grad_(True)
        return first

    def merge_and_freeze(self) -> None:
        """As in `ClozeNetwork`, with `shift` and `scale` merged into the head first."""
        with torch.no_grad():
            self.head.weight.mul_(self.scale)
            self.bias.sub_(self.head.weight @ self.shift)
            self.shift.zero_()
            self.scale.fill_(1.0)
        super().merge_and_freeze()
