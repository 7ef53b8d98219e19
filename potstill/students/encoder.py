"""The encoder student: a BERT-like sentence encoder, a logistic regression on its frozen vectors, then all weights.

The order matters. With few rows the frozen vectors under a well-regularised regression are hard to beat; with many
(soft) rows fine-tuning wins. So the regression comes first and is where fine-tuning starts (linear probing, then
fine-tuning: Kumar et al. 2022), and where rows can be spared for it, the better of the two on them is kept.
Two texts of a pair are read together, as the tokenizer joins them. What is not read of a long text is counted in
`truncated`.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from potstill.errors import BadSpec, missing_extra
from potstill.models.device import check_device, portable_options, resolve_device, to_cpu
from potstill.models.tokens.tokenizer import TextTokenizer
from potstill.models.weights import find_weights
from potstill.registry import read_options
from potstill.students.base import (
    ALL_TASK_KINDS,
    ExportedGraph,
    Floats,
    Student,
    StudentCapabilities,
    StudentConfig,
    TrainingData,
    own_options,
)
from potstill.students.encoder_options import ENCODER_EPOCHS, MIN_ROWS_TO_HOLD_OUT, EncoderOptions
from potstill.students.label_names import label_texts
from potstill.students.training_data import check_training_data, probabilities, sort_by_content

if TYPE_CHECKING:
    from potstill.students.backbone import EncoderNetwork
    from potstill.students.encoder_training import EncodedBatch

DEFAULT_WEIGHTS = "minilm"


class EncoderStudent(Student):
    """A student on a transformer encoder. See `students.base.Student` for the contract.

    Attributes:
        truncated: share of the lesson's texts that were not read as a whole, in [0, 1].
        learnt: facts of the last `fit`: mode, steps, losses, how it ended.
    """

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
        self.truncated = 0.0
        self.fit_info: dict[str, Any] = {}
        self._network: EncoderNetwork | None = None
        self._tokens: TextTokenizer | None = None
        self._licence = "unknown"

    @property
    def metadata(self) -> dict[str, Any]:
        """Facts for a report and for the model card."""
        facts = {"weights": self.weights, "licence": self._licence, "truncated": self.truncated}
        return facts | {"long": "head" if self.kind == "pair" else self.options.long} | self.fit_info

    @classmethod
    def training_passes(cls, options: Mapping[str, Any], n_rows: int) -> float:
        """See `Student.training_passes`."""
        own = read_options(EncoderOptions, "student 'encoder'", own_options(options))
        if own.mode == "frozen":
            return 0.0
        epochs = own.epochs or ENCODER_EPOCHS.epochs(own.batch_size, n_rows)
        return epochs * (own.n_averaged if n_rows < MIN_ROWS_TO_HOLD_OUT else 1)

    def check_requirements(self) -> None:
        """See that torch and the weights are here; see `Student.prepare`."""
        if find_spec("torch") is None or find_spec("transformers") is None:
            raise missing_extra("torch", "train", "An encoder student")
        find_weights(self.weights, kind="encoder")

    def fit(self, data: TrainingData) -> Self:
        """Learn from scratch; see `Student.fit`. The row order does not matter.

        With `head = "label"` a lesson may have no rows: the names of the labels are all it then knows.
        """
        untaught = self.options.head == "label" and not len(data.texts)
        if not untaught:
            data = sort_by_content(check_training_data(data, len(self.labels), self.kind))
        deadline = None if data.time_limit_s is None else time.monotonic() + data.time_limit_s
        self._open()
        tokens, network = self._ready()
        if isinstance(data.init_from, EncoderStudent) and data.init_from.weights == self.weights:
            network.load_state_dict(data.init_from._ready()[1].state_dict())
        from potstill.students.encoder_training import EncodedBatch
        from potstill.students.training_strategy import TrainingStrategy, init_zero_shot, study

        names = self._names(tokens)
        if untaught:
            assert names is not None  # a label head without readable names is refused
            self.fit_info = init_zero_shot(network, names, tokens.pad_id)
            return self
        encoded = self._to_learn(tokens).encode(data.texts)
        self.truncated = encoded.truncated / len(data.texts)
        assert data.sample_weight is not None  # check_lesson saw to it
        doubtful = np.zeros(len(data.texts), dtype=np.bool_) if data.noisy is None else data.noisy
        rows = EncodedBatch(encoded.ids, data.targets, data.sample_weight, doubtful, self.kind == "multi")
        if data.hint is not None:
            rows = replace(rows, hint_features=data.hint.teacher.embed(data.texts), hint_weight=data.hint.loss_weight)
        plan = TrainingStrategy(self.options, seed=data.seed, deadline=deadline, progress=data.progress)
        self.fit_info = study(network, rows, tokens.pad_id, plan, names)
        return self

    def _names(self, tokens: TextTokenizer) -> EncodedBatch | None:
        """The labels' names as rows; None where they are not wanted or cannot be read.

        Raises:
            BadSpec: the label head is wanted, and a label has no name to begin from.
        """
        from potstill.students.encoder_training import EncodedBatch

        said = label_texts(self.labels, self.descriptions)
        label_head = self.options.head == "label"
        if label_head and (self.kind != "single" or not said.covers_all(len(self.labels))):
            why = "not every label has one in words" if self.kind == "single" else f"this is a {self.kind} task"
            raise BadSpec(
                f'head = "label" begins from the names of the labels, and {why}.',
                'Describe the labels, or take head = "linear".',
            )
        if self.kind != "single" or not said.texts or not (label_head or self.options.label_names):
            return None
        columns = np.array(said.columns)
        targets = np.eye(len(self.labels), dtype=np.float32)[columns]
        certain = np.zeros(len(columns), dtype=np.bool_)
        return EncodedBatch(tokens.encode(said.texts).ids, targets, np.ones(len(columns), dtype=np.float32), certain)

    def predict_logits(self, texts: Sequence[str]) -> Floats:
        """(N, K) natural-log scores."""
        return self._run(texts, "forward", len(self.labels))

    def predict_proba(self, texts: Sequence[str]) -> Floats:
        """(N, K) probabilities; rows sum to one unless each label is decided by itself."""
        return probabilities(self.predict_logits(texts), self.kind)

    def embed(self, texts: Sequence[str]) -> Floats:
        """(N, D) vectors of length one, under the head."""
        return self._run(texts, "embed", self._ready()[1].dim)

    def save(self, folder: Path) -> None:
        """Write `encoder.json`, `config.json`, `network.safetensors` and `tokenizer.json`."""
        from potstill.students.backbone import save_network

        tokens, network = self._ready()
        save_network(network, folder)
        shutil.copyfile(tokens.file, folder / "tokenizer.json")
        record = {
            "format": 1,
            "labels": self.labels,
            "weights": self.weights,
            "options": self.options.model_dump(),
            "kind": self.kind,
            "pooling": network.pooling,
            "max_length": tokens.max_length,
            "truncated": self.truncated,
            "learnt": self.fit_info,
            "licence": self._licence,
        }
        (folder / "encoder.json").write_text(json.dumps(record, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The student that `save` wrote, predicting exactly the same."""
        from potstill.students.backbone import load_network

        record = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
        kind = record.get("kind", "single")
        options = portable_options(record["options"])
        student = cls(StudentConfig(tuple(record["labels"]), record["weights"], options=options, kind=kind))
        student.truncated, student.fit_info = record["truncated"], record["learnt"]
        student._licence = record["licence"]
        network = load_network(folder, len(student.labels), record["pooling"])
        student._ready_with(folder / "tokenizer.json", record["max_length"], network)
        return student

    def export(self, folder: Path) -> ExportedGraph:
        """Write `model.onnx`, `tokenizer.json` and, for BERT, what `transformers.pipeline` loads."""
        from potstill.students.torch_onnx import write_torch_onnx
        from potstill.students.transformers_export import save_for_transformers

        tokens, network = self._ready()
        network = to_cpu(network)
        write_torch_onnx(network, folder / "model.onnx")
        shutil.copyfile(tokens.file, folder / "tokenizer.json")
        save_for_transformers(network, self.labels, tokens.max_length, folder, multi=self.kind == "multi")
        settings = {
            "max_length": tokens.max_length,
            "pad_id": tokens.pad_id,
            "long": tokens.long,
            "pairs": tokens.pairs,
        }
        return ExportedGraph("encoder", settings, quantizable=True)

    def _open(self) -> None:
        """Fresh weights: learning never starts from what an earlier lesson left."""
        try:
            from potstill.students.backbone import init_network
        except ModuleNotFoundError as error:
            raise missing_extra(error.name or "torch", "train", "An encoder student") from error
        found = find_weights(self.weights, kind="encoder")
        self._licence = found.licence
        network = init_network(found.folder, len(self.labels), found.pooling)
        longest = network.max_positions
        length = int(self.options.max_length or min(256, longest))
        if length > longest:
            raise BadSpec(
                f"max_length is {length}, and {self.weights} reads at most {longest} tokens.",
                f"Give max_length = {longest} or less.",
            )
        self._ready_with(found.folder / "tokenizer.json", length, network)
        self.fit_info = {}

    def _ready_with(self, tokenizer: Path, length: int, network: EncoderNetwork) -> None:
        self._tokens = TextTokenizer(tokenizer, length, pairs=self.kind == "pair", long=self.options.long)
        self._network = network.to(resolve_device(self.options.device))
        if self.kind == "pair" and getattr(network.backbone.config, "type_vocab_size", 1) > 1:
            network.segment_separator_id = self._tokens.segment_separator_id

    def _to_learn(self, tokens: TextTokenizer) -> TextTokenizer:
        """Windows are for predicting; a text is learnt from as one row, its head and its tail."""
        if tokens.long != "windows":
            return tokens
        return TextTokenizer(tokens.file, tokens.max_length, long="head+tail")

    def _ready(self) -> tuple[TextTokenizer, EncoderNetwork]:
        if self._tokens is None or self._network is None:
            raise RuntimeError("this encoder has learnt nothing yet: call fit or load first")
        return self._tokens, self._network

    def _run(self, texts: Sequence[str], what: str, width: int) -> Floats:
        from potstill.students.backbone import predict_batches

        tokens, network = self._ready()
        encoded = tokens.encode(texts)
        if not encoded.ids:
            return np.zeros((0, width), dtype=np.float32)
        return encoded.mean_over_windows(predict_batches(getattr(network, what), encoded.ids, tokens.pad_id))
