"""Generates texts with llama.cpp inside this process: the only file that imports xllamacpp.

One label at a time: the prompt asks for a list with one text a line after "- ", and a grammar enforces it, so that
every returned line is a whole text. Samples with the request's seed: repeatable on one machine and thread count.
Does not cover scoring (see `label_scoring`), tools, images, or models that are not in a GGUF file.
"""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import Any

from potstill.data.task import GenerationRequest, LabelledText, Task, content_key
from potstill.errors import TeacherError, missing_extra
from potstill.ledger.prices import Usage
from potstill.models.causal_lm import one_line
from potstill.models.threads import idle_cores
from potstill.models.weights import Weights
from potstill.teachers.base import GeneratedTexts
from potstill.teachers.prompts import JsonDict

LINES_PER_CALL = 5  # small models repeat themselves in long lists
EXAMPLES = 4
EXAMPLE_TOKENS = 64
# The bound of a call: every line at its longest, this many times as slow as measured, and so many seconds.
TIME_BOUND_FACTOR, TIME_BOUND_EXTRA_S = 5.0, 5.0
CHARACTERS_PER_TOKEN = 2  # of a prompt; fewer only in scripts that the vocabulary does not know
# At least a few words and no markup; the grammar of llama.cpp counts characters, the token limit ends longer texts.
GRAMMAR = 'root ::= ({lines})\nline ::= "- " [^ \\t\\n\\r<>|-] [^\\n\\r<>|]{{7,{max_characters}}} "\\n"'
_LINE = re.compile(r"^- (\S.*\S)\s*$")


def lines_grammar(n: int, max_tokens: int) -> str:
    """A GBNF grammar for exactly `n` lines that begin with "- "."""
    return GRAMMAR.format(lines=" ".join(["line"] * n), max_characters=max(8, 4 * max_tokens))


def parse_lines(reply: str, n: int) -> list[str]:
    """At most `n` texts of a reply, in order: whole lines only, without repetitions."""
    complete = reply.split("\n")[:-1]  # a line without a line break was cut at the token limit
    texts = [match[1] for line in complete if (match := _LINE.match(line))]
    return list(dict.fromkeys(texts))[:n]


def single_label_messages(task: Task, request: GenerationRequest, n: int) -> list[dict[str, str]]:
    """The prompt: one label, its description, and a few example texts."""
    description = task.descriptions.get(request.label, "").strip()
    parts = [f'Write {n} different new texts of the kind "{request.label.replace("_", " ")}".']
    if description:
        parts.append(f"It means: {description}")
    own = [each for each in request.examples if each.label == request.label] or list(request.examples)
    parts += _example_lines("Write in the manner of these:", own, False)
    parts += _example_lines("They must differ from these, which are of another kind:", request.counterexamples, True)
    if request.feedback and request.feedback.style:
        parts.append(f"This time: {request.feedback.style}.")
    parts.append('Answer with the texts alone, one a line, each after "- ".')
    return [{"role": "user", "content": "\n".join(parts)}]


def _example_lines(title: str, texts: Sequence[LabelledText], with_label: bool) -> list[str]:
    lines = [
        f"- {one_line(each.text, EXAMPLE_TOKENS)}" + (f" ({each.label.replace('_', ' ')})" if with_label else "")
        for each in texts[:EXAMPLES]
    ]
    return [title, *lines] if lines else []


