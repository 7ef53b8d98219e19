"""One line of text after each of several prompts: what writes it, and how llama.cpp does.

A line has at least a few characters, and no markup that a prompt or a vocabulary reads as its own. Does not cover the
prompts (see `label_prompt`), or writing in PyTorch (see `torch_lines`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from potstill.data.task import content_key
from potstill.teachers.label_prompt import text_grammar
from potstill.teachers.llamacpp import Completion, LlamaCpp, estimate_prompt_tokens


@dataclass(frozen=True)
class LineJob:
    """A prompt for a text of one label, to be continued `n` times; those of a label differ in `turn`."""

    label: str
    prompt: str
    n: int
    turn: int


def draw_seed(seed: int, jobs: Sequence[LineJob]) -> int:
    """The seed of the draws of jobs that are continued together."""
    return int(content_key(seed, [[job.label, job.turn] for job in jobs])[:7], 16)


class Timed(Protocol):
    """What computes.

    Attributes:
        unpaid_s: seconds of loading and of timing it that no call was charged for.
    """

    unpaid_s: float


class LineWriter(Protocol):
    """Continues prompts with one line each.

    Attributes:
        engine: what computes.
        slots: lines that are written at once.
    """

    slots: int

    @property
    def engine(self) -> Timed:
        """What computes."""

    def max_seconds(self, jobs: Sequence[LineJob], max_tokens: int) -> float:
        """Seconds that the lines take if every one has `max_tokens` tokens, by the measured speed."""

    def lines(self, jobs: Sequence[LineJob], seed: int, max_tokens: int) -> Iterator[tuple[str, str]]:
        """The lines that are complete, each with its label; one of `max_tokens` tokens without an end is left out."""


class LlamaLines:
    """Lines by llama.cpp and a grammar; see `LineWriter`.

    Args:
        llama: the model.
        in_list: the prompts are lists to continue, not conversations.
    """

    def __init__(self, llama: LlamaCpp, *, in_list: bool) -> None:
        self.engine = llama
        self.slots = llama.slots
        self._in_list = in_list

    def max_seconds(self, jobs: Sequence[LineJob], max_tokens: int) -> float:
        """See `LineWriter.max_seconds`; loads the model. Raises what `LlamaCpp.complete` raises."""
        prompts = [estimate_prompt_tokens(job.prompt) for job in jobs]
        per_token = self.engine.seconds_per_token(max(prompts) + max_tokens)
        return per_token * (sum(prompts) + max_tokens * sum(job.n for job in jobs))

    def lines(self, jobs: Sequence[LineJob], seed: int, max_tokens: int) -> Iterator[tuple[str, str]]:
        """See `LineWriter.lines`. Raises what `LlamaCpp.complete` raises."""
        for job in jobs:
            if job.n > 1:
                yield from self._written([job], seed, max_tokens)
        single = [job for job in jobs if job.n == 1]
        for start in range(0, len(single), self.slots):
            yield from self._written(single[start : start + self.slots], seed, max_tokens)

    def _written(self, jobs: Sequence[LineJob], seed: int, max_tokens: int) -> Iterator[tuple[str, str]]:
        """The lines of one prompt, or one line of each of several prompts."""
        grammar = text_grammar(max_tokens, in_list=self._in_list)
        completion = Completion(max_tokens, draw_seed(seed, jobs), {"grammar": grammar}, jobs[0].n)
        replies = self.engine.complete([job.prompt for job in jobs], completion)
        labels = [job.label for job in jobs for _ in range(job.n)]
        for label, reply in zip(labels, replies, strict=True):
            if not reply.is_cut and reply.text.strip():
                yield label, reply.text.strip()
