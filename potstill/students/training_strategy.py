"""The order in which an encoder learns: frozen vectors, the regression on them, all weights, and which of both to keep.

Knows the network and the options, no texts and no files. Does not cover how a step is made (`training.py`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from potstill.models.device import device_of, seeded
from potstill.students.backbone import EncoderNetwork, predict_batches
from potstill.students.base import Floats
from potstill.students.encoder_options import ENCODER_EPOCHS, MIN_ROWS_TO_HOLD_OUT, EncoderOptions
from potstill.students.encoder_training import (
    EncodedBatch,
    FineTuningConfig,
    ProgressCallback,
    fine_tune,
    soft_loss,
)
from potstill.students.epoch_rule import EpochRule
from potstill.students.label_head import ZERO_SHOT_SCALE, label_weights
from potstill.students.logistic_regression import Regression, SolverOptions, fit_regression
from potstill.students.lora import add_lora, merge_lora

# With fewer rows than this, in all or a label, none are spared for validation: they teach more than they tell.
MIN_ROWS_PER_LABEL_TO_HOLD_OUT, MAX_HELD_OUT_ROWS = 20, 1000
# Errors of a teacher are memorised if they are seen often.
NOISY_EPOCHS = EpochRule(target_steps=60, min_epochs=2, max_epochs=15)
# Against learning few rows by heart; chosen on validation texts of BANKING77 and HWU64 (docs/students.md).
FEW_SHOT_REGULARIZATION: dict[str, Any] = {"head_dropout": 0.3, "token_dropout": 0.15, "freeze_embeddings": True}
# The penalties that cross-validation chooses from, and the fewest rows it needs.
HEAD_C_GRID, MIN_ROWS_FOR_CV, MAX_ROWS_FOR_CV = (1.0, 10.0, 30.0), 64, 3000
# Where a text may have several labels the best is between the first two.
MULTILABEL_HEAD_C_GRID = (1.0, 3.0, 10.0, 30.0)
DEFAULT_C = 10.0
# With more rows a label than this its name says nothing new.
MAX_ROWS_PER_LABEL_FOR_NAMES = 50
# Two thin matrices learn this much faster than the matrix they stand beside.
LORA_LR_FACTOR = 10.0
# The penalty of the regression on tuned vectors.
TUNED_HEAD_C = 3.0
# The second opinion on a teacher's labels: folds, penalty, and the fewest rows a label it needs.
FOLDS, NOISE_FILTER_C, MIN_ROWS_PER_LABEL_FOR_NOISE_FILTER = 5, 1.0, 30
SEED_STRIDE = 1009  # between the seeds of fine-tunings that are averaged
# Rows between two looks at the clock while the frozen vectors are computed.
CHUNK = 256
# Seconds the regression on what was read gets even after the deadline: without it nothing is learnt at all.
GRACE_S = 1.0


@dataclass(frozen=True)
class TrainingStrategy:
    """What to train, and for how long.

    Attributes:
        options: the user's.
        seed: seeds the order, the dropout and the choice of validation rows.
        deadline: `time.monotonic()` at which to stop cleanly.
        progress: called with (share done, a few words).
    """

    options: EncoderOptions
    seed: int = 0
    deadline: float | None = None
    progress: ProgressCallback | None = None

    def past_deadline(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def report_progress(self, share: float, words: str) -> None:
        """Tell whoever listens."""
        if self.progress is not None:
            self.progress(share, words)


def study(
    network: EncoderNetwork,
    rows: EncodedBatch,
    pad_id: int,
    strategy: TrainingStrategy,
    label_names: EncodedBatch | None = None,
) -> dict[str, Any]:
    """Teach `network` in place on N rows; what was done, as plain facts.

    `mode` "auto" fine-tunes and, where rows could be spared for validation, goes back to the frozen vectors if they
    did better there; "full" never goes back. `names` are the names of the labels, learnt as rows of their own unless
    the rows learn better without them; never validated on.
    """
    rows = rows.take(np.random.default_rng(strategy.seed).permutation(len(rows.ids)))
    vectors = _vectors(network, rows, pad_id, strategy)  # shuffled: what a deadline leaves is not all of one label
    facts: dict[str, Any] = {"mode": "frozen", "rows": len(rows.ids)}
    if len(vectors) < len(rows.ids):
        facts["stopped"] = f"deadline, after {len(vectors)} rows"
        rows = rows.take(np.arange(len(vectors)))
    believed = _believed(vectors, rows, strategy)
    if not believed.all():
        facts["disbelieved"] = int((~believed).sum())
        vectors, rows = vectors[believed], rows.take(np.flatnonzero(believed))
    # The rows that are left agree with the frozen vectors: as validation they would favour them. So none are spared.
    second_hand = rows.noisy.any() and not strategy.options.trust_labels
    spared = 0 if second_hand or strategy.options.few_shot else _spared(len(vectors), rows.targets.shape[1])
    held = rows.take(np.arange(spared)) if spared else None
    vectors, kept = vectors[spared:], rows.take(np.arange(spared, len(vectors)))
    c = strategy.options.c or _choose_c(vectors, kept, strategy)
    around = None
    if label_names is not None:
        called = _vectors(network, label_names, pad_id, strategy)
        around = label_weights(called, label_names.targets) if strategy.options.head == "label" else None
        if strategy.options.head == "linear" and _names_help(vectors, kept, called, label_names, strategy):
            vectors, kept = np.concatenate([vectors, called]), kept.concat(label_names)
            facts["names"] = len(label_names.ids)
    _set_head(network, _regress(vectors, kept, c, strategy, around))
    facts |= {"validation_rows": spared, "c": c}
    if strategy.options.mode == "frozen" or strategy.past_deadline():
        return facts
    before = {name: value.clone() for name, value in network.state_dict().items()}
    if held is not None:
        facts["frozen_loss"] = soft_loss(predict_batches(network, held.ids, pad_id, low_precision=True), held)
    rule = NOISY_EPOCHS if second_hand else ENCODER_EPOCHS
    epochs = strategy.options.epochs or rule.epochs(strategy.options.batch_size, len(kept.ids))
    few = held is None and not second_hand if strategy.options.few_shot is None else strategy.options.few_shot
    low_rank, lr = strategy.options.mode == "lora", strategy.options.lr
    if low_rank:
        lr *= LORA_LR_FACTOR
        with seeded(device_of(network), strategy.seed):
            add_lora(network.backbone)
    schedule = replace(
        FineTuningConfig(epochs=epochs, lr=lr, batch_size=strategy.options.batch_size, deadline=strategy.deadline),
        **(FEW_SHOT_REGULARIZATION if few else {}),
    )
    tuned: list[dict[str, torch.Tensor]] = []
    # Fine-tunings from one start that differ in their order and dropout end near each other: their mean is a network
    # that is better than each, and as fast (model soups: Wortsman et al. 2022).
    for run in range(strategy.options.n_averaged if few and not low_rank else 1):
        if run:
            network.load_state_dict(before)
        done = fine_tune(
            network,
            kept,
            schedule,
            pad_id=pad_id,
            validation=held,
            seed=strategy.seed + run * SEED_STRIDE,
            progress=partial(_progress, strategy, run),
        )
        merge_lora(network.backbone)
        if few and not strategy.past_deadline():
            _second_head(network, kept, pad_id, strategy)
        tuned.append({name: value.clone() for name, value in network.state_dict().items()})
        if strategy.past_deadline():
            break
    if len(tuned) > 1:
        network.load_state_dict(_mean(tuned))
        facts["averaged"] = len(tuned)
    facts |= {
        "mode": "lora" if low_rank else "full",
        "epochs": epochs,
        "steps": done.steps,
        "stopped": done.stop_reason,
    }
    if held is not None and not math.isnan(done.best_loss):
        facts["tuned_loss"] = done.best_loss
        if strategy.options.mode == "auto" and done.best_loss >= facts["frozen_loss"]:
            network.load_state_dict(before)
            facts["mode"] = "frozen"
    return facts


def _progress(strategy: TrainingStrategy, run: int, share: float, words: str) -> None:
    strategy.report_progress(0.2 + 0.8 * (run + share) / strategy.options.n_averaged, words)


def _mean(states: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Each weight's mean; what is no float (positions) is the same in all."""
    first = states[0]
    return {
        name: torch.stack([state[name] for state in states]).mean(dim=0) if value.is_floating_point() else value
        for name, value in first.items()
    }


