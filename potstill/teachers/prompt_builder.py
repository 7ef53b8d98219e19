"""What is asked about one text: which labels are offered and which examples shown, after what it gives away is out.

Covers the choice and its bookkeeping; how it is worded is in `prompts.py`, how it is sent in `chat.py`.
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

# How many labels a text is offered where not all are. With "none of these", and few enough to be read with care.
SHORTLIST_SIZE = 20
# A list of labels longer than this is not shown to every text: some 4,000 tokens each time.
MAX_LABEL_LIST_BYTES = 16_000
# With more labels than this, one example of each is too much to show to every text.
MAX_FIXED_EXAMPLE_LABELS = 20
# Questions kept between the bound and the answer of a text.
PROMPT_CACHE_SIZE = 1024
Labelled = TypeVar("Labelled", LabelledText, StudentPrediction)


class PromptOptions(Options):
    """What decides what a chat teacher is shown.

    Attributes:
        examples: "fixed" shows all gold examples it was given, in the constant part; "nearest" shows each text the
            `n_nearest` most like it. "auto" is fixed up to 20 labels, else nearest. With a `shortlist` they are
            always the nearest.
        n_nearest: how many nearest examples at most.
        shortlist: how many labels a text is offered; 0 offers all; "auto" offers 20 where there are more labels than a
            JSON schema may list, or than fit into a prompt of reasonable size.
        shortlist_rounds: how many shortlists a text may be shown, one after the other, while none of the labels fits.
        embedding: what tells which labels and examples are near: "tfidf", or static weights such as "potion-8m".
        candidates: the teacher may name several labels with weights where it is unsure.
        redact: take e-mail addresses, phone numbers, cards, IBANs and IP addresses out of every text before it leaves;
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
    """What the prompt builder decides that changes answers; a part of a chat teacher's key.

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
    """All that may be asked about one text.

    Attributes:
        text: as it leaves.
        offers: one a round, at least one.
        taken_out: kind -> how many were taken out of the text.
    """

    text: str
    contexts: tuple[PromptContext, ...] = (FULL_CONTEXT,)
    redaction_counts: Mapping[str, int] = field(default_factory=dict)


class PromptBuilder:
    """Texts -> what is asked about them. Safe to use from many threads.

    Args:
        setup: task and gold examples.
        options: what decides.
        enum_limit: how many labels a JSON schema may list; 0 for any number.

    Raises:
        BadSpec, MissingWeights, MissingExtra: an option asks for what is not there.
    """

    def __init__(self, setup: TeacherSetup, options: PromptOptions, enum_limit: int) -> None:
        mode: RedactionMode | None = None
        if options.redact:
            mode = "presidio" if options.redact == "presidio" else "own"
        self._redact = redactor(mode) if mode else None
        self._lock = threading.Lock()
        self.redaction_counts: dict[str, int] = {}
        examples = tuple(self._clean(example, count=True) for example in setup.examples)
        task = setup.task
        if task.kind == "multi":
            _refuse_for_several(options)
            options = options.model_copy(update={"shortlist": 0, "examples": "fixed"})
        size = _shortlist_size(setup, options, enum_limit)
        self.shortlist_size = size if size < task.n_labels else 0
        many = options.examples == "auto" and task.n_labels > MAX_FIXED_EXAMPLE_LABELS
        nearest = (
            many or options.examples == "nearest" or options.shortlist not in ("auto", 0) or bool(self.shortlist_size)
        )
        self.prompt = Prompt(task, () if nearest else examples, bool(self.shortlist_size), options.candidates)
        self._near = (
            ShortlistIndex(task, examples, options.embedding) if self.shortlist_size or (nearest and examples) else None
        )
        self._k = options.n_nearest
        # Rounds beyond the last label would offer nothing.
        self.shortlist_rounds = (
            min(options.shortlist_rounds, -(-task.n_labels // self.shortlist_size)) if self.shortlist_size else 1
        )
        self._ask = lru_cache(PROMPT_CACHE_SIZE)(self._work_out)
        self.identity = PromptIdentity(
            n_nearest=options.n_nearest if nearest else None,
            shortlist_size=self.shortlist_size,
            shortlist_rounds=self.shortlist_rounds if self.shortlist_size else 0,
            embedding=f"{options.embedding} {self._near.identity}" if self._near else "",
            candidates=options.candidates,
            redact=mode or "",
        )
        self.facts = self._facts(options)

    @property
    def redactions(self) -> dict[str, int] | None:
        """What was removed so far; None without redaction."""
        return None if self._redact is None else self.redaction_counts

    def _facts(self, options: PromptOptions) -> dict[str, Fact]:
        facts: dict[str, Fact] = {}
        if self._near is not None:
            facts |= {"nearest_examples": self._k, "embedding": options.embedding}
        if self.shortlist_size and self._near is not None:
            recall = self._near.recall(self.shortlist_size)
            facts |= {
                "labels_offered": self.shortlist_size,
                "rounds": self.shortlist_rounds,
                "shortlist_recall": str(recall or "not measured: no gold examples were given"),
            }
            if recall and self.shortlist_rounds > 1:
                all_rounds = self._near.recall(self.shortlist_size * self.shortlist_rounds)
                facts["shortlist_recall_all_rounds"] = str(all_rounds)
        if options.candidates:
            facts["candidates"] = True
        if self.identity.redact:
            facts["redact"] = self.identity.redact
        return facts

    def __call__(self, text: str) -> PromptInputs:
        """What is asked about the text; the same each time."""
        if self._near is None and self._redact is None:
            return PromptInputs(text)
        return self._ask(text)

    def _work_out(self, text: str) -> PromptInputs:
        taken_out: Mapping[str, int] = {}
        if self._redact is not None:
            redacted = self._redact(text)
            text, taken_out = redacted.text, redacted.counts
        if self._near is None:
            return PromptInputs(text, redaction_counts=taken_out)
        look = self._near.similarities(text)
        if not self.shortlist_size:
            return PromptInputs(text, (PromptContext(examples=look.nearest_examples(self._k)),), taken_out)
        order = look.ranked_labels()
        offers = []
        for start in range(0, self.shortlist_rounds * self.shortlist_size, self.shortlist_size):
            columns = order[start : start + self.shortlist_size]
            # By their place in the task: the order must not tell which is thought likely.
            columns = tuple(sorted(columns))
            examples = look.nearest_examples(self._k, columns)
            offers.append(PromptContext(columns, start + self.shortlist_size < len(order), examples))
        return PromptInputs(text, tuple(offers), taken_out)

    def _clean(self, written: Labelled, count: bool = False) -> Labelled:
        if self._redact is None:
            return written
        redacted = self._redact(written.text)
        if count:
            self._count(redacted.counts)
        return replace(written, text=redacted.text)

    def redact_request(self, request: GenerationRequest) -> GenerationRequest:
        """The request as it leaves."""
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
        """Count what was taken out of texts that leave."""
        if self._redact is not None:
            for text in texts:
                self._count(self(text).redaction_counts)

    def _count(self, taken_out: Mapping[str, int]) -> None:
        with self._lock:
            for kind, n in taken_out.items():
                self.redaction_counts[kind] = self.redaction_counts.get(kind, 0) + n


def _refuse_for_several(options: PromptOptions) -> None:
    """What chooses by the one label of each example cannot choose where a text has several."""
    if options.shortlist not in ("auto", 0):
        raise BadSpec("A shortlist of labels is for tasks of one label a text.", "Leave shortlist out.")
    if options.examples == "nearest":
        raise BadSpec("The nearest examples are for tasks of one label a text.", "Leave examples out.")
    if options.candidates:
        raise BadSpec("Candidates are labels of which one is right, and here several may be.", "Leave candidates out.")


def _shortlist_size(setup: TeacherSetup, options: PromptOptions, enum_limit: int) -> int:
    """How many labels a text is offered; 0 for all of them."""
    if options.shortlist != "auto":
        if options.shortlist == 1:
            raise BadSpec("shortlist = 1 leaves nothing to decide.", "Offer at least two labels, or 0 for all of them.")
        return options.shortlist
    task = setup.task
    if task.n_labels <= 2 * SHORTLIST_SIZE:
        return 0
    listed = sum(len(f"{label}{task.descriptions.get(label, '')}".encode()) + 8 for label in task.labels)
    return SHORTLIST_SIZE if (enum_limit and task.n_labels > enum_limit) or listed > MAX_LABEL_LIST_BYTES else 0
