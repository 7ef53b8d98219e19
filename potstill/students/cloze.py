"""The cloze student: a pattern around the text, and a language model that predicts the label's words in it.

As in PET (Schick and Schuetze 2021) and LM-BFF (Gao et al. 2021), with soft targets, on a masked language model or a
small causal one. Untrained it predicts zero-shot, with the label bias of content-free texts removed. In multi-label
tasks each label has its own sigmoid. Does not cover ensembles of patterns.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from potstill.data.task import JsonObject
from potstill.errors import BadInput
from potstill.models.causal_lm import content_hash, require_torch
from potstill.models.cloze_pattern import PatternLayout, PatternTokenizer
from potstill.models.device import check_device, portable_device
from potstill.models.tokens.tokenizer import check_texts
from potstill.models.weights import Weights, find_weights
from potstill.registry import read_options
from potstill.students import FINE_TUNED_STUDENTS
from potstill.students.base import (
    ALL_TASK_KINDS,
    FitInfo,
    OptionTable,
    StudentCapabilities,
    StudentConfig,
    TrainingData,
    own_options,
)
from potstill.students.cloze_options import CLOZE_EPOCHS, ClozeOptions
from potstill.students.lm_student import LabelLMStudent, SavedLMStudent, load_trained, save_trained
from potstill.students.training_data import check_training_data, reject_feature_hint, sort_by_content
from potstill.students.verbalizer import LabelWords, VerbalizerSpec, default_label_words

if TYPE_CHECKING:
    from potstill.students.cloze_network import ClozeNetwork, PretrainedLM, TuningMode

DEFAULT_WEIGHTS = "smollm2"
RECORD_FILE = "cloze.json"
# Texts without content: their label probabilities are a bias of the label words (Zhao et al. 2021).
CONTENT_FREE_TEXTS = ("N/A", "", "text", "...")
# Prefixes of parameter names of masked language-model heads.
LM_HEAD_PREFIXES = ("cls.predictions.", "lm_head.", "vocab_transform.", "predictions.", "head.dense.")


class SavedCloze(SavedLMStudent):
    """`cloze.json`.

    Attributes:
        options, descriptions: the user's.
        label_words: label by label, the words that are scored.
        layout: the pattern as token ids.
        verbalizer: how label logits are computed; see `VerbalizerSpec.to_json`.
        soft_prompt_at: position of the soft prompt.
        mode, trainable_layers: which parameters were trained.
    """

    options: ClozeOptions
    descriptions: dict[str, str]
    label_words: LabelWords
    layout: PatternLayout
    verbalizer: JsonObject
    soft_prompt_at: int
    mode: Literal["lora", "full", "frozen"]
    trainable_layers: int


class ClozeStudent(LabelLMStudent):
    """A language model that predicts label words in a pattern. See `students.base.Student` for the contract.

    Before `fit` it predicts zero-shot.

    Attributes:
        label_words: label by label, the words that are scored.
    """

    name = "cloze"
    options: ClozeOptions
    capabilities = StudentCapabilities(
        task_kinds=ALL_TASK_KINDS,
        language_head=True,
        pretrained=True,
        zero_shot=True,
        zero_shot_options={"mode": "zero-shot"},
    )

    def __init__(self, config: StudentConfig) -> None:
        self.kind = config.kind
        self.labels = tuple(config.labels)
        self.weights = config.weights or DEFAULT_WEIGHTS
        self.options = read_options(ClozeOptions, "student 'cloze'", config.options)
        check_device(self.options.device)
        self.descriptions = dict(config.descriptions)
        self.label_words: LabelWords = default_label_words(self.labels, self.options.label_words)

    @property
    def metadata(self) -> JsonObject:
        """See `Student.metadata`."""
        return {**super().metadata, "label_words": [list(words) for words in self.label_words]}

    @classmethod
    def training_passes(cls, options: OptionTable, n_rows: int) -> float:
        """See `Student.training_passes`."""
        own = read_options(ClozeOptions, "student 'cloze'", own_options(options))
        if own.mode in ("frozen", "zero-shot"):
            return 0.0
        return own.epochs or CLOZE_EPOCHS.epochs(own.batch_size, n_rows)

    def fit(self, data: TrainingData) -> Self:
        """Train from scratch; see `Student.fit`. The order of the rows does not matter; "zero-shot" ignores them."""
        if self.options.mode == "zero-shot":
            self._set_zero_shot()
            return self
        check_texts(data.texts)
        reject_feature_hint(data, "cloze")
        data = sort_by_content(check_training_data(data, len(self.labels), self.kind))
        deadline = None if data.time_limit_s is None else time.monotonic() + data.time_limit_s
        from potstill.students.cloze_training import ClozeBatch, train_cloze

        network, tokenizer = self._build(self._load_pretrained(), data)
        encoded = tokenizer.encode(data.texts)
        self.truncated = encoded.truncated / len(data.texts)
        assert data.sample_weight is not None  # set by check_training_data
        batch = ClozeBatch(encoded.ids, data.targets, data.sample_weight, multi=self.kind == "multi")
        config = self._training_config(self._tuning(network), data, deadline)
        self.fit_info = train_cloze(network, batch, config, tokenizer.layout.pad_id)
        self._network, self._tokenizer = network, tokenizer
        return self

    def save(self, folder: Path) -> None:
        """Write `cloze.json`, `tokenizer.json` and `trained.safetensors`.

        Only trained parameters are written; `load` finds the language model by name and checks its hash.
        """
        network, tokenizer = self._loaded()
        assert self._lm_weights is not None
        save_trained(network, tokenizer.tokenizer, folder)
        mode, trainable_layers = self._tuning(network)
        SavedCloze(
            labels=self.labels,
            kind=self.kind,
            weights=self.weights,
            sha256=content_hash(self._lm_weights.path),
            options=self.options,
            descriptions=self.descriptions,
            label_words=self.label_words,
            layout=tokenizer.layout,
            verbalizer=network.verbalizer.to_json(),
            soft_prompt_at=network.soft_prompt_at,
            mode=mode,
            trainable_layers=trainable_layers,
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
        from potstill.students.cloze_network import ClozeNetwork

        record = SavedCloze.read(folder / RECORD_FILE)
        options = {**record.options.model_dump(), "device": portable_device(record.options.device)}
        student = cls(StudentConfig(record.labels, record.weights, record.descriptions, options, record.kind))
        student.truncated, student.label_words = record.truncated, record.label_words
        lm = student._load_pretrained()
        student.fit_info = record.fit_info
        assert student._lm_weights is not None
        record.check_weights(student._lm_weights, folder)
        soft_prompt = (student.options.soft_prompt_tokens, record.soft_prompt_at)
        network = ClozeNetwork(lm.model, VerbalizerSpec.from_json(record.verbalizer), lm.mask_id, soft_prompt)
        state, tokenizer = load_trained(folder)
        network.load_trained_state(state, record.mode, record.trainable_layers, student.options.lora_rank)
        student._network, student._tokenizer = network, PatternTokenizer(tokenizer, record.layout)
        return student

    def calibrate_label_bias(self, texts: Sequence[str]) -> Self:
        """Set the label bias so that all labels are equally likely on average over unlabelled texts.

        In multi-label tasks so that a text has one label on average. Untrained students are calibrated on content-free
        texts; some tens of the task's own texts are better if the labels are about equally common (batch calibration,
        Zhou et al. 2024).
        """
        from potstill.students.cloze_training import fit_label_bias

        network, tokenizer = self._loaded()
        uniform = np.full(len(self.labels), 1 / len(self.labels))
        ids, pad_id = tokenizer.encode(texts).ids, tokenizer.layout.pad_id
        fit_label_bias(network, ids, uniform, pad_id, multi=self.kind == "multi")
        return self

    # --- private -----------------------------------------------------------------------------------------------

    def _find_weights(self) -> Weights:
        return find_language_model(self.weights)

    def _build(self, lm: PretrainedLM, data: TrainingData | None) -> tuple[ClozeNetwork, PatternTokenizer]:
        from potstill.students.cloze_builder import Pattern, build_cloze_network, choose_label_words

        pattern = Pattern(lm, self.options, self.kind)
        self.label_words = choose_label_words(pattern, self.labels, self.descriptions, data)
        return build_cloze_network(pattern, self.label_words)

    def _set_zero_shot(self) -> None:
        """Use the pretrained model, calibrated on content-free texts."""
        self._network, self._tokenizer = self._build(self._load_pretrained(), None)
        self.fit_info = FitInfo("zero-shot")
        self.calibrate_label_bias(CONTENT_FREE_TEXTS)

    def _loaded(self) -> tuple[ClozeNetwork, PatternTokenizer]:
        """The network and its tokenizer; zero-shot before `fit`."""
        if self._network is None or self._tokenizer is None:
            self._set_zero_shot()
        assert self._network is not None
        assert self._tokenizer is not None
        return self._network, self._tokenizer

    def _tuning(self, network: ClozeNetwork) -> tuple[TuningMode, int]:
        """Which parameters are trained, and in how many top layers."""
        options = self.options
        mode: TuningMode = "lora" if network.causal else "full"
        if options.mode != "auto":
            mode = "frozen" if options.mode == "zero-shot" else options.mode
        n = len(network.blocks)
        return mode, min(options.trainable_layers or (max(1, n // 2) if network.causal else n), n)


def find_language_model(name: str) -> Weights:
    """Find the weights of a language model: a causal one, or a masked one with its head.

    Raises:
        BadInput: they have no language-model head; the hint says what they can be used for.
        UnknownName, MissingWeights, MissingExtra: see `find_weights`.
    """
    found = find_weights(name)
    if found.kind in ("gguf", "causal"):
        require_torch(found)
        return found
    if found.kind == "encoder" and any(key.startswith(LM_HEAD_PREFIXES) for key in tensor_names(found.folder)):
        return found
    # Kinds of weights and kinds of students share names where the one is made for the other.
    other = FINE_TUNED_STUDENTS.get(found.kind)
    hint = f"Use it as the student {other}:{name}; for a cloze use" if other else "Use"
    raise BadInput(
        f"{name!r} has no language-model head, with which the student 'cloze' predicts the label's words.",
        f"{hint} cloze:{DEFAULT_WEIGHTS}, or a folder saved from a ...ForMaskedLM or ...ForCausalLM model.",
    )


def tensor_names(folder: Path) -> list[str]:
    """Names of the tensors in a folder's safetensors files, from their headers alone."""
    names: list[str] = []
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as opened:
            size = int.from_bytes(opened.read(8), "little")
            try:
                names += json.loads(opened.read(min(size, 100_000_000)))
            except ValueError:
                raise BadInput(f"{file} is damaged.", "Fetch the weights again.") from None
    return names