def _second_head(network: EncoderNetwork, rows: EncodedBatch, pad_id: int, strategy: TrainingStrategy) -> None:
    """Put the mean of two heads on the tuned network: the one that was tuned with it, and a regression on its vectors.

    Two linear heads that err differently are one linear head together. The regression's scores are brought to the
    spread of the tuned head's, so that both count alike and confidence stays the tuned head's.
    """
    vectors = predict_batches(network.embed, rows.ids, pad_id, low_precision=True)
    tuned_weights, tuned_bias = (part.detach().cpu().numpy().T for part in (network.head.weight, network.head.bias))
    found = _regress(vectors, rows, TUNED_HEAD_C, strategy)
    spreads = [float(np.std(vectors @ w + b)) for w, b in ((tuned_weights, tuned_bias), (found.weights, found.bias))]
    if spreads[1] < 1e-6:
        return
    scale = np.float32(spreads[0] / spreads[1])
    both = (tuned_weights + scale * found.weights) / 2, (tuned_bias + scale * found.bias) / 2
    _set_head(network, Regression(both[0], both[1], found.steps, found.converged))


def init_zero_shot(network: EncoderNetwork, label_names: EncodedBatch, pad_id: int) -> dict[str, Any]:
    """Give `network` a head that knows only what the labels are called; what was done, as plain facts."""
    vectors = predict_batches(network.embed, label_names.ids, pad_id, low_precision=True)
    weights = label_weights(vectors, label_names.targets, ZERO_SHOT_SCALE)
    _set_head(network, Regression(weights, np.zeros(weights.shape[1], dtype=np.float32), 0, True))
    return {"mode": "untaught", "rows": 0, "names": len(label_names.ids)}


