"""The order in which an encoder learns: frozen vectors, the regression on them, all weights, and which of both to keep.

Knows the network and the options, no texts and no files. Does not cover how a step is made (`training.py`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from potstill.models.device import device_of, drawing
from potstill.students.backbone import Network, run_network
from potstill.students.base import Floats
from potstill.students.labelhead import UNTAUGHT_SCALE, label_weights
from potstill.students.lora import add_lora, merge_lora
from potstill.students.regress import Effort, Regression, fit_regression
from potstill.students.training import Material, Schedule, fine_tune, soft_loss

# With fewer rows than this, in all or a label, none are spared for validation: they teach more than they tell.
SPARE_ROWS, SPARE_ROWS_A_LABEL, MOST_SPARED = 500, 20, 1000
# About how many steps fine-tuning takes on few rows, and how many epochs it takes at least and at most.
STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 200, 3, 15
SECOND_HAND_STEPS, SECOND_HAND_EPOCHS = 60, 2
# Against learning few rows by heart; chosen on validation texts of BANKING77 and HWU64 (docs/students.md).
FEW_ROWS: dict[str, Any] = {"head_dropout": 0.3, "word_dropout": 0.15, "keep_words": True}
# The penalties that cross-validation chooses from, and the fewest rows it needs.
PENALTIES, FEWEST_TO_CHOOSE, MOST_TO_CHOOSE = (1.0, 10.0, 30.0), 64, 3000
# Where a text may have several labels the best is between the first two.
PENALTIES_OF_SEVERAL = (1.0, 3.0, 10.0, 30.0)
DEFAULT_C = 10.0
# With more rows a label than this its name says nothing new.
MOST_ROWS_FOR_NAMES = 50
# Two thin matrices learn this much faster than the matrix they stand beside.
LORA_FASTER = 10.0
# The penalty of the regression on tuned vectors.
SECOND_C = 3.0
# The second opinion on a teacher's labels: folds, penalty, and the fewest rows a label it needs.
FOLDS, DOUBT_C, FEWEST_TO_DOUBT = 5, 1.0, 30
RUNS_APART = 1009  # between the seeds of fine-tunings that are averaged
# Rows between two looks at the clock while the frozen vectors are computed.
CHUNK = 256
# Seconds the regression on what was read gets even after the deadline: without it nothing is learnt at all.
GRACE_S = 1.0


@dataclass(frozen=True)
class Curriculum:
    """What to do and how long it may take.

    Attributes:
        mode: "frozen", "full", "lora", or "auto".
        epochs: passes of fine-tuning; None derives them from the rows.
        lr: peak learning rate of the backbone.
        batch: rows a step.
        c: inverse strength of the head's penalty; None chooses by cross-validation.
        believe: learn every doubtful row, also where a second opinion contradicts it.
        head: "linear", to which the names of the labels are one example each; or "label", which scores by similarity to
            the names and leaves them only as far as the rows say.
        few: learn as from few rows: none is spared for validation, all are read with gaps, names are believed. None:
            where there are no rows to spare, and no teacher may have erred.
        runs: fine-tunings whose weights are averaged, where the rows are few.
        seed: draws the order, the dropout and the validation rows.
        deadline: `time.monotonic()` at which to stop cleanly.
        progress: called with (share done, a few words).
    """

    mode: Literal["auto", "frozen", "full", "lora"] = "auto"
    epochs: float | None = None
    lr: float = 1e-4
    batch: int = 32
    c: float | None = None
    believe: bool = False
    few: bool | None = None
    runs: int = 1
    head: Literal["linear", "label"] = "linear"
    seed: int = 0
    deadline: float | None = None
    progress: Callable[[float, str], None] | None = None

    def late(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def say(self, share: float, words: str) -> None:
        """Tell whoever listens."""
        if self.progress is not None:
            self.progress(share, words)


def study(
    network: Network, rows: Material, pad_id: int, plan: Curriculum, names: Material | None = None
) -> dict[str, Any]:
    """Teach `network` in place on N rows; what was done, as plain facts.

    `mode` "auto" fine-tunes and, where rows could be spared for validation, goes back to the frozen vectors if they
    did better there; "full" never goes back. `names` are the names of the labels, learnt as rows of their own unless
    the rows learn better without them; never validated on.
    """
    rows = rows.take(np.random.default_rng(plan.seed).permutation(len(rows.ids)))
    vectors = _vectors(network, rows, pad_id, plan)  # shuffled: what a deadline leaves is not all of one label
    facts: dict[str, Any] = {"mode": "frozen", "rows": len(rows.ids)}
    if len(vectors) < len(rows.ids):
        facts["stopped"] = f"deadline, after {len(vectors)} rows"
        rows = rows.take(np.arange(len(vectors)))
    believed = _believed(vectors, rows, plan)
    if not believed.all():
        facts["disbelieved"] = int((~believed).sum())
        vectors, rows = vectors[believed], rows.take(np.flatnonzero(believed))
    # The rows that are left agree with the frozen vectors: as validation they would favour them. So none are spared.
    second_hand = rows.doubtful.any() and not plan.believe
    spared = 0 if second_hand or plan.few else _spared(len(vectors), rows.targets.shape[1])
    held = rows.take(np.arange(spared)) if spared else None
    vectors, kept = vectors[spared:], rows.take(np.arange(spared, len(vectors)))
    c = plan.c or _choose_c(vectors, kept, plan)
    around = None
    if names is not None:
        called = _vectors(network, names, pad_id, plan)
        around = label_weights(called, names.targets) if plan.head == "label" else None
        if plan.head == "linear" and _names_help(vectors, kept, called, names, plan):
            vectors, kept = np.concatenate([vectors, called]), kept.join(names)
            facts["names"] = len(names.ids)
    _set_head(network, _regress(vectors, kept, c, plan, around))
    facts |= {"validation_rows": spared, "c": c}
    if plan.mode == "frozen" or plan.late():
        return facts
    before = {name: value.clone() for name, value in network.state_dict().items()}
    if held is not None:
        facts["frozen_loss"] = soft_loss(run_network(network, held.ids, pad_id, low_precision=True), held)
    # A teacher's mistakes are learnt by heart when they are read often.
    fewest, steps = (SECOND_HAND_EPOCHS, SECOND_HAND_STEPS) if second_hand else (FEWEST_EPOCHS, STEPS)
    epochs = plan.epochs or min(MOST_EPOCHS, max(fewest, steps * plan.batch / len(kept.ids)))
    few = held is None and not second_hand if plan.few is None else plan.few
    low_rank, lr = plan.mode == "lora", plan.lr
    if low_rank:
        lr *= LORA_FASTER
        with drawing(device_of(network), plan.seed):
            add_lora(network.backbone)
    schedule = replace(
        Schedule(epochs=epochs, lr=lr, batch=plan.batch, deadline=plan.deadline), **(FEW_ROWS if few else {})
    )
    tuned: list[dict[str, torch.Tensor]] = []
    # Fine-tunings from one start that differ in their order and dropout end near each other: their mean is a network
    # that is better than each, and as fast (model soups: Wortsman et al. 2022).
    for run in range(plan.runs if few and not low_rank else 1):
        if run:
            network.load_state_dict(before)
        done = fine_tune(
            network,
            kept,
            schedule,
            pad_id=pad_id,
            validation=held,
            seed=plan.seed + run * RUNS_APART,
            progress=partial(_progress, plan, run),
        )
        merge_lora(network.backbone)
        if few and not plan.late():
            _second_head(network, kept, pad_id, plan)
        tuned.append({name: value.clone() for name, value in network.state_dict().items()})
        if plan.late():
            break
    if len(tuned) > 1:
        network.load_state_dict(_mean(tuned))
        facts["averaged"] = len(tuned)
    facts |= {"mode": "lora" if low_rank else "full", "epochs": epochs, "steps": done.steps, "stopped": done.stopped}
    if held is not None and not math.isnan(done.best_loss):
        facts["tuned_loss"] = done.best_loss
        if plan.mode == "auto" and done.best_loss >= facts["frozen_loss"]:
            network.load_state_dict(before)
            facts["mode"] = "frozen"
    return facts


def _progress(plan: Curriculum, run: int, share: float, words: str) -> None:
    plan.say(0.2 + 0.8 * (run + share) / plan.runs, words)


def _mean(states: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Each weight's mean; what is no float (positions) is the same in all."""
    first = states[0]
    return {
        name: torch.stack([state[name] for state in states]).mean(dim=0) if value.is_floating_point() else value
        for name, value in first.items()
    }


