"""A network as a `BertForSequenceClassification`: what `transformers.pipeline("text-classification", folder)` loads.

That class reads the first token only, and has a tanh before its classifier. The network pools over all tokens and has
a linear head. It is the same function all the same, once a layer is added whose attention looks at every token alike:

    attention with zero queries and keys   = the mean over the tokens that are not padding
    layer norm of LOUD * mean + first      = layer norm of mean, as LOUD makes the residual vanish
    a feed-forward of zeros                = nothing added; the layer norm of what is normalised changes nothing
    tanh of QUIET * x, for a small QUIET   = QUIET * x

With first-token pooling the attention adds nothing and the residual alone remains. The price is one more layer of
work. Covers BERT; other architectures get no hub folder (`write_hub_folder` says so by returning False).
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

# LOUD: how much louder the mean is than the residual. QUIET: how flat tanh is taken. Their errors, 1/LOUD and
# QUIET^2 D / 3, stay below a thousandth of a logit; `export` measures that.
MEAN_SCALE, TANH_SCALE = 1e6, 1e-3


def save_for_transformers(
    network: EncoderNetwork, labels: Sequence[str], max_length: int, folder: Path, *, multi: bool = False
) -> bool:
    """Write `config.json`, `model.safetensors` and `tokenizer_config.json`; False where it cannot be done.

    Args:
        network: the trained network.
        labels: the K label names.
        max_length: tokens read of a text.
        folder: where `tokenizer.json` lies already.
        multi: each label is decided by itself.
    """
    if network.backbone.config.model_type != "bert":
        return False
    from safetensors.torch import save_file

    config = network.backbone.config.to_dict()
    layers = config["num_hidden_layers"]
    config |= {
        "architectures": ["BertForSequenceClassification"],
        "num_hidden_layers": layers + 1,
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
        "problem_type": "multi_label_classification" if multi else "single_label_classification",
        "dtype": "float32",
    }
    config.pop("_name_or_path", None)
    (folder / "config.json").write_text(json.dumps(config, indent=1, default=str), encoding="utf-8")
    state = {f"bert.{name}": value for name, value in network.backbone.state_dict().items()}
    state |= {
        f"bert.encoder.layer.{layers}.{name}": value
        for name, value in _pooling_layer(network, config["intermediate_size"]).items()
    }
    # The network divides by sqrt(D) after its layer norm; here the pooler's scale and the classifier undo each other.
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


def _pooling_layer(network: EncoderNetwork, wide: int) -> dict[str, Tensor]:
    """The weights of the added layer, by their names within a BERT layer."""
    dim = network.dim
    loud = MEAN_SCALE if network.pooling == "mean" else 0.0
    zero, nothing, one = torch.zeros(dim, dim), torch.zeros(dim), torch.ones(dim)
    return {
        "attention.self.query.weight": zero,
        "attention.self.query.bias": nothing,
        "attention.self.key.weight": zero.clone(),
        "attention.self.key.bias": nothing.clone(),
        "attention.self.value.weight": torch.eye(dim),
        "attention.self.value.bias": nothing.clone(),
        "attention.output.dense.weight": loud * torch.eye(dim),
        "attention.output.dense.bias": nothing.clone(),
        "attention.output.LayerNorm.weight": one,
        "attention.output.LayerNorm.bias": nothing.clone(),
        "intermediate.dense.weight": torch.zeros(wide, dim),
        "intermediate.dense.bias": torch.zeros(wide),
        "output.dense.weight": torch.zeros(dim, wide),
        "output.dense.bias": nothing.clone(),
        "output.LayerNorm.weight": one.clone(),
        "output.LayerNorm.bias": nothing.clone(),
    }


def transformers_logits(folder: Path, texts: Sequence[str]) -> NDArray[np.float32]:
    """(N, K) scores of N texts as a stranger gets them: transformers' own classes, one text at a time."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    with silence_transformers():
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True).eval()
    found = []
    with torch.inference_mode():
        for text in texts:
            parts = split_pair(text) if is_pair(text) else (text,)
            found.append(model(**tokenizer(*parts, truncation=True, return_tensors="pt")).logits.numpy())
    return np.concatenate(found)
