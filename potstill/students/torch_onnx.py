"""A network -> one ONNX file with open batch and length. Knows torch's exporter and nothing else.

Does not check that the graph computes the same: `export` does that for every kind of student.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn


def write_torch_onnx(network: nn.Module, file: Path) -> None:
    """Write the graph `input_ids, attention_mask (B, T) int64 -> logits (B, K) float32`.

    The tracing exporter of torch is not used: with transformers' masks it silently fixes the shapes it saw.
    """
    backbone: Any = network.backbone
    # Two rows of unequal length: an example of ones would let the exporter take the mask for constant.
    ids = torch.full((2, 7), 5, dtype=torch.int64)
    mask = torch.ones((2, 7), dtype=torch.int64)
    mask[1, 4:] = 0
    size = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    chatter = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in chatter]
    attention = backbone.config._attn_implementation
    try:
        # Written out, attention is half as many nodes as the fused kernel's decomposition, and int8 runs it faster.
        backbone.set_attn_implementation("eager")
        for logger in chatter:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network.eval(),
                (ids, mask),
                str(file),
                input_names=["input_ids", "attention_mask"],
                output_names=["logits"],
                dynamic_shapes={"input_ids": size, "attention_mask": size},
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        backbone.set_attn_implementation(attention)
        for logger, level in zip(chatter, levels, strict=True):
            logger.setLevel(level)
