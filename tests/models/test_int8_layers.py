"""Layers in 8-bit integers beside the same layers in float32: every kind of decoder, outliers, and who may use them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from potstill.models import causal_lm
from potstill.models.causal_lm import choose_dtype, int8_is_native
from potstill.models.int8_layers import (
    Int8Activations,
    Int8GatedMLP,
    Int8Linear,
    in_two_parts,
    quantize_linears,
    smooth_inputs,
)
from potstill.teachers.label_scoring import LabelScorer

PROMPT = [1, 5, 9, 23, 40, 11, 7]
TEXTS = [[4, 8, 15], [16], [23, 42, 4, 8, 15, 16, 23, 42, 30, 31, 32], [50, 51], [9, 9, 9, 9, 9, 9]] * 4
LABELS = [[10, 20], [10, 21, 22], [10, 21, 23, 24], [33], [34, 10, 20]]

native = pytest.mark.skipif(not int8_is_native(), reason="this processor does not multiply 8-bit integers natively")


def decoder(kind: str, **settings: Any) -> Any:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    sizes = {"vocab_size": 61, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2, "head_dim": 16}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.25, "pad_token_id": 0}
    torch.manual_seed(5)
    config = CONFIG_MAPPING[kind](**{**sizes, **heads, **settings})
    return AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)


def relative_error(layer: Any, exact: Any, inputs: Any) -> float:
    made, right = layer(inputs).float(), exact(inputs.float())
    return float((made - right).norm() / right.norm())


@native
@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt_neox", "phi"])
def test_labels_are_those_of_float32_and_scores_are_near(kind: str) -> None:
    import torch

    model = decoder(kind)
    exact = LabelScorer(copy.deepcopy(model), PROMPT, LABELS).score(TEXTS)
    model.to(torch.bfloat16)
    quantize_linears(model)
    gated = sum(isinstance(each, Int8GatedMLP) for each in model.modules())
    assert gated == (2 if kind in ("llama", "qwen2") else 0)
    head = model.get_output_embeddings()
    left = [each for each in model.modules() if type(each) is torch.nn.Linear and each is not head]
    assert not left, "every linear layer of a block is multiplied in 8-bit integers"
    rounded = LabelScorer(model, PROMPT, LABELS).score(TEXTS)
    assert (rounded == LabelScorer(model, PROMPT, LABELS).score(TEXTS)).all()
    assert 0 < np.abs(rounded - exact).mean() < 0.3
    order = np.sort(exact, axis=1)
    clear = order[:, -1] - order[:, -2] > 0.5
    assert clear.mean() > 0.5
    assert (rounded.argmax(1) == exact.argmax(1))[clear].all()


@native
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("n_scales", [1, 4])
def test_a_layer_keeps_its_bias_and_shape(bias: bool, n_scales: int) -> None:
    import torch

    torch.manual_seed(0)
    exact = torch.nn.Linear(96, 40, bias=bias).requires_grad_(False)
    layer = Int8Linear(exact, Int8Activations(), n_scales)
    inputs = torch.randn(3, 5, 96).bfloat16()
    before = inputs.clone()
    assert layer(inputs).shape == (3, 5, 40)
    assert layer(inputs).dtype == torch.bfloat16
    assert 0 < relative_error(layer, exact, inputs) < 0.02
    assert (inputs == before).all(), "rounding leaves its input alone"
    assert (layer(torch.zeros(2, 96, dtype=torch.bfloat16)).float() - (exact.bias if bias else 0)).abs().max() < 1e-2


@native
def test_an_outlier_costs_the_rest_of_its_token_unless_it_has_more_scales_or_two_parts() -> None:
    import torch

    torch.manual_seed(0)
    exact = torch.nn.Linear(128, 64, bias=False).requires_grad_(False)
    exact.weight[:, 3] = 0  # what the outlier itself adds is not looked at
    inputs = torch.randn(6, 128).bfloat16()
    inputs[:, 3] = 400.0
    one, four = (Int8Linear(exact, Int8Activations(), n_scales) for n_scales in (1, 4))
    alone = relative_error(one, exact, inputs)
    assert alone > 0.3
    assert relative_error(four, exact, inputs) < 0.7 * alone
    with in_two_parts(torch.nn.ModuleList([one])):
        assert relative_error(one, exact, inputs.clone()) < 0.02
    assert relative_error(one, exact, inputs.clone()) == pytest.approx(alone)


def test_smoothing_changes_no_score_and_brings_int8_nearer_where_a_channel_is_large() -> None:
    import torch

    model = decoder("llama")
    for layer in model.model.layers:
        layer.input_layernorm.weight[5] = layer.post_attention_layernorm.weight[9] = 60.0
        for each in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
            each.weight[:, 5] /= 60
        for each in (layer.mlp.gate_proj, layer.mlp.up_proj):
            each.weight[:, 9] /= 60
    smoothed = copy.deepcopy(model)
    smooth_inputs(smoothed, TEXTS[2])
    exact = LabelScorer(model, PROMPT, LABELS).score(TEXTS)
    np.testing.assert_allclose(LabelScorer(smoothed, PROMPT, LABELS).score(TEXTS), exact, atol=2e-4)
    assert smoothed.model.layers[0].input_layernorm.weight[5] < 30
    if not int8_is_native():
        return
    errors = []
    for each in (model, smoothed):
        quantize_linears(each.to(torch.bfloat16))
        errors.append(np.abs(LabelScorer(each, PROMPT, LABELS).score(TEXTS) - exact).mean())
    assert errors[1] < 0.6 * errors[0]


def test_smoothing_leaves_other_architectures_alone() -> None:
    model = decoder("gemma2")
    before = model.model.layers[0].input_layernorm.weight.clone()
    smooth_inputs(model, TEXTS[2])
    assert (model.model.layers[0].input_layernorm.weight == before).all()


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call it with the features that the processor shall have."""
    import torch

    def has(*features: str) -> None:
        for name in ("amx_tile", "vnni", "avx512_bf16"):
            monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
            monkeypatch.setattr(torch.cpu, f"_is_{name}_supported", lambda name=name: name in features, raising=False)

    return has


@pytest.mark.parametrize(
    ("features", "auto", "int8"),
    [
        ((), "float32", "float32"),
        (("avx512_bf16",), "bfloat16", "bfloat16"),
        (("vnni",), "float32", "int8"),
        (("vnni", "amx_tile"), "bfloat16", "int8"),
    ],
)
def test_a_processor_without_int8_falls_back(processor: Any, features: tuple[str, ...], auto: str, int8: str) -> None:
    import torch

    processor(*features)
    cpu = torch.device("cpu")
    assert choose_dtype("auto", cpu) == auto
    assert choose_dtype("int8", cpu) == int8
    assert choose_dtype("float32", cpu) == "float32"


def test_a_gpu_scores_in_bfloat16(processor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    processor("vnni", "amx_tile")
    monkeypatch.setattr(causal_lm, "cuda_has_bfloat16", lambda _device: True)
    assert choose_dtype("int8", torch.device("cuda")) == choose_dtype("auto", torch.device("cuda")) == "bfloat16"
