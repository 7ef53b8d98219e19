"""What students that tune a language model share: what they save, and the base of those that give labels.

A saved student is its trained weights, and the name and hash of its language model, which is not copied. Does not cover
patterns, heads or training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from potstill.data.task import JsonObject, TaskKind
from potstill.errors import BadSpec, RunNotFound, missing_extra
from potstill.models.causal_lm import content_hash
from potstill.models.cloze_pattern import PatternTokenizer
from potstill.models.device import resolve_device, to_cpu
from potstill.models.tokens.tokenizer import check_texts
from potstill.models.weights import Weights
from potstill.students.base import ExportedGraph, FitInfo, Floats, Student, TrainingData
from potstill.students.cloze_options import DEFAULT_LR
from potstill.students.saved_student import SavedStudent
from potstill.students.training_data import probabilities

if TYPE_CHECKING:
    from torch import Tensor

    from potstill.students.cloze_network import ClozeNetwork, PretrainedLM
    from potstill.students.cloze_training import ClozeTrainingConfig
    from potstill.students.tuned_lm import TunedLM, TuningMode

TRAINED_FILE = "trained.safetensors"


class SavedLMStudent(SavedStudent):
    """The record of a student on a language model; each kind adds its own fields.

    Attributes:
        weights: the user's name of the language model.
        sha256: of its files.
        truncated: share of the training texts that were cut.
        fit_info: what `fit` did.
    """

    weights: str
    sha256: str
    truncated: float
    fit_info: FitInfo

    def check_weights(self, found: Weights, folder: Path) -> None:
        """Raise RunNotFound if the student in `folder` was trained on other weights than those that were found."""
        if content_hash(found.path) != self.sha256:
            raise RunNotFound(
                f"{folder} was trained on other weights than those called {self.weights!r} now.",
                "Restore the old weights, or train the student again.",
            )


def save_trained(network: TunedLM, tokenizer: str, folder: Path) -> None:
    """Write the trained parameters and `tokenizer.json`."""
    from safetensors.torch import save_file

    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    trained = {name: value.cpu().contiguous() for name, value in network.trained_state.items()}
    save_file(trained, folder / TRAINED_FILE)


def load_trained(folder: Path) -> tuple[dict[str, Tensor], str]:
    """The trained parameters by name, and the content of `tokenizer.json`."""
    from safetensors.torch import load_file

    return load_file(folder / TRAINED_FILE), (folder / "tokenizer.json").read_text(encoding="utf-8")


class LabelLMStudent(Student):
    """Base of the students that give labels with a tuned language model: cloze and decoder.

    Attributes:
        name: of the kind.
        options: of the kind.
        truncated: share of the training texts that were cut, in [0, 1].
        fit_info: what the last `fit` did.
    """

    name: ClassVar[str]

    kind: TaskKind
    weights: str
    options: Any
    truncated: float = 0.0
    fit_info: FitInfo = FitInfo()
    _lm_weights: Weights | None = None
    _network: ClozeNetwork | None = None
    _tokenizer: PatternTokenizer | None = None

    @property
    def metadata(self) -> JsonObject:
        """See `Student.metadata`."""
        licence = self._lm_weights.licence if self._lm_weights else "unknown"
        facts = {"weights": self.weights, "truncated": self.truncated, "licence": licence}
        return {**facts, **self.fit_info.to_json()}

    def check_requirements(self) -> None:
        """See `Student.check_requirements`.

        Raises:
            BadInput: the weights are not of a kind that this student takes.
        """
        if find_spec("torch") is None or find_spec("transformers") is None:
            raise missing_extra("torch", "train", f"A {self.name} student")
        self._find_weights()

    def predict_logits(self, texts: Sequence[str]) -> Floats:
        """(N, K) scores in nats."""
        return self._predict(self._loaded()[0].forward, texts, len(self.labels))

    def predict_proba(self, texts: Sequence[str]) -> Floats:
        """(N, K) probabilities; rows sum to one, except in multi-label tasks."""
        return probabilities(self.predict_logits(texts), self.kind)

    def embed(self, texts: Sequence[str]) -> Floats:
        """(N, D) hidden states at the position that the label is predicted from."""
        network = self._loaded()[0]
        return self._predict(network.embed, texts, network.dim)

    def export(self, folder: Path) -> ExportedGraph:
        """Write `model.onnx` and `tokenizer.json`.

        Raises:
            BadSpec: it predicts in bfloat16, or is too large for one ONNX file.
        """
        from potstill.students.torch_onnx import check_graph_size, distil_smaller, write_torch_onnx

        network, tokenizer = self._loaded()
        if self.options.dtype != "float32":
            raise BadSpec(
                f"A {self.name} that predicts in bfloat16 has no exact graph.", 'Set dtype = "float32" to export.'
            )
        check_graph_size(network, self.name, distil_smaller(self.name, self.weights))
        write_torch_onnx(to_cpu(network), folder / "model.onnx")
        (folder / "tokenizer.json").write_text(tokenizer.tokenizer, encoding="utf-8")
        return ExportedGraph("pattern", tokenizer.layout, quantizable=True)

    def _find_weights(self) -> Weights:
        """The language model's weights. Raises BadInput if they are of another kind."""
        raise NotImplementedError

    def _load_pretrained(self) -> PretrainedLM:
        """The language model, on the device."""
        try:
            from potstill.students.cloze_network import load_pretrained_lm
        except ModuleNotFoundError as error:
            raise missing_extra(error.name or "torch", "train", f"A {self.name} student") from error
        self._lm_weights = self._find_weights()
        self.fit_info = FitInfo()
        lm = load_pretrained_lm(self._lm_weights)
        lm.model.to(resolve_device(self.options.device))
        return lm

    def _loaded(self) -> tuple[ClozeNetwork, PatternTokenizer]:
        """The network and its tokenizer."""
        if self._network is None or self._tokenizer is None:
            raise BadSpec(f"The {self.name} student is not trained.", "Call fit first.")
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

    def _training_config(
        self, tuning: tuple[TuningMode, int], data: TrainingData, deadline: float | None
    ) -> ClozeTrainingConfig:
        """How to train in a mode, so many top layers."""
        from potstill.students.cloze_training import ClozeTrainingConfig

        mode, trainable_layers = tuning
        return ClozeTrainingConfig(
            mode=mode,
            trainable_layers=trainable_layers,
            lora_rank=self.options.lora_rank,
            lr=self.options.lr or DEFAULT_LR[mode],
            epochs=self.options.epochs,
            batch_size=self.options.batch_size,
            seed=data.seed,
            deadline=deadline,
            progress=data.progress,
        )
