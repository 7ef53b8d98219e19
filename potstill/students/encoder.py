"""The encoder student: a BERT-like sentence encoder under a linear head, frozen or fine-tuned.

With few rows a regularised regression on frozen embeddings is hard to beat; with many rows fine-tuning is more
accurate. `training_strategy` does both in turn. The two texts of a pair are encoded together, as the tokenizer joins
them. Texts that are not read as a whole are counted in `truncated`.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from potstill.data.task import JsonObject
from potstill.errors import BadSpec, missing_extra
from potstill.models.device import check_device, portable_device, resolve_device, to_cpu
from potstill.models.tokens.tokenizer import TextTokenizer
from potstill.models.weights import Pooling, find_weights
from potstill.registry import read_options
from potstill.students.base import (
    ALL_TASK_KINDS,
    ExportedGraph,
    FitInfo,
    Floats,
    OptionTable,
    Student,
    StudentCapabilities,
    StudentConfig,
    TrainingData,
    own_options,
)
from potstill.students.encoder_options import ENCODER_EPOCHS, MIN_ROWS_TO_HOLD_OUT, EncoderOptions, TrainingStrategy
from potstill.students.label_names import label_texts
from potstill.students.saved_student import SavedStudent
from potstill.students.training_data import check_training_data, probabilities, sort_by_content

if TYPE_CHECKING:
    from torch import Tensor

    from potstill.students.backbone import EncoderNetwork
    from potstill.students.encoder_training import EncodedBatch

DEFAULT_WEIGHTS = "minilm"
RECORD_FILE = "encoder.json"


class SavedEncoder(SavedStudent):
    """`encoder.json`.

    Attributes:
        weights: the user's name of the pretrained weights.
        options: the user's.
        pooling: of the network.
        max_length: tokens of a text at most.
        truncated: share of the training texts that were not read as a whole.
        unknown: share of the training texts that are mostly unknown tokens.
        fit_info: what `fit` did.
        licence: of the pretrained weights.
    """

    weights: str
    options: EncoderOptions
    pooling: Pooling
    max_length: int
    truncated: float
    unknown: float = 0.0
    fit_info: FitInfo
    licence: str


class EncoderStudent(Student):
    """A student on a transformer encoder. See `students.base.Student` for the contract.

    Attributes:
        truncated: share of the training texts that were not read as a whole, in [0, 1].
        unknown: share of the training texts that are mostly unknown tokens, in [0, 1].
        fit_info: what the last `fit` did.
    """

    revision = 2  # few rows: the head is pulled to the label names
    capabilities = StudentCapabilities(
        task_kinds=ALL_TASK_KINDS,
        vectors=True,
        pretrained=True,
        quick_options={"mode": "frozen"},
        pseudo_label_options={"few_shot": True},
        zero_shot=True,
        zero_shot_options={"head": "label"},
        exports=("onnx", "transformers"),
    )

    def __init__(self, config: StudentConfig) -> None:
        self.labels = tuple(config.labels)
        self.weights = config.weights or DEFAULT_WEIGHTS
        self.kind = config.kind
        self.descriptions = dict(config.descriptions)
        self.options = read_options(EncoderOptions, "student 'encoder'", config.options)
        check_device(self.options.device)
        self.truncated = self.unknown = 0.0
        self.fit_info = FitInfo()
        self._network: EncoderNetwork | None = None
        self._tokenizer: TextTokenizer | None = None
        self._licence = "unknown"

    @property
    def metadata(self) -> JsonObject:
        """See `Student.metadata`."""
        long = "head" if self.kind == "pair" else self.options.long_texts
        facts = {"weights": self.weights, "licence": self._licence, "truncated": self.truncated, "long": long}
        facts |= {"unknown": self.unknown} if self.unknown else {}
        return {**facts, **self.fit_info.to_json()}

    @classmethod
    def training_passes(cls, options: OptionTable, n_rows: int) -> float:
        """See `Student.training_passes`."""
        own = read_options(EncoderOptions, "student 'encoder'", own_options(options))
        if own.mode == "frozen":
            return 0.0
        epochs = own.epochs or ENCODER_EPOCHS.epochs(own.batch_size, n_rows)
        return epochs * (own.n_averaged if n_rows < MIN_ROWS_TO_HOLD_OUT else 1)

    def check_requirements(self) -> None:
        """See `Student.check_requirements`."""
        if find_spec("torch") is None or find_spec("transformers") is None:
            raise missing_extra("torch", "train", "An encoder student")
        find_weights(self.weights, kind="encoder")

    def fit(self, data: TrainingData) -> Self:
        """Train from scratch; see `Student.fit`. The order of the rows does not matter.

        With `head = "label"` there may be no rows: the head is then made of the embedded label names.
        """
        zero_shot = self.options.head == "label" and not len(data.texts)
        if not zero_shot:
            data = sort_by_content(check_training_data(data, len(self.labels), self.kind))
        deadline = None if data.time_limit_s is None else time.monotonic() + data.time_limit_s
        self.load_pretrained()
        tokenizer, network = self._loaded()
        if isinstance(data.init_from, EncoderStudent) and data.init_from.weights == self.weights:
            network.load_state_dict(data.init_from._loaded()[1].state_dict())
        from potstill.students import training_strategy

        label_names = self._label_name_batch(tokenizer)
        if zero_shot:
            assert label_names is not None  # a label head without readable names is refused
            self.fit_info = training_strategy.init_zero_shot(network, label_names, tokenizer.pad_id)
            return self
        batch = self._training_batch(data, tokenizer)
        strategy = TrainingStrategy(self.options, data.seed, deadline, data.progress)
        self.fit_info = training_strategy.fit(network, batch, tokenizer.pad_id, strategy, label_names)
        return self

    def _training_batch(self, data: TrainingData, tokenizer: TextTokenizer) -> EncodedBatch:
        from potstill.students.encoder_training import EncodedBatch

        # Windows are for predictions; a training text is one row, its head and tail.
        if tokenizer.long == "windows":
            tokenizer = TextTokenizer(tokenizer.file, tokenizer.max_length, long="head+tail")
        encoded = tokenizer.encode(data.texts)
        self.truncated, self.unknown = (n / len(data.texts) for n in (encoded.truncated, encoded.unknown))
        assert data.sample_weight is not None  # set by check_training_data
        noisy = np.zeros(len(data.texts), dtype=np.bool_) if data.noisy is None else data.noisy
        batch = EncodedBatch(encoded.ids, data.targets, data.sample_weight, noisy, multi=self.kind == "multi")
        if data.hint is None:
            return batch
        features = data.hint.teacher.embed(data.texts)
        return replace(batch, hint_features=features, hint_weight=data.hint.loss_weight)

    def _label_name_batch(self, tokenizer: TextTokenizer) -> EncodedBatch | None:
        """The label names and descriptions as rows; None if they are not wanted or no label has any.

        Raises:
            BadSpec: the head is "label", and a label has neither a name in words nor a description.
        """
        from potstill.students.encoder_training import EncodedBatch

        names = label_texts(self.labels, self.descriptions)
        label_head = self.options.head == "label"
        if label_head and (self.kind != "single" or not names.covers_all(len(self.labels))):
            why = "not every label has one in words" if self.kind == "single" else f"this is a {self.kind} task"
            raise BadSpec(
                f'head = "label" starts from the names of the labels, and {why}.',
                'Describe the labels, or use head = "linear".',
            )
        if self.kind != "single" or not names.texts or not (label_head or self.options.label_names):
            return None
        columns = np.array(names.columns)
        targets = np.eye(len(self.labels), dtype=np.float32)[columns]
        ids, n = tokenizer.encode(names.texts).ids, len(columns)
        return EncodedBatch(ids, targets, np.ones(n, dtype=np.float32), np.zeros(n, dtype=np.bool_))

    def predict_logits(self, texts: Sequence[str]) -> Floats:
        """(N, K) scores in nats."""
        return self._predict(self._loaded()[1].forward, texts, len(self.labels))

    def predict_proba(self, texts: Sequence[str]) -> Floats:
        """(N, K) probabilities; rows sum to one, except in multi-label tasks."""
        return probabilities(self.predict_logits(texts), self.kind)

    def embed(self, texts: Sequence[str]) -> Floats:
        """(N, D) embeddings of length one, the inputs of the head."""
        network = self._loaded()[1]
        return self._predict(network.embed, texts, network.dim)

    def save(self, folder: Path) -> None:
        """Write `encoder.json`, `config.json`, `network.safetensors` and `tokenizer.json`."""
        from potstill.students.backbone import save_network

        tokenizer, network = self._loaded()
        save_network(network, folder)
        shutil.copyfile(tokenizer.file, folder / "tokenizer.json")
        SavedEncoder(
            labels=self.labels,
            kind=self.kind,
            weights=self.weights,
            options=self.options,
            pooling=network.pooling,
            max_length=tokenizer.max_length,
            truncated=self.truncated,
            unknown=self.unknown,
            fit_info=self.fit_info,
            licence=self._licence,
        ).write(folder / RECORD_FILE)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load what `save` wrote; predictions are exactly the same."""
        from potstill.students.backbone import load_network

        record = SavedEncoder.read(folder / RECORD_FILE)
        options = {**record.options.model_dump(), "device": portable_device(record.options.device)}
        student = cls(StudentConfig(record.labels, record.weights, options=options, kind=record.kind))
        student.truncated, student.fit_info, student._licence = record.truncated, record.fit_info, record.licence
        student.unknown = record.unknown
        network = load_network(folder, len(student.labels), record.pooling)
        student._set_network(folder / "tokenizer.json", record.max_length, network)
        return student

    def export(self, folder: Path) -> ExportedGraph:
        """Write `model.onnx`, `tokenizer.json` and what transformers' pipelines and transformers.js load."""
        from potstill.students.torch_onnx import write_torch_onnx
        from potstill.students.transformers_export import save_for_transformers

        tokenizer, network = self._loaded()
        network = to_cpu(network)
        write_torch_onnx(network, folder / "model.onnx", embedding=self.kind != "pair")
        shutil.copyfile(tokenizer.file, folder / "tokenizer.json")
        save_for_transformers(network, self.labels, tokenizer.max_length, folder, multi=self.kind == "multi")
        return ExportedGraph("tokens", tokenizer.config, quantizable=True)

    def load_pretrained(self) -> bool:
        """Load the pretrained weights anew: `fit` never starts from what an earlier `fit` left."""
        try:
            from potstill.students.backbone import init_network
        except ModuleNotFoundError as error:
            raise missing_extra(error.name or "torch", "train", "An encoder student") from error
        weights = find_weights(self.weights, kind="encoder")
        self._licence = weights.licence
        network = init_network(weights.folder, len(self.labels), weights.pooling)
        max_length = self.options.max_length or min(256, network.max_positions)
        if max_length > network.max_positions:
            raise BadSpec(
                f"max_length is {max_length}, and {self.weights} reads at most {network.max_positions} tokens.",
                f"Set max_length = {network.max_positions} or less.",
            )
        self._set_network(weights.folder / "tokenizer.json", max_length, network)
        self.fit_info = FitInfo()
        return True

    def _set_network(self, tokenizer_file: Path, max_length: int, network: EncoderNetwork) -> None:
        self._tokenizer = TextTokenizer(
            tokenizer_file, max_length, pairs=self.kind == "pair", long=self.options.long_texts
        )
        self._network = network.to(resolve_device(self.options.device))
        if self.kind == "pair" and getattr(network.backbone.config, "type_vocab_size", 1) > 1:
            network.segment_separator_id = self._tokenizer.segment_separator_id

    def _loaded(self) -> tuple[TextTokenizer, EncoderNetwork]:
        if self._tokenizer is None or self._network is None:
            raise BadSpec("The encoder student is not trained.", "Call fit first.")
        return self._tokenizer, self._network

    def _predict(self, forward: Callable[..., Tensor], texts: Sequence[str], width: int) -> Floats:
        """(N, width) outputs of the network's method `forward`, the mean over the windows of a text."""
        from potstill.students.backbone import predict_batches

        tokenizer, _ = self._loaded()
        encoded = tokenizer.encode(texts)
        if not encoded.ids:
            return np.zeros((0, width), dtype=np.float32)
        return encoded.mean_over_windows(predict_batches(forward, encoded.ids, tokenizer.pad_id))
