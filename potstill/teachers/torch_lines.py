"""Writes one line of text after each of many prompts in PyTorch, with the model that scores labels.

A processor reads all weights of a model for every token it writes, however many texts it writes at once: so the next
token of 32 texts takes little longer than that of one. Each prompt is read once, and its keys and values are copied for
its texts. Tokens are drawn as llama.cpp draws them: penalty, `TOP_K`, `TOP_P`, `min_p`, then temperature. What could be
read as markup is not drawn. Faster than llama.cpp where bfloat16 is native (`bench/writer.py`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from potstill.errors import BadInput, BadSpec, TeacherError
from potstill.models.causal_lm import CausalLM
from potstill.models.chat_template import ChatTemplate
from potstill.models.threads import torch_threads
from potstill.teachers.line_writing import LineJob, draw_seed
from potstill.teachers.llamacpp import Sampling
from potstill.teachers.local_model import LocalModel

TOP_K, TOP_P, PENALIZED_TOKENS = 40, 0.95, 64  # the defaults of llama.cpp
MIN_CHARACTERS = 8
# Markup, and what no text has: line breaks and control characters.
_UNWRITABLE = re.compile(r"[<>|\n\r\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# How vocabularies of bytes write a blank and what stands before it in ASCII. In others these are letters: U+010D is a
# c with a caron.
_BYTE_LEVEL = {0x100 + byte: chr(byte) for byte in range(33)} | {0x121: "\x7f"}
_SENTENCEPIECE = {0x2581: " "}
BROKEN_CHARACTER = "\ufffd"  # of bytes that are no character
PROBE_TOKENS, PROBE_STEPS = 48, 2


@dataclass(frozen=True)
class LineVocabulary:
    """Which tokens may stand in a line, by what they spell; V tokens.

    Attributes:
        forbidden: (V,) bool, never drawn: markup, control tokens, and line breaks that end nothing.
        not_first: (V,) bool, not drawn as the first token either.
        stops: (S,) ids that end a line.
        lengths: (V,) characters.
        filler: an id that is never drawn.
    """

    forbidden: torch.Tensor
    not_first: torch.Tensor
    stops: torch.Tensor
    lengths: torch.Tensor
    filler: int

    @classmethod
    def of(cls, lm: CausalLM, template: str) -> LineVocabulary:
        """The vocabulary of a model.

        Args:
            lm: the model.
            template: the source of its chat template; empty for prompts that are lists, whose lines end at a break.
        """
        size = int(lm.model.get_output_embeddings().weight.shape[0])
        names = lm.tokenizer.convert_ids_to_tokens(list(range(min(size, len(lm.tokenizer)))))
        written = _written_marks(names)
        words = [str(name or "").translate(written) for name in names] + [""] * (size - len(names))
        special = {*lm.tokenizer.all_special_ids, *lm.tokenizer.added_tokens_decoder}
        ends = _document_ends(lm)
        if template:
            special_words = ChatTemplate(template, lm.special_tokens).render(("system", "user", "assistant"), ask=False)
            ends |= set(lm.encode_markup(special_words.markup[-1])[:1])
        else:
            ends |= {i for i, word in enumerate(words) if word in ("\n", "\r\n", "<0x0A>")}
        bad = [not word or bool(_UNWRITABLE.search(word)) or i in special for i, word in enumerate(words)]
        forbidden = torch.tensor([is_bad and i not in ends for i, is_bad in enumerate(bad)])
        # A list's "-" is followed by a blank; in a chat nothing stands before the text.
        first = [word[1:] if word.startswith(" ") else "" for word in words] if not template else words
        not_first = torch.tensor([not word.strip() or word[0] in " \t-" for word in first])
        return cls(
            forbidden,
            not_first,
            torch.tensor(sorted(ends)),
            torch.tensor([len(word) for word in words]),
            int(forbidden.nonzero()[0, 0]),
        )

    def to(self, device: torch.device) -> LineVocabulary:
        """The same on another device."""
        forbidden, not_first = self.forbidden.to(device), self.not_first.to(device)
        return LineVocabulary(forbidden, not_first, self.stops.to(device), self.lengths.to(device), self.filler)


def _written_marks(names: Sequence[str | None]) -> dict[int, str]:
    """What a vocabulary's own marks stand for: of bytes if more of its tokens begin with their blank, else of words."""
    n_bytes, n_words = (sum((name or "").startswith(blank) for name in names) for blank in ("\u0120", "\u2581"))
    return _BYTE_LEVEL if n_bytes > n_words else _SENTENCEPIECE


def _document_ends(lm: CausalLM) -> set[int]:
    """Ids of the tokens that end a document, by the tokenizer and by the model."""
    config = getattr(lm.model, "generation_config", None)
    stated = getattr(config, "eos_token_id", None)
    return {lm.end_token, *(stated if isinstance(stated, list) else [] if stated is None else [stated])}


