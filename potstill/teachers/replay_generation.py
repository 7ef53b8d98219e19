"""The simulated writer of the replay teacher: real texts near the student's errors, none of them served twice.

A language model seldom writes a text again word for word, so neither does the simulation: what a run was served is
stored in its folder. Does not simulate how a model writes, or its repetitions of what its prompt shows.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potstill.data.atomic import atomic_file
from potstill.data.task import DescriptionRequest, Feedback, GenerationRequest, LabelledText, Task, content_key
from potstill.errors import BadSpec, did_you_mean
from potstill.ledger.prices import Usage
from potstill.teachers.base import GeneratedTexts
from potstill.teachers.generation_quotas import error_texts, label_quotas, prompt_texts
from potstill.teachers.label_centroids import LabelCentroids
from potstill.teachers.labelled_file import normalize_whitespace
from potstill.teachers.replay_label_sets import Truth

Floats = NDArray[np.float64]
BYTES_PER_TOKEN = 4
LABEL_TOKENS, REPORT_LINE_TOKENS = 6, 20


@dataclass(frozen=True)
class WritingOptions:
    """How the simulated writer writes.

    Attributes:
        accuracy: the share of texts written from feedback whose label is right.
        prompt_tokens: tokens of a prompt beside its texts.
        is_human: priced by the label rather than by the token.
        seed: of the run.
    """

    accuracy: float
    prompt_tokens: int
    is_human: bool
    seed: int


class ServedTexts:
    """Which texts were served for which request. Written to `file` at once, and read from it by the next session.

    Args:
        file: a JSON file; None remembers in this process alone.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file

    @cached_property
    def _by_request(self) -> dict[str, list[list[str]]]:
        try:
            stored: dict[str, list[list[str]]] = json.loads(self._file.read_text("utf-8")) if self._file else {}
            return {key: [[str(text), str(label)] for text, label in those] for key, those in stored.items()}
        except (OSError, ValueError, AttributeError, TypeError):  # absent, or damaged: then a text may come again
            return {}

    def get(self, key: str) -> tuple[LabelledText, ...] | None:
        """What was served for this request; None if nothing was."""
        found = self._by_request.get(key)
        return None if found is None else tuple(LabelledText(text, label) for text, label in found)

    def texts(self) -> set[str]:
        """All that was served."""
        return {text for those in self._by_request.values() for text, _ in those}

    def add(self, key: str, texts: Sequence[LabelledText]) -> None:
        """Remember the texts of a request."""
        self._by_request[key] = [[each.text, each.label] for each in texts]
        if self._file is not None and self._file.parent.is_dir():
            with atomic_file(self._file) as path:
                path.write_text(json.dumps(self._by_request, ensure_ascii=False), encoding="utf-8", errors="replace")


@dataclass
class ReplayGenerator:
    """Serves texts of a labelled pool as if they were written.

    Attributes:
        task: the labels.
        options: accuracy and price.
        read_pool: reads text -> true column, or columns; called once.
        shares: N texts -> (N, K) distribution of wrong labels.
        centroids: finds texts near others; called on first use.
        served: what was served before.
    """

    task: Task
    options: WritingOptions
    read_pool: Callable[[], Mapping[str, Truth]]
    shares: Callable[[Sequence[str]], Floats]
    centroids: Callable[[], LabelCentroids]
    served: ServedTexts

    @cached_property
    def _pool(self) -> Mapping[str, Truth]:
        return self.read_pool()

    def _texts_of(self, label: str) -> list[str]:
        if label not in self.task.labels:
            raise BadSpec(f"{label!r} is not a label.", did_you_mean(label, self.task.labels))
        column = self.task.index(label)
        return [text for text, truth in self._pool.items() if truth == column]

    def max_usage(self, request: GenerationRequest) -> Usage:
        """An upper bound of `generate(request)`: n times the longest text."""
        labels = [request.label] if request.feedback is None else self.task.labels
        longest = max((count_tokens(text) for label in labels for text in self._texts_of(label)), default=0)
        return self._usage(request, [longest + LABEL_TOKENS] * request.n)

    def _usage(self, request: GenerationRequest, sizes: Sequence[int]) -> Usage:
        if self.options.is_human:
            return Usage(labels=len(sizes))
        lines = 0 if request.feedback is None else len(request.feedback.report)
        input_tokens = sum(map(count_tokens, prompt_texts(request))) + REPORT_LINE_TOKENS * lines
        return Usage(input_tokens=self.options.prompt_tokens + input_tokens, output_tokens=sum(sizes))

    def generate(self, request: GenerationRequest) -> GeneratedTexts:
        """A sample, by the request's seed, of the pool's texts nearest to the request's; the same for the same request.

        From feedback it serves `label_quotas` texts of each label, each label right with the given accuracy. Fewer
        texts than were asked for come back when those of a label are used up.
        """
        key = content_key(asdict(request), *(["description"] if isinstance(request, DescriptionRequest) else []))
        texts, guided = self.served.get(key), request.feedback is not None and not request.label
        if texts is None:
            texts = tuple(self._with_feedback(request) if guided else self._of_label(request))
            self.served.add(key, texts)
        extra = LABEL_TOKENS if guided else 0
        return GeneratedTexts(texts, self._usage(request, [count_tokens(each.text) + extra for each in texts]))

    def _of_label(self, request: GenerationRequest) -> Iterator[LabelledText]:
        in_prompt = [item.text for item in (*request.examples, *request.counterexamples)]
        rng = np.random.default_rng(text_seed(self.options.seed, f"{request.label}\n{request.seed}"))
        for text in self._sample(request.label, request.n, in_prompt, in_prompt, rng):
            yield LabelledText(text, request.label)

    def _with_feedback(self, request: GenerationRequest) -> Iterator[LabelledText]:
        feedback = request.feedback or Feedback()
        rng = np.random.default_rng(text_seed(self.options.seed, f"guided\n{request.seed}"))
        for label, n in label_quotas(self.task.labels, feedback, request.n, rng).items():
            texts = self._sample(label, n, error_texts(feedback, label), prompt_texts(request), rng)
            for text, shares in zip(texts, self.shares(texts), strict=True):
                is_right = rng.random() < self.options.accuracy
                yield LabelledText(text, label if is_right else self._wrong_label(label, shares, rng))

    def _sample(
        self, label: str, n: int, near: Sequence[str], exclude: Collection[str], rng: np.random.Generator
    ) -> list[str]:
        """At most n texts of the label that were not served, sampled from the 4n nearest to any of `near`."""
        excluded = {normalize_whitespace(text) for text in (*exclude, *self.served.texts())}
        candidates = [text for text in self._texts_of(label) if text not in excluded]
        if near and candidates:
            similarity = self.centroids().max_similarity(candidates, near)
            candidates = [candidates[i] for i in np.argsort(-similarity, kind="stable")[: 4 * n]]
        return [candidates[i] for i in rng.permutation(len(candidates))[:n]]

    def _wrong_label(self, label: str, shares: Floats, rng: np.random.Generator) -> str:
        """A wrong label for a text of this one."""
        others = np.where(np.arange(len(shares)) == self.task.index(label), 0.0, shares)
        return self.task.labels[int(rng.choice(len(others), p=others / others.sum()))]


def count_tokens(text: str) -> int:
    """The tokens of a text, estimated from its bytes."""
    return math.ceil(len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN)


def text_seed(seed: int, text: str) -> int:
    """A seed made of a seed and a text."""
    encoded = f"{seed}\n{normalize_whitespace(text)}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(encoded).digest()[:8], "big")
