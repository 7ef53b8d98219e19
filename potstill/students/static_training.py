"""Fine-tuning of a static student in torch: subword embeddings, a linear head, and a hidden layer beside it.

Starts from a head fitted by regression on the pretrained embeddings; the hidden layer starts at zero, so that the first
predictions are those of the regression. Only embeddings of subwords in the training texts change.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from potstill.models.device import DeviceName, resolve_device, seeded
from potstill.models.features import SparseFeatures
from potstill.models.threads import idle_threads

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Floats = NDArray[np.float32]
EPSILON = 1e-6  # lower bound of a norm; a text without known subwords stays at zero
HIDDEN_INPUT_SCALE = 4.0  # brings unit vectors to the scale a hidden layer is initialised for


@dataclass(frozen=True)
class StaticClassifier:
    """The parameters of a static student. A text's unit vector h has the logits h W + b + relu(h U + c) V.

    Of a pair, h is both unit vectors, their absolute difference and their product, elementwise: 4 D numbers.

    Attributes:
        embeddings: (S, D) float32, one row per subword.
        w, b: (D, K), (K,) linear path.
        u, c, v: (D, H), (H,), (H, K) hidden path; H is 0 without one.
    """

    embeddings: Floats
    w: Floats
    b: Floats
    u: Floats
    c: Floats
    v: Floats

    def normalize(self, means: Floats) -> Floats:
        """(N, D) mean embeddings scaled to length one; zeros stay."""
        norms = np.sqrt((means * means).sum(axis=1, keepdims=True))
        return np.asarray(means / np.maximum(norms, np.float32(EPSILON)))

    @property
    def product_scale(self) -> float:
        """Brings the elementwise product of two unit vectors to a length of about one."""
        return float(np.sqrt(self.embeddings.shape[1]))

    def pair_features(self, first: Floats, second: Floats) -> Floats:
        """(N, D) mean embeddings of the two texts -> (N, 4 D) features of the pairs."""
        one, two = self.normalize(first), self.normalize(second)
        return np.concatenate([one, two, np.abs(one - two), one * two * np.float32(self.product_scale)], axis=1)

    def logits(self, vectors: Floats) -> Floats:
        """(N, D) unit vectors -> (N, K) logits."""
        hidden = np.maximum(vectors @ self.u + self.c, 0)
        return np.asarray(vectors @ self.w + self.b + hidden @ self.v)


@dataclass(frozen=True)
class StaticTrainingConfig:
    """How to fine-tune.

    Attributes:
        epochs: passes over the rows at most.
        lr_embeddings, lr_head: Adam's learning rates; both fall linearly to zero.
        hidden: H.
        dropout: on the text's vector and on the hidden layer.
        batch_size: rows per step.
        patience: epochs without a smaller validation error before training stops.
        seed: seeds the hidden layer, the order and the dropout.
        device: device for training.
        deadline: `time.monotonic()` at which to stop.
        progress: called with (share done, a few words).
    """

    epochs: int = 25
    lr_embeddings: float = 1e-2
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
    """N rows as sparse features.

    Attributes:
        features: of N texts.
        targets: (N, K) float32 soft targets.
        sample_weight: (N,) float32.
        validation_mask: (N,) bool, rows for validation; None for no row.
        multi: a multi-label task: K sigmoids rather than one softmax.
        hint_features: (N, D') embeddings to match up to a linear map; None for no hint.
        hint_weight: weight of that part of the loss.
    """

    features: SparseFeatures
    targets: Floats
    sample_weight: Floats
    validation_mask: NDArray[np.bool_] | None
    multi: bool = False
    hint_features: Floats | None = None
    hint_weight: float = 0.0


def fine_tune_static(start: StaticClassifier, batch: FeatureBatch, config: StaticTrainingConfig) -> StaticClassifier:
    """Fine-tune `start`; with validation rows, the classifier after the epoch of the smallest error, or `start`."""
    device = resolve_device(config.device)
    # The caller's random state, and number of threads, stay as they are.
    with seeded(device, config.seed), idle_threads() as follow_idle_cores:
        return _Trainer(start, batch, config, device).run(follow_idle_cores)


class _Trainer:
    """The modules and tensors of one fine-tuning."""

    def __init__(
        self, start: StaticClassifier, batch: FeatureBatch, config: StaticTrainingConfig, device: torch.device
    ) -> None:
        import torch

        self.start, self.batch, self.config, self.device = start, batch, config, device
        self.subwords, ids = np.unique(batch.features.ids, return_inverse=True)
        self.embeddings = torch.tensor(start.embeddings[self.subwords]).to(device).requires_grad_()
        width, k = start.w.shape
        self.linear, self.up = torch.nn.Linear(width, k), torch.nn.Linear(width, config.hidden)
        self.down = torch.nn.Linear(config.hidden, k, bias=False)
        with torch.no_grad():
            self.linear.weight.copy_(torch.tensor(start.w.T))
            self.linear.bias.copy_(torch.tensor(start.b))
            self.down.weight.zero_()
        hint = batch.hint_features
        self.hint = None if hint is None else torch.tensor(hint).to(device)
        self.hint_map = torch.nn.Linear(width, 1 if hint is None else hint.shape[1], bias=False)
        modules = (self.linear, self.up, self.down, self.hint_map)
        for module in modules:  # initialised on the CPU, so that a seed gives the same weights on every device
            module.to(device)
        groups = [
            {"params": [self.embeddings], "lr": config.lr_embeddings},
            {"params": [value for module in modules for value in module.parameters()], "lr": config.lr_head},
        ]
        self.optimizer = torch.optim.Adam(groups, foreach=False)
        self.targets = torch.tensor(batch.targets).to(device)
        self.sample_weight = torch.tensor(batch.sample_weight).to(device)
        self.ids = torch.tensor(ids).to(device)
        values = (batch.features.values, batch.features.second)
        self.values = [torch.tensor(side).to(device) for side in values if side is not None]
        mask = batch.validation_mask
        n = len(batch.targets)
        self.train = np.arange(n) if mask is None else np.flatnonzero(~mask)
        self.validation = np.arange(0) if mask is None else np.flatnonzero(mask)

    def run(self, follow_idle_cores: Callable[[], None]) -> StaticClassifier:
        """Train; see `fine_tune_static`."""
        config, has_validation = self.config, bool(len(self.validation))
        rng = np.random.default_rng(config.seed)
        n_steps, step = config.epochs * -(-len(self.train) // config.batch_size), 0
        best, best_error, n_worse, late = self._classifier(), self._validation_error(), 0, False
        for epoch in range(config.epochs):
            follow_idle_cores()
            shuffled = rng.permutation(self.train)
            for at in range(0, len(shuffled), config.batch_size):
                for group, lr in zip(self.optimizer.param_groups, (config.lr_embeddings, config.lr_head), strict=True):
                    group["lr"] = lr * (1 - step / n_steps)
                self.optimizer.zero_grad()
                loss = self._loss(shuffled[at : at + config.batch_size], config.dropout)
                loss.backward()  # type: ignore[no-untyped-call]
                self.optimizer.step()
                step += 1
                late = config.deadline is not None and time.monotonic() > config.deadline
                if late:
                    break
            error = self._validation_error()
            if not has_validation or error < best_error:
                best, best_error, n_worse = (self._classifier() if has_validation else best), error, 0
            else:
                n_worse += 1
            if config.progress is not None:
                words = f", validation error {error:.3f}" if has_validation else ""
                config.progress((epoch + 1) / config.epochs, f"epoch {epoch + 1}{words}")
            if late or n_worse >= config.patience:
                break
        return best if has_validation else self._classifier()

    def _vectors(self, rows: NDArray[np.int64], dropout: float) -> Tensor:
        """(B, D) unit vectors of the texts, or (B, 4 D) features of the pairs."""
        import torch
        from torch.nn import functional

        starts = self.batch.features.starts
        lengths = starts[rows + 1] - starts[rows]
        offsets = np.cumsum(lengths) - lengths
        entries = np.arange(int(lengths.sum())) + np.repeat(starts[rows] - offsets, lengths)
        cells, begins = (torch.from_numpy(array).to(self.device) for array in (entries, offsets))
        sums = [
            functional.embedding_bag(
                self.ids[cells], self.embeddings, begins, mode="sum", per_sample_weights=side[cells]
            )
            for side in self.values
        ]
        parts = [functional.normalize(total, dim=1, eps=EPSILON) for total in sums]
        if len(parts) == 2:
            one, two = parts
            parts = [one, two, (one - two).abs(), one * two * self.start.product_scale]
        return functional.dropout(torch.cat(parts, dim=1), dropout, dropout > 0)

    def _logits(self, vectors: Tensor, dropout: float) -> Tensor:
        import torch
        from torch.nn import functional

        hidden = functional.dropout(torch.relu(self.up(vectors * HIDDEN_INPUT_SCALE)), dropout, dropout > 0)
        logits: Tensor = self.linear(vectors) + self.down(hidden)
        return logits

    def _loss(self, rows: NDArray[np.int64], dropout: float) -> Tensor:
        """The weighted mean loss of the rows."""
        from torch.nn import functional

        vectors, batch = self._vectors(rows, dropout), self.batch
        logits = self._logits(vectors, dropout)
        if batch.multi:
            losses = functional.binary_cross_entropy_with_logits(logits, self.targets[rows], reduction="none").sum(1)
        else:
            losses = -(self.targets[rows] * functional.log_softmax(logits, dim=1)).sum(1)
        if self.hint is not None:
            distance = 1 - functional.cosine_similarity(self.hint_map(vectors), self.hint[rows])
            losses = (1 - batch.hint_weight) * losses + batch.hint_weight * distance
        weights = self.sample_weight[rows]
        return (losses * weights).sum() / weights.sum().clamp_min(1e-12)

    def _validation_error(self) -> float:
        """One minus the target probability of the predicted label, plus a thousandth of the loss; nan without rows.

        The loss alone would stop too early: a head becomes overconfident, which a temperature corrects later, long
        before its predictions get worse. Multi-label tasks use the loss.
        """
        import torch

        rows = self.validation
        if not len(rows):
            return float("nan")
        with torch.no_grad():
            loss = self._loss(rows, 0.0)
            if self.batch.multi:
                return float(loss)
            predicted = self._logits(self._vectors(rows, 0.0), 0.0).argmax(1)
            weights = self.sample_weight[rows]
            hits = (self.targets[rows, predicted] * weights).sum() / weights.sum().clamp_min(1e-12)
            return float(1 - hits + 1e-3 * loss)

    def _classifier(self) -> StaticClassifier:
        """The current parameters."""
        embeddings = self.start.embeddings.copy()
        embeddings[self.subwords] = self.embeddings.detach().cpu().numpy()
        up, down = self.up, self.down
        w, b, u, c, v = (
            value.detach().cpu().numpy().T.astype(np.float32, order="C", copy=True)
            for value in (self.linear.weight, self.linear.bias, up.weight * HIDDEN_INPUT_SCALE, up.bias, down.weight)
        )
        return StaticClassifier(embeddings, w, b, u, c, v)
