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

from potstill.models.device import Wish, choose_device, drawing
from potstill.models.features import Ragged

Floats = NDArray[np.float32]
EPSILON = 1e-6  # of the norm; a text without known subwords stays at zero
SPREAD = 4.0  # brings a unit vector's coordinates to the scale a hidden layer is initialised for


@dataclass(frozen=True)
class Head:
    """All a static student knows. A text's unit vector h gives logits h W + b + relu(h U + c) V.

    Of a pair h is both unit vectors, their distance and their product, axis by axis: 4 D numbers in place of D.

    Attributes:
        table: (S, D) float32, one row a subword.
        w, b: (D, K), (K,) the linear path.
        u, c, v: (D, H), (H,), (H, K) the hidden path; H is 0 where there is none.
    """

    table: Floats
    w: Floats
    b: Floats
    u: Floats
    c: Floats
    v: Floats

    def unit(self, means: Floats) -> Floats:
        """(N, D) mean vectors -> length one, or zero."""
        norms = np.sqrt((means * means).sum(axis=1, keepdims=True))
        return np.asarray(means / np.maximum(norms, np.float32(EPSILON)))

    @property
    def loud(self) -> float:
        """What brings the product of two unit vectors to about length one."""
        return float(np.sqrt(self.table.shape[1]))

    def pair(self, first: Floats, second: Floats) -> Floats:
        """(N, D) mean vectors of the two texts -> (N, 4 D)."""
        one, two = self.unit(first), self.unit(second)
        return np.concatenate([one, two, np.abs(one - two), one * two * np.float32(self.loud)], axis=1)

    def logits(self, units: Floats) -> Floats:
        """(N, D) unit vectors -> (N, K) scores."""
        hidden = np.maximum(units @ self.u + self.c, 0)
        return np.asarray(units @ self.w + self.b + hidden @ self.v)


@dataclass(frozen=True)
class Recipe:
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
    batch: int = 64
    patience: int = 5
    seed: int = 0
    device: Wish = "auto"
    deadline: float | None = None
    progress: Callable[[float, str], None] | None = None


@dataclass(frozen=True)
class Material:
    """N rows of entries, (N, K) targets, (N,) weights, and which rows only judge (None: none do).

    `multi`: each label is decided by itself. `like`: (N, D') vectors that the rows' own, mapped linearly, are to point
    along; `share` is that part of the loss.
    """

    entries: Ragged
    targets: Floats
    weights: Floats
    judge: NDArray[np.bool_] | None
    multi: bool = False
    like: Floats | None = None
    share: float = 0.0


def tune(start: Head, material: Material, recipe: Recipe) -> Head:
    """The fine-tuned head; with rows to judge by, the one of the pass (0, the start, included) they liked best."""
    import torch
    from torch.nn import functional

    # The caller's random state is none of our business; ours is the seed alone.
    device = choose_device(recipe.device)
    with drawing(device, recipe.seed):
        used, ids = np.unique(material.entries.ids, return_inverse=True)
        vectors = torch.tensor(start.table[used]).to(device).requires_grad_()
        dims, k = start.w.shape
        linear, up = torch.nn.Linear(dims, k), torch.nn.Linear(dims, recipe.hidden)
        down = torch.nn.Linear(recipe.hidden, k, bias=False)
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(start.w.T))
            linear.bias.copy_(torch.tensor(start.b))
            down.weight.zero_()
        like = None if material.like is None else torch.tensor(material.like).to(device)
        across = torch.nn.Linear(dims, 1 if like is None else like.shape[1], bias=False)
        for part in (linear, up, down, across):  # drawn on the CPU, so that a seed gives the same start everywhere
            part.to(device)
        head = [*linear.parameters(), *up.parameters(), *down.parameters(), *across.parameters()]
        groups = [{"params": [vectors], "lr": recipe.lr_vectors}, {"params": head, "lr": recipe.lr_head}]
        optimiser = torch.optim.Adam(groups, foreach=False)
        order = np.random.default_rng(recipe.seed)
        starts, targets = material.entries.starts, torch.tensor(material.targets).to(device)
        both = (material.entries.values, material.entries.second)
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
                parts = [one, two, (one - two).abs(), one * two * start.loud]
            return functional.dropout(torch.cat(parts, dim=1), drop, drop > 0)

        def scores(units: Any, drop: float) -> Any:
            hidden = functional.dropout(torch.relu(up(units * SPREAD)), drop, drop > 0)
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
                cross = (1 - material.share) * cross + material.share * far
            return (cross * weights[rows]).sum() / weights[rows].sum().clamp_min(1e-12)

        def current() -> Head:
            table = start.table.copy()
            table[used] = vectors.detach().cpu().numpy()
            w, b, u, c, v = (
                part.detach().cpu().numpy().T.astype(np.float32, order="C", copy=True)
                for part in (linear.weight, linear.bias, up.weight * SPREAD, up.bias, down.weight)
            )
            return Head(table, w, b, u, c, v)

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
        learn = np.arange(n) if material.judge is None else np.flatnonzero(~material.judge)
        aside = np.arange(0) if material.judge is None else np.flatnonzero(material.judge)
        steps, done = recipe.epochs * -(-len(learn) // recipe.batch), 0
        best, best_loss, worse, late = current(), judged(), 0, False
        for epoch in range(recipe.epochs):
            shuffled = order.permutation(learn)
            for at in range(0, len(shuffled), recipe.batch):
                for group, rate in zip(optimiser.param_groups, (recipe.lr_vectors, recipe.lr_head), strict=True):
                    group["lr"] = rate * (1 - done / steps)
                optimiser.zero_grad()
                loss = loss_of(shuffled[at : at + recipe.batch], recipe.dropout)
                loss.backward()
                optimiser.step()
                done += 1
                late = recipe.deadline is not None and time.monotonic() > recipe.deadline
                if late:
                    break
            seen = judged()
            if not len(aside) or seen < best_loss:
                best, best_loss, worse = (current() if len(aside) or late else best), seen, 0
            else:
                worse += 1
            if recipe.progress is not None:
                said = f", validation error {seen:.3f}" if len(aside) else ""
                recipe.progress((epoch + 1) / recipe.epochs, f"pass {epoch + 1}{said}")
            if late or worse >= recipe.patience:
                break
        return best if len(aside) else current()
