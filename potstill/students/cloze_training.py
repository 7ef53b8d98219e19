"""How a cloze network learns: its label bias first, then LoRA or its upper layers, on states that are computed once.

Knows the network and token ids, no texts and no files. The loss is the cross-entropy with soft targets over the labels
alone, as in PET (Schick and Schuetze 2021), or of each label by itself where a text may have several. Does not cover
early stopping: with few rows there is nothing to stop by.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from potstill.evaluation.calibration import match_prior, match_rates
from potstill.models.device import device_of, seeded
from potstill.models.tokens.tokenizer import Ids, pad_batch
from potstill.students.backbone import autocast, predict_batches
from potstill.students.base import Floats
from potstill.students.cloze_network import ClozeNetwork, TuningMode
from potstill.students.cloze_options import CLOZE_EPOCHS

# The kept states of the lower layers may take this much memory; more are computed again at every step.
MAX_CACHED_BYTES = 1_500_000_000
# Rows whose scores tell the label bias.
BIAS_SAMPLE_SIZE = 256
WARMUP = 0.1


@dataclass(frozen=True)
class ClozeBatch:
    """N rows to learn: token ids in their pattern, (N, K) soft targets, (N,) weights.

    `multi`: each label is decided by itself.
    """

    ids: Sequence[Ids]
    targets: Floats
    weights: Floats
    multi: bool = False


@dataclass(frozen=True)
class ClozeTrainingConfig:
    """How to learn.

    Attributes:
        mode: what learns.
        layers: how many of the top layers.
        rank: of LoRA.
        lr: peak learning rate.
        epochs: passes; None derives them from the rows.
        batch: rows a step.
        seed: draws LoRA, the order and the dropout.
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
        """Tell whoever listens."""
        if self.progress is not None:
            self.progress(share, words)


def fit_label_bias(
    network: ClozeNetwork, ids: Sequence[Ids], prior: NDArray[np.floating], pad_id: int, *, multi: bool = False
) -> None:
    """Make the mean probability of each label over N rows equal the (K,) prior: what a label's words are worth alone.

    `multi`: each label is decided by itself, and the prior need not sum to one.

    On rows without content this is contextual calibration (Zhao et al. 2021), on texts batch calibration
    (Zhou et al. 2024).
    """
    scores = predict_batches(network, ids, pad_id, low_precision=True)
    found = match_rates(scores, prior) if multi else match_prior(scores, prior)
    with torch.no_grad():
        network.bias.add_(torch.from_numpy(found.astype(np.float32)).to(network.bias.device))
    network.trained_state["bias"] = network.bias.detach().clone()


def train_cloze(network: ClozeNetwork, rows: ClozeBatch, config: ClozeTrainingConfig, pad_id: int) -> dict[str, Any]:
    """Teach the network in place; what was done, as plain facts. Equal arguments give equal weights on a CPU."""
    generator = np.random.default_rng(config.seed)
    n = len(rows.ids)
    epochs = config.epochs or CLOZE_EPOCHS.epochs(config.batch_size, n)
    if not config.past_deadline():
        config.report_progress(0.0, "asking the model as it is")
        some = generator.permutation(n)[:BIAS_SAMPLE_SIZE]
        mass = np.asarray((rows.targets * rows.weights[:, None]).sum(axis=0) / rows.weights.mean())
        counts = mass + np.float32(1)
        prior = counts / (n + 2) if rows.multi else counts / counts.sum()
        fit_label_bias(network, [rows.ids[row] for row in some], prior, pad_id, multi=rows.multi)
    stopped, steps = "finished", 0
    with seeded(device_of(network), config.seed):
        first = network.unfreeze(config.mode, config.trainable_layers, config.lora_rank)
        kept = _kept(network, rows, first, config, pad_id)
        network.train()
        body = [each for each in network.parameters() if each.requires_grad and each is not network.bias]
        groups: list[dict[str, Any]] = [{"params": body, "lr": config.lr, "weight_decay": 0.01}] if body else []
        # The bias is worth whole logits and its gradient is small: it moves a hundred times as fast.
        groups.append({"params": [network.bias], "lr": min(100 * config.lr, 0.02), "weight_decay": 0.0})
        optimiser = torch.optim.AdamW(groups)
        peaks = [group["lr"] for group in groups]
        plan = [batch for _ in range(math.ceil(epochs)) for batch in _batches(rows, config.batch_size, generator)]
        plan = plan[: max(1, round(len(plan) * epochs / math.ceil(epochs)))]
        with network.run_from_layer(first) if kept is not None else nullcontext():
            for step, batch in enumerate(plan):
                if config.past_deadline():
                    stopped = "deadline"
                    break
                share = (step + 1) / (len(plan) + 1)
                factor = min(share / WARMUP, (1 - share) / (1 - WARMUP))
                for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                    group["lr"] = peak * factor
                config.report_progress(0.2 + 0.8 * share, f"learning, step {step + 1} of {len(plan)}")
                _step(network, rows, batch, kept, optimiser, pad_id)
                steps = step + 1
    network.merge_and_freeze()
    facts = {
        "mode": config.mode,
        "layers": config.trainable_layers,
        "steps": steps,
        "epochs": epochs,
        "stopped": stopped,
    }
    return facts | {"rows": n, "kept_states": kept is not None}


