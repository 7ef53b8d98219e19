"""Exports a torch network to one ONNX file with dynamic batch and length.

`bundle.export` checks that the graph computes the same as the student.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
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


def write_torch_onnx(network: Any, file: Path, *, embedding: bool = False) -> None:
    """Write the graph `input_ids, attention_mask (B, T) int64 -> logits (B, K) float32`.

    Uses torch.export: the tracing exporter silently fixes the shapes of transformers' masks.

    Args:
        network: to write.
        file: of the graph.
        embedding: whether `sentence_embedding (B, D) float32` is a second output; for networks with `embed` and `head`.
    """
    # Two rows of unequal length: with a mask of ones the exporter would take the mask for a constant.
    ids = torch.full((2, 7), 5, dtype=torch.int64)
    mask = torch.ones((2, 7), dtype=torch.int64)
    mask[1, 4:] = 0
    dynamic = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    _write(
        network.backbone,
        file,
        _Traced(
            _WithEmbedding(network.eval()).eval() if embedding else network.eval(),
            (ids, mask),
            ["input_ids", "attention_mask"],
            ["logits", "sentence_embedding"] if embedding else ["logits"],
            {"input_ids": dynamic, "attention_mask": dynamic},
        ),
    )


def write_decoder_onnx(network: Any, file: Path) -> None:
    """Write the graph of one step of decoding of a `CausalNetwork` of L layers.

    `input_ids (B, T)`, `attention_mask (B, P + T)` int64 and `past_key_values.N.key`, `.value` (B, H, P, D) float32,
    where P may be 0, -> `logits (B, 1, V)` of the last position and `present.N.key`, `.value` (B, H, P + T, D). The
    names are those of other exporters.

    Args:
        network: the network.
        file: of the graph.
    """
    ids = torch.full((2, 4), 5, dtype=torch.int64)
    mask = torch.ones((2, 7), dtype=torch.int64)
    mask[1, :2] = 0
    past = [torch.zeros(2, each.shape[1], 3, each.shape[3]) for each in network.no_past(2)]
    auto = torch.export.Dim.AUTO
    names = [f"{n}.{part}" for n in range(len(past) // 2) for part in ("key", "value")]
    _write(
        network.backbone,
        file,
        _Traced(
            network.eval(),
            (ids, mask, past),
            ["input_ids", "attention_mask", *(f"past_key_values.{name}" for name in names)],
            ["logits", *(f"present.{name}" for name in names)],
            {
                "input_ids": {0: auto, 1: auto},
                "attention_mask": {0: auto, 1: auto},
                "past": [{0: auto, 2: auto} for _ in past],
            },
        ),
    )


def write_seq2seq_onnx(network: Any, encoder: Any, encoder_file: Path, decoder_file: Path) -> None:
    """Write the graphs of a `Seq2SeqNetwork` of L layers: its encoder, and one step of decoding.

    The encoder: `input_ids`, `attention_mask` (B, S) int64 -> `present.N.encoder.key`, `.value` (B, H, S, D) float32.
    The step: `input_ids (B, T)`, `encoder_attention_mask (B, S)`, `past_key_values.N.decoder.key`, `.value`
    (B, H, P, D), where P may be 0, and `past_key_values.N.encoder.key`, `.value` -> `logits (B, 1, V)` of the last
    position and `present.N.decoder.key`, `.value` (B, H, P + T, D).

    Args:
        network: the network.
        encoder: its `encode` as a module.
        encoder_file: of the graph that reads prompts.
        decoder_file: of the step.
    """
    ids, mask = torch.full((2, 6), 5, dtype=torch.int64), torch.ones((2, 6), dtype=torch.int64)
    mask[1, 4:] = 0
    auto = torch.export.Dim.AUTO
    rows = {0: auto, 1: auto}
    names = [f"{n}.{{}}.{part}" for n in range(len(network.no_past(1)) // 2) for part in ("key", "value")]
    own, read = ([name.format(side) for name in names] for side in ("decoder", "encoder"))
    _write(
        network.backbone,
        encoder_file,
        _Traced(
            encoder.eval(),
            (ids, mask),
            ["input_ids", "attention_mask"],
            [f"present.{name}" for name in read],
            {"input_ids": rows, "attention_mask": rows},
        ),
    )
    with torch.no_grad():
        encoded = list(network.encode(ids, mask))
    past = [torch.zeros(2, each.shape[1], 3, each.shape[3]) for each in network.no_past(2)]
    _write(
        network.backbone,
        decoder_file,
        _Traced(
            network.eval(),
            (torch.full((2, 4), 5, dtype=torch.int64), mask, past, encoded),
            ["input_ids", "encoder_attention_mask", *(f"past_key_values.{name}" for name in (*own, *read))],
            ["logits", *(f"present.{name}" for name in own)],
            {
                "input_ids": rows,
                "encoder_attention_mask": rows,
                "past": [{0: auto, 2: auto} for _ in past],
                "encoded": [{0: auto, 2: auto} for _ in encoded],
            },
        ),
    )


@dataclass(frozen=True)
class _Traced:
    """What is exported: a network, inputs to trace it with, the names of inputs and outputs, and dynamic sizes."""

    network: nn.Module
    inputs: tuple[Any, ...]
    input_names: list[str]
    output_names: list[str]
    dynamic_shapes: dict[str, Any]


def _write(backbone: Any, file: Path, traced: _Traced) -> None:
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
                traced.network,
                traced.inputs,
                str(file),
                input_names=traced.input_names,
                output_names=traced.output_names,
                opset_version=OPSET,
                dynamic_shapes=traced.dynamic_shapes,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        backbone.set_attn_implementation(attention)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def check_graph_size(network: nn.Module, kind: str, mend: str) -> None:
    """Raise BadSpec with this hint if the network of a kind of student is too large for one ONNX file."""
    size = sum(parameter.numel() for parameter in network.parameters()) * 4
    if size > MAX_GRAPH_BYTES:
        raise BadSpec(f"This {kind} is {size / 1e9:.1f} GB, too large for one ONNX file.", mend)


def distil_smaller(kind: str, weights: str) -> str:
    """What to do about a student `kind:weights` of labels that is too large."""
    return f"Distil it into a smaller student: --teacher trained:{kind}:{weights} --student encoder."
