"""The artefact that ships: load a bundle folder, predict. Needs numpy, onnxruntime and tokenizers, never torch.

A bundle is `model.onnx`, perhaps `model.int8.onnx`, the files of a reader (`tokenizer.json`, or those of a bag), and
`potstill.json`, which says all about them. Nothing in it is pickled. A bundle of a `pair` task takes pairs of texts
wherever another takes texts, and one of a `multi` task gives a tuple of labels wherever another gives a label. Does not
cover making one (`export`) or serving one over HTTP.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from potstill.bundle.preprocessors import PREPROCESSORS, Feeds
from potstill.bundle.sessions import available_cpus, open_session
from potstill.data.pairs import is_pair, join_pair
from potstill.errors import BadData, BadInput, RunNotFound
from potstill.evaluation.guarantees import GUARANTEE_CONFIDENCE, MIN_TYPICALITY, TARGET_PRECISION, Guarantees, Scaling
from potstill.evaluation.multilabel_thresholds import LabelScaling, LabelThresholds, MultilabelGuarantees
from potstill.models.tokens.tokenizer import check_texts, mean_by_row

Floats = NDArray[np.float32]
Text = str | tuple[str, str]  # the latter, or what `pairs.join_pair` makes of it, where two texts are compared

FORMAT = 1
METADATA_FILE = "potstill.json"
EXPORT_AGAIN = "Copy or export the bundle again."
MAX_BLOCK_TEXTS = 8192  # texts whose token ids are in memory at once
NO_MULTILABEL_SETS = (
    "This student gives several labels, and nothing is promised of a set of them.",
    "Leave abstain and coverage out, and look at the probabilities.",
)
HOLD_OUT_MEND = "Distill again with at least 50 validation texts (--validation FILE)."


@dataclass(frozen=True)
class Prediction:
    """What the student says of one text.

    Attributes:
        label: the likeliest label.
        probability: of that label, in [0, 1].
        sure: False if the probability is below the bundle's abstain threshold: let somebody else decide; None if the
            bundle has no threshold, so that there is no telling.
        labels: all labels of the text, likeliest first, in a task where it may have several; else just the one.
        usual: in (0, 1], about the share of the held-out texts that looked at least as strange to the student; None
            if nothing was held out.
    """

    label: str
    probability: float
    confident: bool | None
    typicality: float | None = None
    labels: tuple[str, ...] = ()

    @property
    def in_scope(self) -> bool:
        """False for a text unlike those the student was checked on; one in twenty of its own kind is, too."""
        return self.typicality is None or self.typicality > MIN_TYPICALITY


class Bundle:
    """A trained student, ready to predict. Get one from `load`; any number of threads may share it.

    Attributes:
        folder: where it lies.
        labels: the K label names, in the order of every (N, K) array.
        about: the whole of `potstill.json`: metrics, lineage, what was checked when it was made.
        pairs: True if it compares two texts: every text is then a pair.
        multi: True if a text may have several labels, or none: each is decided by itself.
        trust: what was measured of this very graph on held-out texts; None if nothing was.
        several: the same where a text may have several labels; `trust` is then None.
        threads: how many batches are computed at once; may be set.
        size_mb: megabytes (10^6 bytes) of the files that predicting reads.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any], threads: int, graph: str) -> None:
        self.folder = folder
        self.metadata = about
        self.labels = tuple(str(label) for label in about["labels"])
        self.graph = graph
        self.takes_pairs = about.get("task", {}).get("kind") == "pair"
        self.multilabel = about.get("task", {}).get("kind") == "multi"
        measured = _measured(about, graph)
        self.multilabel_guarantees = MultilabelGuarantees.from_json(measured) if measured and self.multilabel else None
        self.guarantees = Guarantees.from_json(measured) if measured and not self.multilabel else None
        self._scaling: Scaling | LabelScaling = LabelScaling() if self.multilabel else Scaling()
        self._threshold, self._cut = None, LabelThresholds()
        if self.multilabel_guarantees is not None:
            self._scaling, self._cut = self.multilabel_guarantees.scaling, self.multilabel_guarantees.label_thresholds
        elif self.multilabel:
            pass
        elif self.guarantees is not None:
            self._scaling, self._threshold = self.guarantees.scaling, self.guarantees.threshold()
        elif not about.get("trust"):  # what was measured of another graph does not count
            self._scaling = Scaling("temperature", scale=(1 / float(about["temperature"]),))
            self._threshold = about.get("abstain_below")
        self._reader = PREPROCESSORS[about["kind"]](folder, about["settings"])
        self._session = open_session(folder / graph)
        self.threads = threads
        needed = [METADATA_FILE, graph, *about["reader_files"]]
        self.size_mb = sum((folder / name).stat().st_size for name in needed) / 1e6

    @property
    def threshold(self) -> float | None:
        """The probability below which the student is not sure; None if there is no telling."""
        return self._threshold

    @overload
    def predict(self, texts: Sequence[Text], abstain: Literal[False] = False) -> list[str]:
        """A label for each text."""

    @overload
    def predict(self, texts: Sequence[Text], abstain: bool | float) -> list[str | None]:
        """A label, or None."""

    def predict(self, texts: Sequence[Text], abstain: bool | float = False) -> list[str] | list[str | None]:
        """The likeliest label of each of N texts; in a `multi` task a tuple of labels for each, likeliest first.

        Args:
            texts: N texts.
            abstain: True gives None where the student is not sure; a number in (0, 1) is the share of the labels given
                that has to be right, instead of the bundle's own.

        Raises:
            BadData: a text is not a string.
            BadInput: abstain, but no threshold could be shown to keep that promise.
        """
        logits = self.predict_logits(texts)
        if isinstance(self._scaling, LabelScaling):
            if abstain is not False:
                raise BadInput(*NO_MULTILABEL_SETS)
            return self.label_tuples(self.calibrated_probs(logits))  # type: ignore[return-value]
        said = [self.labels[column] for column in self._scaling.argmax(logits)]
        if abstain is False:
            return said
        threshold = self._threshold if abstain is True else self.threshold_for(abstain)
        if threshold is None:
            raise BadInput(*self._no_threshold(TARGET_PRECISION if abstain is True else abstain))
        sure = self.calibrated_probs(logits).max(axis=1) >= threshold
        return [label if keep else None for label, keep in zip(said, sure, strict=True)]

    def predict_proba(self, texts: Sequence[Text]) -> Floats:
        """(N, K) calibrated probabilities of N texts; rows sum to one, unless each label is decided by itself.

        Raises:
            BadData: a text is not a string.
        """
        return self.calibrated_probs(self.predict_logits(texts))

    def calibrated_probs(self, logits: Floats) -> Floats:
        """(N, K) logits of this graph -> (N, K) calibrated probabilities."""
        return np.asarray(self._scaling.apply(logits), dtype=np.float32)

    def predict_sets(self, texts: Sequence[Text], coverage: float = 0.9) -> list[tuple[str, ...]]:
        """For each of N texts the labels among which the right one is with probability `coverage`, likeliest first.

        Split conformal sets: true on average over texts that come as the held-out ones came, whatever the student.
        One label is a clear case; many mean that the student cannot tell.

        Raises:
            BadData: a text is not a string.
            BadInput: coverage is not between 0 and 1, or nothing was held out to measure it on.
        """
        return self.prediction_sets(self.predict_logits(texts), coverage)

    def prediction_sets(self, logits: Floats, coverage: float = 0.9) -> list[tuple[str, ...]]:
        """`predict_sets` for texts whose (N, K) logits are known already."""
        if self.multilabel:
            raise BadInput(*NO_MULTILABEL_SETS)
        if self.guarantees is None:
            raise BadInput("This bundle has no held-out texts to say how wide a label set must be.", HOLD_OUT_MEND)
        if not 0 < coverage < 1:
            raise BadInput(f"A coverage of {coverage} is not between 0 and 1.", "Ask for 0.9, for instance.")
        inside = self.guarantees.prediction_sets(logits, coverage)
        order = np.argsort(-self.calibrated_probs(logits), axis=1, kind="stable")
        return [tuple(self.labels[k] for k in ranked if row[k]) for ranked, row in zip(order, inside, strict=True)]

    def label_indicator(self, probs: Floats) -> NDArray[np.bool_]:
        """(N, K) probabilities -> (N, K) which labels are given: those above their thresholds, or the likeliest one."""
        if self.multilabel:
            return self._cut.apply(probs)
        return np.asarray(np.arange(len(self.labels)) == probs.argmax(axis=1)[:, None])

    def label_tuples(self, probs: Floats) -> list[tuple[str, ...]]:
        """(N, K) probabilities -> the labels given to each of N texts, likeliest first."""
        order = np.argsort(-probs, axis=1, kind="stable")
        given = self.label_indicator(probs)
        return [tuple(self.labels[k] for k in ranked if row[k]) for ranked, row in zip(order, given, strict=True)]

    def threshold_for(self, precision: float) -> float | None:
        """The probability from which on a share `precision` of the labels is right; None if none can be shown.

        Raises:
            BadInput: precision is not between 0 and 1.
        """
        if not 0 < precision < 1:
            raise BadInput(f"A precision of {precision} is not between 0 and 1.", "Ask for 0.95, for instance.")
        return None if self.guarantees is None else self.guarantees.threshold(precision)

    def _no_threshold(self, precision: float) -> tuple[str, str]:
        if self.guarantees is None:
            return "This bundle has no abstain threshold.", HOLD_OUT_MEND
        return (
            f"On {self.guarantees.n} held-out texts no threshold could be shown to make {precision:.0%} of the labels right "
            f"(with {GUARANTEE_CONFIDENCE:.0%} confidence).",
            "Ask for less, or hold out more labelled texts.",
        )

    def predict_logits(self, texts: Sequence[Text]) -> Floats:
        """(N, K) natural-log scores of N texts, before calibration.

        Raises:
            BadData: a text is not a string, or not two where two are compared.
        """
        texts = texts if isinstance(texts, str | list | tuple) else list(texts)
        logits = np.zeros((len(texts), len(self.labels)), dtype=np.float32)
        strings = _pairs(texts) if self.takes_pairs else texts
        if len(texts) > MAX_BLOCK_TEXTS and not self.takes_pairs:
            check_texts(strings)  # type: ignore[arg-type]
        # In blocks: the token ids of all texts at once would need many times the memory of the texts.
        for start in range(0, max(len(texts), 1), MAX_BLOCK_TEXTS):
            self._run(
                strings if len(texts) <= MAX_BLOCK_TEXTS else strings[start : start + MAX_BLOCK_TEXTS], logits[start:]
            )
        return logits

    def _run(self, texts: Sequence[Any], logits: Floats) -> None:
        """Write the scores of the texts into the first rows of `logits`."""

        def run(batch: tuple[NDArray[np.intp], Feeds]) -> None:
            rows, feeds = batch
            first = np.append(True, rows[1:] != rows[:-1])
            logits[rows[first]] = mean_by_row(rows, self._session.run(["logits"], feeds)[0])

        # Each batch on one thread, and several batches at once: more texts a second than several threads a batch,
        # and a busy neighbour slows one batch down instead of all. Later batches are filled while the first ones run.
        feeds = self._reader.feeds(texts)
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
        source = iter(texts)
        while block := list(islice(source, rows)):
            yield from self.predictions_from_logits(self.predict_logits(block))

    def predictions_from_logits(self, logits: Floats) -> Iterator[Prediction]:
        """(N, K) logits of this graph -> N predictions."""
        probabilities = self.calibrated_probs(logits)
        usual = [None] * len(logits) if self.guarantees is None else self.guarantees.typicality(logits).tolist()
        given = self.label_tuples(probabilities)
        best = zip(probabilities.argmax(axis=1), probabilities.max(axis=1), usual, given, strict=True)
        for column, probability, share, labels in best:
            sure = None if self._threshold is None else bool(probability >= self._threshold)
            yield Prediction(self.labels[column], float(probability), sure, share, labels)

    @property
    def truncated(self) -> int:
        """How many of all the texts it was given so far were too long to be read as a whole."""
        return self._reader.truncated

    def summary(self) -> dict[str, str | int | float | bool]:
        """What a report says of the bundle, flat."""
        flat: dict[str, str | int | float | bool] = {
            "kind": self.metadata["kind"],
            "graph": self.graph,
            "precision": "int8" if "int8" in self.graph else "fp32",
            "size_mb": round(self.size_mb, 2),
            "calibration": self._scaling.method,
        }
        if self.multilabel_guarantees is not None:
            flat["thresholds"] = "one for all" if len(self._cut.thresholds) == 1 else "one a label"
        if len(self._scaling.scale) == 1:
            flat["temperature"] = round(1 / self._scaling.scale[0], 4)
        for part in ("settings", "student"):
            for name, value in self.metadata.get(part, {}).items():
                if isinstance(value, str | int | float | bool) and name not in flat:
                    flat[name] = value
        return flat

    def notes(self) -> Iterator[str]:
        """Sentences a user of the bundle should have read."""
        yield from self.metadata.get("notes", ())


