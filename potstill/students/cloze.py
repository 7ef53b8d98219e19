"""The cloze student, procedure P: a pattern around the text, and a language model that says the label's word there.

As in PET (Schick and Schuetze 2021) and LM-BFF (Gao et al. 2021), with soft targets, over a masked language model or a
small causal one. Before any row is learnt it scores zero-shot, its label bias removed on rows without content.
Where a text may have several labels, each is said or not by itself. Does not cover ensembles of patterns.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from potstill.errors import BadInput, BadSpec, RunNotFound, missing_extra
from potstill.models.causal_lm import content_hash, require_torch
from potstill.models.cloze_pattern import PatternLayout, PatternTokenizer
from potstill.models.device import check_device, portable_options, resolve_device, to_cpu
from potstill.models.tokens.tokenizer import check_texts
from potstill.models.weights import Weights, find_weights
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
from potstill.students.cloze_options import CLOZE_EPOCHS, ClozeOptions
from potstill.students.training_data import check_training_data, probabilities, reject_feature_hint, sort_by_content
from potstill.students.verbalizer import LabelWords, VerbalizerSpec, default_label_words

if TYPE_CHECKING:
    from potstill.students.cloze_network import ClozeNetwork, PretrainedLM, TuningMode

DEFAULT_WEIGHTS = "smollm2"
# Texts without content tell what a label's words are worth whatever the text says (Zhao et al. 2021).
CONTENT_FREE_TEXTS = ("N/A", "", "text", "...")
# What names of parts of a masked language model's head begin with.
LM_HEAD_PREFIXES = ("cls.predictions.", "lm_head.", "vocab_transform.", "predictions.", "head.dense.")


class ClozeStudent(Student):
    """A student that says a label's word where a pattern asks for it. See `students.base.Student` for the contract.

    Attributes:
        truncated: share of the lesson's texts that lost their tail, in [0, 1].
        learnt: facts of the last `fit`.
        words: label by label, what is scored for it; empty before the model is read.
    """

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
        self.truncated = 0.0
        self.fit_info: dict[str, Any] = {}
        self._found: Weights | None = None
        self._network: ClozeNetwork | None = None
        self._ids: PatternTokenizer | None = None

    @property
    def metadata(self) -> dict[str, Any]:
        """Facts for a report and for the model card."""
        facts = {"weights": self.weights, "truncated": self.truncated, "words": [list(own) for own in self.label_words]}
        licence = self._found.licence if self._found else "unknown"
        return {**facts, "licence": licence, **self.fit_info}

    @classmethod
    def training_passes(cls, options: Mapping[str, Any], n_rows: int) -> float:
        """See `Student.training_passes`."""
        own = read_options(ClozeOptions, "student 'cloze'", own_options(options))
        if own.mode in ("frozen", "zero-shot"):
            return 0.0
        return own.epochs or CLOZE_EPOCHS.epochs(own.batch_size, n_rows)

    def check_requirements(self) -> None:
        """See that torch and the weights are here, and that the weights can do P; see `Student.prepare`."""
        if find_spec("torch") is None or find_spec("transformers") is None:
            raise missing_extra("torch", "train", "A cloze student")
        find_language_model(self.weights)

    def fit(self, data: TrainingData) -> Self:
        """Learn from scratch; see `Student.fit`. The row order does not matter. Mode "zero-shot" reads no row."""
        if self.options.mode == "zero-shot":
            self._begin()
            return self
        check_texts(data.texts)
        reject_feature_hint(data, "cloze")
        data = sort_by_content(check_training_data(data, len(self.labels), self.kind))
        deadline = None if data.time_limit_s is None else time.monotonic() + data.time_limit_s
        base = self._open()
        from potstill.students.cloze_builder import Pattern, build_cloze_network, choose_label_words
        from potstill.students.cloze_training import ClozeBatch, ClozeTrainingConfig, train_cloze

        pattern = Pattern(base, self.options, self.kind)
        self.label_words = choose_label_words(pattern, self.labels, self.descriptions, data)
        network, ids = build_cloze_network(pattern, self.label_words)
        wrapped = ids.encode(data.texts)
        self.truncated = wrapped.truncated / len(data.texts)
        assert data.sample_weight is not None  # check_lesson saw to it
        mode, layers, lr = self._how(network)
        effort = ClozeTrainingConfig(
            mode=mode,
            trainable_layers=layers,
            lora_rank=self.options.lora_rank,
            lr=lr,
            epochs=self.options.epochs,
            batch_size=self.options.batch_size,
            seed=data.seed,
            deadline=deadline,
            progress=data.progress,
        )
        rows = ClozeBatch(wrapped.ids, data.targets, data.sample_weight, multi=self.kind == "multi")
        self.fit_info = train_cloze(network, rows, effort, ids.layout.pad_id)
        self._network, self._ids = network, ids
        return self

    def predict_logits(self, texts: Sequence[str]) -> Floats:
        """(N, K) natural-log scores; zero-shot where nothing was learnt."""
        return self._run(texts, "forward", len(self.labels))

    def predict_proba(self, texts: Sequence[str]) -> Floats:
        """(N, K) probabilities; rows sum to one unless each label is decided by itself."""
        return probabilities(self.predict_logits(texts), self.kind)

    def embed(self, texts: Sequence[str]) -> Floats:
        """(N, D) states at the place where the label is said."""
        return self._run(texts, "embed", self._ready()[0].dim)

    def save(self, folder: Path) -> None:
        """Write `cloze.json`, `tokenizer.json` and `learnt.safetensors`.

        Only what was learnt is written; the language model itself is found again by its name, and known by its hash.
        """
        from safetensors.torch import save_file

        network, ids = self._ready()
        assert self._found is not None
        (folder / "tokenizer.json").write_text(ids.tokenizer, encoding="utf-8")
        learnt = {name: each.cpu().contiguous() for name, each in network.trained_state.items()}
        save_file(learnt, folder / "learnt.safetensors")
        mode, layers, _ = self._how(network)
        record = {
            "format": 1,
            "labels": self.labels,
            "weights": self.weights,
            "sha256": content_hash(self._found.path),
            "options": self.options.model_dump(),
            "descriptions": self.descriptions,
            "words": self.label_words,
            "around": ids.layout.to_json(),
            "reading": network.reading.to_json(),
            "kind": self.kind,
            "soft_at": network.soft_prompt_at,
            "mode": mode,
            "layers": layers,
            "truncated": self.truncated,
            "learnt": self.fit_info,
        }
        (folder / "cloze.json").write_text(json.dumps(record, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The student that `save` wrote, predicting exactly the same.

        Raises:
            MissingWeights: the language model it learnt on is not here any more.
            NotARun: another model has its name now.
        """
        from safetensors.torch import load_file

        record = json.loads((folder / "cloze.json").read_text(encoding="utf-8"))
        labels, descriptions, options = (
            tuple(record["labels"]),
            record["descriptions"],
            portable_options(record["options"]),
        )
        student = cls(StudentConfig(labels, record["weights"], descriptions, options, record.get("kind", "single")))
        student.truncated, student.fit_info = record["truncated"], record["learnt"]
        student.label_words = tuple(tuple(own) for own in record["words"])
        base = student._open()
        assert student._found is not None
        if content_hash(student._found.path) != record["sha256"]:
            raise RunNotFound(
                f"{folder} learnt on other weights than those that are called {record['weights']!r} now.",
                "Bring the old weights back, or learn again.",
            )
        from potstill.students.cloze_network import ClozeNetwork

        soft = (student.options.soft_prompt_tokens, record["soft_at"])
        network = ClozeNetwork(base.model, VerbalizerSpec.from_json(record["reading"]), base.mask_id, soft)
        network.load_trained_state(
            load_file(folder / "learnt.safetensors"), record["mode"], record["layers"], student.options.lora_rank
        )
        student._network = network
        text = (folder / "tokenizer.json").read_text(encoding="utf-8")
        student._ids = PatternTokenizer(text, PatternLayout.from_json(record["around"]))
        return student

    def export(self, folder: Path) -> ExportedGraph:
        """Write `model.onnx` and `tokenizer.json`.

        Raises:
            BadSpec: it predicts in bfloat16, or is too large for one ONNX file.
        """
        from potstill.students.torch_onnx import write_torch_onnx

        network, ids = self._ready()
        if self.options.dtype != "float32":
            raise BadSpec("A cloze that predicts in bfloat16 has no exact graph.", 'Set dtype = "float32" to export.')
        size = sum(each.numel() for each in network.parameters()) * 4
        if size > 1_900_000_000:
            raise BadSpec(
                f"This cloze is {size / 1e9:.1f} GB, too large for one ONNX file.",
                "Distil it into a smaller student: --teacher trained:cloze:... --student encoder.",
            )
        write_torch_onnx(to_cpu(network), folder / "model.onnx")
        (folder / "tokenizer.json").write_text(ids.tokenizer, encoding="utf-8")
        return ExportedGraph("cloze", ids.layout.to_json(), quantizable=True)

    # --- inside ------------------------------------------------------------------------------------------------

    def _open(self) -> PretrainedLM:
        try:
            from potstill.students.cloze_network import load_pretrained_lm
        except ModuleNotFoundError as error:
            raise missing_extra(error.name or "torch", "train", "A cloze student") from error
        self._found = find_language_model(self.weights)
        self.fit_info = {}
        base = load_pretrained_lm(self._found)
        base.model.to(resolve_device(self.options.device))
        return base

    def _ready(self) -> tuple[ClozeNetwork, PatternTokenizer]:
        """The network; where nothing was learnt, the model as it is with the label bias of empty texts removed."""
        if self._network is None or self._ids is None:
            self._begin()
        assert self._network is not None
        assert self._ids is not None
        return self._network, self._ids

    def _begin(self) -> None:
        base = self._open()
        from potstill.students.cloze_builder import Pattern, build_cloze_network, choose_label_words

        pattern = Pattern(base, self.options, self.kind)
        self.label_words = choose_label_words(pattern, self.labels, self.descriptions, None)
        self._network, self._ids = build_cloze_network(pattern, self.label_words)
        self.fit_info = {"mode": "zero-shot", "rows": 0}
        self.calibrate_label_bias(CONTENT_FREE_TEXTS)

    def calibrate_label_bias(self, texts: Sequence[str]) -> Self:
        """Make the labels equally likely on average over texts without labels: what a label's words are worth alone.

        Where a text may have several labels, one label a text is expected.

        Fresh students do that on texts without content; the texts of the task themselves do it better, where there are
        some tens of them and the labels are about equally common (batch calibration, Zhou et al. 2024).
        """
        from potstill.students.cloze_training import fit_label_bias

        network, ids = self._ready()
        uniform = np.full(len(self.labels), 1 / len(self.labels))
        fit_label_bias(network, ids.encode(texts).ids, uniform, ids.layout.pad_id, multi=self.kind == "multi")
        return self

    def _run(self, texts: Sequence[str], what: str, width: int) -> Floats:
        from potstill.students.backbone import predict_batches

        check_texts(texts)
        network, ids = self._ready()
        found = ids.encode(texts).ids
        if not found:
            return np.zeros((0, width), dtype=np.float32)
        low = self.options.dtype == "bfloat16"
        return predict_batches(getattr(network, what), found, ids.layout.pad_id, low_precision=low)

    def _how(self, network: ClozeNetwork) -> tuple[TuningMode, int, float]:
        own = self.options
        mode: TuningMode = "lora" if network.causal else "full"
        if own.mode != "auto":
            mode = "frozen" if own.mode == "zero-shot" else own.mode
        n = len(network.blocks)
        layers = own.trainable_layers or (max(1, n // 2) if network.causal else n)
        return mode, min(layers, n), own.lr or {"lora": 5e-4, "full": 3e-5, "frozen": 1e-3}[mode]


def find_language_model(name: str) -> Weights:
    """The weights a user named, if they can do P: a causal model, or a masked one that kept its head.

    Raises:
        BadInput: they cannot; the message says which procedures they can do.
        UnknownName, MissingWeights, MissingExtra: see `weights.find`.
    """
    found = find_weights(name)
    if found.kind in ("gguf", "causal"):
        require_torch(found)
        return found
    if found.kind == "encoder" and any(key.startswith(LM_HEAD_PREFIXES) for key in tensor_names(found.folder)):
        return found
    kind = found.kind if found.kind in ("encoder", "static") else ""
    can = f"As a student it is {kind}:{name}, for finetune, kd and pgkd" if kind else "It is no student potstill has"
    raise BadInput(
        f"{name!r} has no language-model head, from which P (the student 'cloze') reads the label's word.",
        f"{can}; for P take cloze:{DEFAULT_WEIGHTS}, or a folder saved from a ...ForMaskedLM or ...ForCausalLM model.",
    )


def tensor_names(folder: Path) -> list[str]:
    """The names of the tensors in a folder's safetensors files, from their headers alone."""
    names: list[str] = []
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as opened:
            size = int.from_bytes(opened.read(8), "little")
            try:
                names += json.loads(opened.read(min(size, 100_000_000)))
            except ValueError:
                raise BadInput(f"{file} is damaged.", "Fetch the weights again.") from None
    return names
