"""A step of decoding in onnxruntime: a graph whose inputs and outputs are the keys and values of earlier tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.bundle.record import EXPORT_AGAIN
from potstill.errors import BadData
from potstill.models.greedy_decoding import Floats, pad_left
from potstill.models.tokens.tokenizer import Ids

PAST = "past_key_values."
Cached = list[NDArray[np.float32]]  # 2 L arrays (B, H, P, D)


class OnnxDecoder:
    """See `models.greedy_decoding.DecoderStep`.

    Args:
        session: an open graph of one step; see `students.torch_onnx.write_decoder_onnx`.
        graph: its name, for errors.

    Raises:
        BadData: the graph has no keys and values.
    """

    def __init__(self, session: Any, graph: str) -> None:
        self._session, self._graph = session, graph
        self._past = [each for each in session.get_inputs() if each.name.startswith(PAST)]
        if not self._past:
            raise BadData(f"The graph {graph} has no keys and values as inputs.", EXPORT_AGAIN)

    def begin(self, prompts: Sequence[Ids], pad_id: int) -> tuple[Ids, Ids, Cached | None]:
        """See `DecoderStep`."""
        return *pad_left(prompts, pad_id), None

    def step(self, input_ids: Ids, attention_mask: Ids, past: Cached | None) -> tuple[Floats, Cached]:
        """See `DecoderStep`.

        Raises:
            BadData: the graph gives no finite scores.
        """
        if past is None:
            past = [np.zeros((len(input_ids), each.shape[1], 0, each.shape[3]), np.float32) for each in self._past]
        feeds = {"input_ids": input_ids, "attention_mask": attention_mask}
        feeds |= {each.name: values for each, values in zip(self._past, past, strict=True)}
        logits, *present = self._session.run(None, feeds)
        if np.ndim(logits) != 3 or len(logits) != len(input_ids) or not np.isfinite(logits[:, -1]).all():
            raise BadData(f"The graph {self._graph} gives no finite scores of the next token.", EXPORT_AGAIN)
        return logits[:, -1], present

    def take(self, past: Cached, rows: NDArray[np.intp]) -> Cached:
        """See `DecoderStep`."""
        return [each[rows] for each in past]
