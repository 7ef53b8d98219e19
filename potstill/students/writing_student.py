"""What students that answer in words have in common: training, greedy answers, scores of tokens, saving.

A kind is a subclass that says which weights it takes, how they become a network, and how that is exported. It learns
the answer and its end, with the loss on the answer alone, or what a teacher thinks of each of its tokens. The weights
kept are those with the best metric on validation texts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.util import find_spec
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np

from potstill.data.task import JsonObject, Output
from potstill.errors import BadData, BadSpec, missing_extra
from potstill.models.answer_prompt import AnswerPrompt, AnswerTokenizer
from potstill.models.causal_lm import content_hash
from potstill.models.device import DeviceName, check_device, device_of, portable_device, seeded
from potstill.models.greedy_decoding import GeneratedAnswer, forced_scores
from potstill.models.tokens.tokenizer import check_texts
from potstill.models.weights import Weights
from potstill.registry import Options, read_options
from potstill.students.base import (
    FitInfo,
    Floats,
    OptionTable,
    PositiveFloat,
    PositiveInt,
    StudentConfig,
    own_options,
)
from potstill.students.epoch_rule import EpochRule
from potstill.students.free_text_student import (
    AnsweredTexts,
    FreeTextStudent,
    FreeTextTrainingData,
    ScoredAnswer,
    TokenTargets,
    other_tokenizer,
)
from potstill.students.lm_student import SavedLMStudent, load_trained, save_trained
from potstill.students.training_data import content_order

if TYPE_CHECKING:
    from potstill.students.answer_rows import AnswerNetwork, AnswerRows

FEWER_LAYERS = "Keep its first layers alone (layers = 8 under [student]), or take smaller weights."
EPOCHS = EpochRule(target_steps=300, min_epochs=2, max_epochs=10)
DEFAULT_LR = {"lora": 5e-4, "full": 1e-4}  # by mode
N_EVALUATIONS, PATIENCE = 6, 3
MAX_GENERATED_VALIDATION = 64  # validation texts that are answered at each evaluation


class AnswerOptions(Options):
    """The `[student]` table of a student that answers in words.

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


class SavedWriter(SavedLMStudent):
    """The record of a student that answers in words.

    Attributes:
        options, instruction, output: the user's.
        prompt: the token ids around a text, and when an answer ends.
        too_long: share of the answers that were left out, as they have too many tokens.
    """

    options: AnswerOptions
    instruction: str
    output: Output
    prompt: AnswerPrompt
    too_long: float


