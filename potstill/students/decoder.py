"""The decoder student: a causal language model under a classification head, fine-tuned by LoRA or in full.

It is FT of the model that the cloze student trains by prompts (P in Aina et al. 2022): the same layers, rows, steps and
learning rate, a new head in place of the label's words. The head starts from a regression on the frozen states (linear
probing, then fine-tuning: Kumar et al. 2022), or from zero as in the common recipe. Its use is comparison: an encoder
of the same accuracy is smaller and faster.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from potstill.data.task import JsonObject
from potstill.errors import BadInput, BadSpec, RunNotFound, missing_extra
from potstill.models.causal_lm import content_hash, require_torch
from potstill.models.cloze_pattern import PatternLayout, PatternTokenizer, tokenizer_from_json
from potstill.models.device import DeviceName, check_device, portable_device, resolve_device, to_cpu
from potstill.models.tokens.tokenizer import check_texts
from potstill.models.weights import Weights, find_weights
from potstill.registry import Options, read_options
from potstill.students import REGISTRY
from potstill.students.base import (
    ALL_TASK_KINDS,
    ExportedGraph,
    FitInfo,
    Floats,
    OptionTable,
    PositiveFloat,
    PositiveInt,
    Student,
    StudentCapabilities,
    StudentConfig,
    TrainingData,
    own_options,
)
from potstill.students.cloze_options import CLOZE_EPOCHS, DEFAULT_LR
from potstill.students.logistic_regression import SolverOptions, fit_regression
from potstill.students.saved_student import SavedStudent
from potstill.students.training_data import check_training_data, probabilities, reject_feature_hint, sort_by_content

if TYPE_CHECKING:
    from torch import Tensor

    from potstill.students.cloze_network import PretrainedLM
    from potstill.students.cloze_training import ClozeBatch, ClozeTrainingConfig
    from potstill.students.decoder_network import DecoderNetwork

DEFAULT_WEIGHTS = "smollm2"
RECORD_FILE, TRAINED_FILE = "decoder.json", "trained.safetensors"
HEAD_C = 10.0  # inverse L2 penalty of the regression that the head starts from


class DecoderOptions(Options):
    """The `[student]` table of a decoder.

    Attributes:
        mode: "lora" trains low-rank matrices beside the weights of the top layers; "full" trains these weights;
            "frozen" fits only the head, by a regression.
        trainable_layers: number of top layers that are trained; None: half of the model's.
        lora_rank: rank of LoRA.
        head_init: what the head starts from: a "regression" on the frozen states, or "zero".
        epochs, lr, batch_size: of training; None derives epochs from the rows, lr from the mode, as a cloze does.
        max_length: tokens of a row; None takes 256 or what the model reads.
        dtype: number format of predictions. "bfloat16" is faster; such a student cannot be exported.
        device: device for training and prediction; "auto" is a GPU if PyTorch has one. Bundles run on the CPU.
    """

    mode: Literal["lora", "full", "frozen"] = "lora"
    trainable_layers: PositiveInt | None = None
    lora_rank: PositiveInt = 8
    head_init: Literal["regression", "zero"] = "regression"
    epochs: PositiveFloat | None = None
    lr: PositiveFloat | None = None
    batch_size: PositiveInt = 16
    max_length: PositiveInt | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    device: DeviceName = "auto"


class SavedDecoder(SavedStudent):
    """`decoder.json`.

    Attributes:
        weights: the user's name of the language model.
        sha256: of its files.
        options: the user's.
        layout: the token ids around a text.
        trainable_layers: how many were trained.
        truncated: share of the training texts that were cut.
        fit_info: what `fit` did.
    """

    weights: str
    sha256: str
    options: DecoderOptions
    layout: PatternLayout
    trainable_layers: int
    truncated: float
    fit_info: FitInfo


class DecoderStudent(Student):
    """A causal language model under a classification head. See `students.base.Student` for the contract.

    Attributes:
        truncated: share of the training texts that were cut, in [0, 1].
        fit_info: what the last `fit` did.
    """

    capabilities = StudentCapabilities(task_kinds=ALL_TASK_KINDS, pretrained=True, quick_options={"mode": "frozen"})

    def __init__(self, config: StudentConfig) -> None:
        self.kind = config.kind
        self.labels = tuple(config.labels)
        self.weights = config.weights or DEFAULT_WEIGHTS
        self.options = read_options(DecoderOptions, "student 'decoder'", config.options)
        check_device(self.options.device)
        self.truncated = 0.0
        self.fit_info = FitInfo()
        self._lm_weights: Weights | None = None
        self._network: DecoderNetwork | None = None
        self._tokenizer: PatternTokenizer | None = None

    @property
    def metadata(self) -> JsonObject:
        """See `Student.metadata`."""
        licence = self._lm_weights.licence if self._lm_weights else "unknown"
        facts = {"weights": self.weights, "truncated": self.truncated, "licence": licence}
        return {**facts, **self.fit_info.to_json()}

    @classmethod
    def training_passes(cls, options: OptionTable, n_rows: int) -> float:
        """See `Student.training_passes`."""
        own = read_options(DecoderOptions, "student 'decoder'", own_options(options))
        return 0.0 if own.mode == "frozen" else own.epochs or CLOZE_EPOCHS.epochs(own.batch_size, n_rows)

    def check_requirements(self) -> None:
        """See `Student.check_requirements`.

        Raises:
            BadInput: the weights are no causal language model.
        """
        if find_spec("torch") is None or find_spec("transformers") is None:
            raise missing_extra("torch", "train", "A decoder student")
        find_causal_model(self.weights)

    def fit(self, data: TrainingData) -> Self:
        """Train from scratch; see `Student.fit`. The order of the rows does not matter."""
        check_texts(data.texts)
        reject_feature_hint(data, "decoder")
        data = sort_by_content(check_training_data(data, len(self.labels), self.kind))
        deadline = None if data.time_limit_s is None else time.monotonic() + data.time_limit_s
        lm = self._load_pretrained()
        from potstill.students.cloze_training import ClozeBatch, train_cloze
        from potstill.students.decoder_network import DecoderNetwork

        network, tokenizer = DecoderNetwork(lm.model, len(self.labels)).eval(), self._make_tokenizer(lm)
        encoded = tokenizer.encode(data.texts)
        self.truncated = encoded.truncated / len(data.texts)
        assert data.sample_weight is not None  # set by check_training_data
        batch = ClozeBatch(encoded.ids, data.targets, data.sample_weight, multi=self.kind == "multi")
        steps = self._fit_head(network, batch, tokenizer.layout.pad_id)
        if self.options.mode == "frozen":
            network.merge_and_freeze()
            self.fit_info = FitInfo("frozen", rows=len(data.texts), steps=steps, c=HEAD_C)
        else:
            config = self._training_config(network, data, deadline)
            self.fit_info = train_cloze(network, batch, config, tokenizer.layout.pad_id)
        self._network, self._tokenizer = network, tokenizer
        return self

    def predict_logits(self, texts: Sequence[str]) -> Floats:
        """(N, K) scores in nats."""
        return self._predict(self._loaded()[0].forward, texts, len(self.labels))

    def predict_proba(self, texts: Sequence[str]) -> Floats:
        """(N, K) probabilities; rows sum to one, except in multi-label tasks."""
        return probabilities(self.predict_logits(texts), self.kind)

    def embed(self, texts: Sequence[str]) -> Floats:
        """(N, D) hidden states of the last token."""
        network = self._loaded()[0]
        return self._predict(network.embed, texts, network.dim)

    def save(self, folder: Path) -> None:
        """Write `decoder.json`, `tokenizer.json` and `trained.safetensors`.

        Only trained parameters are written; `load` finds the language model by name and checks its hash.
        """
        from safetensors.torch import save_file

        network, tokenizer = self._loaded()
        assert self._lm_weights is not None
        (folder / "tokenizer.json").write_text(tokenizer.tokenizer, encoding="utf-8")
        trained = {name: value.cpu().contiguous() for name, value in network.trained_state.items()}
        save_file(trained, folder / TRAINED_FILE)
        SavedDecoder(
            labels=self.labels,
            kind=self.kind,
            weights=self.weights,
            sha256=content_hash(self._lm_weights.path),
            options=self.options,
            layout=tokenizer.layout,
            trainable_layers=self._trainable_layers(network),
            truncated=self.truncated,
            fit_info=self.fit_info,
        ).write(folder / RECORD_FILE)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load what `save` wrote; predictions are exactly the same.

        Raises:
            MissingWeights: the language model is not on this machine.
            RunNotFound: another language model has its name now, or the record is damaged.
        """
        from safetensors.torch import load_file

        from potstill.students.decoder_network import DecoderNetwork

        record = SavedDecoder.read(folder / RECORD_FILE)
        options = {**record.options.model_dump(), "device": portable_device(record.options.device)}
        student = cls(StudentConfig(record.labels, record.weights, options=options, kind=record.kind))
        lm = student._load_pretrained()
        student.truncated, student.fit_info = record.truncated, record.fit_info
        assert student._lm_weights is not None
        if content_hash(student._lm_weights.path) != record.sha256:
            raise RunNotFound(
                f"{folder} was trained on other weights than those called {record.weights!r} now.",
                "Restore the old weights, or train the student again.",
            )
        network = DecoderNetwork(lm.model, len(record.labels))
        state, own = load_file(folder / TRAINED_FILE), student.options
        network.load_trained_state(state, own.mode, record.trainable_layers, own.lora_rank)
        tokenizer = (folder / "tokenizer.json").read_text(encoding="utf-8")
        student._network, student._tokenizer = network, PatternTokenizer(tokenizer, record.layout)
        return student

    def export(self, folder: Path) -> ExportedGraph:
        """Write `model.onnx` and `tokenizer.json`.

        Raises:
            BadSpec: it predicts in bfloat16, or is too large for one ONNX file.
        """
        from potstill.students.torch_onnx import check_graph_size, write_torch_onnx

        network, tokenizer = self._loaded()
        if self.options.dtype != "float32":
            raise BadSpec("A decoder that predicts in bfloat16 has no exact graph.", 'Set dtype = "float32" to export.')
        check_graph_size(network, "decoder", self.weights)
        write_torch_onnx(to_cpu(network), folder / "model.onnx")
        (folder / "tokenizer.json").write_text(tokenizer.tokenizer, encoding="utf-8")
        return ExportedGraph("pattern", tokenizer.layout, quantizable=True)

    # --- private -----------------------------------------------------------------------------------------------

    def _load_pretrained(self) -> PretrainedLM:
        try:
            from potstill.students.cloze_network import load_pretrained_lm
        except ModuleNotFoundError as error:
            raise missing_extra(error.name or "torch", "train", "A decoder student") from error
        self._lm_weights = find_causal_model(self.weights)
        self.fit_info = FitInfo()
        lm = load_pretrained_lm(self._lm_weights)
        lm.model.to(resolve_device(self.options.device))
        return lm

    def _make_tokenizer(self, lm: PretrainedLM) -> PatternTokenizer:
        """Texts between the model's own first tokens and a line break, at which the head reads."""
        tokenizer = tokenizer_from_json(lm.tokenizer)
        line_break = tuple(tokenizer.encode("\n", add_special_tokens=False).ids) or lm.prefix_ids
        max_length = min(self.options.max_length or 256, lm.context_length)
        layout = PatternLayout(
            lm.prefix_ids,
            line_break,
            "",
            max_length,
            separator_ids=line_break if self.kind == "pair" else None,
        )
        if max_length < layout.max_length - layout.max_text_tokens + 4:
            raise BadSpec(f"A row of {max_length} tokens has no room for a text.", "Set a larger max_length.")
        return PatternTokenizer(lm.tokenizer, layout)

    def _fit_head(self, network: DecoderNetwork, batch: ClozeBatch, pad_id: int) -> int:
        """Standardise the states and set the head's first weights; the steps of the regression."""
        from potstill.students.backbone import predict_batches

        states = predict_batches(network.embed, batch.ids, pad_id, low_precision=True)
        features = network.standardise(states)
        if self.options.head_init == "zero" and self.options.mode != "frozen":
            return 0
        solver = SolverOptions(c=HEAD_C, multi=batch.multi)
        fitted = fit_regression(features, batch.targets, batch.sample_weight, solver)
        network.set_head(fitted.weights, fitted.bias)
        return fitted.steps

    def _trainable_layers(self, network: DecoderNetwork) -> int:
        n = len(network.blocks)
        return min(self.options.trainable_layers or max(1, n // 2), n)

    def _training_config(
        self, network: DecoderNetwork, data: TrainingData, deadline: float | None
    ) -> ClozeTrainingConfig:
        from potstill.students.cloze_training import ClozeTrainingConfig

        return ClozeTrainingConfig(
            mode=self.options.mode,
            trainable_layers=self._trainable_layers(network),
            lora_rank=self.options.lora_rank,
            lr=self.options.lr or DEFAULT_LR[self.options.mode],
            epochs=self.options.epochs,
            batch_size=self.options.batch_size,
            seed=data.seed,
            deadline=deadline,
            progress=data.progress,
        )

    def _loaded(self) -> tuple[DecoderNetwork, PatternTokenizer]:
        if self._network is None or self._tokenizer is None:
            raise BadSpec("The decoder student is not trained.", "Call fit first.")
        return self._network, self._tokenizer

    def _predict(self, forward: Callable[..., Tensor], texts: Sequence[str], width: int) -> Floats:
        """(N, width) outputs of the network's method `forward`."""
        from potstill.students.backbone import predict_batches

        check_texts(texts)
        _, tokenizer = self._loaded()
        ids = tokenizer.encode(texts).ids
        if not ids:
            return np.zeros((0, width), dtype=np.float32)
        low_precision = self.options.dtype == "bfloat16"
        return predict_batches(forward, ids, tokenizer.layout.pad_id, low_precision=low_precision)


def find_causal_model(name: str, student: str = "decoder", *, gives_labels: bool = True) -> Weights:
    """Find the weights of a causal language model for a kind of student, which gives labels or not.

    Raises:
        BadInput: they are of another kind; the hint says what they can be used for.
        UnknownName, MissingWeights, MissingExtra: see `find_weights`.
    """
    found = find_weights(name)
    if found.kind in ("gguf", "causal"):
        require_torch(found)
        return found
    other = gives_labels and found.kind in REGISTRY
    hint = f"Use it as the student {found.kind}:{name}" if other else "Use another"
    raise BadInput(
        f"{name!r} is no causal language model, which the student {student!r} is made of.",
        f"{hint}, or {student}:{DEFAULT_WEIGHTS}, or a folder saved from a ...ForCausalLM model.",
    )
