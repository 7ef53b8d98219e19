"""A language model on this machine writes texts with their answers: JSON by a grammar, several replies at once.

The prompt is that of chat models behind servers (`form_generation_prompts.py`), with the whole request; each copy of it
asks for its share of the texts. Knows no price and no time; see `local_forms.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from potstill.data.task import GenerationRequest, LabelledText, Task, content_key
from potstill.errors import BadInput
from potstill.teachers.form_generation_prompts import FormGenerationPrompt, fit_form_prompt
from potstill.teachers.llamacpp import SPARE_TOKENS, Completion, LlamaCpp, estimate_prompt_tokens
from potstill.teachers.local_generation import JSON_TOKENS, GenerationSettings, with_n_texts
from potstill.teachers.prompts import Message

MIN_PROMPT_TOKENS = 256


@dataclass(frozen=True)
class RequestSize:
    """Tokens of a prompt, and of a reply at most; and how many copies of the prompt are answered."""

    prompt: int
    reply: int
    copies: int


@dataclass(frozen=True)
class LocalFormWriter:
    """Writes with the model that also answers.

    Attributes:
        task: the task.
        llama: the model.
        settings: how it writes; `max_tokens` is of a text, and as many of its answer.
        render: messages -> the prompt of this model.
    """

    task: Task
    llama: LlamaCpp
    settings: GenerationSettings
    render: Callable[[Sequence[Message]], str]

    def size(self, request: GenerationRequest) -> RequestSize:
        """The size of a request. Raises BadInput if the model cannot read it."""
        prompt, copies = self._fitted(request)
        rendered = self.render(prompt.messages())
        return RequestSize(estimate_prompt_tokens(rendered), self._reply_tokens(prompt.request.n), copies)

    def generate(self, request: GenerationRequest) -> tuple[LabelledText, ...]:
        """Up to `request.n` texts with their answers; of a reply that cannot be parsed its beginning, without one.

        Raises:
            BadInput: the prompt and its reply are longer than the model reads.
            BadSpec: the request cannot be cut to fit.
            MissingExtra, TeacherError: what `LlamaCpp.complete` raises.
        """
        prompt, copies = self._fitted(request)
        n = prompt.request.n
        seed = int(content_key(request.seed, "form")[:7], 16)
        schema = {"json_schema": with_n_texts(prompt.schema, n)}
        completion = Completion(self._reply_tokens(n), seed, schema, copies, self.settings.sampling)
        texts: list[LabelledText] = []
        for reply in self.llama.complete([self.render(prompt.messages())], completion):
            texts += prompt.parse(reply.text) or prompt.unparsed(reply.text)
        return tuple(texts[: request.n])

    def _fitted(self, request: GenerationRequest) -> tuple[FormGenerationPrompt, int]:
        """The prompt, cut to fit the model, and how many copies of it are asked."""
        n = math.ceil(request.n / min(self.settings.slots, request.n))
        limit, context = self.settings.prompt_tokens, self.llama.context_length
        if context:
            limit = min(limit, context - self._reply_tokens(n) - 2 * SPARE_TOKENS)
        if limit < MIN_PROMPT_TOKENS:
            raise BadInput(
                f"{n} texts with answers of {self.settings.max_tokens} tokens each leave no room for a prompt: "
                f"{self.llama.weights.name!r} reads {context} tokens.",
                "Ask for fewer texts a round, or set a smaller generation_max_tokens under [teacher].",
            )
        prompt = FormGenerationPrompt(self.task, replace(request, n=n))
        return fit_form_prompt(prompt, limit), math.ceil(request.n / n)

    def _reply_tokens(self, n: int) -> int:
        return n * (2 * self.settings.max_tokens + JSON_TOKENS)
