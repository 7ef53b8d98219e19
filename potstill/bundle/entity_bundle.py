"""A bundle of a student that finds entities: predict with it. Needs numpy, onnxruntime and tokenizers, never torch.

The sibling of `Bundle`: the same folder, record and checks, and `predict` gives the entities of each text. Get one from
`load_entities`. Does not cover calibration: a confidence is a geometric mean of probabilities, not a frequency.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.bundle.bundle import TRY_OUT_TEXTS
from potstill.bundle.form_bundle import BLOCK_TEXTS, FormBundle
from potstill.bundle.preprocessors import Feeds, UnitPreprocessor
from potstill.bundle.record import EXPORT_AGAIN
from potstill.bundle.text_inputs import read_inputs
from potstill.data.task import JsonObject
from potstill.errors import BadData
from potstill.models.bio import ScoredEntities, bio_labels
from potstill.models.entity_decoding import find_entities, gather_units
from potstill.models.tokens.tokenizer import check_texts

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class PredictedEntity:
    """An entity that a student found.

    Attributes:
        start, end: the characters it begins with and ends before.
        type: one of the task's.
        text: its words, `text[start:end]`.
        confidence: in [0, 1], the geometric mean of the probabilities of its words' labels.
    """

    start: int
    end: int
    type: str
    text: str
    confidence: float

    def to_json(self) -> JsonObject:
        """The fields, the confidence with four digits."""
        return {**asdict(self), "confidence": round(self.confidence, 4)}


class EntityBundle(FormBundle[UnitPreprocessor]):
    """A trained student of entities; `labels` are the K types, and the preprocessor gives windows and their words."""

    form = "entities"
    preprocessor_type = UnitPreprocessor

    def predict(self, texts: Sequence[str]) -> list[tuple[PredictedEntity, ...]]:
        """The entities of each of N texts, in their order; an empty tuple where none was found.

        Args:
            texts: N texts: a list, a column, or a data frame, Arrow table, data set or list of dictionaries, which is
                read by the column the student was trained on.

        Raises:
            BadData: a text is not a string, or a frame lacks the column.
        """
        return list(self.iter_predictions(texts))

    def iter_predictions(self, texts: Iterable[str], rows: int = BLOCK_TEXTS) -> Iterator[tuple[PredictedEntity, ...]]:
        """The entities of each text, in order, holding at most `rows` texts at a time."""
        source = iter(read_inputs(texts, self.record) if hasattr(texts, "__getitem__") else texts)
        while block := list(islice(source, rows)):
            check_texts(block)
            for text, found in zip(block, self.find_entities(block), strict=True):
                yield tuple(
                    PredictedEntity(each.start, each.end, each.type, text[each.start : each.end], confidence)
                    for each, confidence in zip(found.entities, found.confidences, strict=True)
                )

    def find_entities(self, texts: Sequence[str]) -> list[ScoredEntities]:
        """The entities of N texts and the confidence in each."""
        found: list[ScoredEntities] = []
        for start in range(0, len(texts), BLOCK_TEXTS):
            block = list(texts[start : start + BLOCK_TEXTS])
            units, scores = self._unit_scores(block)
            found += find_entities(scores, units, self.labels)
        return found

    def unit_scores(self, texts: Sequence[str]) -> list[Floats]:
        """N arrays (U_i, 2 K + 1) of scores in nats, a row a word, in the order of `models.bio.bio_labels`."""
        return self._unit_scores(texts)[1]

    def try_out(self) -> None:
        """Predict two texts. Raises BadData, or the error of a library, if the files do not fit together."""
        self.find_entities(TRY_OUT_TEXTS)

    def _unit_scores(self, texts: Sequence[str]) -> tuple[list[Any], list[Floats]]:
        encoded = self.preprocessor.encode(texts)
        n_labels = len(bio_labels(self.labels))
        tokens: list[Floats] = [np.zeros((0, n_labels), dtype=np.float32)] * len(encoded.ids)

        def run(batch: tuple[NDArray[np.intp], Feeds]) -> None:
            rows, feeds = batch
            found = self.session.run(["logits"], feeds)[0]
            shape = feeds["input_ids"].shape
            if np.shape(found) != (*shape, n_labels):
                raise BadData(
                    f"The graph {self.graph} gives values of the shape {np.shape(found)} for {shape} tokens and "
                    f"{n_labels} labels.",
                    EXPORT_AGAIN,
                )
            for row, scores in zip(rows, found, strict=True):
                tokens[row] = scores

        batches = self.preprocessor.batches(encoded.ids)
        if len(encoded.ids) > 1 and self.threads > 1:
            with ThreadPoolExecutor(self.threads) as pool:
                for _ in pool.map(run, batches):
                    pass
        else:
            for batch in batches:
                run(batch)
        scores = [gather_units(text, tokens, n_labels) for text in encoded.texts]
        bad = next((row for row, each in enumerate(scores) if not np.isfinite(each).all()), None)
        if bad is not None:
            shown = str(texts[bad])[:60]
            raise BadData(f"The graph {self.graph} gives no finite score for text {bad + 1} ({shown!r}).", EXPORT_AGAIN)
        return encoded.texts, scores


def load_entities(
    path: str | Path, *, verify: bool = False, threads: int | None = None, graph: str | None = None
) -> EntityBundle:
    """The bundle of entities in a folder; see `FormBundle.open`."""
    return EntityBundle.open(path, verify=verify, threads=threads, graph=graph)
