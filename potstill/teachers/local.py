"""A language model on this machine as a teacher: it scores every label after every text, and is priced by the hour.

`local` is `local:smollm2`; `local:NAME` takes any name, .gguf file or transformers folder that `weights.find_weights`
finds. A model that comes with a chat template is asked through it (`local_chat_prompt`), any other continues a plain
prompt (`completion_prompt`).
A text's score for a label is the sum of the log-probabilities of the label's tokens, that is log p(label | prompt,
text), not divided by length. The bias from a label's length and frequency is the same for every text, so
`evaluation.calibration.match_prior` removes it (the caller does that, where gold does not speak against it). In a chat
the end of the turn counts as a label's last token; else, if one label begins another ("card", "card fee"), the
separator after it does.

Where a text may have several labels, each label is asked about by itself behind the text, and its score is the
log-probability of yes against no. Scores on a GPU if there is one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from potstill.data.task import Answer, GenerationRequest, LabelledText, Task, TaskKind, content_key
from potstill.errors import BadInput, BadSpec, TeacherError
from potstill.ledger.prices import Category, Price, Rates, Usage
from potstill.models import weights
from potstill.models.causal_lm import choose_dtype, content_hash, require_torch
from potstill.models.chat_template import count_parameters, find_chat_template
from potstill.models.device import DeviceName, resolve_device
from potstill.models.threads import torch_threads
from potstill.registry import read_options
from potstill.teachers.base import (
    Fact,
    GeneratedTexts,
    PriorCorrection,
    Reply,
    Teacher,
    TeacherCapabilities,
    TeacherKind,
    TeacherMetadata,
    TeacherSetup,
    UsageEstimate,
)
from potstill.teachers.completion_prompt import TEMPLATE, PromptTemplate, TokenizedPrompt, pick_examples
from potstill.teachers.label_scoring import LabelScorer
from potstill.teachers.local_chat_prompt import ChatPrompt, TokenizedChatPrompt
from potstill.teachers.local_forms import LocalFormSettings, LocalFormTeacher, refuse_label_options
from potstill.teachers.local_generation import TEXTS_PER_LABEL, GenerationOptions, LocalGenerator
from potstill.teachers.local_model import LocalModel
from potstill.teachers.local_shortlist import LocalShortlist, name_labels
from potstill.teachers.price_options import PriceOptions

PROMPT_VERSION = "1"
GENERATION_VERSION = "2"
DEFAULT_MODEL = "smollm2"
# Assumed, not looked up: about what clouds ask for two virtual processors, and for a machine with a GPU.
USD_PER_HOUR, GPU_USD_PER_HOUR = "0.10", "2.00"
# The bound of a call is this many times the measured time, and so many seconds: another process may use the machine.
TIME_BOUND_FACTOR, TIME_BOUND_EXTRA_S = 20.0, 5.0
TASK_KINDS: frozenset[TaskKind] = frozenset({"single", "pair", "multi"})
MIN_CHAT_PARAMETERS = 300_000_000
PRIOR_WORDS: dict[PriorCorrection, str] = {
    "always": "matched",
    "unless_worse": "matched unless gold shows that it harms",
    "if_better": "matched only if gold shows that it helps",
}


class LocalOptions(GenerationOptions):
    """Options of `local:MODEL`, after those of its generated texts.

    Attributes:
        prompt_format: `chat` asks through the model's chat template, `plain` lets it continue a text; `auto` is `chat`
            for models of `MIN_CHAT_PARAMETERS` or more that have a template: smaller ones follow examples better.
        template: one text's part of the prompt, with {text} in it; the label follows at its end.
        label_words: label -> the words scored for it; by default the label with "_" read as a space.
        shots: gold examples of each label in one prompt, taken from the setup's examples; None takes all.
        match_prior: whether the labels' mean probability over unlabelled texts is made equal to their frequency;
            `auto` decides on gold texts that the prompt does not show, and where there are too few it matches the
            prior unless a chat shows an example of each label.
        shortlist: labels that are scored for a text, those most similar to it (`local_shortlist`); 0 scores all, "auto"
            20 of more than 40.
        embedding: what similarity is measured with: "tfidf", or static vectors such as "potion-8m".
        n_prompts: number of prompts with different examples, whose log-scores are averaged; each costs the full time.
        max_text_tokens: a longer text is cut at its end; the metadata counts such texts.
        batch_size: texts in one call.
        runtime: library that computes the scores.
        dtype: number format; `auto` is bfloat16 if the processor multiplies it natively, else float32. "int8" is faster
            where that is native, and changes some labels; elsewhere it is what `auto` is.
        device: device that scores; `auto` is a GPU if PyTorch finds one.
        threads: processor threads; 0 takes the idle cores, counted again every ten seconds (once to generate).
    """

    prompt_format: Literal["auto", "chat", "plain"] = "auto"
    template: str = TEMPLATE
    label_words: dict[str, str] = Field(default_factory=dict)
    shots: int | None = Field(default=None, ge=0)
    match_prior: bool | Literal["auto"] = "auto"
    shortlist: Literal["auto"] | Annotated[int, Field(ge=0)] = "auto"
    embedding: str = "tfidf"
    n_prompts: int = Field(default=1, ge=1, le=16)
    max_text_tokens: int = Field(default=256, ge=8)
    batch_size: int = Field(default=64, ge=1, le=4096)
    runtime: Literal["torch"] = "torch"
    dtype: Literal["auto", "int8", "bfloat16", "float32"] = "auto"
    device: DeviceName = "auto"
    threads: int = Field(default=0, ge=0)


def open_teacher(setup: TeacherSetup) -> LocalTeacher:
    """`local:MODEL`. Reads no weights yet, except to hash them.

    Raises:
        UnknownName, MissingWeights, BadInput: no usable weights under the model's name.
        MissingExtra: torch, transformers or gguf is not installed.
        BadSpec: an invalid option, or a task that this teacher does not support.
    """
    options = read_options(LocalOptions, "teacher 'local'", setup.options)
    if setup.task.kind not in TASK_KINDS:
        raise BadSpec(
            f"The teacher 'local' labels texts, and the task is {setup.task.kind!r}.", "Choose another teacher."
        )
    found = weights.find_weights(setup.model or DEFAULT_MODEL)
    require_torch(found)
    return LocalTeacher(setup, options, found)


class LocalTeacher:
    """A causal language model that scores labels. Created by `open_teacher`."""

    category: Category = "llm"
    parallel = 1
    greenlet_safe = False
    simulated = False

    def __init__(self, setup: TeacherSetup, options: LocalOptions, found: weights.Weights) -> None:
        self.options = options
        self.weights = found
        self.task = setup.task
        self.name = f"local:{setup.model or DEFAULT_MODEL}"
        self.batch_size = options.batch_size
        self.device = resolve_device(options.device)
        self.dtype = choose_dtype(options.dtype, self.device)
        self.examples = pick_examples(setup.examples, setup.task.labels, options.shots, options.n_prompts)
        self.text = _prompt(setup.task, options, found, self.examples[0])
        ranked = name_labels(setup.task, options.label_words)
        self._shortlist = LocalShortlist(ranked, setup.examples, options.shortlist, options.embedding)
        self.needs_prior_correction = options.match_prior is not False
        self.model = LocalModel(found, self.dtype, self.device, options.threads)
        in_torch = found.kind != "gguf" or choose_dtype("auto", self.device) == "bfloat16"
        generation = options.generation_settings("torch" if in_torch else "llama.cpp")
        template = "" if options.prompt_format == "plain" else find_chat_template(found)
        self._generator = LocalGenerator(found, self.task, template, generation, self.model, options.threads)
        self.capabilities = TeacherCapabilities(
            generates=self._generator.can_generate,
            describes_labels=self._generator.can_generate,
            reads_feedback=options.generation_prompt == "whole",
            labels_per_call=self._generator.labels_per_call,
            texts_per_label=TEXTS_PER_LABEL,
            task_kinds=TASK_KINDS,
            prior_correction=self._prior_correction,
        )
        self.price: Price = _price(setup.prices, on_gpu=self.device.type != "cpu")
        example_rows = [[(each.text, each.label) for each in prompt] for prompt in self.examples]
        prompt_parts = (*self.text.key_parts, example_rows, options.max_text_tokens, *self._shortlist.key_parts)
        weights_hash = content_hash(found.path)
        self.key = content_key("local", PROMPT_VERSION, weights_hash, self.task.key, prompt_parts, self.dtype)
        self.generation_key = content_key(self.key, GENERATION_VERSION, asdict(generation))
        self._counts = {"texts": 0, "tokens": 0, "truncated": 0}
        self._busy_s = 0.0

    @property
    def _asked(self) -> str:
        """How it is asked, and whether its label bias is removed, in words."""
        way = "through its chat template" if isinstance(self.text, ChatPrompt) else "by a plain prompt"
        prior = PRIOR_WORDS[self._prior_correction] if self.needs_prior_correction else "not matched"
        asked = f"{way}, {len(self.examples[0])} examples; label prior {prior} (prompt_format, match_prior)"
        size = self._shortlist.size
        return f"{asked}; the {size} labels most similar to a text (shortlist)" if size else asked

    @property
    def _prior_correction(self) -> PriorCorrection:
        if self.options.match_prior != "auto":
            return "always"
        shown = {example.label for example in self.examples[0]}
        return "if_better" if isinstance(self.text, ChatPrompt) and len(shown) == self.task.n_labels else "unless_worse"

    # --- facts -------------------------------------------------------------------------------------------

    @property
    def metadata(self) -> TeacherMetadata:
        """Facts for the report; with the speeds after the first answer."""
        extra: dict[str, Fact] = {
            "licence": self.weights.licence,
            "runtime": f"PyTorch ({self.device.type.upper()})",
            "dtype": self.dtype,
            "asked": self._asked,
            "prompts": len(self.examples),
            "max_text_tokens": self.options.max_text_tokens,
            **self._shortlist.facts,
            "writes_with": f"{self._generator.settings.runtime}, {self._generator.settings.slots} texts at once",
        }
        if "_scorers" in self.__dict__:
            extra |= {"million_parameters": round(self.model.lm.n_params / 1e6), "threads": self.model.threads}
            extra |= {"prompt_tokens": len(self._scorers[0].prompt), "label_tokens": self._scorers[0].tokens_per_text}
        if self._counts["texts"]:
            extra |= {"texts": self._counts["texts"], "truncated": self._counts["truncated"]}
            extra |= {
                "texts_per_s": round(self._counts["texts"] / self._busy_s, 1),
                "tokens_per_s": round(self._counts["tokens"] / self._busy_s),
            }
        return TeacherMetadata(
            price=self.price.source, model=self.weights.name, n_examples=len(self.examples[0]), extra=extra
        )

    # --- answering ---------------------------------------------------------------------------------------

    def max_usage(self, texts: Sequence[str]) -> Usage:
        """Seconds `answer(texts)` can take; the first call loads the model and times it on the prompt."""
        with self.model.lock:
            return Usage(seconds=self._bound_s(self._count_tokens(texts)))

    def estimate_usage(self, texts: Sequence[str]) -> UsageEstimate:
        """Seconds by the speed measured on the prompt: full batches are faster, a busy machine is slower."""
        with self.model.lock:
            seconds = self._seconds_per_token * self._count_tokens(texts)
        return UsageEstimate(Usage(seconds=seconds / 3), Usage(seconds=seconds * 2))

    def answer(self, texts: Sequence[str]) -> Reply:
        """K log-probabilities a text, and the seconds it took.

        The other texts of a call change a score by a few hundredths in int8 and bfloat16, by less than 1e-4 in float32;
        equal calls give equal scores on one machine. The time to load the model is charged to the first answer.

        Raises:
            TeacherError: the model cannot be loaded, or ran out of memory.
        """
        with self.model.lock:
            encoded = self._tokens.texts(texts)
            started = time.perf_counter()
            among = self._shortlist.columns(texts)
            total = np.zeros((len(texts), self.task.n_labels))
            try:
                with torch_threads(self.model.count_threads()):
                    for scorer in self._scorers:
                        total += self._label_scores(scorer.score(encoded, among))
            except (RuntimeError, MemoryError) as error:
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise TeacherError(
                    f"{self.name} failed while scoring {len(texts)} texts: {reason}",
                    "Set a smaller `batch_size` under [teacher].",
                ) from error
            seconds = time.perf_counter() - started
            self._busy_s += seconds
            self._counts["texts"] += len(texts)
            self._counts["tokens"] += self._scorers[0].count_tokens(encoded, among)
            self._counts["truncated"] += sum(map(self._tokens.is_cut, encoded))
            usage = Usage(seconds=seconds + self.model.unpaid_s)
            self.model.unpaid_s = 0.0
        rows = (total / len(self._scorers)).tolist()
        return Reply(tuple(Answer("ok", tuple(row), "scored") for row in rows), usage)

    def _label_scores(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, K) log-probabilities of labels; in a multi-label task those of yes against no, from (N, 2 K) scores."""
        if not self.text.multi_label:
            return self._shortlist.fill(scores)
        yes, no = scores[:, 0::2], scores[:, 1::2]
        return np.asarray(yes - np.logaddexp(yes, no))

    # --- generating --------------------------------------------------------------------------------------

    def max_generation_usage(self, request: GenerationRequest) -> Usage:
        """Seconds `generate(request)` can take: its longest possible output at the measured speed."""
        return self._generator.max_usage(request)

    def estimate_generation_usage(self, request: GenerationRequest) -> UsageEstimate:
        """The upper bound: the length of the output is unknown."""
        return UsageEstimate(self._generator.max_usage(request), self._generator.max_usage(request))

    def generate(self, request: GenerationRequest) -> GeneratedTexts:
        """Texts of the request's labels; see `LocalGenerator.generate`.

        Raises:
            MissingExtra: xllamacpp is to write, and is not installed.
            TeacherError: llama.cpp is to write and the weights are not in a GGUF file, or the library failed.
        """
        return self._generator.generate(request)

    # --- model and time ----------------------------------------------------------------------------------

    @cached_property
    def _tokens(self) -> TokenizedPrompt | TokenizedChatPrompt:
        limit = self.options.max_text_tokens
        if isinstance(self.text, ChatPrompt):
            return TokenizedChatPrompt(self.model.lm, self.text, self.task.labels, limit)
        return TokenizedPrompt(self.model.lm, self.text, self.task.labels, limit)

    @cached_property
    def _scorers(self) -> list[LabelScorer]:
        tokens, lm = self._tokens, self.model.lm
        given = [len(question) for question in tokens.questions for _ in range(2)]
        scorers = [LabelScorer(lm.model, tokens.prompt(each), tokens.scored, n_given=given) for each in self.examples]
        longest = max(len(each.prompt) for each in scorers) + self.options.max_text_tokens
        longest += len(tokens.tail) + max(map(len, tokens.scored))
        if longest > lm.context_length:
            raise BadInput(
                f"Prompt, text and labels can be {longest} tokens, and {self.name} reads {lm.context_length}.",
                "Show fewer examples (`shots`), cut texts (`max_text_tokens`), or name a model that reads more.",
            )
        return scorers

    @cached_property
    def _seconds_per_token(self) -> float:
        """Measured: encodes the prompts, then scores about a hundred tokens of the first as if they were texts."""
        scorers = self._scorers  # loads the model, whose time is counted by itself
        started = time.perf_counter()
        with torch_threads(self.model.count_threads()):
            for scorer in scorers:
                scorer.encode_prompt()
            sample = [(list(scorers[0].prompt) * 16)[:16]] * 6
            scoring_started = time.perf_counter()
            finite = np.isfinite(scorers[0].score(sample)).all()
            seconds = time.perf_counter() - scoring_started
        if not finite:
            raise TeacherError(
                f"The weights of {self.name} are damaged: its scores are no numbers.",
                'Fetch or copy them again; if they are whole, write dtype = "float32" under [teacher].',
            )
        self.model.unpaid_s += time.perf_counter() - started
        return seconds * len(scorers) / scorers[0].count_tokens(sample)

    def _bound_s(self, n_tokens: int) -> float:
        per_token = self._seconds_per_token
        if self._counts["tokens"]:
            # Other processes may have slowed the probe; every later call would then hold too much.
            per_token = min(per_token, self._busy_s / self._counts["tokens"])
        return self.model.unpaid_s + TIME_BOUND_EXTRA_S + TIME_BOUND_FACTOR * per_token * n_tokens

    def _count_tokens(self, texts: Sequence[str]) -> int:
        """Tokens computed to score the texts with one prompt."""
        return self._scorers[0].count_tokens(self._tokens.texts(texts), self._shortlist.columns(texts))


