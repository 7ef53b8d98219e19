"""A transformer encoder with a linear head on every token, and its training on labelled units.

Knows token ids, no texts and no files but the weights'. Optimiser steps are in `encoder_training`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from potstill.evaluation.text2text.entities import Entities, entity_counts, micro_f1
from potstill.models.bio import log_softmax
from potstill.models.device import device_of
from potstill.models.entity_decoding import find_entities, gather_units
from potstill.models.tokens.tokenizer import Ids, length_batches, pad_batch
from potstill.models.word_units import EncodedUnits
from potstill.students.backbone import EncoderNetwork, HeadedNetwork, autocast, init_network, load_network
from potstill.students.base import Floats

TIE_WEIGHT = 1e-4  # of the cross-entropy beside entity F1
UNLABELLED = -100  # of tokens that stand for no unit


class TaggerNetwork(EncoderNetwork):
    """Backbone and head: (B, T) ids and mask -> (B, T, L) scores. The pooling is not used."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, T) ids and mask -> (B, T, L) scores in nats."""
        logits: Tensor = self.head(self.states(input_ids, attention_mask))
        return logits

    def states(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, T) ids and mask -> (B, T, D) states of the last layer."""
        states: Tensor = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return states


def init_tagger(folder: Path, n_labels: int) -> TaggerNetwork:
    """Load the pretrained backbone of a transformers folder, under a head of zeros. Raises MissingWeights."""
    return _as_tagger(init_network(folder, n_labels, "mean"))


def load_tagger(folder: Path, n_labels: int) -> TaggerNetwork:
    """Load the network that `backbone.save_network` wrote, bit for bit."""
    return _as_tagger(load_network(folder, n_labels, "mean"))


def _as_tagger(network: EncoderNetwork) -> TaggerNetwork:
    tagger = TaggerNetwork(network.backbone, network.head.out_features, "mean")
    tagger.head = network.head
    return tagger.eval()


@dataclass(frozen=True)
class ValidationTexts:
    """Texts whose entity F1 decides when to stop.

    Attributes:
        encoded: their windows and units.
        entities: their gold entities.
        types: the K types.
        labels: N arrays with the label of each unit.
    """

    encoded: EncodedUnits
    entities: Sequence[Entities]
    types: tuple[str, ...]
    labels: Sequence[NDArray[np.int64]]


@dataclass(frozen=True)
class TaggedWindows:
    """N windows of token ids with a label a token: rows of `encoder_training.fine_tune`.

    Attributes:
        ids: N arrays of token ids.
        labels: N arrays of labels, as long; UNLABELLED for tokens that stand for no unit.
        validation: what `validation_loss` is measured on; the rows are then not used.
    """

    ids: Sequence[Ids]
    labels: Sequence[NDArray[np.int64]]
    validation: ValidationTexts | None = None

    @property
    def hint_features(self) -> Floats | None:
        """See `TrainingRows`: never any."""
        return None

    def take(self, rows: NDArray[np.intp]) -> Self:
        """These rows only."""
        return replace(self, ids=[self.ids[row] for row in rows], labels=[self.labels[row] for row in rows])

    def block_loss(self, network: HeadedNetwork, pad_id: int, hint_map: nn.Linear | None, dropout: float) -> Tensor:
        """See `TrainingRows`: the mean cross-entropy of a window's units, summed over the windows."""
        assert isinstance(network, TaggerNetwork)
        device = device_of(network)
        ids, mask = (torch.from_numpy(array).to(device) for array in pad_batch(self.ids, pad_id))
        labels = torch.full(tuple(ids.shape), UNLABELLED, dtype=torch.int64, device=device)
        for row, own in enumerate(self.labels):
            labels[row, : len(own)] = torch.from_numpy(own).to(device)
        states = nn.functional.dropout(network.states(ids, mask), dropout)
        scores = network.head(states).float()
        losses = nn.functional.cross_entropy(scores.transpose(1, 2), labels, ignore_index=UNLABELLED, reduction="none")
        known = (labels != UNLABELLED).sum(1).clamp(min=1)
        return (losses.sum(1) / known).sum()

    def validation_loss(self, network: HeadedNetwork, pad_id: int) -> float:
        """See `TrainingRows`: 1 - micro F1 of the validation texts; of equal ones the smaller cross-entropy counts."""
        assert isinstance(network, EncoderNetwork)
        assert self.validation is not None
        found = self.validation
        scores = unit_scores(network, found.encoded, pad_id, low_precision=True)
        predicted = [each.entities for each in find_entities(scores, found.encoded.texts, found.types)]
        f1 = micro_f1(entity_counts(found.entities, predicted, found.types))
        rows = [log_softmax(each)[np.arange(len(own)), own] for each, own in zip(scores, found.labels, strict=True)]
        return 1 - f1 - TIE_WEIGHT * float(np.concatenate(rows).mean() if rows else 0.0)


def unit_scores(
    network: EncoderNetwork, encoded: EncodedUnits, pad_id: int, *, low_precision: bool = False
) -> list[Floats]:
    """N arrays (U_i, L) of scores in nats, a row a unit."""
    n_labels = network.head.out_features
    tokens: list[Floats] = [np.zeros((0, n_labels), dtype=np.float32)] * len(encoded.ids)
    device = device_of(network)
    with torch.inference_mode(), autocast(low_precision, device):
        for rows in length_batches([len(row) for row in encoded.ids]):
            batch = (torch.from_numpy(each).to(device) for each in pad_batch([encoded.ids[i] for i in rows], pad_id))
            for row, scores in zip(rows, network(*batch).float().cpu().numpy(), strict=True):
                tokens[row] = scores
    return [gather_units(text, tokens, n_labels) for text in encoded.texts]
