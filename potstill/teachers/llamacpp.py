"""Continues prompts with llama.cpp inside this process, several at once: the only file that imports xllamacpp.

The prompts of a call are given to the library together, one a slot, and nothing of an earlier call is kept. So equal
calls give equal texts on one machine with the same number of threads and slots; another number of slots, or of
threads, adds numbers in another order and can give other texts.
Does not cover prompts (see `label_prompt` and `generation_prompts`), scoring (see `label_scoring`), or weights that are
not in a GGUF file.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from typing import Any

from potstill.errors import BadInput, TeacherError, missing_extra
from potstill.models.gguf_metadata import read_gguf_metadata
from potstill.models.threads import idle_cores
from potstill.models.weights import Weights
from potstill.teachers.grammar_check import check_grammar
from potstill.teachers.prompts import JsonDict

BYTES_PER_TOKEN = 2.5  # of a prompt, at least, in most scripts; where it is less, the context grows once
SPARE_TOKENS, CONTEXT_STEP = 64, 256
CONTEXT_ERROR = "exceed_context_size_error"


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn.

    Attributes:
        temperature: divides the logits; 0 takes the most probable token.
        presence_penalty: subtracted from the logit of each of the last 64 tokens, those of the prompt included.
        min_p: tokens less probable than this share of the most probable one are left out.
    """

    temperature: float
    presence_penalty: float
    min_p: float


@dataclass(frozen=True)
class Completion:
    """What all replies of a call have in common.

    Attributes:
        max_tokens: of a reply; a longer one is cut.
        seed: of the draws.
        constraint: "grammar" (GBNF) or "json_schema" -> what a reply must match; empty for any reply.
        copies: replies to each prompt, which differ by their seed.
        sampling: how tokens are drawn; None as the model was opened.

    Raises:
        TeacherError: a grammar names a rule that it does not have.
    """

    max_tokens: int
    seed: int
    constraint: Mapping[str, Any] = field(default_factory=dict)
    copies: int = 1
    sampling: Sampling | None = None

    def __post_init__(self) -> None:
        if "grammar" in self.constraint:
            check_grammar(self.constraint["grammar"])


@dataclass(frozen=True)
class Completed:
    """A reply, and whether it was cut at the maximal number of tokens."""

    text: str
    is_cut: bool = False


def estimate_prompt_tokens(prompt: str) -> int:
    """A high estimate of a prompt's tokens, by `BYTES_PER_TOKEN`; needs no tokenizer."""
    return math.ceil(len(prompt.encode("utf-8", "replace")) / BYTES_PER_TOKEN)


