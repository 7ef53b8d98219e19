"""What a teacher thinks of each token of its answer: the most probable tokens there, for token-level distillation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from potstill.data.task import JsonObject

FLOOR = -100.0  # natural log of what is as good as impossible
DECIMALS = 5  # of a log-probability in the store


@dataclass(frozen=True, eq=False)
class TokenScores:
    """The log-probabilities at each of the A tokens of an answer, its end included.

    Attributes:
        ids: (A,) int64 tokens of the answer and its end.
        top_ids: (A, k) int64 the most probable tokens at each.
        top_log_probs: (A, k) float32 natural logs of their probabilities.
        rest_log_probs: (A,) float32 natural logs of the probability of all other tokens together, -100 at least.
        tokenizer: hash of the tokenizer that the ids are of.
    """

    ids: NDArray[np.int64]
    top_ids: NDArray[np.int64]
    top_log_probs: NDArray[np.float32]
    rest_log_probs: NDArray[np.float32]
    tokenizer: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TokenScores) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((self.tokenizer, self.ids.tobytes()))

    def to_json(self) -> JsonObject:
        """A JSON object that `from_json` reads."""
        return {
            "tokenizer": self.tokenizer,
            "ids": self.ids.tolist(),
            "top_ids": self.top_ids.tolist(),
            "top_log_probs": _rounded(self.top_log_probs),
            "rest_log_probs": _rounded(self.rest_log_probs),
        }

    @classmethod
    def from_json(cls, record: Any) -> Self:
        """Read what `to_json` returned.

        Raises:
            KeyError, TypeError, ValueError: it is no such record.
        """
        ids = np.array(record["ids"], dtype=np.int64)
        top_ids = np.array(record["top_ids"], dtype=np.int64)
        top, rest = (np.array(record[name], dtype=np.float32) for name in ("top_log_probs", "rest_log_probs"))
        right = ids.ndim == 1 and top_ids.ndim == 2 and len(ids) == len(top_ids) > 0
        if not right or top.shape != top_ids.shape or rest.shape != ids.shape:
            raise ValueError("arrays of tokens that do not fit together")
        if not (np.isfinite(top).all() and np.isfinite(rest).all() and (ids >= 0).all() and (top_ids >= 0).all()):
            raise ValueError("log-probabilities that are no numbers, or negative ids")
        return cls(ids, top_ids, top, rest, str(record["tokenizer"]))


def _rounded(values: NDArray[np.float32]) -> Any:
    return np.round(values.astype(np.float64), DECIMALS).tolist()
