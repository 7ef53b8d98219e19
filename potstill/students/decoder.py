"""The decoder student: a causal language model under a classification head, fine-tuned by LoRA or in full.

It is FT of the model that the cloze student trains by prompts (P in Aina et al. 2022): the same layers, rows, steps and
learning rate, a new head in place of the label's words. The head starts from a regression on the frozen states (linear
probing, then fine-tuning: Kumar et al. 2022), or from zero as in the common recipe. Its use is comparison: an encoder
of the same accuracy is smaller and faster.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from potstill.errors import BadInput, BadSpec
from potstill.models.causal_lm import content_hash, require_torch
from potstill.models.cloze_pattern import PatternLayout, PatternTokenizer, tokenizer_from_json
from potstill.models.device import DeviceName, check_device, portable_device
from potstill.models.tokens.tokenizer import check_texts
from potstill.models.weights import Weights, find_weights
from potstill.registry import Options, read_options
from potstill.students import FINE_TUNED_STUDENTS, WRITING_STUDENTS
from potstill.students.base import (
    ALL_TASK_KINDS,
    FitInfo,
    OptionTable,
    PositiveFloat,
    PositiveInt,
    StudentCapabilities,
    StudentConfig,
    TrainingData,
    own_options,
)
from potstill.students.cloze_options import CLOZE_EPOCHS
from potstill.students.lm_student import LabelLMStudent, SavedLMStudent, load_trained, save_trained
from potstill.students.logistic_regression import SolverOptions, fit_regression
from potstill.students.training_data import check_training_data, reject_feature_hint, sort_by_content

if TYPE_CHECKING:
    from potstill.students.cloze_network import ClozeNetwork, PretrainedLM
    from potstill.students.cloze_training import ClozeBatch
    from potstill.students.decoder_network import DecoderNetwork

DEFAULT_WEIGHTS = "smollm2"
RECORD_FILE = "decoder.json"
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


class SavedDecoder(SavedLMStudent):
    """`decoder.json`.

    Attributes:
        options: the user's.
        layout: the token ids around a text.
        trainable_layers: how many were trained.
    """

    options: DecoderOptions
    layout: PatternLayout
    trainable_layers: int


class DecoderStudent(LabelLMStudent):
    """A causal language model under a classification head. See `students.base.Student` for the contract."""

    name = "decoder"
    options: DecoderOptions
    capabilities = StudentCapabilities(task_kinds=ALL_TASK_KINDS, pretrained=True, quick_options={"mode": "frozen"})

    def __init__(self, config: StudentConfig) -> None:
        self.kind = config.kind
        self.labels = tuple(config.labels)
        self.weights = config.weights or DEFAULT_WEIGHTS
        self.options = read_options(DecoderOptions, "student 'decoder'", config.options)
        check_device(self.options.device)

    @classmethod
    def training_passes(cls, options: OptionTable, n_rows: int) -> float:
        """See `Student.training_passes`."""
        own = read_options(DecoderOptions, "student 'decoder'", own_options(options))
        return 0.0 if own.mode == "frozen" else own.epochs or CLOZE_EPOCHS.epochs(own.batch_size, n_rows)

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
            tuning = (self.options.mode, self._trainable_layers(network))
            config = self._training_config(tuning, data, deadline)
            self.fit_info = train_cloze(network, batch, config, tokenizer.layout.pad_id)
        self._network, self._tokenizer = network, tokenizer
        return self

    def save(self, folder: Path) -> None:
        """Write `decoder.json`, `tokenizer.json` and `trained.safetensors`.

        Only trained parameters are written; `load` finds the language model by name and checks its hash.
        """
        network, tokenizer = self._loaded()
        assert self._lm_weights is not None
        save_trained(network, tokenizer.tokenizer, folder)
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
        from potstill.students.decoder_network import DecoderNetwork

        record = SavedDecoder.read(folder / RECORD_FILE)
        options = {**record.options.model_dump(), "device": portable_device(record.options.device)}
        student = cls(StudentConfig(record.labels, record.weights, options=options, kind=record.kind))
        lm = student._load_pretrained()
        student.truncated, student.fit_info = record.truncated, record.fit_info
        assert student._lm_weights is not None
        record.check_weights(student._lm_weights, folder)
        network = DecoderNetwork(lm.model, len(record.labels))
        (state, tokenizer), own = load_trained(folder), student.options
        network.load_trained_state(state, own.mode, record.trainable_layers, own.lora_rank)
        student._network, student._tokenizer = network, PatternTokenizer(tokenizer, record.layout)
        return student

    # --- private -----------------------------------------------------------------------------------------------

    def _find_weights(self) -> Weights:
        return find_causal_model(self.weights)

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

    def _trainable_layers(self, network: ClozeNetwork) -> int:
        n = len(network.blocks)
        return min(self.options.trainable_layers or max(1, n // 2), n)


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
    other = (FINE_TUNED_STUDENTS if gives_labels else WRITING_STUDENTS).get(found.kind)
    hint = f"Use it as the student {other}:{name}" if other else "Use another"
    raise BadInput(
        f"{name!r} is no causal language model, which the student {student!r} is made of.",
        f"{hint}, or {student}:{DEFAULT_WEIGHTS}, or a folder saved from a ...ForCausalLM model.",
    )