class LineRules:
    """Lowers the logits of recent tokens, leaves out what may not stand in a line, and draws the next token.

    A logits processor of transformers, which draws among `TOP_K` tokens: among a whole vocabulary it takes longer.

    Args:
        vocabulary: of the model, on its device.
        n_prompt: tokens of the prompts.
        sampling: how tokens are drawn.
    """

    def __init__(self, vocabulary: LineVocabulary, n_prompt: int, sampling: Sampling) -> None:
        from transformers import MinPLogitsWarper, TopPLogitsWarper

        self.vocabulary = vocabulary
        self.n_prompt = n_prompt
        self.sampling = sampling
        self._filters = [TopPLogitsWarper(TOP_P), MinPLogitsWarper(sampling.min_p)]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """(B, T) ids and (B, V) logits -> (B, V), largest at the next token."""
        words, written = self.vocabulary, input_ids[:, self.n_prompt :]
        recent = torch.zeros_like(scores, dtype=torch.float32)
        recent.scatter_(1, input_ids[:, -PENALIZED_TOKENS:], self.sampling.presence_penalty)
        scores = (scores.float() - recent).masked_fill_(words.forbidden, float("-inf"))
        if not written.shape[1]:
            scores = scores.masked_fill_(words.not_first, float("-inf"))
        is_short = words.lengths[written].sum(1) < MIN_CHARACTERS
        ends = torch.zeros(scores.shape[1], dtype=torch.bool, device=scores.device).index_fill_(0, words.stops, True)
        scores = scores.masked_fill_(is_short.unsqueeze(1) & ends, float("-inf"))
        if not self.sampling.temperature:
            return scores
        kept, tokens = scores.topk(min(TOP_K, scores.shape[1]))
        for each in self._filters:
            kept = each(tokens, kept)
        drawn = tokens.gather(1, (kept / self.sampling.temperature).softmax(1).multinomial(1))
        return torch.full_like(scores, float("-inf")).scatter_(1, drawn, 0.0)


