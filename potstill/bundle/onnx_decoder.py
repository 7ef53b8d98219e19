"""A step of decoding in onnxruntime: a graph whose inputs and outputs are the keys and values of earlier tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.bundle.record import EXPORT_AGAIN
from potstill.errors import BadData
from potstill.models.greedy_decoding import Floats, pad_left
from potstill.models.tokens.tokenizer import Ids, pad_batch

PAST, READ = "past_key_values.", ".encoder."  # in the names of inputs: keys and values, and those of a prompt
Cached = list[NDArray[Any]]  # 2 L arrays (B, H, P, D); of an encoder-decoder more, see there


class OnnxDecoder:
    """A causal model; see `models.greedy_decoding.DecoderStep`.

    Args:
        session: an open graph of one step; see `students.torch_onnx.write_decoder_onnx`.
        graph: its name, for errors.

    Raises:
        BadData: the graph has no keys and values.
    """

    def __init__(self, session: Any, graph: str) -> None:
        self._session, self._graph = session, graph
        names = [each for each in session.get_inputs() if each.name.startswith(PAST)]
        self._past = [each for each in names if READ not in each.name]
        self._read = [each.name for each in names if READ in each.name]
        if not self._past:
            raise BadData(f"The graph {graph} has no keys and values as inputs.", EXPORT_AGAIN)

    def begin(self, prompts: Sequence[Ids], pad_id: int) -> tuple[Ids, Ids, Cached]:
        """See `DecoderStep`."""
        return *pad_left(prompts, pad_id), self._empty(len(prompts))

    def step(self, input_ids: Ids, attention_mask: Ids, past: Cached) -> tuple[Floats, Cached]:
        """See `DecoderStep`.

        Raises:
            BadData: the graph gives no finite scores.
        """
        return self._run({"input_ids": input_ids, "attention_mask": attention_mask}, past)

    def take(self, past: Cached, rows: NDArray[np.intp]) -> Cached:
        """See `DecoderStep`."""
        return [each[rows] for each in past]

    def _empty(self, n_rows: int) -> Cached:
        return [np.zeros((n_rows, each.shape[1], 0, each.shape[3]), np.float32) for each in self._past]

    def _run(self, feeds: dict[str, NDArray[Any]], past: Cached) -> tuple[Floats, Cached]:
        feeds |= {each.name: values for each, values in zip(self._past, past, strict=True)}
        logits, *present = self._session.run(None, feeds)
        if np.ndim(logits) != 3 or len(logits) != len(feeds["input_ids"]) or not np.isfinite(logits[:, -1]).all():
            raise BadData(f"The graph {self._graph} gives no finite scores of the next token.", EXPORT_AGAIN)
        return logits[:, -1], present


class OnnxSeq2SeqDecoder(OnnxDecoder):
    """An encoder-decoder. What is past is the mask of the prompts, what the encoder gave, and the keys and values.

    Args:
        session: an open graph of one step; see `students.torch_onnx.write_seq2seq_onnx`.
        graph: its name, for errors.
        encoder: the open graph that reads prompts.
        start_id: id of the token that every answer begins behind.

    Raises:
        BadData: the graph has no keys and values of prompts.
    """

    def __init__(self, session: Any, graph: str, encoder: Any, start_id: int) -> None:
        super().__init__(session, graph)
        self._encoder, self._start_id = encoder, start_id
        if len(self._read) != len(encoder.get_outputs()):
            raise BadData(f"The graph {graph} does not read what the encoder gives.", EXPORT_AGAIN)

    def begin(self, prompts: Sequence[Ids], pad_id: int) -> tuple[Ids, Ids, Cached]:
        """See `DecoderStep`."""
        ids, mask = pad_batch(prompts, pad_id)
        encoded = self._encoder.run(None, {"input_ids": ids, "attention_mask": mask})
        first = np.full((len(prompts), 1), self._start_id, dtype=np.int64)
        return first, np.ones_like(first), [mask, *encoded, *self._empty(len(prompts))]

    def step(self, input_ids: Ids, attention_mask: Ids, past: Cached) -> tuple[Floats, Cached]:
        """See `DecoderStep`."""
        n_read = 1 + len(self._read)
        mask, *encoded = read = past[:n_read]
        feeds = {"input_ids": input_ids, "encoder_attention_mask": mask} | dict(zip(self._read, encoded, strict=True))
        logits, present = self._run(feeds, past[n_read:])
        return logits, [*read, *present]
