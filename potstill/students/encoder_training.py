"""Fine-tuning a network on soft targets: batches, schedule, early stopping, deadline. Knows torch, no texts, no files.

The loss is the cross-entropy between soft targets and the softmax of the network, which is the Kullback-Leibler
divergence up to a constant. It learns on the device the network is on. Does not cover several devices, gradient
accumulation, or anything distributed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from potstill.models.device import device_of, seeded
from potstill.models.tokens.tokenizer import Ids, pad_batch
from potstill.students.backbone import EncoderNetwork, autocast, predict_batches

Floats = NDArray[np.float32]
ProgressCallback = Callable[[float, str], None]
# Rows of a batch that are padded together, after sorting by length: three quarters of the time a step on short texts,
# little more than half of it on news (bench/training_speed.py).
PADDING_BLOCK = 8
# Padded tokens whose activations are held at once: the weights are turned to bfloat16, and their gradients back, once
# for all of them, which on short texts takes a tenth off a step.
MAX_ACTIVATION_TOKENS = 2048


@dataclass(frozen=True)
class FineTuningConfig:
    """How to fine-tune.

    Attributes:
        epochs: passes over the rows.
        lr: peak learning rate of the backbone, reached after `warmup` of the steps, then falling to zero.
        head_lr: peak learning rate of the head, whose weights are two orders larger than the backbone's.
        batch: rows a step.
        max_tokens: a batch with more tokens than this is parted.
        warmup: share of the steps, above zero and below one.
        decay: weight decay of the backbone's matrices.
        head_dropout: share of a text's vector that the head does not see.
        word_dropout: share of a text's tokens that are left out, another share each time it is read.
        keep_words: leave the vectors of the words as they are: half the weights, and few rows say little about them.
        deadline: `time.monotonic()` after which no step begins; the schedule shrinks to end there.
        checks: how many times the validation rows are looked at.
    """

    epochs: float
    lr: float = 1e-4
    head_lr: float = 1e-2
    batch_size: int = 32
    max_tokens: int = 8192
    warmup: float = 0.1
    weight_decay: float = 0.01
    head_dropout: float = 0.0
    token_dropout: float = 0.0
    freeze_embeddings: bool = False
    deadline: float | None = None
    n_evaluations: int = 6


@dataclass(frozen=True)
class EncodedBatch:
    """N rows to learn from: token ids, (N, K) soft targets, (N,) weights, (N,) whether a teacher may have erred.

    `multi`: each label is decided by itself. `like`: (N, D') vectors that the rows' own, mapped linearly, are to point
    along; `share` is that part of the loss.
    """

    ids: Sequence[Ids]
    targets: Floats
    weights: Floats
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
            weights=self.weights[rows],
            noisy=self.noisy[rows],
            hint_features=None if self.hint_features is None else self.hint_features[rows],
        )

    def concat(self, other: EncodedBatch) -> EncodedBatch:
        """These rows, then the other's, which are like nothing."""
        blank = (
            None
            if self.hint_features is None
            else np.zeros((len(other.ids), self.hint_features.shape[1]), dtype=np.float32)
        )
        return replace(
            self,
            ids=[*self.ids, *other.ids],
            targets=np.concatenate([self.targets, other.targets]),
            weights=np.concatenate([self.weights, other.weights]),
            noisy=np.concatenate([self.noisy, other.noisy]),
            hint_features=None
            if self.hint_features is None or blank is None
            else np.concatenate([self.hint_features, blank]),
        )


@dataclass(frozen=True)
class FineTuningResult:
    """What fine-tuning did: steps made, and the best (lowest) validation loss seen, nan without validation rows."""

    steps: int
    best_loss: float
    stop_reason: str


def fine_tune(
    network: EncoderNetwork,
    batch: EncodedBatch,
    schedule: FineTuningConfig,
    *,
    pad_id: int,
    validation: EncodedBatch | None = None,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> FineTuningResult:
    """Train all weights in place; with validation rows, end on the weights that were best on them.

    Equal arguments give equal weights on a CPU, as long as no deadline cuts in.
    """
    generator = np.random.default_rng(seed)
    plan = [rows for _ in range(_ceil(schedule.epochs)) for rows in _epoch(batch, schedule, generator)]
    plan = plan[: max(1, round(len(plan) * schedule.epochs / _ceil(schedule.epochs)))]
    across = _across(network, batch, seed)
    words = list(network.backbone.get_input_embeddings().parameters()) if schedule.freeze_embeddings else []
    learning = [value for value in words if value.requires_grad]
    for value in learning:
        value.requires_grad_(False)
    optimiser = _optimiser(network, schedule, across)
    peaks = [group["lr"] for group in optimiser.param_groups]
    checks = {round(len(plan) * (i + 1) / schedule.n_evaluations) for i in range(schedule.n_evaluations)}
    best_loss, best_state, worse, stopped, step = float("nan"), None, 0, "finished", 0
    started = time.monotonic()
    with seeded(device_of(network), seed), _quick_attention(network):
        network.train()
        for step, rows in enumerate(plan):
            share = step / len(plan)
            if schedule.deadline is not None:
                allowed = max(schedule.deadline - started, 1e-9)
                share = max(share, (time.monotonic() - started) / allowed)
                if share >= 1:
                    stopped = "deadline"
                    break
            factor = min(share / schedule.warmup, 1.0, (1 - share) / (1 - schedule.warmup))
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = peak * max(factor, 1e-3)
            some = _with_gaps(batch.take(rows), schedule.token_dropout, generator)
            _step(network, some, optimiser, pad_id, across, schedule.head_dropout)
            if progress and step % 10 == 0:
                progress(share, f"fine-tuning, step {step + 1} of {len(plan)}")
            if validation is not None and step + 1 in checks:
                loss = soft_loss(
                    predict_batches(network.eval(), validation.ids, pad_id, low_precision=True), validation
                )
                network.train()
                if not loss >= best_loss:  # also true the first time, against nan
                    best_loss, worse = loss, 0
                    best_state = {name: value.clone() for name, value in network.state_dict().items()}
                else:
                    worse += 1
                    if worse >= 2:
                        stopped = "validation got worse twice"
                        break
    if best_state is not None:
        network.load_state_dict(best_state)
    for value in learning:
        value.requires_grad_(True)
    network.eval()
    return FineTuningResult(step + 1, best_loss, stopped)


def soft_loss(logits: Floats, batch: EncodedBatch) -> float:
    """Weighted cross-entropy of (N, K) logits at the best of a few temperatures: a badly scaled head is no bad one."""
    losses = []
    for temperature in np.geomspace(0.25, 4, 17):
        scaled = torch.from_numpy(logits / np.float32(temperature))
        rows = row_losses(scaled, batch) * torch.from_numpy(batch.weights)
        losses.append(float(rows.sum() / batch.weights.sum()))
    return min(losses)


def row_losses(logits: Tensor, batch: EncodedBatch) -> Tensor:
    """(B,) cross-entropies of (B, K) logits: of one softmax, or of K sigmoids, summed."""
    targets = torch.from_numpy(batch.targets).to(logits.device)
    if batch.multi:
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1)
    return -(targets * torch.log_softmax(logits, 1)).sum(1)


def _across(network: EncoderNetwork, material: EncodedBatch, seed: int) -> nn.Linear | None:
    """The map from the network's vectors to those it is to be like; None where it need not."""
    if material.hint_features is None:
        return None
    device = device_of(network)
    with seeded(device, seed):
        return nn.Linear(network.dim, material.hint_features.shape[1], bias=False).to(device)


def _step(
    network: EncoderNetwork,
    some: EncodedBatch,
    optimiser: torch.optim.Optimizer,
    pad_id: int,
    across: nn.Linear | None,
    drop: float,
) -> None:
    optimiser.zero_grad(set_to_none=True)
    device = device_of(network)
    for group in _groups([len(own) for own in some.ids], device):
        with autocast(device=device):  # leaving it forgets the weights in bfloat16: once a group, not once a block
            lost = torch.stack([_lost(network, some.take(rows), pad_id, across, drop) for rows in group])
        # Gradients of the groups add up to that of the batch.
        (lost.sum() / len(some.ids)).backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimiser.step()


def _lost(network: EncoderNetwork, some: EncodedBatch, pad_id: int, across: nn.Linear | None, drop: float) -> Tensor:
    """The weighted sum of the losses of rows that are padded together."""
    device = device_of(network)
    filled, mask = pad_batch(some.ids, pad_id)
    vectors = network.embed(torch.from_numpy(filled).to(device), torch.from_numpy(mask).to(device))
    logits = network.head(nn.functional.dropout(vectors, drop))
    crossed = row_losses(logits.float(), some)
    if across is not None and some.hint_features is not None:
        mapped = across(vectors.float()).float()
        far = 1 - nn.functional.cosine_similarity(mapped, torch.from_numpy(some.hint_features).to(device))
        crossed = (1 - some.hint_weight) * crossed + some.hint_weight * far
    return (crossed * torch.from_numpy(some.weights).to(device)).sum()


def _groups(lengths: Sequence[int], device: torch.device) -> list[list[NDArray[np.intp]]]:
    """Rows in blocks that are padded together, blocks in groups whose activations are held together."""
    order = np.argsort(lengths, kind="stable")
    # A GPU would rather have one large block than little padding.
    block = PADDING_BLOCK if device.type == "cpu" else len(order)
    found: list[list[NDArray[np.intp]]] = []
    held = MAX_ACTIVATION_TOKENS
    for rows in np.array_split(order, -(-len(order) // block)):
        cells = len(rows) * lengths[rows[-1]]
        if held + cells > MAX_ACTIVATION_TOKENS:
            found.append([])
            held = 0
        found[-1].append(rows)
        held += cells
    return found


def _with_gaps(some: EncodedBatch, share: float, generator: np.random.Generator) -> EncodedBatch:
    """The rows with about this share of their tokens left out: never the first, the last, or their like."""
    if not share:
        return some
    ids: list[Ids] = []
    for own in some.ids:
        marks = (own == own[0]) | (own == own[-1])
        kept = (generator.random(len(own)) >= share) | marks
        ids.append(own[kept] if (kept & ~marks).any() else own)
    return replace(some, ids=ids)


@contextmanager
def _quick_attention(network: EncoderNetwork) -> Iterator[None]:
    """While it learns: attention as plain matrix products, without dropout on its weights.

    On a CPU the fused kernel and the T x T numbers a head that its dropout draws cost a fifth of a step on news texts,
    nothing on short ones (bench/training_speed.py); the dropout of the layers stays.
    """
    backbone: Any = network.backbone
    if device_of(network).type != "cpu":
        yield
        return
    before = getattr(backbone.config, "_attn_implementation", None)
    drops = [part for name, part in backbone.named_modules() if name.endswith("attention.self.dropout")]
    shares = [part.p for part in drops]
    if before == "sdpa":
        backbone.set_attn_implementation("eager")
    for part in drops:
        part.p = 0.0
    try:
        yield
    finally:
        if before == "sdpa":
            backbone.set_attn_implementation("sdpa")
        for part, share in zip(drops, shares, strict=True):
            part.p = share


def _optimiser(network: EncoderNetwork, schedule: FineTuningConfig, across: nn.Linear | None) -> torch.optim.Optimizer:
    body = [value for value in network.backbone.parameters() if value.requires_grad]
    matrices = [value for value in body if value.ndim > 1]
    vectors = [value for value in body if value.ndim <= 1]
    head = [*network.head.parameters(), *(across.parameters() if across is not None else ())]
    groups = [
        {"params": matrices, "lr": schedule.lr, "weight_decay": schedule.weight_decay},
        {"params": vectors, "lr": schedule.lr, "weight_decay": 0.0},
        {"params": head, "lr": schedule.head_lr, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, fused=True)


def _epoch(
    material: EncodedBatch, schedule: FineTuningConfig, generator: np.random.Generator
) -> list[NDArray[np.intp]]:
    """One pass in random batches of equal size, parted where long texts fill them; `_step` saves them from padding."""
    lengths = np.array([len(own) for own in material.ids])
    found: list[NDArray[np.intp]] = []
    for rows in np.array_split(generator.permutation(len(lengths)), -(-len(lengths) // schedule.batch_size)):
        parts = min(len(rows), -(-int(lengths[rows].sum()) // schedule.max_tokens))
        found.extend(np.array_split(rows, max(1, parts)))
    return found


def _ceil(epochs: float) -> int:
    return max(1, int(-(-epochs // 1)))