def load(path: str | Path, *, verify: bool = False, threads: int | None = None, graph: str | None = None) -> Bundle:
    """The bundle in a folder, or in the `bundle` folder of a run.

    Args:
        path: the bundle's or the run's folder.
        verify: compare every file's SHA-256 too; sizes are always compared.
        threads: how many batches are computed at once; None takes `POTSTILL_THREADS`, or one for each processor that
            this process may use.
        graph: "model.onnx" or "model.int8.onnx"; None takes the one that was found to serve best.

    Raises:
        NotARun: there is no bundle, it is damaged, or a newer potstill made it.
        MissingExtra: onnxruntime or tokenizers is not installed.
        BadInput: fewer than one thread.
    """
    if threads is not None and threads < 1:
        raise BadInput(f"{threads} threads cannot compute anything.", "Give one or more, or leave it open.")
    folder = Path(path)
    if not (folder / METADATA_FILE).is_file() and (folder / "bundle" / METADATA_FILE).is_file():
        folder = folder / "bundle"
    about = _read_record(folder)
    for name, file in about["files"].items():
        _check_file(folder, name, file, verify)
    chosen = graph or str(about["serve"])
    if chosen not in about["files"]:
        raise RunNotFound(f"{folder} holds no {chosen}.", "Leave the graph open, or export the bundle again.")
    try:
        return Bundle(folder, about, threads or available_cpus(), chosen)
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise RunNotFound(f"{folder} is damaged: {type(error).__name__}: {error}.", EXPORT_AGAIN) from error


