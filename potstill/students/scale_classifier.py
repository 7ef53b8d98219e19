"""Folds a calibration into the last layer of the weights that transformers loads. Needs safetensors, not torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from potstill.errors import missing_extra
from potstill.students.transformers_families import FAMILIES


def scale_classifier(folder: Path, scale: Sequence[float], shift: Sequence[float]) -> None:
    """Make the logits of `model.safetensors` in `folder` those times `scale`, plus `shift`; each one value, or K.

    Raises:
        MissingExtra: safetensors is not installed.
    """
    try:
        from safetensors.numpy import load_file, save_file
    except ModuleNotFoundError as error:
        raise missing_extra("safetensors", "train", "Changing weights for transformers") from error
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    name = FAMILIES[config["model_type"]].classifier
    state = load_file(folder / "model.safetensors")
    weight, bias = (state[f"{name}.{part}"].astype(np.float64) for part in ("weight", "bias"))
    factors = np.asarray(scale, dtype=np.float64)
    state[f"{name}.weight"] = np.ascontiguousarray(weight * factors[:, None], dtype=np.float32)
    state[f"{name}.bias"] = np.ascontiguousarray(bias * factors + np.asarray(shift), dtype=np.float32)
    save_file(state, folder / "model.safetensors", {"format": "pt"})
