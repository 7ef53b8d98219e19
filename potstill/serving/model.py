"""A bundle as a served model: what it accepts, what a text costs, and its answers with the time each part took.

Independent of HTTP. Any number of threads may call `compute` (`batching.py`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.bundle.bundle import Bundle, Floats, Prediction, Text, load
from potstill.bundle.preprocessors import Feeds, Preprocessor
from potstill.data.pairs import join_pair
from potstill.data.task import OutputForm
from potstill.errors import RequestRefused
from potstill.models.tokens.tokenizer import MAX_WINDOWS

CHARACTERS_PER_TOKEN = 4  # of English; decides the size of batches, not what is read
SPECIAL_TOKENS = 2
PADDING = 16  # lengths are rounded up to a multiple of it: about what a batch of similar lengths is padded to
WARM_TEXTS = ("a", "a text of several words " * 4, "a long text " * 400)


@dataclass(frozen=True)
class Computed:
    """What a batch of N texts gave.

    Attributes:
        logits: (N, K), before calibration.
        probs: (N, K) calibrated probabilities.
        tokens: (N,) tokens or features that were read of each text.
        tokenization_s: seconds for texts to token ids.
        inference_s: seconds for token ids to probabilities.
        order: (N, K) columns of `probs`, the most probable first.
        embeddings: (N, D); (N, 0) if no request of the batch asked for them.
    """

    logits: Floats
    probs: Floats
    tokens: NDArray[np.int64]
    tokenization_s: float
    inference_s: float
    order: NDArray[np.intp]
    embeddings: Floats

    @classmethod
    def joined(cls, parts: Sequence[Computed]) -> Computed:
        """The parts of one request in order, as one; without embeddings if one of them has none."""
        all_have = len({part.embeddings.shape[1] for part in parts}) == 1
        return cls(
            np.concatenate([part.logits for part in parts]),
            np.concatenate([part.probs for part in parts]),
            np.concatenate([part.tokens for part in parts]),
            sum(part.tokenization_s for part in parts),
            sum(part.inference_s for part in parts),
            np.concatenate([part.order for part in parts]),
            np.concatenate([part.embeddings if all_have else part.embeddings[:, :0] for part in parts]),
        )

    def rows(self, start: int, stop: int) -> Computed:
        """The part of one request."""
        part = slice(start, stop)
        return Computed(
            self.logits[part],
            self.probs[part],
            self.tokens[part],
            self.tokenization_s,
            self.inference_s,
            self.order[part],
            self.embeddings[part],
        )


class Counts(threading.local):
    """Of a thread's last texts.

    Attributes:
        tokens: (N,) of each text.
        seconds: that they took.
        truncated: texts that were not read as a whole.
    """

    tokens: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
    seconds = 0.0
    truncated = 0


@dataclass(frozen=True)
class ServedFacts:
    """What the server says of a model.

    Attributes:
        task: in the words of model hubs, such as "token_classification".
        precision: of its graph, "int8" or "fp32".
        takes_pairs: whether it compares two texts.
        several_labels: whether a text may have several.
        threshold: from which probability on a label is confident; None if unknown.
    """

    task: str
    precision: str
    takes_pairs: bool = False
    several_labels: bool = False
    threshold: float | None = None


class TokenCounter:
    """A preprocessor that counts the tokens of each text and the time they take, for each thread by itself.

    Texts are parted into tokens by one thread at a time, so that it is known whose were truncated.

    Args:
        inner: the bundle's own preprocessor.

    Attributes:
        last: of the texts of this thread's last call.
        truncated, unknown: the inner preprocessor's counts.
    """

    def __init__(self, inner: Preprocessor) -> None:
        self._inner = inner
        self._lock = threading.Lock()
        self.last = Counts()
        self.truncated, self.unknown = inner.truncated, inner.unknown

    def feeds(self, texts: Sequence[str]) -> Iterator[tuple[NDArray[np.intp], Feeds]]:
        """The bundle's own batches."""
        last, inner = self.last, self._inner
        last.tokens, last.seconds, last.truncated = np.zeros(len(texts), dtype=np.int64), 0.0, 0
        batches = inner.feeds(texts)
        while True:
            started = time.perf_counter()
            with self._lock:
                before = inner.truncated
                batch = next(batches, None)
                last.truncated += inner.truncated - before
                self.truncated, self.unknown = inner.truncated, inner.unknown
            if batch is not None:
                rows, feeds = batch
                used = feeds["attention_mask"] if "attention_mask" in feeds else feeds["values"] != 0
                np.add.at(last.tokens, rows, used.sum(axis=1))
            last.seconds += time.perf_counter() - started
            if batch is None:
                return
            yield batch


