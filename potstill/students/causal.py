"""The causal student: a causal language model that answers a text in words, fine-tuned by LoRA or in full.

It learns the answer and its end behind the instruction, the text and an arrow, with the loss on the answer alone, and
answers greedily. `layers` keeps the first layers of the model alone: a smaller student, whose remaining weights are all
trained. The weights kept are those with the best metric on validation texts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.util import find_spec
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from potstill.data.task import JsonObject, Output
from potstill.errors import BadData, BadSpec, missing_extra
from potstill.models.answer_prompt import AnswerPrompt, AnswerTokenizer, make_prompt
from potstill.models.causal_lm import content_hash
from potstill.models.device import (
    DeviceName,
    check_device,
    device_of,
    portable_device,
    resolve_device,
    seeded,
    to_cpu,
)
from potstill.models.greedy_decoding import GeneratedAnswer, forced_scores
from potstill.models.tokens.tokenizer import Ids, check_texts
from potstill.models.weights import Weights
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
from potstill.students.decoder import find_causal_model
from potstill.students.epoch_rule import EpochRule
from potstill.students.free_text_student import AnsweredTexts, FreeTextStudent, FreeTextTrainingData
from potstill.students.lm_student import SavedLMStudent, load_trained, save_trained
from potstill.students.training_data import content_order

if TYPE_CHECKING:
    from potstill.students.causal_network import AnswerRows, CausalNetwork

DEFAULT_WEIGHTS = "smollm2"
RECORD_FILE = "causal.json"
MAX_PROMPT, MAX_ANSWER = 512, 256  # tokens, unless the user says otherwise
EPOCHS = EpochRule(target_steps=300, min_epochs=2, max_epochs=10)
DEFAULT_LR = {"lora": 5e-4, "full": 1e-4}  # by mode
N_EVALUATIONS, PATIENCE = 6, 3
FEWER_LAYERS = "Keep its first layers alone (layers = 8 under [student]), or take smaller weights."
MAX_GENERATED_VALIDATION = 64  # validation texts that are answered at each evaluation


class CausalOptions(Options):
    """The `[student]` table of a causal student.

    Attributes:
        mode: "lora" trains low-rank matrices beside the weights of the layers, "full" these weights; "auto" is LoRA if
            all layers are kept, else "full".
        layers: number of the first layers that are kept; None keeps all.
        trainable_layers: number of top layers that are trained; None trains all that are kept.
        lora_rank: rank of LoRA.
        epochs: passes over the texts; None derives them from their number.
        lr: peak learning rate; None derives it from the mode.
        batch_size: texts a step.
        max_length: tokens of a prompt; None takes 512 or what the model reads. Longer texts keep their beginning.
        device: device for training and prediction; "auto" is a GPU if PyTorch has one. Bundles run on the CPU.
    """

    mode: Literal["auto", "lora", "full"] = "auto"
    layers: PositiveInt | None = None
    trainable_layers: PositiveInt | None = None
    lora_rank: PositiveInt = 8
    epochs: PositiveFloat | None = None
    lr: PositiveFloat | None = None
    batch_size: PositiveInt = 16
    max_length: PositiveInt | None = None
    device: DeviceName = "auto"


class SavedCausal(SavedLMStudent):
    """`causal.json`.

    Attributes:
        options, instruction, output: the user's.
        prompt: the token ids around a text, and when an answer ends.
        too_long: share of the answers that were left out, as they have too many tokens.
    """

    options: CausalOptions
    instruction: str
    output: Output
    prompt: AnswerPrompt
    too_long: float


class CausalStudent(FreeTextStudent):
    """A student of free texts on a causal language model; see `students.free_text_student.FreeTextStudent`.

    Attributes:
        truncated: share of the training texts that were cut, in [0, 1].
        too_long: share of the answers that were left out, as they have too many tokens.
        fit_info: what the last `fit` did.
    """

    capabilities = StudentCapabilities(
        task_kinds=frozenset({"text2text"}), output_forms=frozenset({"free"}), pretrained=True
    )

    def __init__(self, config: StudentConfig) -> None:
        if config.kind != "text2text":
            raise BadSpec(
                f"The student 'causal' answers in words, and cannot learn a task of the kind {config.kind!r}.",
                "Take another with --student, or give answers in words (--form free).",
            )
        self.labels = ()
        self.instruction = config.instruction
        self.output = config.output if config.output and config.output.form == "free" else Output("free")
        self.weights = config.weights or DEFAULT_WEIGHTS
        self.options = read_options(CausalOptions, "student 'causal'", config.options)
        check_device(self.options.device)
        self.truncated = self.too_long = 0.0
        self.fit_info = FitInfo()
        self._lm_weights: Weights | None = None
        self._network: CausalNetwork | None = None
        self._tokenizer: AnswerTokenizer | None = None

    @property
    def metadata(self) -> JsonObject:
        """See `TrainedModel.metadata`."""
        facts = {"weights": self.weights, "licence": self._lm_weights.licence if self._lm_weights else "unknown"}
        counted = {name: getattr(self, name) for name in ("truncated", "too_long") if getattr(self, name)}
        return {**facts, **counted, **self.fit_info.to_json()}

    @classmethod
    def training_passes(cls, options: OptionTable, n_rows: int) -> float:
        """See `TrainedModel.training_passes`."""
        own = read_options(CausalOptions, "student 'causal'", own_options(options))
        return own.epochs or EPOCHS.epochs(own.batch_size, n_rows)

    def check_requirements(self) -> None:
        """See `TrainedModel.check_requirements`."""
        if find_spec("torch") is None or find_spec("transformers") is None:
            raise missing_extra("torch", "train", "A causal student")
        find_causal_model(self.weights, "causal", gives_labels=False)

    def fit(self, data: FreeTextTrainingData) -> Self:
        """Train from scratch; see `FreeTextStudent.fit`. The order of the texts does not matter."""
        check_texts(data.train.texts)
        if not any(data.train.references):
            raise BadData("There are no answers to train on.", "Answer some texts.")
        deadline = None if data.time_limit_s is None else time.monotonic() + data.time_limit_s
        network, tokenizer = self._load_pretrained()
        if data.will_export:
            self._check_size(network)  # before it is trained
        order = content_order(data.train.texts).tolist()
        texts = [data.train.texts[i] for i in order]
        rows, tokenizer = self._rows(texts, [data.train.references[i] for i in order], tokenizer)
        from potstill.students.encoder_training import STOPPED_EARLY, FineTuningConfig, fine_tune

        epochs = self.options.epochs or EPOCHS.epochs(self.options.batch_size, len(rows.ids))
        with seeded(device_of(network), data.seed):
            network.unfreeze(self._mode, self._trainable_layers(network), self.options.lora_rank)
        result = fine_tune(
            network,
            rows,
            FineTuningConfig(
                epochs=epochs,
                lr=self.options.lr or DEFAULT_LR[self._mode],
                batch_size=self.options.batch_size,
                deadline=deadline,
                n_evaluations=N_EVALUATIONS,
                patience=PATIENCE,
            ),
            pad_id=tokenizer.prompt.layout.pad_id,
            validation=self._validation_rows(data.validation, tokenizer),
            seed=data.seed,
            progress=data.progress,
        )
        network.merge_and_freeze()
        reason = f"validation {self.output.metric} rose no more"
        self.fit_info = FitInfo(
            mode=self._mode,
            rows=len(data.train),
            steps=result.steps,
            epochs=epochs,
            stop_reason=reason if result.stop_reason == STOPPED_EARLY else result.stop_reason,
            validation_rows=len(data.validation),
            trainable_layers=self._trainable_layers(network),
        )
        self._network, self._tokenizer = network, tokenizer
        return self

    def generate(self, texts: Sequence[str]) -> list[GeneratedAnswer]:
        """See `FreeTextStudent.generate`."""
        from potstill.students.causal_network import generate

        check_texts(texts)
        network, tokenizer = self._loaded()
        found = generate(network, tokenizer.encode(texts).ids, tokenizer.prompt.limits)
        return [GeneratedAnswer(tokenizer.decode(each.ids), exp(each.log_prob), each.complete) for each in found]

    def forced_logits(self, texts: Sequence[str], answers: Sequence[str]) -> list[Floats]:
        """See `FreeTextStudent.forced_logits`."""
        import torch

        from potstill.students.causal_network import TorchDecoder

        network, tokenizer = self._loaded()
        with torch.inference_mode():
            return forced_scores(TorchDecoder(network), tokenizer.encode(texts).ids, tokenizer.encode_answers(answers))

    def save(self, folder: Path) -> None:
        """Write `causal.json`, `tokenizer.json` and `trained.safetensors`.

        Only trained parameters are written; `load` finds the language model by name and checks its hash.
        """
        network, tokenizer = self._loaded()
        assert self._lm_weights is not None
        save_trained(network, tokenizer.tokenizer, folder)
        SavedCausal(
            labels=(),
            kind="text2text",
            weights=self.weights,
            sha256=content_hash(self._lm_weights.path),
            options=self.options,
            instruction=self.instruction,
            output=self.output,
            prompt=tokenizer.prompt,
            truncated=self.truncated,
            too_long=self.too_long,
            fit_info=self.fit_info,
        ).write(folder / RECORD_FILE)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load what `save` wrote; answers are exactly the same.

        Raises:
            MissingWeights: the language model is not on this machine.
            RunNotFound: another language model has its name now, or the record is damaged.
        """
        record = SavedCausal.read(folder / RECORD_FILE)
        options = {**record.options.model_dump(), "device": portable_device(record.options.device)}
        task = (record.kind, record.instruction, record.output)
        student = cls(StudentConfig((), record.weights, {}, options, *task))
        network, _ = student._load_pretrained()
        assert student._lm_weights is not None
        record.check_weights(student._lm_weights, folder)
        layers = student._trainable_layers(network)
        state, text = load_trained(folder)
        network.load_trained_state(state, student._mode, layers, student.options.lora_rank)
        student.truncated, student.too_long, student.fit_info = record.truncated, record.too_long, record.fit_info
        student._network, student._tokenizer = network, AnswerTokenizer(text, record.prompt)
        return student

    def export(self, folder: Path) -> ExportedGraph:
        """Write `model.onnx`, a step of decoding with keys and values as inputs and outputs, and `tokenizer.json`.

        Beside them are the weights and configurations that transformers loads.
        """
        from potstill.students.torch_onnx import write_decoder_onnx
        from potstill.students.transformers_writing import save_writer_for_transformers

        network, tokenizer = self._loaded()
        self._check_size(network)
        network = to_cpu(network)
        write_decoder_onnx(network, folder / "model.onnx")
        save_writer_for_transformers(network.model, tokenizer.tokenizer, tokenizer.prompt, folder)
        return ExportedGraph("prompts", tokenizer.prompt, quantizable=True)

    # --- private -----------------------------------------------------------------------------------------------

    @property
    def _mode(self) -> Literal["lora", "full"]:
        if self.options.mode != "auto":
            return self.options.mode
        return "lora" if self.options.layers is None else "full"

    @staticmethod
    def _check_size(network: CausalNetwork) -> None:
        from potstill.students.torch_onnx import check_graph_size

        check_graph_size(network, "causal student", FEWER_LAYERS)

    def _trainable_layers(self, network: CausalNetwork) -> int:
        n = len(network.blocks)
        return min(self.options.trainable_layers or n, n)

    def _load_pretrained(self) -> tuple[CausalNetwork, AnswerTokenizer]:
        """The pretrained model, cut to the layers that are kept, and its tokenizer with the prompt of the task."""
        try:
            from potstill.students.causal_network import CausalNetwork
            from potstill.students.cloze_network import load_pretrained_lm
            from potstill.students.tuned_lm import keep_layers
        except ModuleNotFoundError as error:
            raise missing_extra(error.name or "torch", "train", "A causal student") from error
        self._lm_weights = find_causal_model(self.weights, "causal", gives_labels=False)
        self.fit_info = FitInfo()
        lm = load_pretrained_lm(self._lm_weights)
        if self.options.layers is not None:
            keep_layers(lm.model, self.options.layers)
        network = CausalNetwork(lm.model).eval()
        network.to(resolve_device(self.options.device))
        max_tokens = self.output.max_tokens or min(MAX_ANSWER, lm.context_length // 2)
        room = lm.context_length - max_tokens - 1
        prompt = make_prompt(
            lm.tokenizer,
            self.instruction,
            lm.prefix_ids,
            lm.end_id,
            max_length=min(self.options.max_length or MAX_PROMPT, room),
            max_tokens=max_tokens,
        )
        return network, AnswerTokenizer(lm.tokenizer, prompt)

    def _rows(
        self, texts: Sequence[str], references: Sequence[Sequence[str]], tokenizer: AnswerTokenizer
    ) -> tuple[AnswerRows, AnswerTokenizer]:
        """A row for each text and reference; without a limit of the user's, the longest answer is it."""
        from potstill.students.causal_network import AnswerRows

        encoded = tokenizer.encode(texts)
        self.truncated = encoded.truncated / max(len(texts), 1)
        prompts = [encoded.ids[i] for i, own in enumerate(references) for _ in own]
        answers = tokenizer.encode_answers([each for own in references for each in own])
        lengths = np.array([len(each) - 1 for each in answers])
        fits = lengths <= tokenizer.prompt.max_tokens
        self.too_long = float(1 - fits.mean())
        if not fits.any():
            raise BadData(
                f"Every answer has more than {tokenizer.prompt.max_tokens} tokens.",
                "Raise the limit with --max-tokens, or give shorter answers.",
            )
        if self.output.max_tokens is None:
            tokenizer = tokenizer.with_max_tokens(int(lengths[fits].max()))
        kept = np.flatnonzero(fits).tolist()
        ids: list[Ids] = [np.concatenate([prompts[i], answers[i]]) for i in kept]
        return AnswerRows(ids, [len(prompts[i]) for i in kept]), tokenizer

    def _validation_rows(self, part: AnsweredTexts, tokenizer: AnswerTokenizer) -> AnswerRows | None:
        """The rows of the first references, and some of the texts to be answered; None without texts."""
        from potstill.students.causal_network import AnswerRows, ValidationAnswers

        if not len(part):
            return None
        prompts = tokenizer.encode(part.texts).ids
        answers = tokenizer.encode_answers([own[0] for own in part.references])
        longest = tokenizer.prompt.max_tokens + 1
        ids = [np.concatenate([one, other[:longest]]) for one, other in zip(prompts, answers, strict=True)]
        some = np.random.default_rng(0).permutation(content_order(part.texts))[:MAX_GENERATED_VALIDATION].tolist()
        assert self.output.metric is not None
        generated = ValidationAnswers(
            [prompts[i] for i in some],
            [part.references[i] for i in some],
            self.output.metric,
            tokenizer.prompt.limits,
            tokenizer.decode,
        )
        return AnswerRows(ids, [len(each) for each in prompts], generated)

    def _loaded(self) -> tuple[CausalNetwork, AnswerTokenizer]:
        if self._network is None or self._tokenizer is None:
            raise BadSpec("The causal student is not trained.", "Call fit first.")
        return self._network, self._tokenizer