def _kept(
    network: ClozeNetwork, rows: ClozeBatch, first: int, config: ClozeTrainingConfig, pad_id: int
) -> list[Tensor] | None:
    """(T_i + M, D) states below the first layer that learns, for each row; None where there are none to keep."""
    extra = len(network.reading.tokens)
    size = sum(len(own) + extra for own in rows.ids) * network.dim * 4
    if first == 0 or size > MAX_CACHED_BYTES:
        return None
    kept: list[Tensor] = [torch.empty(0)] * len(rows.ids)
    order = np.argsort([len(own) for own in rows.ids], kind="stable")
    network.eval()
    device = device_of(network)
    for start in range(0, len(order), 32):
        if config.past_deadline():
            return None
        config.report_progress(0.2 * start / len(order), f"reading text {start + 1} of {len(order)}")
        some = order[start : start + 32]
        filled, mask = pad_batch([rows.ids[row] for row in some], pad_id)
        with autocast(device=device):
            ids, seen = torch.from_numpy(filled).to(device), torch.from_numpy(mask).to(device)
            states = network.layer_inputs(ids, seen, first).float()
        width = filled.shape[1]
        for row, own in zip(some, states, strict=True):
            kept[row] = torch.cat([own[: len(rows.ids[row])], own[width:]])
    return kept


def _step(
    network: ClozeNetwork,
    rows: ClozeBatch,
    batch: NDArray[np.intp],
    kept: list[Tensor] | None,
    optimiser: torch.optim.Optimizer,
    pad_id: int,
) -> None:
    filled, mask = pad_batch([rows.ids[row] for row in batch], pad_id)
    device, entry = device_of(network), None
    if kept is not None:
        extra = len(network.reading.tokens)
        entry = torch.zeros(len(batch), filled.shape[1] + extra, network.dim, device=device)
        for i, row in enumerate(batch):
            length = len(rows.ids[row])
            entry[i, :length] = kept[row][:length]
            entry[i, filled.shape[1] :] = kept[row][length:]
    with autocast(device=device):
        points = network.hidden_states(torch.from_numpy(filled).to(device), torch.from_numpy(mask).to(device), entry)
    logits = network.label_logits(points.float())
    targets = torch.from_numpy(rows.targets[batch]).to(device)
    losses: Tensor
    if rows.multi:
        losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1)
    else:
        losses = -(targets * torch.log_softmax(logits, 1)).sum(1)
    loss = (losses * torch.from_numpy(rows.weights[batch]).to(device)).mean()
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_([each for group in optimiser.param_groups for each in group["params"]], 1.0)
    optimiser.step()


def _batches(rows: ClozeBatch, size: int, generator: np.random.Generator) -> list[NDArray[np.intp]]:
    """One pass: rows are shuffled, then sorted by length within windows of eight batches, to pad little."""
    lengths = np.array([len(own) for own in rows.ids])
    order = generator.permutation(len(lengths))
    found: list[NDArray[np.intp]] = []
    for start in range(0, len(order), 8 * size):
        window = order[start : start + 8 * size]
        window = window[np.argsort(lengths[window], kind="stable")]
        found += [window[i : i + size] for i in range(0, len(window), size)]
    return [found[i] for i in generator.permutation(len(found))]
