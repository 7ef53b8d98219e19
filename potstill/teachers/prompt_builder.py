"""Chooses the labels and examples of the prompt for one text, after personal data is removed from it.

Covers the choice and its bookkeeping; the wording is in `prompts.py`, the sending in `chat.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Annotated, Literal, TypeVar

from pydantic import Field

from potstill.data.task import GenerationRequest, LabelledText, StudentPrediction
from potstill.errors import BadSpec
from potstill.registry import Options
from potstill.teachers.base import Fact, TeacherSetup
from potstill.teachers.prompts import FULL_CONTEXT, Prompt, PromptContext
from potstill.teachers.redact import RedactionMode, redactor
from potstill.teachers.shortlist import ShortlistIndex

# Labels on an automatic shortlist, beside "none of these".
SHORTLIST_SIZE = 20
# A longer list of labels is not part of every prompt: about 4,000 tokens each time.
MAX_LABEL_LIST_BYTES = 16_000
# With more labels than this, one example of each is too much for every prompt.
MAX_FIXED_EXAMPLE_LABELS = 20
# Prompt inputs cached between the bound and the answer of a text.
PROMPT_CACHE_SIZE = 1024
Labelled = TypeVar("Labelled", LabelledText, StudentPrediction)


class PromptOptions(Options):
    """Options of the prompt of a chat teacher.

    Attributes:
        examples: "fixed" puts all gold examples of the setup into the constant part; "nearest" shows with each text
            the `n_nearest` most similar to it. "auto" is fixed up to 20 labels, else nearest. With a `shortlist` they
            are always the nearest.
        n_nearest: nearest examples at most.
        shortlist: labels offered for a text; 0 offers all; "auto" offers 20 if there are more labels than a JSON schema
            may list, or than fit into a prompt of reasonable size.
        shortlist_rounds: shortlists for one text, one after the other, while none of the labels fits.
        embedding: vectors that define the nearest labels and examples: "tfidf", or static weights such as "potion-8m".
        candidates: the model may name several labels with weights if it is unsure.
        redact: remove e-mail addresses, phone numbers, cards, IBANs and IP addresses from every text before it is sent;
            "presidio" also names and places.
    """

    examples: Literal["auto", "fixed", "nearest"] = "auto"
    n_nearest: int = Field(default=8, ge=0, le=200)
    shortlist: Literal["auto"] | Annotated[int, Field(ge=0)] = "auto"
    shortlist_rounds: int = Field(default=3, ge=1, le=20)
    embedding: str = Field(default="tfidf", min_length=1)
    candidates: bool = False
    redact: bool | Literal["presidio"] = False


@dataclass(frozen=True)
class PromptIdentity:
    """The settings of the prompt builder that change answers; a part of a chat teacher's key.

    Attributes:
        n_nearest: nearest examples shown to each text; None if all texts are shown the same examples.
        shortlist_size: labels offered to a text; 0 for all.
        shortlist_rounds: shortlists a text may be offered; 0 without.
        embedding: the space of nearest labels and examples, with the content of its weights; empty without.
        candidates: whether the model may name several labels.
        redact: how personal data is removed; empty if it is not.
    """

    n_nearest: int | None = None
    shortlist_size: int = 0
    shortlist_rounds: int = 0
    embedding: str = ""
    candidates: bool = False
    redact: str = ""


@dataclass(frozen=True)
class PromptInputs:
    """All that goes into the prompts for one text.

    Attributes:
        text: the text after redaction, as it is sent.
        contexts: one `PromptContext` a shortlist round, at least one.
        redaction_counts: kind -> how many were removed from the text.
    """

    text: str
    contexts: tuple[PromptContext, ...] = (FULL_CONTEXT,)
    redaction_counts: Mapping[str, int] = field(default_factory=dict)


class PromptBuilder:
    """Maps texts to `PromptInputs`. Thread-safe.

    Args:
        setup: task and gold examples.
        options: the teacher's prompt options.
        max_schema_labels: labels a JSON schema may list; 0 for any number.

    Raises:
        BadSpec, MissingWeights, MissingExtra: an option needs what is not available.
    """

    def __init__(self, setup: TeacherSetup, options: PromptOptions, max_schema_labels: int) -> None:
        mode: RedactionMode | None = None
        if options.redact:
            mode = "presidio" if options.redact == "presidio" else "own"
        self._redact = redactor(mode) if mode else None
        self._lock = threading.Lock()
        self.redaction_counts: dict[str, int] = {}
        examples = tuple(self._clean(example, count=True) for example in setup.examples)
        task = setup.task
        if task.kind == "multi" or task.output is not None:
            _check_without_single_labels(options)
            options = options.model_copy(update={"shortlist": 0, "examples": "fixed"})
        size = _shortlist_size(setup, options, max_schema_labels)
        self.shortlist_size = size if size < task.n_labels else 0
        many = options.examples == "auto" and task.n_labels > MAX_FIXED_EXAMPLE_LABELS
        nearest = (
            many or options.examples == "nearest" or options.shortlist not in ("auto", 0) or bool(self.shortlist_size)
        )
        self.prompt = Prompt(task, () if nearest else examples, bool(self.shortlist_size), options.candidates)
        self._index = (
            ShortlistIndex(task, examples, options.embedding) if self.shortlist_size or (nearest and examples) else None
        )
        self._n_nearest = options.n_nearest
        # Rounds beyond the last label would be empty.
        self.shortlist_rounds = (
            min(options.shortlist_rounds, -(-task.n_labels // self.shortlist_size)) if self.shortlist_size else 1
        )
        self._cached_inputs = lru_cache(PROMPT_CACHE_SIZE)(self._inputs)
        self.identity = PromptIdentity(
            n_nearest=options.n_nearest if nearest else None,
            shortlist_size=self.shortlist_size,
            shortlist_rounds=self.shortlist_rounds if self.shortlist_size else 0,
            embedding=f"{options.embedding} {self._index.identity}" if self._index else "",
            candidates=options.candidates,
            redact=mode or "",
        )
        self.facts = self._facts(options)

    @property
    def redactions(self) -> dict[str, int] | None:
        """Kind -> how many were removed so far; None without redaction."""
        return None if self._redact is None else self.redaction_counts

    def _facts(self, options: PromptOptions) -> dict[str, Fact]:
        facts: dict[str, Fact] = {}
        if self._index is not None:
            facts |= {"nearest_examples": self._n_nearest, "embedding": options.embedding}
        if self.shortlist_size and self._index is not None:
            recall = self._index.recall(self.shortlist_size)
            facts |= {
                "labels_offered": self.shortlist_size,
                "rounds": self.shortlist_rounds,
                "shortlist_recall": str(recall or "not measured: no gold examples were given"),
            }
            if recall and self.shortlist_rounds > 1:
                all_rounds = self._index.recall(self.shortlist_size * self.shortlist_rounds)
                facts["shortlist_recall_all_rounds"] = str(all_rounds)
        if options.candidates:
            facts["candidates"] = True
        if self.identity.redact:
            facts["redact"] = self.identity.redact
        return facts

    def __call__(self, text: str) -> PromptInputs:
        """The prompt inputs of a text; the same each time."""
        if self._index is None and self._redact is None:
            return PromptInputs(text)
        return self._cached_inputs(text)

    def _inputs(self, text: str) -> PromptInputs:
        counts: Mapping[str, int] = {}
        if self._redact is not None:
            redacted = self._redact(text)
            text, counts = redacted.text, redacted.counts
        if self._index is None:
            return PromptInputs(text, redaction_counts=counts)
        similarities = self._index.similarities(text)
        if not self.shortlist_size:
            examples = similarities.nearest_examples(self._n_nearest)
            return PromptInputs(text, (PromptContext(examples=examples),), counts)
        order = similarities.ranked_labels()
        contexts = []
        for start in range(0, self.shortlist_rounds * self.shortlist_size, self.shortlist_size):
            columns = order[start : start + self.shortlist_size]
            # In the task's order: the order must not reveal the ranking.
            columns = tuple(sorted(columns))
            examples = similarities.nearest_examples(self._n_nearest, columns)
            contexts.append(PromptContext(columns, start + self.shortlist_size < len(order), examples))
        return PromptInputs(text, tuple(contexts), counts)

    def _clean(self, example: Labelled, count: bool = False) -> Labelled:
        if self._redact is None:
            return example
        redacted = self._redact(example.text)
        if count:
            self._count(redacted.counts)
        return replace(example, text=redacted.text)

    def redact_request(self, request: GenerationRequest) -> GenerationRequest:
        """The request after redaction of its texts."""
        if self._redact is None:
            return request
        feedback = request.feedback and replace(
            request.feedback,
            correct=[self._clean(each) for each in request.feedback.correct],
            incorrect=[self._clean(each) for each in request.feedback.incorrect],
            hard_negatives=[self._clean(each) for each in request.feedback.hard_negatives],
        )
        return replace(
            request,
            examples=[self._clean(each) for each in request.examples],
            counterexamples=[self._clean(each) for each in request.counterexamples],
            feedback=feedback,
        )

    def count_redactions(self, texts: Iterable[str]) -> None:
        """Add the redactions of texts that are sent to `redaction_counts`."""
        if self._redact is not None:
            for text in texts:
                self._count(self(text).redaction_counts)

    def _count(self, counts: Mapping[str, int]) -> None:
        with self._lock:
            for kind, n in counts.items():
                self.redaction_counts[kind] = self.redaction_counts.get(kind, 0) + n


def _check_without_single_labels(options: PromptOptions) -> None:
    """Refuse options that choose by the single label of each example."""
    if options.shortlist not in ("auto", 0):
        raise BadSpec("A shortlist of labels is for tasks of one label a text.", "Leave shortlist out.")
    if options.examples == "nearest":
        raise BadSpec("The nearest examples are for tasks of one label a text.", "Leave examples out.")
    if options.candidates:
        raise BadSpec("Candidates are labels of which one is right, and here several may be.", "Leave candidates out.")


def _shortlist_size(setup: TeacherSetup, options: PromptOptions, max_schema_labels: int) -> int:
    """Labels offered for a text; 0 for all of them."""
    if options.shortlist != "auto":
        if options.shortlist == 1:
            raise BadSpec("shortlist = 1 leaves nothing to decide.", "Offer at least two labels, or 0 for all of them.")
        return options.shortlist
    task = setup.task
    if task.n_labels <= 2 * SHORTLIST_SIZE:
        return 0
    n_bytes = sum(len(f"{label}{task.descriptions.get(label, '')}".encode()) + 8 for label in task.labels)
    return (
        SHORTLIST_SIZE
        if (max_schema_labels and task.n_labels > max_schema_labels) or n_bytes > MAX_LABEL_LIST_BYTES
        else 0
    )