def _second_head(network: Network, rows: Material, pad_id: int, plan: Curriculum) -> None:
    """Put the mean of two heads on the tuned network: the one that was tuned with it, and a regression on its vectors.

    Two linear heads that err differently are one linear head together. The regression's scores are brought to the
    spread of the tuned head's, so that both count alike and confidence stays the tuned head's.
    """
    vectors = run_network(network.embed, rows.ids, pad_id, low_precision=True)
    tuned_weights, tuned_bias = (part.detach().cpu().numpy().T for part in (network.head.weight, network.head.bias))
    found = _regress(vectors, rows, SECOND_C, plan)
    spreads = [float(np.std(vectors @ w + b)) for w, b in ((tuned_weights, tuned_bias), (found.weights, found.bias))]
    if spreads[1] < 1e-6:
        return
    scale = np.float32(spreads[0] / spreads[1])
    both = (tuned_weights + scale * found.weights) / 2, (tuned_bias + scale * found.bias) / 2
    _set_head(network, Regression(both[0], both[1], found.steps, found.converged))


def begin_untaught(network: Network, names: Material, pad_id: int) -> dict[str, Any]:
    """Give `network` a head that knows only what the labels are called; what was done, as plain facts."""
    vectors = run_network(network.embed, names.ids, pad_id, low_precision=True)
    weights = label_weights(vectors, names.targets, UNTAUGHT_SCALE)
    _set_head(network, Regression(weights, np.zeros(weights.shape[1], dtype=np.float32), 0, True))
    return {"mode": "untaught", "rows": 0, "names": len(names.ids)}