def _believed(vectors: Floats, rows: EncodedBatch, strategy: TrainingStrategy) -> NDArray[np.bool_]:
    """(N,) False where a doubtful row's label is contradicted by a regression that did not see the row.

    A teacher's mistakes are not the student's: where both agree the label is right far more often. Cross-validated
    disagreement is how confident learning finds label errors (Northcutt et al. 2021).
    """
    believed = np.ones(len(vectors), dtype=np.bool_)
    if (
        strategy.options.trust_labels
        or rows.multi
        or not rows.noisy.any()
        or len(vectors) < MIN_ROWS_PER_LABEL_FOR_NOISE_FILTER * rows.targets.shape[1]
    ):
        return believed
    strategy.report_progress(0.15, "comparing the teacher's labels with a second opinion")
    for fold in range(FOLDS):
        inside = np.arange(len(vectors)) % FOLDS != fold
        learn, asked = np.flatnonzero(inside), np.flatnonzero(~inside)
        if strategy.past_deadline():
            return np.ones(len(vectors), dtype=np.bool_)
        found = _regress(vectors[learn], rows.take(learn), NOISE_FILTER_C, strategy)
        opinion = (vectors[asked] @ found.weights + found.bias).argmax(axis=1)
        believed[asked] = ~rows.noisy[asked] | (opinion == rows.targets[asked].argmax(axis=1))
    return believed


