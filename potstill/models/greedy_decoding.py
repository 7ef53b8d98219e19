"""Greedy decoding of a language model: prompts of token ids -> answers of token ids. Needs numpy alone.

The model is a function of one step, in PyTorch or onnxruntime, so both decode alike. Prompts of like length are
computed together, padded on the left; rows that ended leave the batch. Does not cover sampling or beams.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from potstill.models.tokens.tokenizer import Ids, length_batches

Floats = NDArray[np.float32]
MAX_BATCH_TOKENS, MAX_BATCH_ROWS = 2048, 16  # of prompts that are computed together
KEPT_SHARE = 0.75  # of a batch's rows that are still written: with fewer, those that ended leave it


class DecoderStep(Protocol):
    """A language model with the keys and values of the tokens it has read."""

    def begin(self, prompts: Sequence[Ids], pad_id: int) -> tuple[Ids, Ids, Any]:
        """What the first `step` is called with for B prompts: (B, T) `input_ids`, their mask, and what is past."""

    def step(self, input_ids: Ids, attention_mask: Ids, past: Any) -> tuple[Floats, Any]:
        """Read T more tokens of each of B rows.

        Args:
            input_ids: (B, T).
            attention_mask: (B, P + T), 1 for a token and 0 for padding, of all tokens so far.
            past: what `begin` or the step before returned.

        Returns:
            (B, V) scores of the token after the last one, and the keys and values.
        """

    def take(self, past: Any, rows: NDArray[np.intp]) -> Any:
        """The keys and values of some of the rows."""


@dataclass(frozen=True)
class DecodingLimits:
    """When an answer ends: with one of these tokens, or after so many."""

    stop_ids: tuple[int, ...]
    max_tokens: int
    pad_id: int


@dataclass(frozen=True)
class GeneratedIds:
    """An answer as token ids, without the token that ends it.

    Attributes:
        ids: its tokens.
        log_prob: natural log of the probability of its tokens and of its end, as a mean over them.
        complete: False if the limit of tokens was reached before its end.
    """

    ids: tuple[int, ...]
    log_prob: float
    complete: bool


@dataclass(frozen=True)
class GeneratedAnswer:
    """An answer in words.

    Attributes:
        text: the answer.
        confidence: in [0, 1], the geometric mean of the probabilities of its tokens; orders answers, and is no
            frequency.
        complete: False if it was cut at the limit of tokens.
    """

    text: str
    confidence: float
    complete: bool = True


def generate_ids(
    model: DecoderStep, prompts: Sequence[Ids], limits: DecodingLimits, *, threads: int = 1
) -> list[GeneratedIds]:
    """The most probable next token, again and again, of N prompts; in their order.

    Args:
        model: one step.
        prompts: N arrays of token ids, each with one at least.
        limits: when an answer ends.
        threads: batches that are computed at once.
    """
    found: list[GeneratedIds] = [GeneratedIds((), 0.0, True)] * len(prompts)
    batches = list(length_batches([len(each) for each in prompts], MAX_BATCH_TOKENS, MAX_BATCH_ROWS))

    def run(rows: NDArray[np.intp]) -> None:
        for row, own in zip(rows, _generate_batch(model, [prompts[row] for row in rows], limits), strict=True):
            found[row] = own

    if threads > 1 and len(batches) > 1:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(run, batches))
    else:
        for rows in batches:
            run(rows)
    return found


def _generate_batch(model: DecoderStep, prompts: Sequence[Ids], limits: DecodingLimits) -> list[GeneratedIds]:
    ids, mask, past = model.begin(prompts, limits.pad_id)
    tokens: list[list[int]] = [[] for _ in prompts]
    log_probs = np.zeros(len(prompts))
    ended = np.zeros(len(prompts), dtype=np.bool_)
    alive = np.arange(len(prompts))  # the rows of the batch that the model still computes
    # One step more than tokens: the last one shows whether the answer ends there.
    for _ in range(limits.max_tokens + 1):
        logits, past = model.step(ids, mask, past)
        chosen = logits.argmax(axis=1)
        chosen_log_probs = _log_probs(logits, chosen)
        for nth, row in enumerate(alive.tolist()):
            if ended[row]:
                continue
            log_probs[row] += chosen_log_probs[nth]
            if int(chosen[nth]) in limits.stop_ids:
                ended[row] = True
            else:
                tokens[row].append(int(chosen[nth]))
        if ended.all():
            break
        writing = np.flatnonzero(~ended[alive])
        if len(writing) < KEPT_SHARE * len(alive):
            alive, chosen, mask, past = alive[writing], chosen[writing], mask[writing], model.take(past, writing)
        ids = chosen[:, None].astype(np.int64)
        mask = np.concatenate([mask, np.ones((len(alive), 1), dtype=np.int64)], axis=1)
    found = []
    for row, own in enumerate(tokens):
        complete = bool(ended[row])
        n = len(own) + complete
        found.append(GeneratedIds(tuple(own[: limits.max_tokens]), float(log_probs[row] / max(n, 1)), complete))
    return found


def forced_scores(model: DecoderStep, prompts: Sequence[Ids], answers: Sequence[Ids]) -> list[Floats]:
    """N arrays (A_i, V) of the scores of each token of given answers after those before it, a step a token."""
    found = []
    for prompt, answer in zip(prompts, answers, strict=True):
        ids, mask, past = model.begin([prompt], 0)
        rows = []
        for token in answer.tolist():
            logits, past = model.step(ids, mask, past)
            rows.append(logits[0])
            ids = np.array([[token]], dtype=np.int64)
            mask = np.concatenate([mask, np.ones((1, 1), dtype=np.int64)], axis=1)
        found.append(np.stack(rows))
    return found


def pad_left(rows: Sequence[Ids], pad_id: int) -> tuple[Ids, Ids]:
    """N arrays of token ids -> (N, T) ids that end together, and their mask."""
    width = max(map(len, rows))
    ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    for nth, row in enumerate(rows):
        ids[nth, width - len(row) :] = row
        mask[nth, width - len(row) :] = 1
    return ids, mask


def _log_probs(logits: Floats, columns: NDArray[np.intp]) -> NDArray[np.float64]:
    """(B,) natural logs of the probabilities of one column of each row."""
    top = logits.max(axis=1)
    log_sums = np.log(np.exp(logits - top[:, None]).sum(axis=1, dtype=np.float64)) + top
    return np.asarray(logits[np.arange(len(logits)), columns] - log_sums, dtype=np.float64)
