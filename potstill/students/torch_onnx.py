"""Exports a torch network to one ONNX file with dynamic batch and length.

`bundle.export` checks that the graph computes the same as the student.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from potstill.errors import BadSpec

MAX_GRAPH_BYTES = 1_900_000_000  # of one ONNX file, whose limit is 2 GiB
OPSET = 20  # the first with Gelu as one operation; ONNX Runtime 1.18 for browsers and .NET reads it


class _WithEmbedding(nn.Module):
    """A network whose `embed` makes what its `head` reads: (B, T) ids and mask -> (B, K) logits, (B, D) embeddings."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.network.embed(input_ids, attention_mask)
        return self.network.head(embedding), embedding


def write_torch_onnx(network: nn.Module, file: Path, *, embedding: bool = False) -> None:
    """Write the graph `input_ids, attention_mask (B, T) int64 -> logits (B, K) float32`.

    Uses torch.export: the tracing exporter silently fixes the shapes of transformers' masks.

    Args:
        network: to write.
        file: of the graph.
        embedding: whether `sentence_embedding (B, D) float32` is a second output; for networks with `embed` and `head`.
    """
    backbone: Any = network.backbone
    # Two rows of unequal length: with a mask of ones the exporter would take the mask for a constant.
    ids = torch.full((2, 7), 5, dtype=torch.int64)
    mask = torch.ones((2, 7), dtype=torch.int64)
    mask[1, 4:] = 0
    dynamic = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    attention = backbone.config._attn_implementation
    try:
        # Eager attention has half as many nodes as the decomposed fused kernel, and int8 runs it faster.
        backbone.set_attn_implementation("eager")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                _WithEmbedding(network.eval()).eval() if embedding else network.eval(),
                (ids, mask),
                str(file),
                input_names=["input_ids", "attention_mask"],
                output_names=["logits", "sentence_embedding"] if embedding else ["logits"],
                opset_version=OPSET,
                dynamic_shapes={"input_ids": dynamic, "attention_mask": dynamic},
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        backbone.set_attn_implementation(attention)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def check_graph_size(network: nn.Module, kind: str, weights: str) -> None:
    """Raise BadSpec if the network of a student `kind:weights` is too large for one ONNX file."""
    size = sum(parameter.numel() for parameter in network.parameters()) * 4
    if size > MAX_GRAPH_BYTES:
        raise BadSpec(
            f"This {kind} is {size / 1e9:.1f} GB, too large for one ONNX file.",
            f"Distil it into a smaller student: --teacher trained:{kind}:{weights} --student encoder.",
        )
