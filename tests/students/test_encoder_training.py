"""Fine-tuning steps: blocks equal the batch, token dropout, and restored settings of the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.tinybert import write_tinybert

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from potstill.students import encoder_training
from potstill.students.backbone import EncoderNetwork, init_network
from potstill.students.encoder_training import EncodedBatch, FineTuningConfig, Regularization, fine_tune


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tinybert(tmp_path_factory.mktemp("tinybert"))


def network_on(tiny: Path) -> EncoderNetwork:
    return init_network(tiny, 3, "mean")


def rows(n: int = 30) -> EncodedBatch:
    draw = np.random.default_rng(0)
    ids = [np.concatenate([[2], draw.integers(5, 30, size), [3]]) for size in draw.integers(1, 12, n)]
    targets = np.eye(3, dtype=np.float32)[draw.integers(0, 3, n)]
    return EncodedBatch(ids, targets, np.ones(n, dtype=np.float32), np.zeros(n, dtype=np.bool_))


def weights_after(tiny: Path, config: FineTuningConfig, batch: EncodedBatch | None = None) -> dict[str, torch.Tensor]:
    network = network_on(tiny)
    for part in network.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0  # drawn in another order in other blocks
    fine_tune(network, batch or rows(), config, pad_id=0)
    return network.state_dict()


def test_training_in_blocks_equals_training_on_whole_batches(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_training, "autocast", lambda **_: torch.autocast("cpu", enabled=False))
    config = FineTuningConfig(epochs=4, batch_size=16)
    in_blocks = weights_after(tiny, config)
    monkeypatch.setattr(encoder_training, "PADDING_BLOCK", 100)
    whole = weights_after(tiny, config)
    monkeypatch.setattr(encoder_training, "PADDING_BLOCK", 4)
    monkeypatch.setattr(encoder_training, "MAX_ACTIVATION_TOKENS", 40)
    in_groups = weights_after(tiny, config)
    for name, value in whole.items():
        np.testing.assert_allclose(in_blocks[name], value, atol=2e-3, err_msg=name)
        np.testing.assert_allclose(in_groups[name], value, atol=2e-3, err_msg=name)


@pytest.mark.parametrize("lengths", [[5], [3] * 40, [250, 3, 4, 5, 3, 250, 250, 7, 9, 12], [1000, 1000, 1000]])
def test_every_row_is_in_one_block_and_groups_stay_within_the_token_limit(lengths: list[int]) -> None:
    groups = encoder_training._groups(lengths, torch.device("cpu"))
    assert sorted(np.concatenate([rows for group in groups for rows in group])) == list(range(len(lengths)))
    for group in groups:
        cells = [len(rows) * max(lengths[row] for row in rows) for rows in group]
        assert len(cells) == 1 or sum(cells) <= encoder_training.MAX_ACTIVATION_TOKENS
    assert len(encoder_training._groups([3] * 40, torch.device("cpu"))) == 1


def test_a_batch_of_long_texts_is_split(tiny: Path) -> None:
    lengths = sum(len(own) for own in rows().ids)
    done = fine_tune(
        network_on(tiny), rows(), FineTuningConfig(epochs=1, batch_size=32, max_tokens=-(-lengths // 4)), pad_id=0
    )
    assert done.steps == 4
    assert fine_tune(network_on(tiny), rows(), FineTuningConfig(epochs=1, batch_size=32), pad_id=0).steps == 1


def test_word_embeddings_can_be_frozen_during_one_fine_tuning(tiny: Path) -> None:
    name = "backbone.embeddings.word_embeddings.weight"
    before = network_on(tiny).state_dict()[name]
    network = network_on(tiny)
    fine_tune(
        network, rows(), FineTuningConfig(epochs=4, regularization=Regularization(freeze_embeddings=True)), pad_id=0
    )
    np.testing.assert_array_equal(network.state_dict()[name], before)
    assert all(value.requires_grad for value in network.parameters())
    assert not torch.equal(weights_after(tiny, FineTuningConfig(epochs=4))[name], before)


def test_training_restores_attention_and_dropout(tiny: Path) -> None:
    network = network_on(tiny)
    kind = network.backbone.config._attn_implementation
    shares = [part.p for part in network.modules() if isinstance(part, torch.nn.Dropout)]
    assert max(shares) > 0
    fine_tune(network, rows(), FineTuningConfig(epochs=1), pad_id=0)
    assert network.backbone.config._attn_implementation == kind
    assert [part.p for part in network.modules() if isinstance(part, torch.nn.Dropout)] == shares
    assert not network.training


def test_token_dropout_keeps_special_tokens_and_one_other() -> None:
    long = EncodedBatch([np.array([2, *range(10, 210), 3, *range(10, 20), 3])], rows(1).targets, *[np.ones(1)] * 2)
    short = EncodedBatch([np.array([2, 7, 3])] * 50, rows(50).targets, *[np.ones(50)] * 2)
    draw = np.random.default_rng(0)
    dropped = encoder_training._drop_tokens(long, 0.3, draw).ids[0]
    assert dropped[0] == 2
    assert (dropped == 3).sum() == 2
    assert 100 < len(dropped) < 190
    assert all(len(own) == 3 for own in encoder_training._drop_tokens(short, 0.9, draw).ids)
    assert encoder_training._drop_tokens(long, 0.0, draw) is long