def _pairs(texts: Sequence[Text]) -> list[str]:
    """The pairs as strings."""
    joined = [join_pair(*text) if isinstance(text, tuple) and len(text) == 2 else text for text in texts]
    if isinstance(texts, str) or not all(isinstance(text, str) and is_pair(text) for text in joined):
        raise BadData("This student compares two texts, and was given one.", "Give pairs: [(first, second), ...].")
    return [str(text) for text in joined]


def _measured(about: Mapping[str, Any], graph: str) -> Mapping[str, Any] | None:
    """What was measured, if it was measured of this graph and not of one that stood here before."""
    record = about.get("trust")
    if not record or record["graph"] != about["files"][graph]["sha256"]:
        return None
    return dict(record)


def _read_record(folder: Path) -> dict[str, Any]:
    file = folder / METADATA_FILE
    try:
        about: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        what = "holds no bundle" if folder.is_dir() else "does not exist or is no folder"
        raise RunNotFound(f"{folder} {what}.", "Give the folder of a finished run, or of a bundle.") from error
    except (OSError, ValueError) as error:
        raise RunNotFound(f"{file} cannot be read: {error}.", EXPORT_AGAIN) from error
    version = about.get("format") if isinstance(about, dict) else None
    if not isinstance(version, int):
        raise RunNotFound(f"{file} is not the record of a bundle.", EXPORT_AGAIN)
    missing = [name for name in _MUST if name not in about]
    if version > FORMAT or (not missing and about["kind"] not in PREPROCESSORS):
        raise RunNotFound(
            f"{folder} was made by a newer potstill ({about.get('made_by', 'unknown')}, format {version}).",
            "Upgrade with: pip install --upgrade potstill",
        )
    if missing:
        raise RunNotFound(f"{file} lacks {missing[0]!r}.", EXPORT_AGAIN)
    return about


_MUST = ("labels", "kind", "settings", "serve", "files", "reader_files", "temperature")


def _check_file(folder: Path, name: str, file: Mapping[str, Any], verify: bool) -> None:
    if Path(name).name != name:
        raise RunNotFound(f"{folder / METADATA_FILE} names the file {name!r}, which would lie elsewhere.", EXPORT_AGAIN)
    path = folder / name
    if not path.is_file():
        raise RunNotFound(f"{path} is missing.", EXPORT_AGAIN)
    if path.stat().st_size != file["bytes"]:
        raise RunNotFound(f"{path} has {path.stat().st_size} bytes, and {file['bytes']} were written.", EXPORT_AGAIN)
    if verify and sha256(path) != file["sha256"]:
        raise RunNotFound(f"{path} was changed: its SHA-256 differs from the record's.", EXPORT_AGAIN)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
