"""Counters and histograms in the text format of Prometheus, under the names of text-embeddings-inference, by model.

TEI counts a request of one text under `method="single"` and others under `method="batch"`; durations are in seconds.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from potstill.serving.batching import BatchFacts
from potstill.serving.pool import ModelPool
from potstill.serving.served import AnyAnswer

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
FAILURES = {  # reason of a refusal -> TEI's word for it
    "busy": "overloaded",
    "backend": "inference",
    "tokens": "tokenization",
    "large": "batch_size",
    "unready": "unhealthy",
}
HELP = {
    "te_request_count": "Requests for labels.",
    "te_request_success": "Requests that were answered.",
    "te_request_failure": "Requests that were refused, failed, or whose caller left (dropped).",
    "te_predict_count": "Texts of the requests that were answered.",
    "te_request_duration": "From the arrival of a request to its answer.",
    "te_request_tokenization_duration": "Texts to tokens.",
    "te_request_queue_duration": "From the arrival of a request to its first batch.",
    "te_request_inference_duration": "Tokens to probabilities.",
    "te_predict_duration": "The same as te_request_duration.",
    "te_predict_tokenization_duration": "The same as te_request_tokenization_duration.",
    "te_predict_queue_duration": "The same as te_request_queue_duration.",
    "te_predict_inference_duration": "The same as te_request_inference_duration.",
    "te_batch_next_size": "Texts of a batch.",
    "te_batch_next_tokens": "Padded tokens of a batch, about.",
    "te_queue_size": "Texts that wait.",
    "potstill_ready": "1 if every model is loaded and warm and the server is not being stopped.",
    "potstill_model_info": "The version that is served.",
    "potstill_reloads": "Bundles that were loaded anew while the server ran, or failed to be.",
}
Labels = tuple[tuple[str, str], ...]


@dataclass
class Histogram:
    """Counts of values by upper bounds, and their sum."""

    bounds: Sequence[float]
    total: float = 0.0
    counts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def lines(self, name: str, labels: Labels) -> Iterable[str]:
        """Cumulative buckets, sum and count."""
        seen = 0
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            seen += count
            yield _line(f"{name}_bucket", (*labels, ("le", bound)), seen)
        yield _line(f"{name}_sum", labels, self.total)
        yield _line(f"{name}_count", labels, seen)


class ServingMetrics:
    """What is counted of one server. Any thread may count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: dict[tuple[str, Labels], float] = defaultdict(float)
        self._histograms: dict[tuple[str, Labels], Histogram] = {}

    def answered(self, answer: AnyAnswer, n_texts: int, seconds: float) -> None:
        """A request was answered."""
        model = (("model", answer.model.name),)
        labels = (*model, ("method", "single" if n_texts == 1 else "batch"))
        computed = answer.computed
        parts = {
            "duration": seconds,
            "tokenization_duration": computed.tokenization_s,
            "queue_duration": answer.queue_s,
            "inference_duration": computed.inference_s,
        }
        with self._lock:
            self._counters["te_request_count", labels] += 1
            self._counters["te_request_success", labels] += 1
            self._counters["te_predict_count", model] += n_texts
            for name, value in parts.items():
                self._observe(f"te_request_{name}", model, value, SECONDS)

    def failed(self, reason: str) -> None:
        """A request was refused; "dropped" if its caller left."""
        word = FAILURES.get(reason, reason if reason in ("dropped", "key") else "validation")
        with self._lock:
            self._counters["te_request_count", (("method", "refused"),)] += 1
            self._counters["te_request_failure", (("err", word),)] += 1

    def batch(self, model: str, facts: BatchFacts) -> None:
        """A batch begins."""
        labels = (("model", model),)
        with self._lock:
            self._observe("te_batch_next_size", labels, facts.texts, SIZES)
            self._observe("te_batch_next_tokens", labels, facts.tokens, TOKENS)

    def reloaded(self, model: str, *, success: bool) -> None:
        """A bundle was loaded anew, or could not be."""
        with self._lock:
            self._counters["potstill_reloads", (("model", model), ("result", "success" if success else "failure"))] += 1

    def _observe(self, name: str, labels: Labels, value: float, bounds: Sequence[float]) -> None:
        found = self._histograms.get((name, labels))
        if found is None:
            found = self._histograms[name, labels] = Histogram(bounds)
        found.observe(value)

    def render(self, pool: ModelPool) -> str:
        """All of it, and what is true of the models now, in the text format."""
        with self._lock:
            counters = dict(self._counters)
            histograms = {key: list(each.lines(*key)) for key, each in self._histograms.items()}
            for (name, labels), each in self._histograms.items():
                if name.startswith("te_request_"):
                    twin = name.replace("te_request_", "te_predict_")
                    histograms[twin, labels] = list(each.lines(twin, labels))
        gauges: dict[tuple[str, Labels], float] = {("potstill_ready", ()): float(pool.ready)}
        for model in pool:
            gauges["te_queue_size", (("model", model.name),)] = pool.batcher(model.name).waiting
            gauges["potstill_model_info", (("model", model.name), ("version", model.version))] = 1
        families: dict[str, list[str]] = defaultdict(list)
        for (name, labels), value in (counters | gauges).items():
            families[name].append(_line(name, labels, value))
        kinds = dict.fromkeys([name for name, _ in counters], "counter")
        kinds |= dict.fromkeys([name for name, _ in gauges], "gauge")
        for (name, _), lines in histograms.items():
            families[name] += lines
            kinds[name] = "histogram"
        return "".join(
            f"# HELP {name} {HELP[name]}\n# TYPE {name} {kinds[name]}\n" + "".join(families[name])
            for name in sorted(families)
        )


def _line(name: str, labels: Labels | Mapping[str, str], value: float) -> str:
    pairs = ",".join(f'{key}="{_escaped(text)}"' for key, text in dict(labels).items())
    shown = int(value) if value == int(value) else value
    return f"{name}{{{pairs}}} {shown}\n" if pairs else f"{name} {shown}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
