"""Training strategy of an encoder: fit a head on frozen embeddings, fine-tune all weights, keep the better of both.

The regression on frozen embeddings comes first and fine-tuning starts from it (linear probing, then fine-tuning: Kumar
et al. 2022). If there are enough rows, the better of the two on held-out rows is kept. Optimiser steps are in
`encoder_training`. Works on token ids; reads no texts and no files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from potstill.models.device import device_of, seeded
from potstill.students.backbone import EncoderNetwork, predict_batches
from potstill.students.base import FitInfo, Floats
from potstill.students.encoder_options import ENCODER_EPOCHS, MIN_ROWS_TO_HOLD_OUT, TrainingStrategy
from potstill.students.encoder_training import (
    EncodedBatch,
    FineTuningConfig,
    FineTuningResult,
    Regularization,
    fine_tune,
    soft_loss,
)
from potstill.students.epoch_rule import EpochRule
from potstill.students.frozen_head import (
    NameRows,
    confirmed_rows,
    fit_head,
    label_names_help,
    name_anchor,
    says_how_sure,
    select_head_c,
    select_named_head_c,
)
from potstill.students.label_head import ZERO_SHOT_SCALE, label_weights
from potstill.students.logistic_regression import Regression
from potstill.students.lora import add_lora, merge_lora

MIN_ROWS_PER_LABEL_TO_HOLD_OUT, MAX_HELD_OUT_ROWS = 20, 1000
# Errors are memorised if they are seen often; soft targets carry the teacher's doubt, so they may be seen more often.
NOISY_HARD_EPOCHS = EpochRule(target_steps=60, min_epochs=2, max_epochs=15)
NOISY_SOFT_EPOCHS = EpochRule(target_steps=200, min_epochs=2, max_epochs=15)
# Chosen on validation texts of BANKING77 and HWU64 (docs/students.md).
FEW_SHOT_REGULARIZATION = Regularization(head_dropout=0.3, token_dropout=0.15, freeze_embeddings=True)
# LoRA's learning rate over that of full fine-tuning.
LORA_LR_FACTOR = 10.0
# C of the regression on fine-tuned embeddings.
TUNED_HEAD_C = 3.0
SEED_STRIDE = 1009  # between the seeds of fine-tunings that are averaged
CHUNK_SIZE = 256  # rows embedded between two deadline checks


@dataclass(frozen=True)
class _Split:
    """Rows to train on with their (N, D) frozen embeddings, and rows for validation if there are any.

    `noisy`: some targets are a teacher's, so possibly wrong.
    """

    train: EncodedBatch
    embeddings: Floats
    validation: EncodedBatch | None
    noisy: bool


def fit(
    network: EncoderNetwork,
    batch: EncodedBatch,
    pad_id: int,
    strategy: TrainingStrategy,
    label_names: EncodedBatch | None = None,
) -> FitInfo:
    """Train `network` in place on N rows.

    Mode "auto" fine-tunes and, if there are validation rows, goes back to the frozen encoder if that is better on them;
    "full" never goes back.

    Args:
        network: pretrained, with any head.
        batch: N rows.
        pad_id: id of the padding token.
        strategy: what to train, and for how long.
        label_names: the names of the labels as rows. With a linear head they are added to the training rows unless
            cross-validation is better without them; a label head starts from them. Never used for validation.
    """
    # Shuffled, so that the rows embedded before a deadline are not all of one label.
    batch = batch.take(np.random.default_rng(strategy.seed).permutation(len(batch.ids)))
    embeddings = _embed(network, batch, pad_id, strategy)
    info = FitInfo("frozen", rows=len(batch.ids))
    if len(embeddings) < len(batch.ids):
        info = replace(info, stop_reason=f"deadline, after {len(embeddings)} rows")
        batch = batch.take(np.arange(len(embeddings)))
    confirmed = confirmed_rows(embeddings, batch, strategy)
    if not confirmed.all():
        info = replace(info, dropped_noisy=int((~confirmed).sum()))
        embeddings, batch = embeddings[confirmed], batch.take(np.flatnonzero(confirmed))
    split = _hold_out(embeddings, batch, strategy)
    train, info = _fit_frozen_head(network, split, label_names, pad_id, strategy, info)
    if strategy.options.mode == "frozen" or strategy.past_deadline():
        return info
    return _fine_tune(network, replace(split, train=train), pad_id, strategy, info)


def init_zero_shot(network: EncoderNetwork, label_names: EncodedBatch, pad_id: int) -> FitInfo:
    """Set a head that scores texts by similarity to the embedded label names."""
    embeddings = predict_batches(network.embed, label_names.ids, pad_id, low_precision=True)
    weights = label_weights(embeddings, label_names.targets, ZERO_SHOT_SCALE)
    _set_head(network, Regression(weights, np.zeros(weights.shape[1], dtype=np.float32), 0, True))
    return FitInfo("zero-shot", rows=0, label_name_rows=len(label_names.ids))


def _hold_out(embeddings: Floats, batch: EncodedBatch, strategy: TrainingStrategy) -> _Split:
    """Split N shuffled rows into validation and training rows."""
    # Noisy rows that passed the filter agree with the frozen embeddings and would favour them as validation rows.
    noisy = bool(batch.noisy.any()) and not strategy.options.trust_labels
    n, k = batch.targets.shape
    n_validation = 0
    if (
        not noisy
        and not strategy.options.few_shot
        and n >= max(MIN_ROWS_TO_HOLD_OUT, MIN_ROWS_PER_LABEL_TO_HOLD_OUT * k)
    ):
        n_validation = min(MAX_HELD_OUT_ROWS, n // 10)
    validation = batch.take(np.arange(n_validation)) if n_validation else None
    return _Split(batch.take(np.arange(n_validation, n)), embeddings[n_validation:], validation, noisy)


def _fit_frozen_head(
    network: EncoderNetwork,
    split: _Split,
    label_names: EncodedBatch | None,
    pad_id: int,
    strategy: TrainingStrategy,
    info: FitInfo,
) -> tuple[EncodedBatch, FitInfo]:
    """Fit the head on frozen embeddings; the training rows, with the label names among them if they help."""
    train, embeddings, anchor_weights = split.train, split.embeddings, None
    names = None if label_names is None else NameRows(_embed(network, label_names, pad_id, strategy), label_names)
    c = strategy.options.c
    if names is not None and strategy.options.head == "label":
        anchor_weights = label_weights(names.embeddings, names.batch.targets)
    elif names is not None:
        anchor = name_anchor(embeddings, train, names, strategy)
        if label_names_help(embeddings, train, names, anchor, strategy):
            c = c or select_named_head_c(embeddings, train, names, anchor, strategy)
            embeddings, train = names.added_to(embeddings, train)
            anchor_weights, info = anchor, replace(info, label_name_rows=len(names.embeddings))
    c = c or select_head_c(embeddings, train, strategy)
    info = replace(info, anchored_at_names=anchor_weights is not None or None)
    _set_head(network, fit_head(embeddings, train, c, strategy, anchor_weights))
    n_validation = 0 if split.validation is None else len(split.validation.ids)
    return train, replace(info, validation_rows=n_validation, c=c)


def _fine_tune(
    network: EncoderNetwork, split: _Split, pad_id: int, strategy: TrainingStrategy, info: FitInfo
) -> FitInfo:
    """Fine-tune from the frozen head; in mode "auto" go back to it if that is better on the validation rows."""
    options, frozen_state = strategy.options, _copy_state(network)
    if split.validation is not None:
        logits = predict_batches(network, split.validation.ids, pad_id, low_precision=True)
        info = replace(info, frozen_loss=soft_loss(logits, split.validation))
    rule = ENCODER_EPOCHS
    if split.noisy:
        rule = NOISY_SOFT_EPOCHS if says_how_sure(split.train) else NOISY_HARD_EPOCHS
    epochs = options.epochs or rule.epochs(options.batch_size, len(split.train.ids))
    few_shot = options.few_shot
    if few_shot is None:
        few_shot = split.validation is None and not split.noisy
    config = FineTuningConfig(
        epochs=epochs,
        lr=options.lr * (LORA_LR_FACTOR if options.mode == "lora" else 1),
        batch_size=options.batch_size,
        deadline=strategy.deadline,
        regularization=FEW_SHOT_REGULARIZATION if few_shot else Regularization(),
    )
    n_runs = options.n_averaged if few_shot and options.mode != "lora" else 1
    result, averaged = _fine_tune_runs(network, split, config, n_runs, pad_id, strategy)
    info = replace(
        info,
        mode="lora" if options.mode == "lora" else "full",
        epochs=epochs,
        steps=result.steps,
        stop_reason=result.stop_reason,
        averaged=averaged if averaged > 1 else None,
    )
    frozen_loss, tuned_loss = info.frozen_loss, result.best_loss
    if frozen_loss is None or math.isnan(tuned_loss):
        return info
    info = replace(info, tuned_loss=tuned_loss)
    if options.mode == "auto" and tuned_loss >= frozen_loss:
        network.load_state_dict(frozen_state)
        info = replace(info, mode="frozen")
    return info


def _fine_tune_runs(
    network: EncoderNetwork,
    split: _Split,
    config: FineTuningConfig,
    n_runs: int,
    pad_id: int,
    strategy: TrainingStrategy,
) -> tuple[FineTuningResult, int]:
    """Fine-tune `n_runs` times and average the weights; the last result, and the number of runs before the deadline.

    Fine-tunings from one start that differ in order and dropout end near each other, and the mean of their weights is
    more accurate than each (model soups: Wortsman et al. 2022).
    """
    start = _copy_state(network) if n_runs > 1 else {}
    if strategy.options.mode == "lora":
        with seeded(device_of(network), strategy.seed):
            add_lora(network.backbone)
    states: list[dict[str, torch.Tensor]] = []
    for run in range(n_runs):
        if run:
            network.load_state_dict(start)
        result = fine_tune(
            network,
            split.train,
            config,
            pad_id=pad_id,
            validation=split.validation,
            seed=strategy.seed + run * SEED_STRIDE,
            progress=partial(_report_run, strategy, run),
        )
        merge_lora(network.backbone)
        if config.regularization == FEW_SHOT_REGULARIZATION and not strategy.past_deadline():
            _average_heads(network, split.train, pad_id, strategy)
        if n_runs > 1:
            states.append(_copy_state(network))
        if strategy.past_deadline():
            break
    if len(states) > 1:
        network.load_state_dict(_mean_state(states))
    return result, max(len(states), 1)


def _report_run(strategy: TrainingStrategy, run: int, share: float, words: str) -> None:
    strategy.report_progress(0.2 + 0.8 * (run + share) / strategy.options.n_averaged, words)


def _copy_state(network: EncoderNetwork) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def _mean_state(states: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The mean of each weight; integer buffers (positions) are equal in all states."""
    return {
        name: torch.stack([state[name] for state in states]).mean(dim=0) if value.is_floating_point() else value
        for name, value in states[0].items()
    }