class ServedModel:
    """A bundle of labels under a name.

    Attributes:
        name: in URLs.
        bundle: the bundle.
        version: the first characters of the graph's SHA-256.
        max_tokens: of a text; longer texts are not read as a whole. None if there is no such number.
        threads: that may compute at once, each a batch alone.
    """

    form: OutputForm | None = None

    def __init__(self, name: str, bundle: Bundle) -> None:
        self.name = name
        self.bundle = bundle
        self.threads, bundle.threads = bundle.threads, 1
        self.labels = bundle.labels
        self.version = bundle.record.files[bundle.graph].sha256[:12]
        config = bundle.record.preprocessor.config
        length = config.get("max_length")
        self.max_tokens = length if isinstance(length, int) else None
        self._windows = MAX_WINDOWS if config.get("long") == "windows" else 1
        self._counter = TokenCounter(bundle.preprocessor)
        bundle.preprocessor = self._counter

    @classmethod
    def load(cls, name: str, folder: Path, threads: int | None = None) -> ServedModel:
        """Load and warm a bundle: short and long texts are predicted once.

        Raises:
            RunNotFound: there is no bundle, it is damaged, or a newer potstill made it.
        """
        model = cls(name, load(folder, threads=threads))
        model.compute([(text, text) if model.bundle.takes_pairs else text for text in WARM_TEXTS])
        return model

    @property
    def facts(self) -> ServedFacts:
        """What the server says of it."""
        bundle = self.bundle
        task = "multi_label_classification" if bundle.multilabel else "single_label_classification"
        return ServedFacts(task, bundle.precision, bundle.takes_pairs, bundle.multilabel, bundle.threshold)

    def cost(self, text: Text) -> int:
        """About how many padded tokens a text adds to a batch; at least one."""
        characters = len(text) if isinstance(text, str) else len(text[0]) + len(text[1])
        tokens = characters // CHARACTERS_PER_TOKEN + SPECIAL_TOKENS
        if self.max_tokens is not None:
            tokens = min(tokens, self.max_tokens * self._windows)
        return -(-tokens // PADDING) * PADDING

    def check_task(self, texts: Sequence[Text], *, embedding: bool = False) -> None:
        """Compare the texts, and what is asked of them, with what the model reads and gives.

        Raises:
            RequestRefused: a pair where one text is read, one text where a pair is, or no embeddings.
        """
        if embedding and not self.bundle.embedding_size:
            raise RequestRefused("backend", f"{self.name} is not an embedding model.", "Use /predict.")
        pairs = self.bundle.takes_pairs
        wrong = next((row for row, text in enumerate(texts) if isinstance(text, str) is pairs), None)
        if wrong is None:
            return
        if pairs:
            raise RequestRefused(
                "task", f"Text {wrong + 1} is one text, and {self.name} compares two.", "Send a pair: [first, second]."
            )
        raise RequestRefused(
            "task",
            f"Text {wrong + 1} is a pair, and {self.name} reads one text.",
            'Two strings in an array are a pair; a batch is an array of arrays: [["first"], ["second"]].',
        )

    def exceeds_limit(self, text: Text) -> bool:
        """Whether a text is longer than what the model reads of it."""
        string = text if isinstance(text, str) else join_pair(*text)
        if self.max_tokens is not None and len(string.encode("utf-8", "replace")) + 8 <= self.max_tokens:
            return False  # no tokenizer makes more tokens than bytes
        for _ in self._counter.feeds([string]):
            pass
        return self._counter.last.truncated > 0

    def compute(self, texts: Sequence[Text], *, embedding: bool = False) -> Computed:
        """The answers to N texts, with their embeddings if they are asked for.

        Raises:
            BadData: a text has no finite score.
        """
        started = time.perf_counter()
        logits, embeddings = self.bundle.outputs(list(texts), embedding=embedding)
        probs = self.bundle.calibrated_probs(logits)
        order = np.argsort(-probs, axis=1, kind="stable")  # of all at once, and not in the event loop
        elapsed, last = time.perf_counter() - started, self._counter.last
        return Computed(logits, probs, last.tokens, last.seconds, elapsed - last.seconds, order, embeddings)

    def answer(self, computed: Computed, queue_s: float) -> ModelAnswer:
        """The answer to one request."""
        return ModelAnswer(self, computed, queue_s)


@dataclass(frozen=True)
class ModelAnswer:
    """The answer to one request of N texts.

    Attributes:
        model: that gave it; after a reload it may be another than the one that is served now.
        computed: logits, probabilities and tokens.
        queue_s: seconds that the request waited for its first batch.
    """

    model: ServedModel
    computed: Computed
    queue_s: float

    def predictions(self) -> list[Prediction]:
        """Labels, thresholds and typicality of each text."""
        return list(self.model.bundle.predictions_from_logits(self.computed.logits))

    def label_sets(self, coverage: float) -> list[tuple[str, ...]]:
        """For each text a set that contains the right label with probability `coverage`.

        Raises:
            BadInput: the bundle was not calibrated, or the coverage is not between 0 and 1.
        """
        return self.model.bundle.prediction_sets(self.computed.logits, coverage)

    def scores(self, *, raw: bool = False) -> list[list[float]]:
        """(N, K) probabilities, or logits, as floats of Python."""
        return [[float(score) for score in row] for row in (self.computed.logits if raw else self.computed.probs)]


def as_text(value: Any) -> Text | None:
    """A string, or an array of one or two strings, as a text or a pair; None for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and 1 <= len(value) <= 2 and all(isinstance(each, str) for each in value):
        return value[0] if len(value) == 1 else (value[0], value[1])
    return None
