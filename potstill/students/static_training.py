"""Fine-tuning of a static student in torch: its subword vectors, its linear head and a hidden layer beside that.

Starts from a head that regression found on the vectors as they are, and adds a hidden layer that begins at zero: the
first step is thus exactly the regression. Only vectors of subwords in the lesson move.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.models.device import DeviceName, resolve_device, seeded
from potstill.models.features import SparseFeatures

Floats = NDArray[np.float32]
EPSILON = 1e-6  # of the norm; a text without known subwords stays at zero
HIDDEN_INPUT_SCALE = 4.0  # brings a unit vector's coordinates to the scale a hidden layer is initialised for


@dataclass(frozen=True)
class StaticClassifier:
    """All a static student knows. A text's unit vector h gives logits h W + b + relu(h U + c) V.

    Of a pair h is both unit vectors, their distance and their product, axis by axis: 4 D numbers in place of D.

    Attributes:
        table: (S, D) float32, one row a subword.
        w, b: (D, K), (K,) the linear path.
        u, c, v: (D, H), (H,), (H, K) the hidden path; H is 0 where there is none.
    """

    embeddings: Floats
    w: Floats
    b: Floats
    u: Floats
    c: Floats
    v: Floats

    def normalize(self, means: Floats) -> Floats:
        """(N, D) mean vectors -> length one, or zero."""
        norms = np.sqrt((means * means).sum(axis=1, keepdims=True))
        return np.asarray(means / np.maximum(norms, np.float32(EPSILON)))

    @property
    def product_scale(self) -> float:
        """What brings the product of two unit vectors to about length one."""
        return float(np.sqrt(self.embeddings.shape[1]))

    def pair_features(self, first: Floats, second: Floats) -> Floats:
        """(N, D) mean vectors of the two texts -> (N, 4 D)."""
        one, two = self.normalize(first), self.normalize(second)
        return np.concatenate([one, two, np.abs(one - two), one * two * np.float32(self.product_scale)], axis=1)

    def logits(self, units: Floats) -> Floats:
        """(N, D) unit vectors -> (N, K) scores."""
        hidden = np.maximum(units @ self.u + self.c, 0)
        return np.asarray(units @ self.w + self.b + hidden @ self.v)


@dataclass(frozen=True)
class StaticTrainingConfig:
    """How to fine-tune.

    Attributes:
        epochs: passes over the rows at most.
        lr_vectors, lr_head: Adam's learning rates; both fall linearly to zero.
        hidden: H.
        dropout: on the text's vector and on the hidden layer.
        batch: rows a step.
        patience: passes without a lower validation error before it stops.
        seed: draws the hidden layer, the order and the dropout.
        device: what it learns on.
        deadline: `time.monotonic()` to stop at.
        progress: called with (share done, a few words).
    """

    epochs: int = 25
    lr_vectors: float = 1e-2
    lr_head: float = 3e-3
    hidden: int = 512
    dropout: float = 0.2
    batch_size: int = 64
    patience: int = 5
    seed: int = 0
    device: DeviceName = "auto"
    deadline: float | None = None
    progress: Callable[[float, str], None] | None = None


@dataclass(frozen=True)
class FeatureBatch:
    """N rows of entries, (N, K) targets, (N,) weights, and which rows only judge (None: none do).

    `multi`: each label is decided by itself. `like`: (N, D') vectors that the rows' own, mapped linearly, are to point
    along; `share` is that part of the loss.
    """

    features: SparseFeatures
    targets: Floats
    weights: Floats
    validation_mask: NDArray[np.bool_] | None
    multi: bool = False
    hint_features: Floats | None = None
    hint_weight: float = 0.0


def fine_tune_static(start: StaticClassifier, material: FeatureBatch, config: StaticTrainingConfig) -> StaticClassifier:
    """The fine-tuned head; with rows to judge by, the one of the pass (0, the start, included) they liked best."""
    import torch
    from torch.nn import functional

    # The caller's random state is none of our business; ours is the seed alone.
    device = resolve_device(config.device)
    with seeded(device, config.seed):
        used, ids = np.unique(material.features.ids, return_inverse=True)
        vectors = torch.tensor(start.embeddings[used]).to(device).requires_grad_()
        dims, k = start.w.shape
        linear, up = torch.nn.Linear(dims, k), torch.nn.Linear(dims, config.hidden)
        down = torch.nn.Linear(config.hidden, k, bias=False)
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(start.w.T))
            linear.bias.copy_(torch.tensor(start.b))
            down.weight.zero_()
        like = None if material.hint_features is None else torch.tensor(material.hint_features).to(device)
        across = torch.nn.Linear(dims, 1 if like is None else like.shape[1], bias=False)
        for part in (linear, up, down, across):  # drawn on the CPU, so that a seed gives the same start everywhere
            part.to(device)
        head = [*linear.parameters(), *up.parameters(), *down.parameters(), *across.parameters()]
        groups = [{"params": [vectors], "lr": config.lr_vectors}, {"params": head, "lr": config.lr_head}]
        optimiser = torch.optim.Adam(groups, foreach=False)
        order = np.random.default_rng(config.seed)
        starts, targets = material.features.starts, torch.tensor(material.targets).to(device)
        both = (material.features.values, material.features.second)
        sides = [torch.tensor(side).to(device) for side in both if side is not None]
        weights = torch.tensor(material.weights).to(device)
        rows_of = torch.tensor(ids).to(device)

        def units_of(rows: NDArray[np.int64], drop: float) -> Any:
            lengths = starts[rows + 1] - starts[rows]
            offsets = np.cumsum(lengths) - lengths
            gathered = np.arange(int(lengths.sum())) + np.repeat(starts[rows] - offsets, lengths)
            cells, begins = (torch.from_numpy(each).to(device) for each in (gathered, offsets))
            bags = [
                functional.embedding_bag(rows_of[cells], vectors, begins, mode="sum", per_sample_weights=side[cells])
                for side in sides
            ]
            parts = [functional.normalize(bag, dim=1, eps=EPSILON) for bag in bags]
            if len(parts) == 2:
                one, two = parts
                parts = [one, two, (one - two).abs(), one * two * start.product_scale]
            return functional.dropout(torch.cat(parts, dim=1), drop, drop > 0)

        def scores(units: Any, drop: float) -> Any:
            hidden = functional.dropout(torch.relu(up(units * HIDDEN_INPUT_SCALE)), drop, drop > 0)
            return linear(units) + down(hidden)

        def loss_of(rows: NDArray[np.int64], drop: float) -> Any:
            units = units_of(rows, drop)
            found = scores(units, drop)
            if material.multi:
                cross = functional.binary_cross_entropy_with_logits(found, targets[rows], reduction="none").sum(1)
            else:
                cross = -(targets[rows] * functional.log_softmax(found, dim=1)).sum(1)
            if like is not None:
                far = 1 - functional.cosine_similarity(across(units), like[rows])
                cross = (1 - material.hint_weight) * cross + material.hint_weight * far
            return (cross * weights[rows]).sum() / weights[rows].sum().clamp_min(1e-12)

        def current() -> StaticClassifier:
            table = start.embeddings.copy()
            table[used] = vectors.detach().cpu().numpy()
            w, b, u, c, v = (
                part.detach().cpu().numpy().T.astype(np.float32, order="C", copy=True)
                for part in (linear.weight, linear.bias, up.weight * HIDDEN_INPUT_SCALE, up.bias, down.weight)
            )
            return StaticClassifier(table, w, b, u, c, v)

        def judged() -> float:
            # Target mass missed by the likeliest label: a head grows overconfident, which a temperature mends later,
            # long before it stops getting better. The loss decides between equals.
            if not len(aside):
                return float("nan")
            with torch.no_grad():
                if material.multi:
                    return float(loss_of(aside, 0.0))
                said = scores(units_of(aside, 0.0), 0.0).argmax(1)
                hit = (targets[aside, said] * weights[aside]).sum() / weights[aside].sum().clamp_min(1e-12)
                return float(1 - hit + 1e-3 * loss_of(aside, 0.0))

        n = len(material.targets)
        learn = np.arange(n) if material.validation_mask is None else np.flatnonzero(~material.validation_mask)
        aside = np.arange(0) if material.validation_mask is None else np.flatnonzero(material.validation_mask)
        steps, done = config.epochs * -(-len(learn) // config.batch_size), 0
        best, best_loss, worse, late = current(), judged(), 0, False
        for epoch in range(config.epochs):
            shuffled = order.permutation(learn)
            for at in range(0, len(shuffled), config.batch_size):
                for group, rate in zip(optimiser.param_groups, (config.lr_vectors, config.lr_head), strict=True):
                    group["lr"] = rate * (1 - done / steps)
                optimiser.zero_grad()
                loss = loss_of(shuffled[at : at + config.batch_size], config.dropout)
                loss.backward()
                optimiser.step()
                done += 1
                late = config.deadline is not None and time.monotonic() > config.deadline
                if late:
                    break
            seen = judged()
            if not len(aside) or seen < best_loss:
                best, best_loss, worse = (current() if len(aside) or late else best), seen, 0
            else:
                worse += 1
            if config.progress is not None:
                said = f", validation error {seen:.3f}" if len(aside) else ""
                config.progress((epoch + 1) / config.epochs, f"pass {epoch + 1}{said}")
            if late or worse >= config.patience:
                break
        return best if len(aside) else current()
