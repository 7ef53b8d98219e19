"""Exports an encoder as a `BertForSequenceClassification`, which `transformers.pipeline("text-classification")` loads.

That class reads the first token only, and has a tanh before its classifier; the network pools over all tokens and has a
linear head. Both are the same function once a layer is added whose attention is uniform over the tokens:

    attention with zero queries and keys         = the mean over the tokens that are not padding
    layer norm of MEAN_SCALE * mean + first      = layer norm of the mean, as MEAN_SCALE makes the residual vanish
    a feed-forward of zeros                      = the identity, as its layer norm gets normalised input
    tanh of TANH_SCALE * x, for small TANH_SCALE = TANH_SCALE * x

With first-token pooling the attention adds zeros and only the residual remains. The cost is one more layer. Covers
BERT; other architectures are exported as ONNX only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from potstill.data.pairs import is_pair, split_pair
from potstill.students.backbone import EncoderNetwork, silence_transformers

# Their errors, 1 / MEAN_SCALE and TANH_SCALE^2 D / 3, are below a thousandth of a logit; `bundle.export` measures them.
MEAN_SCALE, TANH_SCALE = 1e6, 1e-3


def save_for_transformers(
    network: EncoderNetwork, labels: Sequence[str], max_length: int, folder: Path, *, multi: bool = False
) -> bool:
    """Write `config.json`, `model.safetensors` and `tokenizer_config.json`; False for other architectures than BERT.

    Args:
        network: the trained network.
        labels: the K label names.
        max_length: tokens of a text at most.
        folder: it holds `tokenizer.json` already.
        multi: a multi-label task.
    """
    if network.backbone.config.model_type != "bert":
        return False
    from safetensors.torch import save_file

    config = network.backbone.config.to_dict()
    n_layers = config["num_hidden_layers"]
    config |= {
        "architectures": ["BertForSequenceClassification"],
        "num_hidden_layers": n_layers + 1,
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
        "problem_type": "multi_label_classification" if multi else "single_label_classification",
        "dtype": "float32",
    }
    config.pop("_name_or_path", None)
    (folder / "config.json").write_text(json.dumps(config, indent=1, default=str), encoding="utf-8")
    state = {f"bert.{name}": value for name, value in network.backbone.state_dict().items()}
    state |= {
        f"bert.encoder.layer.{n_layers}.{name}": value
        for name, value in _pooling_layer(network, config["intermediate_size"]).items()
    }
    # The network divides by sqrt(D) after its layer norm; the pooler's scale is undone by the classifier.
    state["bert.pooler.dense.weight"] = TANH_SCALE * torch.eye(network.dim)
    state["bert.pooler.dense.bias"] = torch.zeros(network.dim)
    state["classifier.weight"] = network.head.weight.detach() / (TANH_SCALE * network.dim**0.5)
    state["classifier.bias"] = network.head.bias.detach()
    state = {name: value.contiguous() for name, value in state.items()}
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    tokenizer: dict[str, object] = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": max_length}
    tokenizer |= {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    types = ["token_type_ids"] if network.segment_separator_id is not None else []
    tokenizer["model_input_names"] = ["input_ids", *types, "attention_mask"]
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer, indent=1), encoding="utf-8")
    return True


def _pooling_layer(network: EncoderNetwork, intermediate_size: int) -> dict[str, Tensor]:
    """The weights of the added layer, by their names within a BERT layer."""
    dim = network.dim
    mean_scale = MEAN_SCALE if network.pooling == "mean" else 0.0
    zero_matrix, zeros, ones = torch.zeros(dim, dim), torch.zeros(dim), torch.ones(dim)
    return {
        "attention.self.query.weight": zero_matrix,
        "attention.self.query.bias": zeros,
        "attention.self.key.weight": zero_matrix.clone(),
        "attention.self.key.bias": zeros.clone(),
        "attention.self.value.weight": torch.eye(dim),
        "attention.self.value.bias": zeros.clone(),
        "attention.output.dense.weight": mean_scale * torch.eye(dim),
        "attention.output.dense.bias": zeros.clone(),
        "attention.output.LayerNorm.weight": ones,
        "attention.output.LayerNorm.bias": zeros.clone(),
        "intermediate.dense.weight": torch.zeros(intermediate_size, dim),
        "intermediate.dense.bias": torch.zeros(intermediate_size),
        "output.dense.weight": torch.zeros(dim, intermediate_size),
        "output.dense.bias": zeros.clone(),
        "output.LayerNorm.weight": ones.clone(),
        "output.LayerNorm.bias": zeros.clone(),
    }


def transformers_logits(folder: Path, texts: Sequence[str]) -> NDArray[np.float32]:
    """(N, K) logits of N texts by transformers' own classes, one text at a time."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    with silence_transformers():
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True).eval()
    logits = []
    with torch.inference_mode():
        for text in texts:
            parts = split_pair(text) if is_pair(text) else (text,)
            logits.append(model(**tokenizer(*parts, truncation=True, return_tensors="pt")).logits.numpy())
    return np.concatenate(logits)