class LlamaCppGenerator:
    """Generates texts with the model of a GGUF file. Loads it when first used.

    Args:
        weights: the model's file.
        task: labels and their descriptions.
        max_tokens: maximal tokens of one text.
        temperature: sampling temperature.
    """

    def __init__(self, weights: Weights, task: Task, max_tokens: int, temperature: float) -> None:
        self.weights = weights
        self.task = task
        self.max_tokens = max_tokens
        self.temperature = temperature
        self._lock = threading.Lock()
        self._unpaid_s = 0.0

    def max_usage(self, request: GenerationRequest) -> Usage:
        """Seconds `generate(request)` can take: every line as long as allowed, every call made twice, and slack.

        Nothing if the weights are not in a GGUF file, since `generate` then raises an error.

        Raises:
            MissingExtra: xllamacpp is not installed.
            TeacherError: the weights cannot be loaded.
        """
        if self.weights.kind != "gguf":
            return Usage()
        with self._lock:
            per_token = self._seconds_per_token
            calls = 2 * -(-request.n // LINES_PER_CALL)
            prompt_characters = len(single_label_messages(self.task, request, LINES_PER_CALL)[0]["content"])
            tokens = calls * (LINES_PER_CALL * self.max_tokens + prompt_characters // CHARACTERS_PER_TOKEN + 64)
            return Usage(seconds=self._unpaid_s + TIME_BOUND_EXTRA_S + TIME_BOUND_FACTOR * per_token * tokens)

    def generate(self, request: GenerationRequest) -> GeneratedTexts:
        """Up to `request.n` different texts.

        Repetitions and copies of the request's own texts are left out, and as many calls again are made for the rest.

        Raises:
            MissingExtra: xllamacpp is not installed.
            TeacherError: the weights are not in a GGUF file, or llama.cpp failed.
        """
        with self._lock:
            started = time.perf_counter()
            generated: dict[str, None] = {}
            in_prompt = {" ".join(each.text.split()) for each in (*request.examples, *request.counterexamples)}
            for turn in range(2 * -(-request.n // LINES_PER_CALL)):
                missing = request.n - len(generated)
                if missing <= 0:
                    break
                n = min(LINES_PER_CALL, missing)
                seed = int(content_key(request.seed, request.label, turn)[:7], 16)
                reply = self._generate(single_label_messages(self.task, request, n), n, seed)
                generated |= dict.fromkeys(text for text in parse_lines(reply, n) if text not in in_prompt)
            seconds = time.perf_counter() - started + self._unpaid_s
            self._unpaid_s = 0.0
        texts = tuple(LabelledText(text, request.label) for text in list(generated)[: request.n])
        return GeneratedTexts(texts, Usage(seconds=seconds))

    def _generate(self, chat: list[dict[str, str]], n: int, seed: int) -> str:
        body = {
            "messages": chat,
            "max_tokens": n * self.max_tokens,
            "temperature": self.temperature,
            "seed": seed,
            "grammar": lines_grammar(n, self.max_tokens),
            "cache_prompt": False,  # the same request must give the same texts, whatever the calls before it
        }
        reply: JsonDict = self._server.handle_chat_completions(body)
        if "error" in reply:
            raise TeacherError(f"llama.cpp refused to write: {reply['error'].get('message', reply['error'])}")
        return str(reply["choices"][0]["message"].get("content") or "")

    @cached_property
    def _server(self) -> Any:
        if self.weights.kind != "gguf":
            raise TeacherError(
                f"{self.weights.name!r} cannot write: its weights are not in a GGUF file.",
                "Name a .gguf file to write with, such as local:smollm2.",
            )
        if find_spec("xllamacpp") is None:
            raise missing_extra("xllamacpp", "local", "Writing texts with a local model")
        import xllamacpp

        started = time.perf_counter()
        params = xllamacpp.CommonParams()
        params.model.path = str(self.weights.path)
        params.n_ctx = 2048 + LINES_PER_CALL * self.max_tokens
        params.n_parallel = 1
        params.n_gpu_layers = 0
        params.warmup = False
        params.verbosity = -1
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = idle_cores()
        # The library always listens on loopback; a random key keeps other processes out.
        params.api_keys = [secrets.token_hex(16)]
        params.ui = False
        try:
            server = xllamacpp.Server(params)
        except (RuntimeError, ValueError, OSError) as error:
            raise TeacherError(f"llama.cpp cannot load {self.weights.path}: {error}", "Fetch it again.") from error
        self._unpaid_s += time.perf_counter() - started
        return server

    @cached_property
    def _seconds_per_token(self) -> float:
        """Measured on one short reply."""
        server = self._server
        started = time.perf_counter()
        reply = server.handle_chat_completions(
            {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8, "seed": 1, "ignore_eos": True}
        )
        seconds = time.perf_counter() - started
        self._unpaid_s += seconds
        return seconds / max(1, int(reply.get("usage", {}).get("completion_tokens", 1)))
