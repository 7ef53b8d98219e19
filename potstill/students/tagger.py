"""The tagger student: a transformer encoder with a label a word, for tasks of entities.

Each word of a text gets one of the 2 K + 1 labels of BIO, at its first token; the likeliest sequence of labels that is
possible gives the entities. All weights are fine-tuned, and training ends where entity F1 on validation texts is
highest. A text of any length is read as a whole, in windows.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from potstill.data.task import JsonObject
from potstill.errors import BadData, BadSpec, missing_extra
from potstill.models.bio import ScoredEntities, bio_labels, encode_bio
from potstill.models.device import DeviceName, check_device, portable_device, resolve_device, to_cpu
from potstill.models.entity_decoding import find_entities
from potstill.models.weights import find_weights
from potstill.models.word_units import UnitTokenizer
from potstill.registry import Options, read_options
from potstill.students.base import (
    ExportedGraph,
    FitInfo,
    Floats,
    OptionTable,
    PositiveFloat,
    PositiveInt,
    StudentCapabilities,
    StudentConfig,
    own_options,
)
from potstill.students.entity_student import EntityStudent, EntityTrainingData, MarkedTexts
from potstill.students.epoch_rule import EpochRule
from potstill.students.saved_student import SavedStudent
from potstill.students.training_data import content_order, hash_split

if TYPE_CHECKING:
    from potstill.students.tagger_network import TaggedWindows, TaggerNetwork

DEFAULT_WEIGHTS = "minilm"
RECORD_FILE = "tagger.json"
DEFAULT_LENGTH = 256  # tokens of a window
EPOCHS = EpochRule(target_steps=400, min_epochs=3, max_epochs=20)
# F1 on few validation texts is noisy, and may be zero at first.
N_EVALUATIONS, PATIENCE = 12, 4
MIN_TEXTS_TO_HOLD_OUT = 200  # without validation texts; with fewer all are trained on


class TaggerOptions(Options):
    """The `[student]` table of a tagger.

    Attributes:
        epochs: passes over the texts; None derives them from their number.
        lr: peak learning rate.
        batch_size: windows per step.
        max_length: tokens of a window at most; None takes 256 or what the weights allow.
        device: device for training and prediction; "auto" is a GPU if PyTorch has one. Bundles run on the CPU.
    """

    epochs: PositiveFloat | None = None
    lr: PositiveFloat = 2e-4
    batch_size: PositiveInt = 16
    max_length: PositiveInt | None = None
    device: DeviceName = "auto"


class SavedTagger(SavedStudent):
    """`tagger.json`.

    Attributes:
        weights: the user's name of the pretrained weights.
        options: the user's.
        max_length: tokens of a window at most.
        inexact: share of the entities trained on that begin or end inside a word.
        fit_info: what `fit` did.
        licence: of the pretrained weights.
    """

    weights: str
    options: TaggerOptions
    max_length: int
    inexact: float
    fit_info: FitInfo
    licence: str


class TaggerStudent(EntityStudent):
    """A student of entities on a transformer encoder. See `students.entity_student.EntityStudent` for the contract.

    Attributes:
        inexact: share of the entities trained on that begin or end inside a word, and were learnt as whole words.
        fit_info: what the last `fit` did.
    """

    capabilities = StudentCapabilities(
        task_kinds=frozenset({"text2text"}), output_forms=frozenset({"entities"}), pretrained=True
    )

    def __init__(self, config: StudentConfig) -> None:
        if config.kind != "text2text":
            raise BadSpec(
                f"The student 'tagger' finds entities, and cannot learn a task of the kind {config.kind!r}.",
                "Take another with --student, or mark entities in the texts (--form entities).",
            )
        self.labels = tuple(config.labels)
        self.weights = config.weights or DEFAULT_WEIGHTS
        self.options = read_options(TaggerOptions, "student 'tagger'", config.options)
        check_device(self.options.device)
        self.inexact = 0.0
        self.fit_info = FitInfo()
        self._network: TaggerNetwork | None = None
        self._tokenizer: UnitTokenizer | None = None
        self._licence = "unknown"

    @property
    def metadata(self) -> JsonObject:
        """See `TrainedModel.metadata`."""
        inexact = {"inexact": self.inexact} if self.inexact else {}
        return {"weights": self.weights, "licence": self._licence, **inexact, **self.fit_info.to_json()}

    @classmethod
    def training_passes(cls, options: OptionTable, n_rows: int) -> float:
        """See `TrainedModel.training_passes`."""
        own = read_options(TaggerOptions, "student 'tagger'", own_options(options))
        return own.epochs or EPOCHS.epochs(own.batch_size, n_rows)

    def check_requirements(self) -> None:
        """See `TrainedModel.check_requirements`."""
        if find_spec("torch") is None or find_spec("transformers") is None:
            raise missing_extra("torch", "train", "A tagger")
        find_weights(self.weights, kind="encoder")

    def fit(self, data: EntityTrainingData) -> Self:
        """Train from scratch; see `EntityStudent.fit`. The order of the texts does not matter."""
        train, validation = _split(data)
        deadline = None if data.time_limit_s is None else time.monotonic() + data.time_limit_s
        self._load_pretrained()
        tokenizer, network = self._loaded()
        from potstill.students.encoder_training import STOPPED_EARLY, FineTuningConfig, fine_tune
        from potstill.students.tagger_network import TaggedWindows, ValidationTexts

        rows = self._windows(train)
        held_out = None
        if len(validation):
            encoded = tokenizer.encode(validation.texts)
            pairs = zip(encoded.texts, validation.entities, strict=True)
            labels = [encode_bio(text.starts, text.ends, marks, self.labels)[0] for text, marks in pairs]
            held_out = TaggedWindows((), (), ValidationTexts(encoded, validation.entities, self.labels, labels))
        epochs = self.options.epochs or EPOCHS.epochs(self.options.batch_size, len(rows.ids))
        result = fine_tune(
            network,
            rows,
            FineTuningConfig(
                epochs=epochs,
                lr=self.options.lr,
                head_lr=1e-3,
                batch_size=self.options.batch_size,
                deadline=deadline,
                n_evaluations=N_EVALUATIONS,
                patience=PATIENCE,
            ),
            pad_id=tokenizer.pad_id,
            validation=held_out,
            seed=data.seed,
            progress=data.progress,
        )
        self.fit_info = FitInfo(
            mode="full",
            rows=len(data.train),
            steps=result.steps,
            epochs=epochs,
            stop_reason="validation F1 rose no more" if result.stop_reason == STOPPED_EARLY else result.stop_reason,
            validation_rows=len(validation),
        )
        return self

    def _windows(self, marked: MarkedTexts) -> TaggedWindows:
        """The windows of the texts with the labels of their tokens; counts entities that are no whole words."""
        from potstill.students.tagger_network import UNLABELLED, TaggedWindows

        encoded = self._loaded()[0].encode(marked.texts)
        labels = [np.full(len(ids), UNLABELLED, dtype=np.int64) for ids in encoded.ids]
        n_inexact, n = 0, 0
        for text, entities in zip(encoded.texts, marked.entities, strict=True):
            own, inexact = encode_bio(text.starts, text.ends, entities, self.labels)
            n_inexact, n = n_inexact + inexact, n + len(entities)
            for window, position, label in zip(text.window, text.position, own, strict=True):
                labels[window][position] = label
        self.inexact = n_inexact / max(n, 1)
        return TaggedWindows(encoded.ids, labels)

    def unit_scores(self, texts: Sequence[str]) -> list[Floats]:
        """See `EntityStudent.unit_scores`."""
        from potstill.students.tagger_network import unit_scores

        tokenizer, network = self._loaded()
        return unit_scores(network, tokenizer.encode(texts), tokenizer.pad_id)

    def find_entities(self, texts: Sequence[str]) -> list[ScoredEntities]:
        """See `EntityStudent.find_entities`."""
        from potstill.students.tagger_network import unit_scores

        tokenizer, network = self._loaded()
        encoded = tokenizer.encode(texts)
        return find_entities(unit_scores(network, encoded, tokenizer.pad_id), encoded.texts, self.labels)

    def save(self, folder: Path) -> None:
        """Write `tagger.json`, `config.json`, `network.safetensors` and `tokenizer.json`."""
        from potstill.students.backbone import save_network

        tokenizer, network = self._loaded()
        save_network(network, folder)
        shutil.copyfile(tokenizer.file, folder / "tokenizer.json")
        SavedTagger(
            labels=self.labels,
            kind="text2text",
            weights=self.weights,
            options=self.options,
            max_length=tokenizer.max_length,
            inexact=self.inexact,
            fit_info=self.fit_info,
            licence=self._licence,
        ).write(folder / RECORD_FILE)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load what `save` wrote; predictions are exactly the same."""
        from potstill.students.tagger_network import load_tagger

        record = SavedTagger.read(folder / RECORD_FILE)
        options = {**record.options.model_dump(), "device": portable_device(record.options.device)}
        student = cls(StudentConfig(record.labels, record.weights, options=options, kind=record.kind))
        student.inexact, student.fit_info, student._licence = record.inexact, record.fit_info, record.licence
        network = load_tagger(folder, len(bio_labels(student.labels)))
        student._set_network(folder / "tokenizer.json", record.max_length, network)
        return student

    def export(self, folder: Path) -> ExportedGraph:
        """Write `model.onnx` and `tokenizer.json`."""
        from potstill.students.torch_onnx import write_torch_onnx

        tokenizer, network = self._loaded()
        write_torch_onnx(to_cpu(network), folder / "model.onnx")
        shutil.copyfile(tokenizer.file, folder / "tokenizer.json")
        return ExportedGraph("units", tokenizer.config, quantizable=True)

    def _load_pretrained(self) -> None:
        """Load the pretrained weights anew: `fit` never starts from what an earlier `fit` left."""
        try:
            from potstill.students.tagger_network import init_tagger
        except ModuleNotFoundError as error:
            raise missing_extra(error.name or "torch", "train", "A tagger") from error
        weights = find_weights(self.weights, kind="encoder")
        self._licence = weights.licence
        network = init_tagger(weights.folder, len(bio_labels(self.labels)))
        max_length = self.options.max_length or min(DEFAULT_LENGTH, network.max_positions)
        if not 8 <= max_length <= network.max_positions:
            raise BadSpec(
                f"max_length is {max_length}, and {self.weights} reads 8 to {network.max_positions} tokens at once.",
                "Leave it out: longer texts are read in windows.",
            )
        self._set_network(weights.folder / "tokenizer.json", max_length, network)
        self.fit_info = FitInfo()

    def _set_network(self, tokenizer_file: Path, max_length: int, network: TaggerNetwork) -> None:
        self._tokenizer = UnitTokenizer(tokenizer_file, max_length)
        self._network = network.to(resolve_device(self.options.device))

    def _loaded(self) -> tuple[UnitTokenizer, TaggerNetwork]:
        if self._tokenizer is None or self._network is None:
            raise BadSpec("The tagger is not trained.", "Call fit first.")
        return self._tokenizer, self._network


def _split(data: EntityTrainingData) -> tuple[MarkedTexts, MarkedTexts]:
    """The texts to train on, sorted by content, and those to stop by: given, or a part of them.

    Raises:
        BadData: no texts, or no entity in them.
    """
    if not any(data.train.entities):
        what = "no texts" if not len(data.train) else "no entity in any text"
        raise BadData(f"There are {what} to train on.", "Mark entities in some texts.")
    order = content_order(data.train.texts).tolist()
    train = MarkedTexts([data.train.texts[i] for i in order], [data.train.entities[i] for i in order])
    if len(data.validation) or len(train) < MIN_TEXTS_TO_HOLD_OUT:
        return train, data.validation
    split = hash_split(train.texts, data.seed)
    held, kept = np.flatnonzero(split.validation).tolist(), np.flatnonzero(split.train).tolist()
    return replace(
        train, texts=[train.texts[i] for i in kept], entities=[train.entities[i] for i in kept]
    ), MarkedTexts([train.texts[i] for i in held], [train.entities[i] for i in held])