def _prompt(
    task: Task, options: LocalOptions, found: weights.Weights, examples: Sequence[LabelledText]
) -> PromptTemplate | ChatPrompt:
    template = "" if options.prompt_format == "plain" else find_chat_template(found)
    if options.prompt_format == "chat" and not template:
        raise BadSpec(
            f"The model {found.name!r} comes without a chat template.",
            'Write prompt_format = "plain" under [teacher], or name an instruction model such as local:qwen-1.5b.',
        )
    if template and options.prompt_format == "auto" and count_parameters(found) < MIN_CHAT_PARAMETERS:
        template = ""
    if template:
        return ChatPrompt.for_task(task, template, options.template, options.label_words)
    return PromptTemplate.from_examples(task, options.template, options.label_words, examples)


def _price(prices: PriceOptions, *, on_gpu: bool = False) -> Rates:
    if prices.usd_per_hour is not None:
        return Rates("[prices] usd_per_hour of the spec", usd_per_hour=prices.usd_per_hour)
    rate, machine = (GPU_USD_PER_HOUR, "machine with a GPU") if on_gpu else (USD_PER_HOUR, "2-vCPU cloud machine")
    assumed = f"assumed ${rate} an hour, about a {machine}; set [prices] usd_per_hour"
    return Rates(assumed, usd_per_hour=Decimal(rate))


def open_by_task(setup: TeacherSetup) -> Teacher:
    """`local:MODEL` for the setup's task: it scores labels, or writes. Raises what `open_teacher` raises."""
    if setup.task.output is None:
        return open_teacher(setup)
    options = read_options(LocalOptions, "teacher 'local'", setup.options)
    found = weights.find_weights(setup.model or DEFAULT_MODEL)
    refuse_label_options(options)
    if options.generation_runtime == "torch":
        raise BadSpec(
            "Entities and answers are written by llama.cpp alone.",
            'Leave generation_runtime out, or write generation_runtime = "llama.cpp".',
        )
    generation = options.generation_settings()
    settings = LocalFormSettings(generation.slots, options.threads, options.shots, generation)
    return LocalFormTeacher(f"local:{setup.model or DEFAULT_MODEL}", setup, settings, found, _price(setup.prices))


CAPABILITIES = TeacherCapabilities(
    generates=True,
    describes_labels=True,
    task_kinds=TASK_KINDS | {"text2text"},
    output_forms=frozenset({"entities", "free"}),
)
KIND = TeacherKind(open_by_task, CAPABILITIES, LocalOptions)
