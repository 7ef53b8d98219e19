"""A teacher that replays the entities of a marked file with a given accuracy; see `replay.py`. A simulation.

Each entity is right with probability `accuracy`; of those that are not, half are missed and half have another type.
Does not simulate wrong spans, or entities that are none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from potstill.data.entities.answers import EntityAnswer, NamedEntity
from potstill.data.entities.columns import EntityColumns, find_entity_columns
from potstill.data.entities.marks import UnreadableMarksError
from potstill.data.pool import PoolOptions
from potstill.data.task import Task, content_key
from potstill.errors import BadData, did_you_mean, with_keys
from potstill.evaluation.text2text.entities import Entities
from potstill.ledger.prices import Category, Price, Usage
from potstill.teachers.base import Reply, TeacherMetadata, TeacherSetup, UsageEstimate
from potstill.teachers.entity_prompt import encode_named
from potstill.teachers.labelled_file import LabelledFileOptions, normalize_whitespace, read_labelled_table
from potstill.teachers.replay_form_generation import (
    FormReplayGeneration,
    FormReplaySource,
    FormReplayWriter,
    form_replay_capabilities,
    generation_key,
)
from potstill.teachers.replay_generation import WritingOptions, count_tokens, text_seed
from potstill.teachers.written_answers import read_written_entities


@dataclass(frozen=True)
class MarkedText:
    """A text as the file has it, and its entities."""

    text: str
    entities: Entities

    def named(self, asked: str) -> tuple[NamedEntity, ...]:
        """The entities as a teacher names them; with their place if the text that is asked about is this one."""
        same = asked == self.text
        return tuple(
            NamedEntity(self.text[each.start : each.end], each.type, each.start if same else None)
            for each in self.entities
        )


@dataclass(frozen=True)
class FormReplaySettings:
    """The options of `replay` that count for entities and answers in words; see `ReplayOptions`.

    `source` is what texts with their answers are written from; None writes none.
    """

    accuracy: float
    failure_rate: float
    latency_ms: float
    prompt_tokens: int
    is_human: bool
    batch_size: int
    parallel: int
    source: FormReplaySource | None = None

    @property
    def pace(self) -> dict[str, float]:
        """What changes the answers."""
        return {"accuracy": self.accuracy, "failure_rate": self.failure_rate}

    def writer(self, seed: int, replay: Callable[[str, float, np.random.Generator], str]) -> FormReplayWriter | None:
        """What writes texts with their answers; None without a source."""
        if self.source is None:
            return None
        options = WritingOptions(self.source.accuracy, self.prompt_tokens, self.is_human, seed)
        return FormReplayWriter(options, self.source, replay)


def read_gold_entities(path: Path, options: LabelledFileOptions, task: Task) -> dict[str, MarkedText]:
    """The entities of each marked text of a file, by the text with its white space collapsed.

    Raises:
        BadData: the file cannot be read, has no marks, or an entity of another type than the task's.
    """
    table = read_labelled_table(path, options)
    text_column, label_column = (name if name in table.columns else "" for name in (options.text, options.label))
    gold: dict[str, MarkedText] = {}
    try:
        found = find_entity_columns("train", table, PoolOptions(text=text_column, label=label_column))
        cells = zip(found.table.column(found.text), found.table.column(found.marks), strict=True)
        for line, (text, cell) in zip(found.table.line_numbers, cells, strict=True):
            if text and cell is not None and cell.strip():
                entities = _read_cell(found, text, cell, f"Row {line:,} of {table.name}", task)
                gold.setdefault(normalize_whitespace(text), MarkedText(text, entities))
    except BadData as error:
        raise with_keys(error, "teacher") from None
    if not gold:
        raise BadData(f"{table.name} has no marked text.", "Give a file with texts and their entities.")
    return gold


def _read_cell(found: EntityColumns, text: str, cell: str, place: str, task: Task) -> Entities:
    try:
        entities = found.read(text, cell)
    except UnreadableMarksError as error:
        raise BadData(f"{place} {error}.", "Correct the marks.") from None
    unknown = next((each.type for each in entities if each.type not in task.labels), None)
    if unknown is not None:
        near = did_you_mean(unknown, task.labels)
        raise BadData(f"{place} has an entity of the type {unknown!r}, which is not in the task.", near)
    return entities


class EntityReplayTeacher(FormReplayGeneration):
    """Replays entities. Equal texts get equal answers: the random seed is made of text and seed.

    Args:
        setup: task and seed.
        settings: the options.
        gold: text (white space collapsed) -> the text and its entities.
        price: turns usage into money.
        file: its name, for the report.
    """

    simulated = True
    needs_prior_correction = False
    greenlet_safe = False

    def __init__(
        self,
        setup: TeacherSetup,
        settings: FormReplaySettings,
        gold: Mapping[str, MarkedText],
        price: Price,
        file: str,
    ) -> None:
        self.name = "replay" + (f":{setup.model}" if setup.model else "")
        self.batch_size, self.parallel, self.price = settings.batch_size, settings.parallel, price
        self.category: Category = "human" if settings.is_human else "llm"
        self._settings, self._gold, self._seed, self._types = settings, gold, setup.seed, setup.task.labels
        examples = [(example.text, example.label) for example in setup.examples]
        rows = sorted((text, encode_named(marked.named(text))) for text, marked in gold.items())
        self.key = content_key(
            "replay entities", setup.task.key, content_key(rows), settings.pace, examples, setup.seed
        )
        self.writer = settings.writer(setup.seed, self._rewritten)
        self.generation_key = generation_key(self.key, settings.source)
        self.capabilities = form_replay_capabilities("entities", writes=self.writer is not None)
        self.metadata = TeacherMetadata(
            price=price.source,
            simulation="replays known entities; accuracy, price and pace are assumptions",
            extra={"file": file, "accuracy": settings.accuracy},
        )

    def max_usage(self, texts: Sequence[str]) -> Usage:
        """The exact usage of `answer(texts)`: the reply is counted with all entities, whatever the errors."""
        if self._settings.is_human:
            return Usage(labels=len(texts))
        replies = [encode_named(self._named(text)) for text in texts]
        return Usage(
            input_tokens=sum(self._settings.prompt_tokens + count_tokens(text) for text in texts),
            output_tokens=sum(map(count_tokens, replies)),
        )

    def estimate_usage(self, texts: Sequence[str]) -> UsageEstimate:
        """The exact usage of `answer(texts)`."""
        return UsageEstimate(self.max_usage(texts), self.max_usage(texts))

    def _named(self, text: str) -> tuple[NamedEntity, ...]:
        marked = self._gold.get(normalize_whitespace(text))
        return () if marked is None else marked.named(text)

    def answer(self, texts: Sequence[str]) -> Reply:
        """One answer a text; a text that is not in the file is unparsable. Failures are charged, too."""
        time.sleep(self._settings.latency_ms / 1000)
        return Reply(tuple(map(self._answer_one, texts)), self.max_usage(texts))

    def _answer_one(self, text: str) -> EntityAnswer:
        if normalize_whitespace(text) not in self._gold:
            return EntityAnswer("unparsable", raw="not in the replayed file")
        rng = np.random.default_rng(text_seed(self._seed, text))
        if rng.random() < self._settings.failure_rate:
            return EntityAnswer("failed", raw="simulated failure")
        named = self._replayed(self._named(text), self._settings.accuracy, rng)
        return EntityAnswer("ok", raw=encode_named(named)[:200], named=named)

    def _rewritten(self, answer: str, accuracy: float, rng: np.random.Generator) -> str:
        """The entities beside a text that is written."""
        return encode_named(self._replayed(read_written_entities(answer) or (), accuracy, rng))

    def _replayed(
        self, gold: Sequence[NamedEntity], accuracy: float, rng: np.random.Generator
    ) -> tuple[NamedEntity, ...]:
        """The entities with errors: some are missed, and some have another type."""
        found = []
        for each in gold:
            is_right, is_missed = rng.random() < accuracy, rng.random() < 0.5
            others = [name for name in self._types if name != each.type]
            if is_right:
                found.append(each)
            elif not is_missed and others:
                found.append(NamedEntity(each.words, str(rng.choice(others)), each.start))
        return tuple(found)