class TorchLines:
    """Lines by a model in PyTorch; see `line_writing.LineWriter`.

    Args:
        engine: the model; its lock is the caller's to take.
        template: the source of its chat template; empty for prompts that are lists to continue.
        sampling: how tokens are drawn.
        slots: lines that are written at once.
    """

    def __init__(self, engine: LocalModel, template: str, sampling: Sampling, slots: int) -> None:
        self.engine = engine
        self.template = template
        self.sampling = sampling
        self.slots = slots

    def max_seconds(self, jobs: Sequence[LineJob], max_tokens: int) -> float:
        """See `LineWriter.max_seconds`; loads the model. Raises what `lines` raises."""
        prompts = [self._ids(job.prompt) for job in jobs]
        self._check_length(max(map(len, prompts)) + max_tokens)
        reading, step = self._speed
        return reading * sum(map(len, prompts)) + step * max_tokens * len(list(self._batches(jobs)))

    def lines(self, jobs: Sequence[LineJob], seed: int, max_tokens: int) -> Iterator[tuple[str, str]]:
        """See `LineWriter.lines`.

        Raises:
            BadInput: a prompt and its line are longer than the model reads.
            BadSpec: a model whose layers keep no keys and values.
            TeacherError: the model cannot be loaded, or ran out of memory.
        """
        for batch in self._batches(jobs):
            texts = self._written(batch, draw_seed(seed, batch), max_tokens)
            labels = [job.label for job in batch for _ in range(job.n)]
            yield from ((label, text) for label, text in zip(labels, texts, strict=True) if text)

    def _batches(self, jobs: Sequence[LineJob]) -> Iterator[list[LineJob]]:
        """The jobs in order, `slots` lines together."""
        batch: list[LineJob] = []
        for job in jobs:
            if batch and sum(each.n for each in batch) + job.n > self.slots:
                yield batch
                batch = []
            batch.append(job)
        if batch:
            yield batch

    # --- tokens ------------------------------------------------------------------------------------------

    @property
    def _lm(self) -> CausalLM:
        return self.engine.lm

    @cached_property
    def _vocabulary(self) -> LineVocabulary:
        return LineVocabulary.of(self._lm, self.template).to(self.engine.device)

    def _ids(self, prompt: str) -> list[int]:
        tokenizer = self._lm.tokenizer
        start: list[int] = list(tokenizer("")["input_ids"])[:1]
        ids: list[int] = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        return ids if ids[:1] == start else [*start, *ids]

    def _check_length(self, needed: int) -> None:
        limit = self._lm.context_length
        if needed > limit:
            raise BadInput(
                f"A prompt and its reply can be {needed} tokens, and {self.engine.weights.name!r} reads {limit}.",
                "Shorten replies (generation_max_tokens), or name a model that reads more.",
            )

    # --- writing -----------------------------------------------------------------------------------------

    def _written(self, jobs: Sequence[LineJob], seed: int, max_tokens: int) -> list[str]:
        """The lines of all jobs in order; empty where a line has no end, or its bytes are no characters."""
        prompts = [self._ids(job.prompt) for job in jobs]
        self._check_length(max(map(len, prompts)) + max_tokens)
        with self._computing():
            torch.manual_seed(seed)
            rows = self._generate(prompts, [job.n for job in jobs], max_tokens)
        stops, texts = set(self._vocabulary.stops.tolist()), []
        for row in rows.tolist():
            end = next((i for i, token in enumerate(row) if token in stops), 0)
            text = self._lm.tokenizer.decode(row[:end], skip_special_tokens=True, clean_up_tokenization_spaces=False)
            texts.append("" if BROKEN_CHARACTER in text else " ".join(text.split()))
        return texts

    def _generate(self, prompts: Sequence[Sequence[int]], counts: Sequence[int], max_tokens: int) -> Any:
        """P prompts, and how many lines of each -> (N, T) written ids."""
        from transformers import GenerationConfig, LogitsProcessorList

        device, words = self.engine.device, self._vocabulary
        width = max(map(len, prompts))
        ids = torch.tensor([[words.filler] * (width - len(each)) + list(each) for each in prompts]).to(device)
        mask = torch.tensor([[0] * (width - len(each)) + [1] * len(each) for each in prompts]).to(device)
        cache = self._read(ids, mask)
        rows = torch.arange(len(prompts)).repeat_interleave(torch.tensor(counts)).to(device)
        cache.batch_select_indices(rows)
        settings = GenerationConfig(
            do_sample=False, repetition_penalty=1.0, no_repeat_ngram_size=0,
            max_new_tokens=max_tokens, eos_token_id=words.stops.tolist(), pad_token_id=words.filler,
        )  # fmt: skip
        made = self._lm.model.generate(
            ids[rows],
            attention_mask=mask[rows],
            past_key_values=cache,
            generation_config=settings,
            logits_processor=LogitsProcessorList([LineRules(words, width, self.sampling)]),
        )
        return made[:, width:]

    def _read(self, ids: Any, mask: Any) -> Any:
        """The keys and values of all tokens of (P, T) prompts but the last, without a look at the vocabulary."""
        from transformers import DynamicCache

        cache = DynamicCache(config=self._lm.model.config)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        try:
            self._lm.model.base_model(
                input_ids=ids[:, :-1],
                attention_mask=mask[:, :-1],
                position_ids=positions[:, :-1],
                past_key_values=cache,
                use_cache=True,
            )
            n_read = cache.get_seq_length()
        except (TypeError, ValueError, AttributeError):
            n_read = 0
        if n_read != ids.shape[1] - 1:  # it would write without its prompt
            raise self._unusable()
        return cache

    def _unusable(self) -> BadSpec:
        return BadSpec(
            f"PyTorch cannot continue several prompts with models of the type {self._lm.model.config.model_type!r}.",
            'Take another model, or a .gguf file of it with generation_runtime = "llama.cpp" under [teacher].',
        )

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """Sets threads, attention and the state of the random generator, and restores them; translates errors."""
        model, devices = self._lm.model, [self.engine.device] if self.engine.device.type == "cuda" else []
        attention = model.config._attn_implementation
        try:
            self._set_attention()
            with torch.inference_mode(), torch_threads(self.engine.count_threads()), torch.random.fork_rng(devices):
                yield
        except (RuntimeError, MemoryError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            if "probability tensor" in reason:  # of what is drawn from
                raise TeacherError(
                    f"The weights of {self.engine.weights.name!r} are damaged: its probabilities are no numbers.",
                    'Fetch or copy them again; if they are whole, write dtype = "float32" under [teacher].',
                ) from error
            raise TeacherError(
                f"{self.engine.weights.name!r} failed while writing {self.slots} texts at once: {reason}",
                'Set a smaller generation_slots, or generation_runtime = "llama.cpp", under [teacher].',
            ) from error
        finally:
            model.set_attn_implementation(attention)

    def _set_attention(self) -> None:
        """The fastest attention that the model has. Raises BadSpec if its layers take none."""
        model = self._lm.model
        if not model._can_set_attn_implementation():
            raise self._unusable()
        try:
            model.set_attn_implementation("sdpa")
        except ValueError:  # it caps its logits, or has sinks
            model.set_attn_implementation("eager")

    @cached_property
    def _speed(self) -> tuple[float, float]:
        """Seconds to read one token of a prompt, and to write the next token of `slots` lines; measured once."""
        started = time.perf_counter()
        token = int((~self._vocabulary.forbidden).nonzero()[0, 0])
        with self._computing():
            self._generate([[token] * PROBE_TOKENS], [1], 1)  # what is done at a first call only
            reading = self._timed([[token] * PROBE_TOKENS], 1, 1) / PROBE_TOKENS
            steps = self._timed([[token] * 2], self.slots, PROBE_STEPS) / PROBE_STEPS
        self.engine.unpaid_s += time.perf_counter() - started
        return reading, steps

    def _timed(self, prompts: Sequence[Sequence[int]], n: int, max_tokens: int) -> float:
        started = time.perf_counter()
        self._generate(prompts, [n], max_tokens)
        return time.perf_counter() - started
