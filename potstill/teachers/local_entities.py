"""A language model on this machine that names the entities of a text: llama.cpp writes JSON that a grammar enforces.

Prompt and reader are those of chat models behind servers (`entity_prompt.py`). The most probable token is taken each
time, so equal calls give equal answers. A model that comes without a chat template continues the same words as a plain
text. Needs a GGUF file.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from potstill.data.entities.answers import EntityAnswer
from potstill.data.task import content_key
from potstill.errors import BadSpec
from potstill.ledger.prices import Category, Price, Usage
from potstill.models.causal_lm import content_hash
from potstill.models.chat_template import ChatTemplate, find_chat_template
from potstill.models.weights import Weights
from potstill.teachers.base import (
    Fact,
    Reply,
    TeacherCapabilities,
    TeacherMetadata,
    TeacherSetup,
    UsageEstimate,
)
from potstill.teachers.entity_prompt import ENTITY_PROMPT_VERSION, EntityPrompt
from potstill.teachers.entity_question import (
    EMPTY_TOKENS,
    REPLY_BYTES_PER_TOKEN,
    entity_examples,
    max_entity_tokens,
    reply_share,
)
from potstill.teachers.label_prompt import render_chat
from potstill.teachers.llamacpp import SPARE_TOKENS, Completion, LlamaCpp, Sampling, estimate_prompt_tokens
from potstill.teachers.messages import shorten
from potstill.teachers.non_generating import NonGeneratingTeacher

GREEDY = Sampling(temperature=0.0, presence_penalty=0.0, min_p=0.0)
# The bound of a call: every reply at its longest, this many times as slow as measured, and so many seconds.
TIME_BOUND_FACTOR, TIME_BOUND_EXTRA_S = 5.0, 5.0
MAX_SHOTS = 4  # examples in the prompt unless the user says: reading them takes most of the time


@dataclass(frozen=True)
class LocalEntitySettings:
    """The options of `local:MODEL` that count for entities: texts at once, threads, and gold examples in the prompt."""

    slots: int
    threads: int
    shots: int | None


class LocalEntityTeacher(NonGeneratingTeacher):
    """Names entities with the model of a GGUF file; it is loaded when first asked.

    Args:
        name: as the user types it.
        setup: task and gold examples, whose labels are entities as `encode_entities` writes them.
        settings: the options.
        found: the model's weights.
        price: of this machine's time.

    Raises:
        BadSpec: the weights are not in a GGUF file.
    """

    category: Category = "llm"
    parallel = 1
    greenlet_safe = False
    simulated = False
    needs_prior_correction = False
    generation_hint = "Take --procedure kd."
    capabilities = TeacherCapabilities(
        task_kinds=frozenset({"text2text"}),
        output_forms=frozenset({"entities"}),
        writes_answers=True,
        soft_labels=False,
    )

    def __init__(
        self, name: str, setup: TeacherSetup, settings: LocalEntitySettings, found: Weights, price: Price
    ) -> None:
        if found.kind != "gguf":
            raise BadSpec(
                f"{name} cannot name entities: its weights are not in a GGUF file, which llama.cpp reads.",
                "Name a .gguf file, or a model of potstill fetch such as local:smollm2.",
            )
        self.name = name
        self.price = price
        self.batch_size = settings.slots
        self.weights = found
        self._template = find_chat_template(found)
        examples = setup.examples[: MAX_SHOTS if settings.shots is None else settings.shots]
        self._prompt = EntityPrompt(setup.task, entity_examples(examples, [each.text for each in examples]))
        self._llama = LlamaCpp(found, GREEDY, settings.slots, settings.threads)
        self._share = reply_share(self._prompt.examples)
        self._lock = threading.Lock()
        shown = [(each.text, each.label) for each in examples]
        self.key = self.generation_key = content_key(
            "local entities", ENTITY_PROMPT_VERSION, content_hash(found.path), setup.task.key, shown, self._template
        )

    @property
    def metadata(self) -> TeacherMetadata:
        """Facts for the report."""
        way = "through its chat template" if self._template else "by a plain prompt"
        extra: dict[str, Fact] = {
            "licence": self.weights.licence,
            "runtime": "llama.cpp (CPU)",
            "asked": f"{way}, {len(self._prompt.examples)} examples; JSON by a grammar",
            "prompt_version": f"entities {ENTITY_PROMPT_VERSION}",
        }
        return TeacherMetadata(
            price=self.price.source, model=self.weights.name, n_examples=len(self._prompt.examples), extra=extra
        )

    @cached_property
    def _chat_template(self) -> ChatTemplate:
        return ChatTemplate(self._template, {"bos_token": "", "eos_token": ""})  # llama.cpp adds the first one

    def _rendered(self, text: str) -> str:
        messages = self._prompt.messages(text)
        contents = [each["content"] for each in messages]
        if not self._template:
            return "\n\n".join(contents) + "\n\n"
        return render_chat(self._chat_template, [each["role"] for each in messages], contents)

    # --- money -------------------------------------------------------------------------------------------

    def max_usage(self, texts: Sequence[str]) -> Usage:
        """Seconds `answer(texts)` can take; the first call loads the model and times it."""
        with self._lock:
            tokens = [(estimate_prompt_tokens(self._rendered(text)), max_entity_tokens(text)) for text in texts]
            fitting = [prompt + reply for prompt, reply in tokens if self._fits(prompt, reply)]
            if not fitting:
                return Usage(seconds=TIME_BOUND_EXTRA_S)
            per_token = self._llama.seconds_per_token(max(fitting))
            seconds = TIME_BOUND_EXTRA_S + TIME_BOUND_FACTOR * per_token * sum(fitting)
            return Usage(seconds=self._llama.unpaid_s + seconds)

    def _fits(self, prompt: int, reply: int) -> bool:
        limit = self._llama.context_length
        return not limit or prompt + reply + 2 * SPARE_TOKENS <= limit

    def estimate_usage(self, texts: Sequence[str]) -> UsageEstimate:
        """Seconds by the replies to the gold examples: the prompt is read at once, or as slowly as it is written."""
        with self._lock:
            low = high = 0.0
            for text in texts:
                prompt, n_bytes = estimate_prompt_tokens(self._rendered(text)), len(text.encode("utf-8", "replace"))
                most = max_entity_tokens(text)
                if not self._fits(prompt, most):
                    continue
                per_token = self._llama.seconds_per_token(prompt + most)
                sizes = zip(self._share, REPLY_BYTES_PER_TOKEN, strict=True)
                least, longest = (EMPTY_TOKENS + share * n_bytes / size for share, size in sizes)
                low += per_token * least
                high += per_token * (prompt + min(longest, most))
        return UsageEstimate(Usage(seconds=low), Usage(seconds=high))

    # --- answering ---------------------------------------------------------------------------------------

    def answer(self, texts: Sequence[str]) -> Reply:
        """The entities that the model names in each text, and the seconds it took.

        A text that does not fit into the model's context is refused; a reply that is cut is unparsable.

        Raises:
            MissingExtra: xllamacpp is not installed.
            TeacherError: llama.cpp failed.
        """
        with self._lock:
            started = time.perf_counter()
            already = self._llama.unpaid_s
            prompts = {text: self._rendered(text) for text in texts}
            limits = {text: max_entity_tokens(text) for text in texts}
            fitting = [text for text in prompts if self._fits(estimate_prompt_tokens(prompts[text]), limits[text])]
            answers = {text: EntityAnswer("refused", raw="longer than the model reads") for text in prompts}
            if fitting:
                longest = max(limits[text] for text in fitting)
                completion = Completion(longest, seed=0, constraint={"json_schema": self._prompt.schema})
                replies = self._llama.complete([prompts[text] for text in fitting], completion)
                for text, reply in zip(fitting, replies, strict=True):
                    named = None if reply.is_cut else self._prompt.read(reply.text)
                    raw = shorten(reply.text)
                    answers[text] = (
                        EntityAnswer("unparsable", raw=raw)
                        if named is None
                        else EntityAnswer("ok", raw=raw, named=named)
                    )
            loading = self._llama.unpaid_s - already  # within this call
            seconds = time.perf_counter() - started - loading + self._llama.unpaid_s
            self._llama.unpaid_s = 0.0
        return Reply(tuple(answers[text] for text in texts), Usage(seconds=seconds))