def _spared(n: int, k: int) -> int:
    """How many of n rows of k labels to keep back for validation."""
    return min(MAX_HELD_OUT_ROWS, n // 10) if n >= max(MIN_ROWS_TO_HOLD_OUT, MIN_ROWS_PER_LABEL_TO_HOLD_OUT * k) else 0


def _vectors(network: EncoderNetwork, rows: EncodedBatch, pad_id: int, strategy: TrainingStrategy) -> Floats:
    """(M, D) vectors of the first M rows: all of them, or as many as the deadline allows (at least one chunk)."""
    found: list[NDArray[np.float32]] = []
    for start in range(0, len(rows.ids), CHUNK):
        if found and strategy.past_deadline():
            break
        strategy.report_progress(0.15 * start / len(rows.ids), f"reading text {start + 1} of {len(rows.ids)}")
        found.append(predict_batches(network.embed, rows.ids[start : start + CHUNK], pad_id, low_precision=True))
    return np.concatenate(found)


def _regress(
    vectors: Floats, rows: EncodedBatch, c: float, strategy: TrainingStrategy, around: Floats | None = None
) -> Regression:
    deadline = None if strategy.deadline is None else max(strategy.deadline, time.monotonic() + GRACE_S)
    effort = SolverOptions(c=c, anchor_weights=around, tolerance=1e-5, deadline=deadline, multi=rows.multi)
    return fit_regression(vectors, rows.targets, rows.weights, effort)


def _choose_c(vectors: Floats, rows: EncodedBatch, strategy: TrainingStrategy) -> float:
    """The penalty with the least held-out loss over three folds."""
    if strategy.options.few_shot or len(vectors) < max(MIN_ROWS_FOR_CV, 3 * rows.targets.shape[1]):
        return DEFAULT_C
    strategy.report_progress(0.15, "choosing the head's penalty")
    some = np.random.default_rng(strategy.seed).permutation(len(vectors))[:MAX_ROWS_FOR_CV]
    penalties = MULTILABEL_HEAD_C_GRID if rows.multi else HEAD_C_GRID
    losses = dict.fromkeys(penalties, 0.0)
    for fold in range(3):
        inside = np.arange(len(some)) % 3 != fold
        learn, test = some[inside], some[~inside]
        for c in penalties:
            if strategy.past_deadline():
                return DEFAULT_C
            found = _regress(vectors[learn], rows.take(learn), c, strategy)
            losses[c] += soft_loss(vectors[test] @ found.weights + found.bias, rows.take(test))
    return min(losses, key=lambda c: losses[c])


def _names_help(
    vectors: Floats, rows: EncodedBatch, called: Floats, label_names: EncodedBatch, strategy: TrainingStrategy
) -> bool:
    """Whether rows that were not learnt are told better by a regression that has learnt the names too, in three folds.

    With few rows there is no telling, and names are believed: they are the one example that is never untypical.
    """
    if strategy.options.few_shot or len(vectors) < max(MIN_ROWS_FOR_CV, 3 * rows.targets.shape[1]):
        return True
    if len(vectors) > MAX_ROWS_PER_LABEL_FOR_NAMES * rows.targets.shape[1]:
        return False
    lost = 0.0
    for fold in range(3):
        inside = np.arange(len(vectors)) % 3 != fold
        learn, test = np.flatnonzero(inside), np.flatnonzero(~inside)
        if strategy.past_deadline():
            return False
        without = rows.take(learn)
        for sign, x, y in (
            (-1, vectors[learn], without),
            (1, np.concatenate([vectors[learn], called]), without.concat(label_names)),
        ):
            found = _regress(x, y, DEFAULT_C, strategy)
            lost += sign * soft_loss(vectors[test] @ found.weights + found.bias, rows.take(test))
    return lost < 0


def _set_head(network: EncoderNetwork, found: Regression) -> None:
    with torch.no_grad():
        network.head.weight.copy_(torch.from_numpy(np.ascontiguousarray(found.weights.T)))
        network.head.bias.copy_(torch.from_numpy(found.bias))
