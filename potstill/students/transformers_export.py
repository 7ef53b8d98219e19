"""Exports an encoder as transformers' class for classification, which `pipeline("text-classification")` loads.

Most of these classes read the first token only, and have an activation before their classifier; the network pools over
all tokens and has a linear head. Both are the same function once a layer is added whose attention is uniform over the
tokens:

    attention with zero queries and keys         = the mean over the tokens that are not padding
    layer norm of MEAN_SCALE * mean + first      = layer norm of the mean, as MEAN_SCALE makes the residual vanish
    a feed-forward of zeros                      = the identity, as its layer norm gets normalised input
    tanh of TANH_SCALE * x, for small TANH_SCALE = TANH_SCALE * x
    relu or gelu of x + c, for large c           = x + c

With first-token pooling the attention adds zeros and only the residual remains. The cost is one more layer; ModernBERT
needs none. Families are in `transformers_families`. An encoder without such a class gets the files that other programs
read beside its ONNX graph.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from potstill.data.pairs import is_pair, split_pair
from potstill.data.task import JsonObject
from potstill.students.backbone import EncoderNetwork, silence_transformers
from potstill.students.transformers_families import FAMILIES, ClassifierFamily

# Their errors, 1 / MEAN_SCALE and TANH_SCALE^2 D / 3, are below a thousandth of a logit; `bundle.export` measures them.
MEAN_SCALE, TANH_SCALE = 1e6, 1e-3
NORM_SCALE = 1e3  # makes the epsilon of a layer norm vanish
# Special tokens as the families write them.
TOKENS = {
    "pad": ("[PAD]", "<pad>"),
    "unk": ("[UNK]", "<unk>"),
    "cls": ("[CLS]", "<s>"),
    "sep": ("[SEP]", "</s>"),
    "mask": ("[MASK]", "<mask>"),
}
CONFIG, WEIGHTS = "config.json", "model.safetensors"


def save_for_transformers(
    network: EncoderNetwork, labels: Sequence[str], max_length: int, folder: Path, *, multi: bool = False
) -> bool:
    """Write `config.json` and `tokenizer_config.json`, and `model.safetensors` if transformers has a class for it.

    Args:
        network: the trained network.
        labels: the K label names.
        max_length: tokens of a text at most.
        folder: it holds `tokenizer.json` already.
        multi: a multi-label task.

    Returns:
        Whether the weights were written.
    """
    config = network.backbone.config.to_dict()
    config |= {
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
        "problem_type": "multi_label_classification" if multi else "single_label_classification",
        "dtype": "float32",
    }
    config.pop("_name_or_path", None)
    family = FAMILIES.get(config["model_type"])
    if family is not None:
        config["architectures"] = [family.architecture]
    loads = family is not None and (family.mean_pooling or network.pooling == "cls")
    if family is not None and loads:
        from safetensors.torch import save_file

        if family.activation == "norm":
            config |= {"classifier_pooling": network.pooling, "classifier_activation": "linear"}
            added: dict[str, Tensor] = {}
        else:
            added = _pooling_layer(network, family, config[family.n_layers])
            config[family.n_layers] += 1
            if "pooler_hidden_act" in config:
                config["pooler_hidden_act"] = family.activation
        state = {f"{family.prefix}.{name}": value for name, value in network.backbone.state_dict().items()}
        state |= added | _head(network, family, config)
        save_file({name: value.contiguous() for name, value in state.items()}, folder / WEIGHTS, {"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(config, indent=1, default=str), encoding="utf-8")
    tokenizer = _tokenizer_config(folder, max_length, token_types=network.segment_separator_id is not None)
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer, indent=1), encoding="utf-8")
    return loads


def _head(network: EncoderNetwork, family: ClassifierFamily, config: JsonObject) -> dict[str, Tensor]:
    """The weights after the encoder. The network divides by sqrt(D) after its layer norm; the classifier does it."""
    identity, zeros = torch.eye(network.dim), torch.zeros(network.dim)
    weight, bias = network.head.weight.detach() / network.dim**0.5, network.head.bias.detach()
    dense, classifier = family.dense, family.classifier
    if family.activation == "norm":
        head = {f"{dense}.weight": NORM_SCALE * identity, "head.norm.weight": torch.ones(network.dim)}
        head |= {f"{dense}.bias": zeros} if config["classifier_bias"] else {}
        head |= {"head.norm.bias": zeros.clone()} if config["norm_bias"] else {}
    elif family.activation == "tanh":
        head = {f"{dense}.weight": TANH_SCALE * identity, f"{dense}.bias": zeros}
        weight = weight / TANH_SCALE
    else:  # a normalised value is at most sqrt(D), and gelu(x) is x from eight on
        raised = 2 * network.dim**0.5 + 8
        head = {f"{dense}.weight": identity, f"{dense}.bias": zeros + raised}
        bias = (bias.double() - raised * weight.double().sum(dim=1)).float()
    return head | {f"{classifier}.weight": weight, f"{classifier}.bias": bias}


def _pooling_layer(network: EncoderNetwork, family: ClassifierFamily, n_layers: int) -> dict[str, Tensor]:
    """The weights of the added layer: zeros, but for the values, what is made of their mean, and the layer norms."""
    identity = torch.eye(network.dim)
    last = f"{family.layers}.{n_layers - 1}."
    layer = {
        name.removeprefix(last): torch.zeros_like(value)
        for name, value in network.backbone.state_dict().items()
        if name.startswith(last)
    }
    for name, value in layer.items():
        if "layernorm" in name.lower().replace("_", "") and name.endswith("weight"):
            value.fill_(1.0)
    if family.mean_pooling:
        layer[f"{family.value}.weight"] = identity
        layer[f"{family.attention_out}.weight"] = (MEAN_SCALE if network.pooling == "mean" else 0.0) * identity
    return {f"{family.prefix}.{family.layers}.{n_layers}.{name}": value for name, value in layer.items()}


def _tokenizer_config(folder: Path, max_length: int, *, token_types: bool) -> JsonObject:
    vocabulary = _vocabulary(json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")))
    special = {
        f"{name}_token": next(token for token in tokens if token in vocabulary)
        for name, tokens in TOKENS.items()
        if vocabulary & set(tokens)
    }
    inputs = ["input_ids", *(["token_type_ids"] if token_types else []), "attention_mask"]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        **special,
        "model_input_names": inputs,
    }


def _vocabulary(tokenizer: JsonObject) -> set[str]:
    """The tokens of a `tokenizer.json`, whose vocabulary is a dictionary or a list of pairs."""
    vocabulary: Any = tokenizer.get("model", {}).get("vocab", ())
    tokens = {str(each if isinstance(each, str) else each[0]) for each in vocabulary}
    return tokens | {str(each["content"]) for each in tokenizer.get("added_tokens", ())}


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