class WritingStudent(FreeTextStudent):
    """A student of free texts on a language model; see `students.free_text_student.FreeTextStudent`.

    Attributes:
        name: of the kind; its record is `NAME.json`.
        default_weights: weights that it starts from if none are named.
        truncated: share of the training texts that were cut, in [0, 1].
        too_long: share of the answers that were left out, as they have too many tokens.
        fit_info: what the last `fit` did.
    """

    name: ClassVar[str]
    default_weights: ClassVar[str]

    def __init__(self, config: StudentConfig) -> None:
        if config.kind != "text2text":
            raise BadSpec(
                f"The student {self.name!r} answers in words, and cannot learn a task of the kind {config.kind!r}.",
                "Take another with --student, or give answers in words (--form free).",
            )
        self.labels = ()
        self.instruction = config.instruction
        self.output = config.output if config.output and config.output.form == "free" else Output("free")
        self.weights = config.weights or self.default_weights
        self.options = read_options(AnswerOptions, f"student {self.name!r}", config.options)
        check_device(self.options.device)
        self.truncated = self.too_long = 0.0
        self.fit_info = FitInfo()
        self._lm_weights: Weights | None = None
        self._network: AnswerNetwork | None = None
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
        own = read_options(AnswerOptions, f"student {cls.name!r}", own_options(options))
        return own.epochs or EPOCHS.epochs(own.batch_size, n_rows)

    def check_requirements(self) -> None:
        """See `TrainedModel.check_requirements`."""
        if find_spec("torch") is None or find_spec("transformers") is None:
            raise missing_extra("torch", "train", f"A {self.name} student")
        self._find_weights()

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
        train = AnsweredTexts(texts, [data.train.references[i] for i in order])
        rows, tokenizer = self._rows(train, tokenizer, data.token_targets.take(order))
        from potstill.students.encoder_training import STOPPED_EARLY, FineTuningConfig, fine_tune

        epochs = self.options.epochs or EPOCHS.epochs(self.options.batch_size, len(rows.answers))
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
        return [each.answer for each in self._generate(texts)]

    def generate_scored(self, texts: Sequence[str], k: int) -> list[ScoredAnswer]:
        """See `TokenScoringStudent.generate_scored`."""
        return self._generate(texts, k)

    def forced_logits(self, texts: Sequence[str], answers: Sequence[str]) -> list[Floats]:
        """See `FreeTextStudent.forced_logits`."""
        import torch

        network, tokenizer = self._loaded()
        with torch.inference_mode():
            return forced_scores(network.decoder(), tokenizer.encode(texts).ids, tokenizer.encode_answers(answers))

    def save(self, folder: Path) -> None:
        """Write `NAME.json`, `tokenizer.json` and `trained.safetensors`.

        Only trained parameters are written; `load` finds the language model by name and checks its hash.
        """
        network, tokenizer = self._loaded()
        assert self._lm_weights is not None
        save_trained(network, tokenizer.tokenizer, folder)
        SavedWriter(
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
        ).write(folder / f"{self.name}.json")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load what `save` wrote; answers are exactly the same.

        Raises:
            MissingWeights: the language model is not on this machine.
            RunNotFound: another language model has its name now, or the record is damaged.
        """
        record = SavedWriter.read(folder / f"{cls.name}.json")
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

    # --- of a kind ---------------------------------------------------------------------------------------------

    def tokenizer_key(self) -> str:
        """See `TokenScoringStudent.tokenizer_key`."""
        raise NotImplementedError

    def _find_weights(self) -> Weights:
        """The language model's weights. Raises BadInput if they are of another kind."""
        raise NotImplementedError

    def _load_pretrained(self) -> tuple[AnswerNetwork, AnswerTokenizer]:
        """The pretrained model, cut to the layers that are kept, and its tokenizer with the prompt of the task."""
        raise NotImplementedError

    # --- private -----------------------------------------------------------------------------------------------

    @property
    def _mode(self) -> Literal["lora", "full"]:
        if self.options.mode != "auto":
            return self.options.mode
        return "lora" if self.options.layers is None else "full"

    def _check_size(self, network: AnswerNetwork) -> None:
        from potstill.students.torch_onnx import check_graph_size

        check_graph_size(network, f"{self.name} student", FEWER_LAYERS)

    def _trainable_layers(self, network: AnswerNetwork) -> int:
        n = len(network.blocks)
        return min(self.options.trainable_layers or n, n)

    def _generate(self, texts: Sequence[str], k: int = 0) -> list[ScoredAnswer]:
        """The answers to N texts, with the k most probable tokens at each of theirs; with none for k = 0."""
        from potstill.students.answer_rows import generate, score_tokens

        check_texts(texts)
        network, tokenizer = self._loaded()
        prompts = tokenizer.encode(texts).ids
        found = generate(network, prompts, tokenizer.prompt.limits)
        answers = [GeneratedAnswer(tokenizer.decode(each.ids), exp(each.log_prob), each.complete) for each in found]
        if not k:
            return [ScoredAnswer(answer) for answer in answers]
        written = [tokenizer.with_end(each.ids) for each in found]
        scores = score_tokens(network, prompts, written, k, tokenizer.key)
        return [ScoredAnswer(*both) for both in zip(answers, scores, strict=True)]

    def _rows(
        self, train: AnsweredTexts, tokenizer: AnswerTokenizer, teacher: TokenTargets
    ) -> tuple[AnswerRows, AnswerTokenizer]:
        """A row for each text and reference, or teacher; without a limit of the user's, the longest answer is it."""
        from potstill.students.answer_rows import AnswerRows

        encoded = tokenizer.encode(train.texts)
        self.truncated = encoded.truncated / max(len(train), 1)
        owners = [i for i, own in enumerate(train.references) for _ in (own[:1] if teacher.of(i) else own)]
        written = tokenizer.encode_answers(
            [each for i, own in enumerate(train.references) for each in (own[:1] if teacher.of(i) else own)]
        )
        scores = [teacher.of(i) for i in owners]
        if any(each is not None and each.tokenizer != tokenizer.key for each in scores):
            raise other_tokenizer(f"The student {self.name}:{self.weights}")
        answers = [own if each is None else each.ids for own, each in zip(written, scores, strict=True)]
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
        rows = AnswerRows([encoded.ids[i] for i in owners], answers, scores, teacher.temperature)
        return rows.take(np.flatnonzero(fits)), tokenizer

    def _validation_rows(self, part: AnsweredTexts, tokenizer: AnswerTokenizer) -> AnswerRows | None:
        """The rows of the first references, and some of the texts to be answered; None without texts."""
        from potstill.students.answer_rows import AnswerRows, ValidationAnswers

        if not len(part):
            return None
        prompts = tokenizer.encode(part.texts).ids
        longest = tokenizer.prompt.max_tokens + 1
        answers = [each[:longest] for each in tokenizer.encode_answers([own[0] for own in part.references])]
        some = np.random.default_rng(0).permutation(content_order(part.texts))[:MAX_GENERATED_VALIDATION].tolist()
        assert self.output.metric is not None
        generated = ValidationAnswers(
            [prompts[i] for i in some],
            [part.references[i] for i in some],
            self.output.metric,
            tokenizer.prompt.limits,
            tokenizer.decode,
        )
        return AnswerRows(prompts, answers, validation=generated)

    def _loaded(self) -> tuple[AnswerNetwork, AnswerTokenizer]:
        if self._network is None or self._tokenizer is None:
            raise BadSpec(f"The {self.name} student is not trained.", "Call fit first.")
        return self._network, self._tokenizer