def _average_heads(network: EncoderNetwork, batch: EncodedBatch, pad_id: int, strategy: TrainingStrategy) -> None:
    """Set the mean of two heads: the fine-tuned one, and a regression on the fine-tuned embeddings.

    The mean of two linear heads is a linear head. The regression's logits are scaled to the standard deviation of the
    fine-tuned head's, so that both count alike and confidence stays that of the fine-tuned head.
    """
    embeddings = predict_batches(network.embed, batch.ids, pad_id, low_precision=True)
    weights, bias = (value.detach().cpu().numpy().T for value in (network.head.weight, network.head.bias))
    fitted = fit_head(embeddings, batch, TUNED_HEAD_C, strategy)
    tuned_std, fitted_std = (
        float(np.std(embeddings @ w + b)) for w, b in ((weights, bias), (fitted.weights, fitted.bias))
    )
    if fitted_std < 1e-6:
        return
    scale = np.float32(tuned_std / fitted_std)
    mean = (weights + scale * fitted.weights) / 2, (bias + scale * fitted.bias) / 2
    _set_head(network, Regression(*mean, fitted.steps, fitted.converged))


def _embed(network: EncoderNetwork, batch: EncodedBatch, pad_id: int, strategy: TrainingStrategy) -> Floats:
    """(M, D) embeddings of the first M rows: all, or as many as the deadline allows, and at least one chunk."""
    n = len(batch.ids)
    chunks: list[NDArray[np.float32]] = []
    for start in range(0, n, CHUNK_SIZE):
        if chunks and strategy.past_deadline():
            break
        strategy.report_progress(0.15 * start / n, f"embedding text {start + 1} of {n}")
        ids = batch.ids[start : start + CHUNK_SIZE]
        chunks.append(predict_batches(network.embed, ids, pad_id, low_precision=True))
    return np.concatenate(chunks)


def _set_head(network: EncoderNetwork, head: Regression) -> None:
    with torch.no_grad():
        network.head.weight.copy_(torch.from_numpy(np.ascontiguousarray(head.weights.T)))
        network.head.bias.copy_(torch.from_numpy(head.bias))
