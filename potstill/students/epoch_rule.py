"""Derives a number of epochs from the number of rows: few rows are read more often than many."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EpochRule:
    """About `target_steps` optimiser steps, within bounds on the epochs."""

    target_steps: int
    min_epochs: float
    max_epochs: float

    def epochs(self, batch_size: int, n_rows: int) -> float:
        """Epochs over `n_rows` rows in batches of `batch_size`."""
        return min(self.max_epochs, max(self.min_epochs, self.target_steps * batch_size / n_rows))