def _believed(vectors: Floats, rows: Material, plan: Curriculum) -> NDArray[np.bool_]:
    """(N,) False where a doubtful row's label is contradicted by a regression that did not see the row.

    A teacher's mistakes are not the student's: where both agree the label is right far more often. Cross-validated
    disagreement is how confident learning finds label errors (Northcutt et al. 2021).
    """
    believed = np.ones(len(vectors), dtype=np.bool_)
    if plan.believe or rows.multi or not rows.doubtful.any() or len(vectors) < FEWEST_TO_DOUBT * rows.targets.shape[1]:
        return believed
    plan.say(0.15, "comparing the teacher's labels with a second opinion")
    for fold in range(FOLDS):
        inside = np.arange(len(vectors)) % FOLDS != fold
        learn, asked = np.flatnonzero(inside), np.flatnonzero(~inside)
        if plan.late():
            return np.ones(len(vectors), dtype=np.bool_)
        found = _regress(vectors[learn], rows.take(learn), DOUBT_C, plan)
        opinion = (vectors[asked] @ found.weights + found.bias).argmax(axis=1)
        believed[asked] = ~rows.doubtful[asked] | (opinion == rows.targets[asked].argmax(axis=1))
    return believed


def _spared(n: int, k: int) -> int:
    """How many of n rows of k labels to keep back for validation."""
    return min(MOST_SPARED, n // 10) if n >= max(SPARE_ROWS, SPARE_ROWS_A_LABEL * k) else 0


def _vectors(network: Network, rows: Material, pad_id: int, plan: Curriculum) -> Floats:
    """(M, D) vectors of the first M rows: all of them, or as many as the deadline allows (at least one chunk)."""
    found: list[NDArray[np.float32]] = []
    for start in range(0, len(rows.ids), CHUNK):
        if found and plan.late():
            break
        plan.say(0.15 * start / len(rows.ids), f"reading text {start + 1} of {len(rows.ids)}")
        found.append(run_network(network.embed, rows.ids[start : start + CHUNK], pad_id, low_precision=True))
    return np.concatenate(found)


def _regress(vectors: Floats, rows: Material, c: float, plan: Curriculum, around: Floats | None = None) -> Regression:
    deadline = None if plan.deadline is None else max(plan.deadline, time.monotonic() + GRACE_S)
    effort = Effort(c=c, around=around, tolerance=1e-5, deadline=deadline, multi=rows.multi)
    return fit_regression(vectors, rows.targets, rows.weights, effort)


def _choose_c(vectors: Floats, rows: Material, plan: Curriculum) -> float:
    """The penalty with the least held-out loss over three folds."""
    if plan.few or len(vectors) < max(FEWEST_TO_CHOOSE, 3 * rows.targets.shape[1]):
        return DEFAULT_C
    plan.say(0.15, "choosing the head's penalty")
    some = np.random.default_rng(plan.seed).permutation(len(vectors))[:MOST_TO_CHOOSE]
    penalties = PENALTIES_OF_SEVERAL if rows.multi else PENALTIES
    losses = dict.fromkeys(penalties, 0.0)
    for fold in range(3):
        inside = np.arange(len(some)) % 3 != fold
        learn, test = some[inside], some[~inside]
        for c in penalties:
            if plan.late():
                return DEFAULT_C
            found = _regress(vectors[learn], rows.take(learn), c, plan)
            losses[c] += soft_loss(vectors[test] @ found.weights + found.bias, rows.take(test))
    return min(losses, key=lambda c: losses[c])


def _names_help(vectors: Floats, rows: Material, called: Floats, names: Material, plan: Curriculum) -> bool:
    """Whether rows that were not learnt are told better by a regression that has learnt the names too, in three folds.

    With few rows there is no telling, and names are believed: they are the one example that is never untypical.
    """
    if plan.few or len(vectors) < max(FEWEST_TO_CHOOSE, 3 * rows.targets.shape[1]):
        return True
    if len(vectors) > MOST_ROWS_FOR_NAMES * rows.targets.shape[1]:
        return False
    lost = 0.0
    for fold in range(3):
        inside = np.arange(len(vectors)) % 3 != fold
        learn, test = np.flatnonzero(inside), np.flatnonzero(~inside)
        if plan.late():
            return False
        without = rows.take(learn)
        for sign, x, y in (
            (-1, vectors[learn], without),
            (1, np.concatenate([vectors[learn], called]), without.join(names)),
        ):
            found = _regress(x, y, DEFAULT_C, plan)
            lost += sign * soft_loss(vectors[test] @ found.weights + found.bias, rows.take(test))
    return lost < 0


def _set_head(network: Network, found: Regression) -> None:
    with torch.no_grad():
        network.head.weight.copy_(torch.from_numpy(np.ascontiguousarray(found.weights.T)))
        network.head.bias.copy_(torch.from_numpy(found.bias))
