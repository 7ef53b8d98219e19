"""A causal language model in PyTorch that is loaded when first used, and the seconds that no call was charged for."""

from __future__ import annotations

import threading
import time
from functools import cached_property
from typing import TYPE_CHECKING

from potstill.errors import TeacherError
from potstill.models.causal_lm import CausalLM, load_causal_lm
from potstill.models.threads import idle_cores
from potstill.models.weights import Weights

if TYPE_CHECKING:
    import torch

CORE_COUNT_REFRESH_S = 10.0


class LocalModel:
    """A model that scores labels and writes texts, one call at a time.

    Args:
        weights: its file or folder.
        dtype: see `causal_lm.load_causal_lm`.
        device: where it computes.
        threads: processor threads; 0 takes the idle cores, counted again every ten seconds.

    Attributes:
        lock: held by the call that uses it.
        unpaid_s: seconds of loading and of timing it that no call was charged for.
        threads: of the last call.
    """

    def __init__(self, weights: Weights, dtype: str, device: torch.device, threads: int = 0) -> None:
        self.weights = weights
        self.dtype = dtype
        self.device = device
        self.lock = threading.Lock()
        self.unpaid_s = 0.0
        self.threads = threads
        self._asked_threads = threads
        self._threads_counted_at = float("-inf")

    @cached_property
    def lm(self) -> CausalLM:
        """The model and its tokenizer.

        Raises:
            MissingExtra, BadInput: see `causal_lm.load_causal_lm`.
            TeacherError: the same, or the weights do not fit onto the device.
        """
        started = time.perf_counter()
        loaded = load_causal_lm(self.weights, self.dtype)
        try:
            loaded.model.to(self.device)
        except RuntimeError as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise TeacherError(
                f"{self.weights.name!r} cannot be put onto the device {str(self.device)!r}: {reason}",
                'Write device = "cpu" under [teacher], or name a smaller model.',
            ) from error
        self.unpaid_s += time.perf_counter() - started
        return loaded

    def count_threads(self) -> int:
        """How many threads to compute with now."""
        if not self._asked_threads and time.monotonic() - self._threads_counted_at > CORE_COUNT_REFRESH_S:
            self.threads = idle_cores()
            self._threads_counted_at = time.monotonic()
        return self.threads
