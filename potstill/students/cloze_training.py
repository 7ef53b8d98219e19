"""Training of a cloze network: the label bias first, then LoRA or upper layers, on lower states computed once.

The loss is the cross-entropy with soft targets over the labels alone, as in PET (Schick and Schuetze 2021); for
multi-label tasks that of K sigmoids. Knows token ids, no texts and no files. Does not cover early stopping: there are
too few rows for a validation set.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from potstill.evaluation.calibration import match_prior, match_rates
from potstill.models.device import device_of, seeded
from potstill.models.threads import idle_threads
from potstill.models.tokens.tokenizer import Ids, pad_batch
from potstill.students.backbone import autocast, predict_batches
from potstill.students.base import FitInfo, Floats
from potstill.students.cloze_network import ClozeNetwork, TuningMode
from potstill.students.cloze_options import CLOZE_EPOCHS

# Memory for the cached states of the lower layers; states that need more are computed at every step.
MAX_CACHED_BYTES = 1_500_000_000
BIAS_SAMPLE_SIZE = 256  # rows that the label bias is fitted on
WARMUP = 0.1  # share of the steps
# Learning rate of the label bias: it changes by whole logits, and its gradient is small.
BIAS_LR_FACTOR, MAX_BIAS_LR = 100, 0.02
HEAD_LR = 5e-3  # of a new head, on states of length about one
BATCHES_PER_WINDOW = 8  # rows are sorted by length within windows of so many batches


@dataclass(frozen=True)
class ClozeBatch:
    """N rows as token ids in their pattern.

    Attributes:
        ids: N arrays of token ids.
        targets: (N, K) float32 soft targets.
        sample_weight: (N,) float32.
        multi: a multi-label task: K sigmoids rather than one softmax.
    """

    ids: Sequence[Ids]
    targets: Floats
    sample_weight: Floats
    multi: bool = False


@dataclass(frozen=True)
class ClozeTrainingConfig:
    """How to train.

    Attributes:
        mode: which parameters are trained.
        trainable_layers: number of top layers.
        lora_rank: rank of LoRA.
        lr: peak learning rate.
        epochs: passes over the rows; None derives them from the number of rows.
        batch_size: rows per step.
        seed: seeds LoRA, the order and the dropout.
        deadline: `time.monotonic()` at which to stop cleanly.
        progress: called with (share done, a few words).
    """

    mode: TuningMode
    trainable_layers: int
    lora_rank: int
    lr: float
    epochs: float | None
    batch_size: int
    seed: int
    deadline: float | None
    progress: Callable[[float, str], None] | None

    def past_deadline(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def report_progress(self, share: float, words: str) -> None:
        """Call `progress`, if there is one."""
        if self.progress is not None:
            self.progress(share, words)


def fit_label_bias(
    network: ClozeNetwork, ids: Sequence[Ids], prior: NDArray[np.floating], pad_id: int, *, multi: bool = False
) -> None:
    """Set the label bias so that the mean probability of each label over N rows is that of the (K,) prior.

    On content-free rows this is contextual calibration (Zhao et al. 2021), on texts batch calibration (Zhou et al.
    2024). With `multi` the probabilities are those of K sigmoids, and the prior need not sum to one.
    """
    logits = predict_batches(network, ids, pad_id, low_precision=True)
    bias = match_rates(logits, prior) if multi else match_prior(logits, prior)
    with torch.no_grad():
        network.bias.add_(torch.from_numpy(bias.astype(np.float32)).to(network.bias.device))
    network.trained_state["bias"] = network.bias.detach().clone()


def train_cloze(network: ClozeNetwork, batch: ClozeBatch, config: ClozeTrainingConfig, pad_id: int) -> FitInfo:
    """Train the network in place. Equal arguments give equal weights on a CPU, unless the deadline is reached."""
    rng = np.random.default_rng(config.seed)
    n = len(batch.ids)
    epochs = config.epochs or CLOZE_EPOCHS.epochs(config.batch_size, n)
    if not config.past_deadline():
        config.report_progress(0.0, "fitting the label bias")
        sample = rng.permutation(n)[:BIAS_SAMPLE_SIZE]
        fit_label_bias(network, [batch.ids[row] for row in sample], _prior(batch), pad_id, multi=batch.multi)
    with seeded(device_of(network), config.seed):
        first = network.unfreeze(config.mode, config.trainable_layers, config.lora_rank)
        cached = _cache_states(network, batch, first, config, pad_id)
        network.train()
        n_epochs = math.ceil(epochs)
        plan = [rows for _ in range(n_epochs) for rows in _epoch(batch, config.batch_size, rng)]
        plan = plan[: max(1, round(len(plan) * epochs / n_epochs))]
        with network.run_from_layer(first) if cached is not None else nullcontext():
            steps = _run_steps(network, batch, plan, cached, config, pad_id)
    network.merge_and_freeze()
    return FitInfo(
        config.mode,
        rows=n,
        steps=steps,
        epochs=epochs,
        stop_reason="finished" if steps == len(plan) else "deadline",
        trainable_layers=config.trainable_layers,
        cached_states=cached is not None,
    )


def _prior(batch: ClozeBatch) -> NDArray[np.floating]:
    """(K,) smoothed shares of the labels: one row of each is added (multi-label: one row with each, one without)."""
    weights = batch.sample_weight
    counts = np.asarray((batch.targets * weights[:, None]).sum(axis=0) / weights.mean()) + np.float32(1)
    return np.asarray(counts / (len(batch.ids) + 2) if batch.multi else counts / counts.sum())


def _run_steps(
    network: ClozeNetwork,
    batch: ClozeBatch,
    plan: Sequence[NDArray[np.intp]],
    cached: list[Tensor] | None,
    config: ClozeTrainingConfig,
    pad_id: int,
) -> int:
    """Make one optimiser step for each batch of rows in `plan`; the number of steps before the deadline."""
    optimizer = _optimizer(network, config.lr)
    peak_lrs = [group["lr"] for group in optimizer.param_groups]
    with idle_threads() as follow_idle_cores:
        for step, rows in enumerate(plan):
            if config.past_deadline():
                return step
            follow_idle_cores()
            share = (step + 1) / (len(plan) + 1)
            factor = min(share / WARMUP, (1 - share) / (1 - WARMUP))
            for group, peak in zip(optimizer.param_groups, peak_lrs, strict=True):
                group["lr"] = peak * factor
            config.report_progress(0.2 + 0.8 * share, f"training, step {step + 1} of {len(plan)}")
            _step(network, batch, rows, cached, optimizer, pad_id)
    return len(plan)


def _optimizer(network: ClozeNetwork, lr: float) -> torch.optim.Optimizer:
    trained = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    bias = trained.pop("bias")
    head = [trained.pop(name) for name in list(trained) if name.startswith("head.")]
    groups = [
        {"params": list(trained.values()), "lr": lr, "weight_decay": 0.01},
        {"params": head, "lr": HEAD_LR, "weight_decay": 0.01},
        {"params": [bias], "lr": min(BIAS_LR_FACTOR * lr, MAX_BIAS_LR), "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups)


def _cache_states(
    network: ClozeNetwork, batch: ClozeBatch, first: int, config: ClozeTrainingConfig, pad_id: int
) -> list[Tensor] | None:
    """N arrays (T_i + M, D), the inputs of layer `first`; None if it is 0, or if they need too much memory."""
    n_nodes = len(network.verbalizer.tokens)
    n_bytes = sum(len(ids) + n_nodes for ids in batch.ids) * network.dim * 4
    if first == 0 or n_bytes > MAX_CACHED_BYTES:
        return None
    cached: list[Tensor] = [torch.empty(0)] * len(batch.ids)
    order = np.argsort([len(ids) for ids in batch.ids], kind="stable")
    network.eval()
    device = device_of(network)
    for start in range(0, len(order), 32):
        if config.past_deadline():
            return None
        config.report_progress(0.2 * start / len(order), f"encoding text {start + 1} of {len(order)}")
        rows = order[start : start + 32]
        padded, mask = pad_batch([batch.ids[row] for row in rows], pad_id)
        with autocast(device=device):
            inputs = torch.from_numpy(padded).to(device), torch.from_numpy(mask).to(device)
            states = network.layer_inputs(*inputs, first).float()
        width = padded.shape[1]
        for row, own in zip(rows, states, strict=True):
            cached[row] = torch.cat([own[: len(batch.ids[row])], own[width:]])
    return cached


def _step(
    network: ClozeNetwork,
    batch: ClozeBatch,
    rows: NDArray[np.intp],
    cached: list[Tensor] | None,
    optimizer: torch.optim.Optimizer,
    pad_id: int,
) -> None:
    padded, mask = pad_batch([batch.ids[row] for row in rows], pad_id)
    device, layer_inputs = device_of(network), None
    if cached is not None:
        width, n_nodes = padded.shape[1], len(network.verbalizer.tokens)
        layer_inputs = torch.zeros(len(rows), width + n_nodes, network.dim, device=device)
        for i, row in enumerate(rows):
            length = len(batch.ids[row])
            layer_inputs[i, :length] = cached[row][:length]
            layer_inputs[i, width:] = cached[row][length:]
    with autocast(device=device):
        inputs = torch.from_numpy(padded).to(device), torch.from_numpy(mask).to(device)
        states = network.hidden_states(*inputs, layer_inputs)
    logits = network.label_logits(states.float())
    targets = torch.from_numpy(batch.targets[rows]).to(device)
    losses: Tensor
    if batch.multi:
        losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1)
    else:
        losses = -(targets * torch.log_softmax(logits, 1)).sum(1)
    loss = (losses * torch.from_numpy(batch.sample_weight[rows]).to(device)).mean()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()


def _epoch(batch: ClozeBatch, batch_size: int, rng: np.random.Generator) -> list[NDArray[np.intp]]:
    """Batches that cover the rows once: shuffled, then sorted by length within windows of eight batches."""
    lengths = np.array([len(ids) for ids in batch.ids])
    order = rng.permutation(len(lengths))
    batches: list[NDArray[np.intp]] = []
    window_size = BATCHES_PER_WINDOW * batch_size
    for start in range(0, len(order), window_size):
        window = order[start : start + window_size]
        window = window[np.argsort(lengths[window], kind="stable")]
        batches += [window[i : i + batch_size] for i in range(0, len(window), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]
