"""Fine-tuning of an encoder on soft targets: batches, learning rate, early stopping, deadline.

The loss is the cross-entropy of soft targets, which is the Kullback-Leibler divergence up to a constant (Hinton et al.
2015). Trains on the device the network is on. Knows token ids, no texts and no files. Does not cover several devices,
gradient accumulation, or distributed training.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from potstill.models.device import device_of, seeded
from potstill.models.threads import idle_threads
from potstill.models.tokens.tokenizer import Ids, pad_batch
from potstill.students.backbone import EncoderNetwork, HeadedNetwork, autocast, predict_batches
from potstill.students.network_settings import eager_attention, frozen_embeddings

Floats = NDArray[np.float32]
ProgressCallback = Callable[[float, str], None]
# Rows that are padded together, after sorting a batch by length: takes a quarter off a step on short texts, and nearly
# half on news texts (bench/training_speed.py).
PADDING_BLOCK = 8
# Padded tokens whose activations are held at once: weights are cast to bfloat16, and gradients back, once for all of
# them, which takes a tenth off a step on short texts.
MAX_ACTIVATION_TOKENS = 2048
STOPPED_EARLY = "validation loss increased twice"


@dataclass(frozen=True)
class Regularization:
    """Regularization of fine-tuning beside weight decay.

    Attributes:
        head_dropout: dropout on the embedding a head reads.
        token_dropout: share of a text's tokens that are left out, anew in each epoch.
        freeze_embeddings: leave the word embeddings as they are; they are half of the weights.
    """

    head_dropout: float = 0.0
    token_dropout: float = 0.0
    freeze_embeddings: bool = False


@dataclass(frozen=True)
class FineTuningConfig:
    """How to fine-tune.

    Attributes:
        epochs: passes over the rows.
        lr: peak learning rate of the backbone, reached after `warmup` of the steps, then falling linearly to zero.
        head_lr: peak learning rate of the head, whose weights are two orders of magnitude larger than the backbone's.
        batch_size: rows per step.
        max_tokens: batches with more tokens are split.
        warmup: share of the steps, in (0, 1).
        weight_decay: of the backbone's matrices.
        regularization: dropout and frozen embeddings.
        deadline: `time.monotonic()` after which no step begins; the learning rate falls to zero by then.
        n_evaluations: number of evaluations on the validation rows.
        patience: evaluations in a row without a smaller validation loss after which training stops.
    """

    epochs: float
    lr: float = 1e-4
    head_lr: float = 1e-2
    batch_size: int = 32
    max_tokens: int = 8192
    warmup: float = 0.1
    weight_decay: float = 0.01
    regularization: Regularization = Regularization()
    deadline: float | None = None
    n_evaluations: int = 6
    patience: int = 2


class TrainingRows(Protocol):
    """N rows as token ids, with a loss: what `fine_tune` trains on."""

    @property
    def ids(self) -> Sequence[Ids]:
        """N arrays of token ids."""

    @property
    def hint_features(self) -> Floats | None:
        """(N, D') embeddings to match; None for no hint."""

    def take(self, rows: NDArray[np.intp]) -> Self:
        """These rows only."""

    def block_loss(self, network: HeadedNetwork, pad_id: int, hint_map: nn.Linear | None, dropout: float) -> Tensor:
        """The weighted sum of the losses of the rows, padded together; `dropout` is on what the head reads."""

    def validation_loss(self, network: HeadedNetwork, pad_id: int) -> float:
        """What early stopping minimises, of a network in evaluation mode."""


RowsT = TypeVar("RowsT", bound=TrainingRows)


@dataclass(frozen=True)
class EncodedBatch:
    """N rows as token ids.

    Attributes:
        ids: N arrays of token ids.
        targets: (N, K) float32 soft targets.
        sample_weight: (N,) float32.
        noisy: (N,) bool, rows whose target is a teacher's and may be wrong.
        multi: a multi-label task: K sigmoids rather than one softmax.
        hint_features: (N, D') embeddings to match up to a linear map; None for no hint.
        hint_weight: weight of that part of the loss.
    """

    ids: Sequence[Ids]
    targets: Floats
    sample_weight: Floats
    noisy: NDArray[np.bool_]
    multi: bool = False
    hint_features: Floats | None = None
    hint_weight: float = 0.0

    def take(self, rows: NDArray[np.intp]) -> EncodedBatch:
        """These rows only."""
        return replace(
            self,
            ids=[self.ids[row] for row in rows],
            targets=self.targets[rows],
            sample_weight=self.sample_weight[rows],
            noisy=self.noisy[rows],
            hint_features=None if self.hint_features is None else self.hint_features[rows],
        )

    def concat(self, other: EncodedBatch) -> EncodedBatch:
        """These rows, then the other's with zeros as their hint features."""
        hint_features = self.hint_features
        if hint_features is not None:
            zeros = np.zeros((len(other.ids), hint_features.shape[1]), dtype=np.float32)
            hint_features = np.concatenate([hint_features, zeros])
        return replace(
            self,
            ids=[*self.ids, *other.ids],
            targets=np.concatenate([self.targets, other.targets]),
            sample_weight=np.concatenate([self.sample_weight, other.sample_weight]),
            noisy=np.concatenate([self.noisy, other.noisy]),
            hint_features=hint_features,
        )

    def block_loss(self, network: HeadedNetwork, pad_id: int, hint_map: nn.Linear | None, dropout: float) -> Tensor:
        """See `TrainingRows`."""
        assert isinstance(network, EncoderNetwork)
        return _block_loss(network, self, pad_id, hint_map, dropout)

    def validation_loss(self, network: HeadedNetwork, pad_id: int) -> float:
        """See `TrainingRows`: the cross-entropy."""
        assert isinstance(network, EncoderNetwork)
        return soft_loss(predict_batches(network, self.ids, pad_id, low_precision=True), self)


@dataclass(frozen=True)
class FineTuningResult:
    """Steps made, the smallest validation loss (nan without validation rows), and why training ended."""

    steps: int
    best_loss: float
    stop_reason: str


class _EarlyStopping:
    """Keeps the weights of the smallest validation loss, and stops when it got larger `patience` times in a row."""

    def __init__(self, network: HeadedNetwork, validation: TrainingRows, pad_id: int, patience: int) -> None:
        self.network, self.validation, self.pad_id, self.patience = network, validation, pad_id, patience
        self.best_loss = float("nan")
        self.best_state: dict[str, Tensor] | None = None
        self.n_worse = 0

    def should_stop(self) -> bool:
        """Evaluate the network; leaves it in training mode."""
        loss = self.validation.validation_loss(self.network.eval(), self.pad_id)
        self.network.train()
        if loss >= self.best_loss:  # false the first time, against nan
            self.n_worse += 1
            return self.n_worse >= self.patience
        self.best_loss, self.n_worse = loss, 0
        trained = ((name, each) for name, each in self.network.named_parameters() if each.requires_grad)
        self.best_state = {name: each.detach().clone() for name, each in trained}
        return False


def fine_tune(
    network: HeadedNetwork,
    batch: RowsT,
    config: FineTuningConfig,
    *,
    pad_id: int,
    validation: RowsT | None = None,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> FineTuningResult:
    """Train all weights in place; with validation rows, end on the weights of the smallest validation loss.

    Equal arguments give equal weights on a CPU with the same number of threads, unless the deadline is reached. The
    threads are the idle cores (see `models.threads`).
    """
    rng = np.random.default_rng(seed)
    batches = _plan_batches(batch, config, rng)
    hint_map = _hint_map(network, batch, seed)
    regularization = config.regularization
    stopping = None if validation is None else _EarlyStopping(network, validation, pad_id, config.patience)
    n_steps, n_checks = len(batches), config.n_evaluations
    evaluations = {round(n_steps * (i + 1) / n_checks) for i in range(n_checks)}
    stop_reason, step, started = "finished", 0, time.monotonic()
    with (
        frozen_embeddings(network, regularization.freeze_embeddings),
        seeded(device_of(network), seed),
        eager_attention(network),
        idle_threads() as follow_idle_cores,
    ):
        optimizer = _optimizer(network, config, hint_map)
        peak_lrs = [group["lr"] for group in optimizer.param_groups]
        network.train()
        for step, rows in enumerate(batches):
            follow_idle_cores()
            share = step / n_steps
            if config.deadline is not None:
                share = max(share, (time.monotonic() - started) / max(config.deadline - started, 1e-9))
                if share >= 1:
                    stop_reason = "deadline"
                    break
            _set_lrs(optimizer, peak_lrs, share, config.warmup)
            some: TrainingRows = batch.take(rows)
            if isinstance(some, EncodedBatch):
                some = _drop_tokens(some, regularization.token_dropout, rng)
            _step(network, some, optimizer, pad_id, hint_map, regularization.head_dropout)
            if progress and step % 10 == 0:
                progress(share, f"fine-tuning, step {step + 1} of {n_steps}")
            if stopping is not None and step + 1 in evaluations and stopping.should_stop():
                stop_reason = STOPPED_EARLY
                break
    if stopping is not None and stopping.best_state is not None:
        network.load_state_dict(stopping.best_state, strict=False)
    network.eval()
    return FineTuningResult(step + 1, float("nan") if stopping is None else stopping.best_loss, stop_reason)


def _set_lrs(optimizer: torch.optim.Optimizer, peak_lrs: Sequence[float], share: float, warmup: float) -> None:
    """Linear warm-up, then linear decay to a thousandth; `share` of the training is done."""
    factor = max(min(share / warmup, 1.0, (1 - share) / (1 - warmup)), 1e-3)
    for group, peak in zip(optimizer.param_groups, peak_lrs, strict=True):
        group["lr"] = peak * factor


def soft_loss(logits: Floats, batch: EncodedBatch) -> float:
    """Weighted cross-entropy of (N, K) logits, in nats, at the best of 17 temperatures from 1/4 to 4.

    The temperature makes heads of different scale comparable.
    """
    losses = []
    for temperature in np.geomspace(0.25, 4, 17):
        scaled = torch.from_numpy(logits / np.float32(temperature))
        rows = row_losses(scaled, batch) * torch.from_numpy(batch.sample_weight)
        losses.append(float(rows.sum() / batch.sample_weight.sum()))
    return min(losses)


def row_losses(logits: Tensor, batch: EncodedBatch) -> Tensor:
    """(B,) cross-entropies of (B, K) logits: of one softmax, or of K sigmoids, summed."""
    targets = torch.from_numpy(batch.targets).to(logits.device)
    if batch.multi:
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1)
    return -(targets * torch.log_softmax(logits, 1)).sum(1)


def _hint_map(network: HeadedNetwork, batch: TrainingRows, seed: int) -> nn.Linear | None:
    """The trainable (D -> D') map from the network's embeddings to the hint features; None without a hint."""
    if batch.hint_features is None:
        return None
    device = device_of(network)
    with seeded(device, seed):
        return nn.Linear(network.dim, batch.hint_features.shape[1], bias=False).to(device)


def _step(
    network: HeadedNetwork,
    batch: TrainingRows,
    optimizer: torch.optim.Optimizer,
    pad_id: int,
    hint_map: nn.Linear | None,
    head_dropout: float,
) -> None:
    optimizer.zero_grad(set_to_none=True)
    device = device_of(network)
    for group in _groups([len(ids) for ids in batch.ids], device):
        with autocast(device=device):  # leaving it drops the cast weights: once per group, not once per block
            losses = torch.stack(
                [batch.take(rows).block_loss(network, pad_id, hint_map, head_dropout) for rows in group]
            )
        # The gradients of the groups add up to that of the batch.
        (losses.sum() / len(batch.ids)).backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()


def _block_loss(
    network: EncoderNetwork, block: EncodedBatch, pad_id: int, hint_map: nn.Linear | None, head_dropout: float
) -> Tensor:
    """The weighted sum of the losses of rows that are padded together."""
    device = device_of(network)
    ids, mask = (torch.from_numpy(array).to(device) for array in pad_batch(block.ids, pad_id))
    embeddings = network.embed(ids, mask)
    logits = network.head(nn.functional.dropout(embeddings, head_dropout))
    losses = row_losses(logits.float(), block)
    if hint_map is not None and block.hint_features is not None:
        mapped = hint_map(embeddings.float()).float()
        distance = 1 - nn.functional.cosine_similarity(mapped, torch.from_numpy(block.hint_features).to(device))
        losses = (1 - block.hint_weight) * losses + block.hint_weight * distance
    return (losses * torch.from_numpy(block.sample_weight).to(device)).sum()


def _groups(lengths: Sequence[int], device: torch.device) -> list[list[NDArray[np.intp]]]:
    """Rows in blocks that are padded together; blocks in groups whose activations are held together."""
    order = np.argsort(lengths, kind="stable")
    # A GPU is faster with one large block than with less padding.
    block = PADDING_BLOCK if device.type == "cpu" else len(order)
    groups: list[list[NDArray[np.intp]]] = []
    n_tokens = MAX_ACTIVATION_TOKENS
    for rows in np.array_split(order, -(-len(order) // block)):
        padded = len(rows) * lengths[rows[-1]]
        if n_tokens + padded > MAX_ACTIVATION_TOKENS:
            groups.append([])
            n_tokens = 0
        groups[-1].append(rows)
        n_tokens += padded
    return groups


def _drop_tokens(batch: EncodedBatch, share: float, rng: np.random.Generator) -> EncodedBatch:
    """The rows without about this share of their tokens; special tokens are kept, and at least one other token."""
    if not share:
        return batch
    ids: list[Ids] = []
    for own in batch.ids:
        special = (own == own[0]) | (own == own[-1])
        keep = (rng.random(len(own)) >= share) | special
        ids.append(own[keep] if (keep & ~special).any() else own)
    return replace(batch, ids=ids)


def _optimizer(network: HeadedNetwork, config: FineTuningConfig, hint_map: nn.Linear | None) -> torch.optim.Optimizer:
    trainable = [parameter for parameter in network.backbone.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trainable if parameter.ndim > 1]
    vectors = [parameter for parameter in trainable if parameter.ndim <= 1]
    head = [*network.head.parameters(), *(hint_map.parameters() if hint_map is not None else ())]
    groups = [
        {"params": matrices, "lr": config.lr, "weight_decay": config.weight_decay},
        {"params": vectors, "lr": config.lr, "weight_decay": 0.0},
        {"params": head, "lr": config.head_lr, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], fused=True)


def _plan_batches(batch: TrainingRows, config: FineTuningConfig, rng: np.random.Generator) -> list[NDArray[np.intp]]:
    """The rows of every step; a fraction of an epoch is the beginning of a whole one."""
    n_epochs = max(1, math.ceil(config.epochs))
    batches = [rows for _ in range(n_epochs) for rows in _epoch(batch, config, rng)]
    return batches[: max(1, round(len(batches) * config.epochs / n_epochs))]


def _epoch(batch: TrainingRows, config: FineTuningConfig, rng: np.random.Generator) -> list[NDArray[np.intp]]:
    """Random batches of equal size that cover the rows once; those of more than `max_tokens` tokens are split."""
    lengths = np.array([len(ids) for ids in batch.ids])
    batches: list[NDArray[np.intp]] = []
    for rows in np.array_split(rng.permutation(len(lengths)), -(-len(lengths) // config.batch_size)):
        n_parts = min(len(rows), -(-int(lengths[rows].sum()) // config.max_tokens))
        batches.extend(np.array_split(rows, max(1, n_parts)))
    return batches
