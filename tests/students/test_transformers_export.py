"""Every family of encoders is written as a classifier of transformers that gives the network's own logits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tinybert import write_tinybert
from support.tinyencoders import SIZE, write_tinyencoder

from potstill.students.scale_classifier import scale_classifier
from potstill.students.transformers_families import FAMILIES

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
LABELS = ("a", "b", "c", "d")
TEXTS = ("soup and bread", "the match", "", "a bank loan for the storm and the wind in the city", "word " * 90)
# Families that share the tokenizer of another one: their configuration.
RELATIVES: dict[str, dict[str, Any]] = {
    "electra": {"embedding_size": 24, **SIZE},
    "distilbert": {"dim": 48, "n_layers": 2, "n_heads": 4, "hidden_dim": 96},
    "roberta": {"pad_token_id": 0, **SIZE},
    "camembert": {"pad_token_id": 0, **SIZE},
}


def written(family: str, folder: Path) -> Path:
    from transformers import AutoConfig, AutoModel

    if family not in RELATIVES:
        return write_tinybert(folder) if family == "bert" else write_tinyencoder(family, folder)
    write_tinybert(folder)
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    config = AutoConfig.for_model(family, vocab_size=size, max_position_embeddings=66, **RELATIVES[family])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        AutoModel.from_config(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_transformers_gives_the_networks_logits(family: str, pooling: Any, tmp_path: Path) -> None:
    from potstill.models.tokens.tokenizer import TextTokenizer
    from potstill.students.backbone import init_network, predict_batches
    from potstill.students.transformers_export import save_for_transformers, transformers_logits

    folder = written(family, tmp_path / "weights")
    network = init_network(folder, len(LABELS), pooling)
    torch.nn.init.normal_(network.head.weight, std=3.0, generator=torch.Generator().manual_seed(1))
    torch.nn.init.normal_(network.head.bias, generator=torch.Generator().manual_seed(2))
    tokenizer = TextTokenizer(folder / "tokenizer.json", 40)
    wanted = predict_batches(network.forward, tokenizer.encode(TEXTS).ids, tokenizer.pad_id)
    made = tmp_path / "made"
    made.mkdir()
    (made / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    loads = save_for_transformers(network, LABELS, 40, made)
    config = json.loads((made / "config.json").read_text())
    assert config["id2label"] == dict(zip("0123", LABELS, strict=True))
    assert (made / "model.safetensors").exists() is loads
    assert loads is (family != "mpnet" or pooling == "cls")
    if not loads:
        return
    assert np.ptp(wanted, axis=0).max() > 0.05
    np.testing.assert_allclose(transformers_logits(made, TEXTS), wanted, atol=1e-3)
    scale, shift = (2.0, 0.5, 1.0, 3.0), (1.0, -1.0, 0.0, 0.5)
    scale_classifier(made, scale, shift)
    np.testing.assert_allclose(transformers_logits(made, TEXTS), wanted * scale + shift, atol=3e-3)
