"""Generates texts with a model on this machine, in one of two ways.

Label by label: a prompt shows texts of one label and asks for another one, and is continued several times at once; the
request's feedback decides how many texts of which label, and which texts are shown. Or the whole request, as a chat
model behind a server reads it, with a grammar for its JSON, by llama.cpp.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from pydantic import Field

from potstill.data.task import DescriptionRequest, GenerationRequest, LabelledText, Task, content_key
from potstill.errors import BadInput, BadSpec
from potstill.ledger.prices import Usage
from potstill.models.chat_template import ChatTemplate
from potstill.models.weights import Weights
from potstill.registry import Options
from potstill.teachers.base import GeneratedTexts
from potstill.teachers.description_prompts import description_conversation, description_list
from potstill.teachers.generation_prompts import GenerationPrompt, fit_generation_prompt
from potstill.teachers.generation_quotas import split_by_label
from potstill.teachers.label_prompt import break_control_tokens, label_conversation, label_list, render_chat
from potstill.teachers.line_writing import LineJob, LineWriter, LlamaLines, Timed
from potstill.teachers.llamacpp import Completion, LlamaCpp, Sampling, estimate_prompt_tokens
from potstill.teachers.local_model import LocalModel
from potstill.teachers.prompts import JsonDict

TEXTS_PER_LABEL = 4  # of a round; fewer would be more prompts, and one costs more time than its texts
# The bound of a call: every reply at its longest, this many times as slow as measured, and so many seconds.
TIME_BOUND_FACTOR, TIME_BOUND_EXTRA_S = 5.0, 5.0
JSON_TOKENS = 24  # around one text of a JSON reply, its label included
LLAMA_SLOTS, TORCH_SLOTS = 4, 32
GenerationRuntime = Literal["torch", "llama.cpp"]


@dataclass(frozen=True)
class GenerationSettings:
    """How a model on this machine generates.

    Attributes:
        whole_request: it reads the whole request, instead of one label at a time.
        max_tokens: of one text.
        prompt_tokens: limit of a prompt that holds the whole request.
        slots: texts that are written at once.
        sampling: how tokens are drawn.
        runtime: what writes.
    """

    whole_request: bool
    max_tokens: int
    prompt_tokens: int
    slots: int
    sampling: Sampling
    runtime: GenerationRuntime = "llama.cpp"


class GenerationOptions(Options):
    """Options of the texts that `local:MODEL` generates.

    Attributes:
        generation_prompt: what a prompt for new texts holds: texts and the description of one `label`, or the `whole`
            request with the student's errors, as models behind a server read it; `auto` is `label`, whose prompts are
            short: reading one is what takes a model on this machine its time.
        generation_prompt_tokens: limit of a prompt with the whole request, by a high estimate of its tokens.
        generation_max_tokens: maximal tokens of one generated text.
        generation_slots: texts that are written at once, by default 32 with `torch` and 4 with `llama.cpp`; another
            number can give other texts.
        generation_runtime: what writes label by label: `torch`, with the weights that score, or `llama.cpp`, which
            needs a GGUF file; `auto` is `torch` on a GPU and on a processor with native bfloat16, and for weights that
            are not in a GGUF file.
        temperature: sampling temperature of generated texts.
        presence_penalty: lowers the logit of tokens that stand among the last 64, those of the prompt included.
        min_p: tokens less probable than this share of the most probable one are not drawn.
    """

    generation_prompt: Literal["auto", "label", "whole"] = "auto"
    generation_prompt_tokens: int = Field(default=6000, ge=256, le=1_000_000)
    generation_max_tokens: int = Field(default=96, ge=8, le=2048)
    generation_slots: int | None = Field(default=None, ge=1, le=256)
    generation_runtime: Literal["auto", "torch", "llama.cpp"] = "auto"
    temperature: float = Field(default=1.1, ge=0, le=2)
    presence_penalty: float = Field(default=0.8, ge=0, le=2)
    min_p: float = Field(default=0.05, ge=0, le=1)

    def generation_settings(self, runtime: GenerationRuntime = "llama.cpp") -> GenerationSettings:
        """How it generates.

        Args:
            runtime: what `auto` is.

        Raises:
            BadSpec: `torch` is to read whole requests.
        """
        sampling = Sampling(self.temperature, self.presence_penalty, self.min_p)
        whole = self.generation_prompt == "whole"
        asked = self.generation_runtime
        if whole and asked == "torch":
            raise BadSpec(
                "A whole request is answered in JSON by a grammar, which llama.cpp alone has.",
                'Write generation_runtime = "llama.cpp" under [teacher], or generation_prompt = "label".',
            )
        chosen = "llama.cpp" if whole else runtime if asked == "auto" else asked
        slots = self.generation_slots or (TORCH_SLOTS if chosen == "torch" else LLAMA_SLOTS)
        limits = (self.generation_max_tokens, self.generation_prompt_tokens, slots)
        return GenerationSettings(whole, *limits, sampling, chosen)


def with_n_texts(schema: JsonDict, n: int) -> JsonDict:
    """The schema of a reply with exactly `n` texts."""
    texts = {**schema["properties"]["texts"], "minItems": n, "maxItems": n}
    return {**schema, "properties": {"texts": texts}}


class LocalGenerator:
    """Generates texts with a model on this machine. Loads it when first used.

    Args:
        weights: the model's file.
        task: labels and their descriptions.
        template: the source of its chat template; empty lets it continue a list.
        settings: how it generates.
        model: the one that scores, which writes with the runtime `torch`; its lock is held by every call.
        threads: processor threads of llama.cpp; 0 takes the cores that are idle when it loads the model.

    Raises:
        BadSpec: it is to read whole requests and has no chat template.
    """

    def __init__(
        self,
        weights: Weights,
        task: Task,
        template: str,
        settings: GenerationSettings,
        model: LocalModel,
        threads: int = 0,
    ) -> None:
        if settings.whole_request and not template and weights.kind == "gguf":
            raise BadSpec(
                f"{weights.name!r} reads no whole request: it has no chat template, or is asked without it.",
                'Write generation_prompt = "label" under [teacher], or name an instruction model: local:qwen-1.5b.',
            )
        self.weights = weights
        self.task = task
        self.template = template
        self.settings = settings
        self._model = model
        self._llama = LlamaCpp(weights, settings.sampling, settings.slots, threads)

    @property
    def labels_per_call(self) -> int:
        """Labels whose texts are asked for in one call."""
        slots = self.settings.slots
        return max(1, slots // TEXTS_PER_LABEL) if self.settings.runtime == "torch" else slots

    @property
    def can_generate(self) -> bool:
        """False if llama.cpp is to write, and the weights are not in a GGUF file."""
        return self.settings.runtime == "torch" or self.weights.kind == "gguf"

    @cached_property
    def _lines(self) -> LineWriter:
        if self.settings.runtime == "llama.cpp":
            return LlamaLines(self._llama, in_list=not self.template)
        from potstill.teachers.torch_lines import TorchLines

        return TorchLines(self._model, self.template, self.settings.sampling, self.settings.slots)

    def _engine(self, request: GenerationRequest) -> Timed:
        return self._llama if self._is_whole(request) else self._lines.engine

    def max_usage(self, request: GenerationRequest) -> Usage:
        """Seconds `generate(request)` can take: every reply as long as allowed, and slack.

        Nothing if it cannot generate, since `generate` then raises an error.

        Raises:
            MissingExtra: xllamacpp is not installed.
            BadSpec: the request's labels do not fit into `prompt_tokens`.
            TeacherError: the weights cannot be loaded.
        """
        if not self.can_generate:
            return Usage()
        with self._model.lock:
            if self._is_whole(request):
                longest = self._max_seconds_of_whole(request)
            else:
                longest = self._lines.max_seconds(self._jobs(request), self.settings.max_tokens)
            seconds = TIME_BOUND_EXTRA_S + TIME_BOUND_FACTOR * longest
            return Usage(seconds=self._engine(request).unpaid_s + seconds)

    def generate(self, request: GenerationRequest) -> GeneratedTexts:
        """Up to `request.n` texts; copies of the request's own are among them, for the caller to find.

        Raises:
            MissingExtra: xllamacpp is not installed.
            BadInput: a prompt and its reply are longer than the model reads.
            BadSpec: the request's labels do not fit into `prompt_tokens`.
            TeacherError: it cannot generate, or the library failed.
        """
        with self._model.lock:
            started, engine = time.perf_counter(), self._engine(request)
            already = engine.unpaid_s
            texts = self._whole(request) if self._is_whole(request) else self._by_label(request)
            loading = engine.unpaid_s - already  # within this call
            seconds = time.perf_counter() - started + engine.unpaid_s - loading
            engine.unpaid_s = 0.0
        return GeneratedTexts(texts[: request.n], Usage(seconds=seconds))

    def _is_whole(self, request: GenerationRequest) -> bool:
        return self.settings.whole_request and not request.label and not request.parts

    # --- label by label ----------------------------------------------------------------------------------

    def _by_label(self, request: GenerationRequest) -> tuple[LabelledText, ...]:
        lines = self._lines.lines(self._jobs(request), request.seed, self.settings.max_tokens)
        return tuple(LabelledText(text, label) for label, text in lines)

    def _jobs(self, request: GenerationRequest) -> list[LineJob]:
        jobs = []
        for part in self._parts(request):
            prompt, slots = self._prompt(part), self.settings.slots
            for turn, left in enumerate(range(part.n, 0, -slots)):
                jobs.append(LineJob(part.label, prompt, min(left, slots), turn))
        return jobs

    def _parts(self, request: GenerationRequest) -> Sequence[GenerationRequest]:
        if request.parts:
            return request.parts
        if request.label:
            return (request,)
        correct = request.feedback.correct if request.feedback else ()
        gold = [*request.examples, *(LabelledText(each.text, each.label) for each in correct)]
        draw = np.random.default_rng(request.seed)
        return split_by_label(request, self.task.labels, gold, draw, TEXTS_PER_LABEL)

    def _prompt(self, part: GenerationRequest) -> str:
        if not self.template:
            return break_control_tokens(
                description_list(self.task, part)
                if isinstance(part, DescriptionRequest)
                else label_list(self.task, part)
            )
        if isinstance(part, DescriptionRequest):
            return render_chat(self._chat_template, *description_conversation(self.task, part))
        return render_chat(self._chat_template, *label_conversation(self.task, part))

    @cached_property
    def _chat_template(self) -> ChatTemplate:
        return ChatTemplate(self.template, {"bos_token": "", "eos_token": ""})  # what writes adds the first one

    # --- the whole request -------------------------------------------------------------------------------

    def _max_seconds_of_whole(self, request: GenerationRequest) -> float:
        prompt, n = self._fitted(request)
        size, reply = estimate_prompt_tokens(self._chat(prompt)), self._reply_tokens(n)
        return self._llama.seconds_per_token(size + reply) * (size + reply * -(-request.n // n))

    def _whole(self, request: GenerationRequest) -> tuple[LabelledText, ...]:
        """The texts of the whole request: copies of one prompt, each asked for its share of them."""
        prompt, n = self._fitted(request)
        copies = -(-request.n // n)
        seed = int(content_key(request.seed, "whole")[:7], 16)
        completion = Completion(self._reply_tokens(n), seed, {"json_schema": with_n_texts(prompt.schema, n)}, copies)
        texts: list[LabelledText] = []
        for reply in self._llama.complete([self._chat(prompt)], completion):
            parsed = prompt.parse(reply.text)
            texts += prompt.unparsed(reply.text) if parsed is None else parsed
        return tuple(texts)

    def _fitted(self, request: GenerationRequest) -> tuple[GenerationPrompt, int]:
        """The prompt, cut to fit the model, and how many texts each copy of it asks for."""
        feedback = request.feedback
        shares = 1 if feedback is not None and feedback.label_counts else min(self.settings.slots, request.n)
        n = -(-request.n // shares)
        room = self._llama.context_length - self._reply_tokens(n) - 256 if self._llama.context_length else 0
        if self._llama.context_length and room < 256:
            raise BadInput(
                f"{n} texts of {self.settings.max_tokens} tokens leave no room for a prompt: {self.weights.name!r} "
                f"reads {self._llama.context_length} tokens.",
                'Ask for fewer texts a round, set a smaller generation_max_tokens, or generation_prompt = "label".',
            )
        limit = min(self.settings.prompt_tokens, room) if room else self.settings.prompt_tokens
        return fit_generation_prompt(self.task, replace(request, n=n), limit), n

    def _reply_tokens(self, n: int) -> int:
        return n * (self.settings.max_tokens + JSON_TOKENS)

    def _chat(self, prompt: GenerationPrompt) -> str:
        messages = prompt.messages()
        return render_chat(
            self._chat_template, [each["role"] for each in messages], [each["content"] for each in messages]
        )
