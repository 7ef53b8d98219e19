"""Load a bundle folder and predict: labels, conformal prediction sets, abstention threshold and energy score.

Needs numpy, onnxruntime and tokenizers, never torch.

A bundle is `onnx/model.onnx`, perhaps `onnx/model_quantized.onnx`, the files of a preprocessor (`tokenizer.json`, or a
vocabulary), and their record `potstill.json`. Nothing in it is pickled. In a pair task texts are pairs of texts, and in
a multi-label task a prediction is a tuple of labels. Does not cover export, or serving over HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from potstill.bundle.calibration import calibration_of
from potstill.bundle.forms import check_form
from potstill.bundle.layout import Precision, precision_of
from potstill.bundle.open_folder import RUST_PANIC as RUST_PANIC
from potstill.bundle.open_folder import open_folder
from potstill.bundle.preprocessors import PREPROCESSORS, Feeds
from potstill.bundle.record import (
    EXPORT_AGAIN,
    RECORD_FILE,
    BundleRecord,
)
from potstill.bundle.sessions import open_session
from potstill.bundle.text_inputs import joined_pairs, read_inputs
from potstill.data.pairs import join_pair
from potstill.errors import BadData, BadInput
from potstill.evaluation.guarantees import (
    GUARANTEE_CONFIDENCE,
    MIN_TYPICALITY,
    TARGET_PRECISION,
    Scaling,
    scored_texts,
)
from potstill.models.tokens.tokenizer import check_texts, mean_by_row

Floats = NDArray[np.float32]
Text = str | tuple[str, str]  # the latter, or what `pairs.join_pair` makes of it, in a pair task

TRY_OUT_TEXTS = ("A text", "")  # predicted when a bundle is loaded
MAX_BLOCK_TEXTS = 8192  # texts whose token ids are in memory at once
NO_MULTILABEL_SETS = (
    "This student gives several labels, and nothing is guaranteed of a set of them.",
    "Leave abstain and coverage out, and use the probabilities.",
)
EMBEDDING = "sentence_embedding"  # the output of a graph beside its logits, under the name of other exporters
HOLD_OUT_MEND = "Distill again with at least 50 validation texts (--validation FILE)."


@dataclass(frozen=True)
class Prediction:
    """The prediction for one text.

    Attributes:
        label: the most probable label.
        probability: of that label, in [0, 1].
        confident: whether the probability reaches the bundle's abstain threshold; None if it has no threshold.
        typicality: in (0, 1], conformal p-value: the share of the held-out texts whose energy score is at least as
            atypical; None without held-out texts.
        labels: in a multi-label task all labels of the text, most probable first; else the one.
    """

    label: str
    probability: float
    confident: bool | None
    typicality: float | None = None
    labels: tuple[str, ...] = ()

    @property
    def in_scope(self) -> bool:
        """False if the text is unlike the held-out texts, 5 % of which are flagged, too."""
        return self.typicality is None or self.typicality > MIN_TYPICALITY


class Bundle:
    """A trained student, ready to predict. Get one from `load`; any number of threads may share it.

    Attributes:
        folder: of the bundle.
        record: the whole of `potstill.json`.
        labels: the K label names, in the order of every (N, K) array.
        graph: the file that is served.
        takes_pairs: True if it compares two texts: every text is then a pair.
        multilabel: True if a text may have several labels, or none: each is decided by itself.
        guarantees: measured of this very graph on held-out texts; None without such texts, and in a multi-label task.
        multilabel_guarantees: the same of a multi-label task; None otherwise.
        preprocessor: texts -> batches of the graph's inputs.
        session: the graph, open in onnxruntime; may be replaced, such as by one on a GPU.
        threads: number of batches computed at once; may be set.
    """

    def __init__(self, folder: Path, record: BundleRecord, *, graph: str = "", threads: int = 1) -> None:
        self.folder = folder
        self.record = record
        self.graph = graph or record.graph
        self.threads = threads
        self.labels = record.task.labels
        self.takes_pairs = record.task.kind == "pair"
        self.multilabel = record.task.kind == "multi"
        self._calibration = calibration_of(record, self.graph)
        self.guarantees = self._calibration.guarantees
        self.multilabel_guarantees = self._calibration.multilabel_guarantees
        self.preprocessor = PREPROCESSORS[record.preprocessor.name](folder, record.preprocessor.config)
        self.session = open_session(folder / self.graph)

    def __reduce__(self) -> tuple[Any, ...]:
        """A pickle or a copy is the folder's path, opened again: a session of onnxruntime cannot be pickled."""
        return _reopen, (str(self.folder.absolute()), self.graph, self.threads)

    @property
    def size_mb(self) -> float:
        """Megabytes (10^6 bytes) of the files that predicting reads."""
        needed = [RECORD_FILE, *self.record.needed_files(self.graph)]
        return sum((self.folder / name).stat().st_size for name in needed) / 1e6

    @property
    def threshold(self) -> float | None:
        """The probability below which a prediction is not confident; None if there is no threshold."""
        return self._calibration.threshold

    @property
    def precision(self) -> Precision:
        """Of the graph: "int8" if it is the quantised one, else "fp32"."""
        return precision_of(self.graph)

    @overload
    def predict(self, texts: Sequence[Text], abstain: Literal[False] = False) -> list[str]:
        """A label for each text."""

    @overload
    def predict(self, texts: Sequence[Text], abstain: bool | float) -> list[str | None]:
        """A label, or None."""

    def predict(self, texts: Sequence[Text], abstain: bool | float = False) -> list[str] | list[str | None]:
        """The most probable label of each of N texts; in a multi-label task a tuple of labels, most probable first.

        Args:
            texts: N texts: a list, a column, or a data frame, Arrow table, data set or list of dictionaries, which is
                read by the column the student was trained on.
            abstain: True returns None for predictions that are not confident; a number in (0, 1) is the precision to
                guarantee, instead of the bundle's own.

        Raises:
            BadData: a text is not a string, or a frame lacks the column.
            BadInput: abstain, but no threshold could be shown to reach that precision.
        """
        logits = self.predict_logits(texts)
        if self.multilabel:
            if abstain is not False:
                raise BadInput(*NO_MULTILABEL_SETS)
            return self.label_tuples(self.calibrated_probs(logits))  # type: ignore[return-value]
        scaling = self._calibration.scaling
        best = scaling.argmax(logits) if isinstance(scaling, Scaling) else logits.argmax(axis=1)
        labels = [self.labels[column] for column in best]
        if abstain is False:
            return labels
        threshold = self.threshold if abstain is True else self.threshold_for(abstain)
        if threshold is None:
            raise BadInput(*self._no_threshold(TARGET_PRECISION if abstain is True else abstain))
        confident = self.calibrated_probs(logits).max(axis=1) >= threshold
        return [label if keep else None for label, keep in zip(labels, confident, strict=True)]

    def predict_proba(self, texts: Sequence[Text]) -> Floats:
        """(N, K) calibrated probabilities of N texts; rows sum to one, except in a multi-label task.

        Raises:
            BadData: a text is not a string.
        """
        return self.calibrated_probs(self.predict_logits(texts))

    def calibrated_probs(self, logits: Floats) -> Floats:
        """(N, K) logits of this graph -> (N, K) calibrated probabilities."""
        return np.asarray(self._calibration.scaling.apply(logits), dtype=np.float32)

    def uncalibrated_logits(self, logits: Floats) -> NDArray[np.float64]:
        """(N, K) logits of this graph -> (N, K) of the student: what `guarantees` was measured on, and takes."""
        return self._calibration.uncalibrated(logits)

    def predict_sets(self, texts: Sequence[Text], coverage: float = 0.9) -> list[tuple[str, ...]]:
        """For each of N texts a set that contains the right label with probability `coverage`, most probable first.

        Split conformal sets: the coverage holds on average over texts drawn like the held-out ones, for any student.
        One label is a clear case; many mean that the student cannot separate them.

        Raises:
            BadData: a text is not a string.
            BadInput: coverage is not between 0 and 1, or the bundle was not calibrated on held-out texts.
        """
        return self.prediction_sets(self.predict_logits(texts), coverage)

    def prediction_sets(self, logits: Floats, coverage: float = 0.9) -> list[tuple[str, ...]]:
        """`predict_sets` from (N, K) logits."""
        if self.multilabel:
            raise BadInput(*NO_MULTILABEL_SETS)
        if self.guarantees is None:
            raise BadInput("This bundle was not calibrated on held-out texts, so it has no label sets.", HOLD_OUT_MEND)
        if not 0 < coverage < 1:
            raise BadInput(f"A coverage of {coverage} is not between 0 and 1.", "Ask for 0.9, for instance.")
        inside = self.guarantees.prediction_sets(self.uncalibrated_logits(logits), coverage)
        order = np.argsort(-self.calibrated_probs(logits), axis=1, kind="stable")
        return [tuple(self.labels[k] for k in ranked if row[k]) for ranked, row in zip(order, inside, strict=True)]

    def label_indicator(self, probs: Floats) -> NDArray[np.bool_]:
        """(N, K) probabilities -> (N, K) the labels given: those above their thresholds, or the most probable one."""
        if self.multilabel:
            return self._calibration.label_thresholds.apply(probs)
        return np.asarray(np.arange(len(self.labels)) == probs.argmax(axis=1)[:, None])

    def label_tuples(self, probs: Floats) -> list[tuple[str, ...]]:
        """(N, K) probabilities -> the labels given to each of N texts, most probable first."""
        order = np.argsort(-probs, axis=1, kind="stable")
        given = self.label_indicator(probs)
        return [tuple(self.labels[k] for k in ranked if row[k]) for ranked, row in zip(order, given, strict=True)]

    def threshold_for(self, precision: float) -> float | None:
        """The lowest probability from which on a share `precision` of the labels is right; None if none is shown.

        Raises:
            BadInput: precision is not between 0 and 1.
        """
        if not 0 < precision < 1:
            raise BadInput(f"A precision of {precision} is not between 0 and 1.", "Ask for 0.95, for instance.")
        return None if self.guarantees is None else self.guarantees.threshold(precision)

    def _no_threshold(self, precision: float) -> tuple[str, str]:
        if self.guarantees is None:
            return "This bundle has no abstain threshold.", HOLD_OUT_MEND
        scored = scored_texts(self.guarantees.n, self.guarantees.n_folds)
        return (
            f"On {scored} no threshold could be shown to make {precision:.0%} of the labels right (with "
            f"{GUARANTEE_CONFIDENCE:.0%} confidence).",
            "Ask for less, or hold out more labelled texts.",
        )

    def predict_logits(self, texts: Sequence[Text]) -> Floats:
        """(N, K) natural-log scores of N texts as the graph gives them: calibrated in format 3, not in older formats.

        Raises:
            BadData: a text is not a string, or in a pair task not a pair.
        """
        return self.outputs(texts)[0]

    def embed(self, texts: Sequence[Text]) -> Floats:
        """(N, D) embeddings of N texts: what the head of the student reads.

        Raises:
            BadData: a text is not a string.
            BadInput: the graph gives none.
        """
        return self.outputs(texts, embedding=True)[1]

    @property
    def embedding_size(self) -> int:
        """D of the embeddings; 0 if the graph gives none, as of pairs, linear students and older bundles."""
        found = next((each for each in self.session.get_outputs() if each.name == EMBEDDING), None)
        return 0 if found is None else int(found.shape[1])

    def outputs(self, texts: Sequence[Text], *, embedding: bool = False) -> tuple[Floats, Floats]:
        """What `predict_logits` and, if asked for, `embed` return; else (N, 0) for the latter. Raises as they do."""
        texts = read_inputs(texts, self.record)
        size = self.embedding_size if embedding else 0
        if embedding and not size:
            raise BadInput("This bundle gives no embeddings.", "Export an encoder or static student of texts again.")
        logits = np.zeros((len(texts), len(self.labels)), dtype=np.float32)
        embeddings = np.zeros((len(texts), size), dtype=np.float32)
        found = {"logits": logits, EMBEDDING: embeddings} if embedding else {"logits": logits}
        strings = joined_pairs(texts) if self.takes_pairs else texts
        if len(texts) > MAX_BLOCK_TEXTS and not self.takes_pairs:
            check_texts(strings)  # type: ignore[arg-type]
        # In blocks: the token ids of all texts at once would need many times the memory of the texts.
        for start in range(0, max(len(texts), 1), MAX_BLOCK_TEXTS):
            block = strings if len(texts) <= MAX_BLOCK_TEXTS else strings[start : start + MAX_BLOCK_TEXTS]
            self._run(block, {name: values[start:] for name, values in found.items()})
        if not np.isfinite(logits).all():
            row = int(np.flatnonzero(~np.isfinite(logits).all(axis=1))[0])
            shown = str(strings[row])[:60]
            raise BadData(f"The graph {self.graph} gives no finite score for text {row + 1} ({shown!r}).", EXPORT_AGAIN)
        return logits, embeddings

    def try_out(self) -> None:
        """Predict two texts. Raises BadData, or the error of a library, if the files do not fit together."""
        texts = [join_pair(text, text) if self.takes_pairs else text for text in TRY_OUT_TEXTS]
        next(self.predictions_from_logits(self.predict_logits(texts)))
        self.preprocessor.truncated = self.preprocessor.unknown = 0

    def _run(self, texts: Sequence[Any], outputs: Mapping[str, Floats]) -> None:
        """Write the graph's outputs of the texts into the first rows of `outputs`."""

        def run(batch: tuple[NDArray[np.intp], Feeds]) -> None:
            rows, feeds = batch
            first = np.append(True, rows[1:] != rows[:-1])
            found = self.session.run(list(outputs), feeds)
            if np.shape(found[0]) != (len(rows), len(self.labels)):
                raise BadData(
                    f"The graph {self.graph} gives values of the shape {np.shape(found[0])} for {len(rows)} texts and "
                    f"{len(self.labels)} labels.",
                    EXPORT_AGAIN,
                )
            for values, computed in zip(outputs.values(), found, strict=True):
                values[rows[first]] = mean_by_row(rows, computed)

        # Each batch on one thread, and several batches at once: more texts a second than several threads a batch,
        # and a busy core slows one batch down instead of all. Later batches are filled while the first ones run.
        feeds = self.preprocessor.feeds(texts)
        head = list(islice(feeds, 2))
        if len(head) > 1 and self.threads > 1:
            with ThreadPoolExecutor(self.threads) as pool:
                for _ in pool.map(run, chain(head, feeds)):
                    pass
        else:
            for batch in chain(head, feeds):
                run(batch)

    def iter_predictions(self, texts: Iterable[Text], rows: int = 2048) -> Iterator[Prediction]:
        """A prediction for each text, in order, holding at most `rows` texts at a time."""
        source = iter(read_inputs(texts, self.record) if hasattr(texts, "__getitem__") else texts)
        while block := list(islice(source, rows)):
            yield from self.predictions_from_logits(self.predict_logits(block))

    def predictions_from_logits(self, logits: Floats) -> Iterator[Prediction]:
        """(N, K) logits of this graph -> N predictions."""
        probabilities = self.calibrated_probs(logits)
        typicality: list[Any] = [None] * len(logits)
        if self.guarantees is not None:
            typicality = self.guarantees.typicality(self.uncalibrated_logits(logits)).tolist()
        given = self.label_tuples(probabilities)
        best = zip(probabilities.argmax(axis=1), probabilities.max(axis=1), typicality, given, strict=True)
        for column, probability, typical, labels in best:
            confident = None if self.threshold is None else bool(probability >= self.threshold)
            yield Prediction(self.labels[column], float(probability), confident, typical, labels)

    @property
    def truncated(self) -> int:
        """The number of texts so far that were too long to be read as a whole."""
        return self.preprocessor.truncated

    @property
    def unknown(self) -> int:
        """The number of texts so far that are mostly tokens which the student's vocabulary lacks."""
        return self.preprocessor.unknown

    def summary(self) -> dict[str, str | int | float | bool]:
        """Facts for a report, as one flat dictionary."""
        flat: dict[str, str | int | float | bool] = {
            "preprocessor": self.record.preprocessor.name,
            "graph": self.graph,
            "precision": self.precision,
            "size_mb": round(self.size_mb, 2),
            "calibration": self._calibration.shown.method,
        }
        if self.multilabel_guarantees is not None:
            one = len(self._calibration.label_thresholds.thresholds) == 1
            flat["thresholds"] = "one for all labels" if one else "one per label"
        if len(self._calibration.shown.scale) == 1:
            flat["temperature"] = round(1 / self._calibration.shown.scale[0], 4)
        for facts in (self.record.preprocessor.config, self.record.student):
            for name, value in facts.items():
                if isinstance(value, str | int | float | bool) and name not in flat:
                    flat[name] = value
        return flat


def load(path: str | Path, *, verify: bool = False, threads: int | None = None, graph: str | None = None) -> Bundle:
    """The bundle in a folder, or in the `bundle` folder of a run.

    Args:
        path: the bundle's or the run's folder.
        verify: compare every file's size and SHA-256; otherwise the sizes of those that are there, and nothing that
            predicting reads may be missing.
        threads: batches computed at once; None takes `POTSTILL_THREADS`, or one for each processor that
            this process may use.
        graph: "fp32" or "int8", or the name of its file; None takes the one that export chose.

    Raises:
        RunNotFound: there is no bundle, it is damaged, or a newer potstill made it.
        MissingExtra: onnxruntime or tokenizers is not installed.
        BadInput: fewer than one thread, or the bundle gives no labels.
    """

    def make(folder: Path, record: BundleRecord, chosen: str, n_threads: int) -> Bundle:
        check_form(folder, record.task, None)
        return Bundle(folder, record, graph=chosen, threads=n_threads)

    return open_folder(path, make, verify=verify, threads=threads, graph=graph)


def _reopen(folder: str, graph: str, threads: int) -> Bundle:
    return load(folder, graph=graph, threads=threads)