class LlamaCpp:
    """A GGUF model in llama.cpp, loaded when first used. Not thread-safe.

    Args:
        weights: the model's file.
        sampling: how tokens are drawn.
        slots: prompts that are continued at once.
        threads: processor threads; 0 takes the cores that are idle when it is loaded.

    Attributes:
        unpaid_s: seconds of loading that no call has been charged for.
    """

    def __init__(self, weights: Weights, sampling: Sampling, slots: int, threads: int = 0) -> None:
        self.weights = weights
        self.sampling = sampling
        self.slots = slots
        self.threads = threads
        self.unpaid_s = 0.0
        self._server: Any = None
        self._context = 0
        self._seconds_per_token = 0.0

    @cached_property
    def context_length(self) -> int:
        """Tokens of a prompt and its reply that the model reads at most; 0 if unknown."""
        if self.weights.kind != "gguf":
            return 0
        return read_gguf_metadata(self.weights.path).context_length

    def complete(self, prompts: Sequence[str], completion: Completion) -> list[Completed]:
        """The replies to up to `slots` prompts, or copies of one prompt, in order.

        Raises:
            MissingExtra: xllamacpp is not installed.
            BadInput: a prompt and its reply are longer than the model reads.
            TeacherError: the weights cannot be loaded, or llama.cpp failed.
        """
        needed = max(map(estimate_prompt_tokens, prompts)) + completion.max_tokens + SPARE_TOKENS
        error = self._reply(prompts, completion, needed)
        if isinstance(error, dict) and error.get("type") == CONTEXT_ERROR:  # a token had fewer bytes than estimated
            needed = int(error.get("n_prompt_tokens", 2 * needed)) + completion.max_tokens + SPARE_TOKENS
            error = self._reply(prompts, completion, needed)
        if isinstance(error, dict):
            reason = " ".join(str(error.get("message", error)).split())[:200]
            raise TeacherError(
                f"llama.cpp refused to write: {reason}.",
                'Set generation_prompt = "label" under [teacher], or name another model.',
            )
        return error

    def _reply(self, prompts: Sequence[str], completion: Completion, needed: int) -> list[Completed] | JsonDict:
        """The replies, or the error of llama.cpp."""
        server, sampling = self._opened(needed), completion.sampling or self.sampling
        body = {
            "prompt": prompts[0] if len(prompts) == 1 else list(prompts),
            "n": completion.copies,
            "max_tokens": completion.max_tokens,
            "seed": completion.seed,
            "temperature": sampling.temperature,
            "presence_penalty": sampling.presence_penalty,
            "min_p": sampling.min_p,
            "cache_prompt": False,  # the same call must give the same texts, whatever the calls before it
            **completion.constraint,
        }
        reply: JsonDict = server.handle_completions(body)
        if "error" in reply:
            error = reply["error"]
            return error if isinstance(error, dict) else {"message": error}
        ordered = sorted(reply["choices"], key=lambda choice: int(choice["index"]))
        return [Completed(str(one.get("text") or ""), one.get("finish_reason") == "length") for one in ordered]

    def seconds_per_token(self, needed: int) -> float:
        """Measured once, on one short reply; its time, and that of loading, is in `unpaid_s`.

        Args:
            needed: tokens of the longest prompt and reply to come, so that the model is loaded once.

        Raises:
            MissingExtra, BadInput, TeacherError: as `complete`.
        """
        server = self._opened(needed + SPARE_TOKENS)
        if not self._seconds_per_token:
            started = time.perf_counter()
            reply = server.handle_completions({"prompt": "Say hello.", "max_tokens": 8, "seed": 1, "ignore_eos": True})
            seconds = time.perf_counter() - started
            self.unpaid_s += seconds
            self._seconds_per_token = seconds / max(1, int(reply.get("usage", {}).get("completion_tokens", 1)))
        return self._seconds_per_token

    def _opened(self, needed: int) -> Any:
        """The library's server, with at least `needed` tokens of context in each slot."""
        if self.weights.kind != "gguf":
            raise TeacherError(
                f"{self.weights.name!r} cannot write: its weights are not in a GGUF file.",
                "Name a .gguf file to write with, such as local:smollm2.",
            )
        limit = self.context_length
        if limit and needed > limit:
            raise BadInput(
                f"A prompt and its reply can be {needed} tokens, and {self.weights.name!r} reads {limit}.",
                'Set generation_prompt = "label" or a smaller generation_prompt_tokens under [teacher], or shorten '
                "replies (generation_max_tokens).",
            )
        if self._server is None or needed > self._context:
            self._server = None  # frees the memory of the smaller context first
            context = CONTEXT_STEP * math.ceil(needed / CONTEXT_STEP)
            self._server, self._context = self._load(context), context
        return self._server

    def _load(self, context: int) -> Any:
        if find_spec("xllamacpp") is None:
            raise missing_extra("xllamacpp", "local", "Writing texts with a local model")
        import xllamacpp

        started = time.perf_counter()
        params = xllamacpp.CommonParams()
        params.model.path = str(self.weights.path)
        params.n_ctx = self.slots * context
        params.n_parallel = self.slots
        params.n_gpu_layers = 0
        params.warmup = False
        params.verbosity = -1
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self.threads or idle_cores()
        # The library always listens on loopback; a random key keeps other processes out.
        params.api_keys = [secrets.token_hex(16)]
        params.ui = False
        try:
            server = xllamacpp.Server(params)
        except (RuntimeError, ValueError, OSError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            architecture = read_gguf_metadata(self.weights.path).architecture or "not stated"
            raise TeacherError(
                f"llama.cpp cannot load {self.weights.path} (architecture: {architecture}): {reason}",
                "Fetch it again, or name a model of an architecture that llama.cpp knows.",
            ) from error
        self.unpaid_s += time.perf_counter() - started
        return server
