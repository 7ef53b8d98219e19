"""Settings of a network that hold inside a block: frozen word embeddings, and plain attention on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from potstill.models.device import device_of
from potstill.students.backbone import HeadedNetwork


@contextmanager
def frozen_embeddings(network: HeadedNetwork, enabled: bool) -> Iterator[None]:
    """Inside the block the word embeddings are not trained, if `enabled`."""
    embeddings = list(network.backbone.get_input_embeddings().parameters()) if enabled else []
    frozen = [parameter for parameter in embeddings if parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


@contextmanager
def eager_attention(network: HeadedNetwork) -> Iterator[None]:
    """Inside the block attention is computed as plain matrix products, without dropout on its weights, on a CPU.

    On a CPU the fused kernel, and the T x T random numbers per head of its dropout, take a fifth of a step on news
    texts and nothing on short ones (bench/training_speed.py). The dropout of the layers stays.
    """
    backbone: Any = network.backbone
    if device_of(network).type != "cpu":
        yield
        return
    implementation = getattr(backbone.config, "_attn_implementation", None)
    dropouts = [module for name, module in backbone.named_modules() if name.endswith("attention.self.dropout")]
    rates = [dropout.p for dropout in dropouts]
    if implementation == "sdpa":
        backbone.set_attn_implementation("eager")
    for dropout in dropouts:
        dropout.p = 0.0
    try:
        yield
    finally:
        if implementation == "sdpa":
            backbone.set_attn_implementation("sdpa")
        for dropout, rate in zip(dropouts, rates, strict=True):
            dropout.p = rate
