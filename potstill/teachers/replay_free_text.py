"""A teacher that replays the answers of a file with a given accuracy; see `replay.py`. A simulation.

An answer is the first reference with probability `accuracy`, and else that of another text of the file. Does not
simulate answers that are partly right.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from potstill.data.free_text.answers import FreeTextAnswer
from potstill.data.free_text.columns import decode_references, find_answer_columns
from potstill.data.pool import PoolOptions
from potstill.data.task import content_key
from potstill.data.text2text_rows import UnreadableAnswerError
from potstill.errors import BadData, with_keys
from potstill.ledger.prices import Category, Price, Usage
from potstill.teachers.base import Reply, TeacherMetadata, TeacherSetup, UsageEstimate
from potstill.teachers.labelled_file import LabelledFileOptions, normalize_whitespace, read_labelled_table
from potstill.teachers.replay_entities import FormReplaySettings
from potstill.teachers.replay_form_generation import (
    FormReplayGeneration,
    form_replay_capabilities,
    generation_key,
)
from potstill.teachers.replay_generation import count_tokens, text_seed
from potstill.teachers.written_answers import encode_written_answer, read_written_answer


def read_gold_answers(path: Path, options: LabelledFileOptions) -> dict[str, str]:
    """The first answer to each text of a file, by the text with its white space collapsed.

    Raises:
        BadData: the file cannot be read, or has no answers.
    """
    table = read_labelled_table(path, options)
    text_column, label_column = (name if name in table.columns else "" for name in (options.text, options.label))
    gold: dict[str, str] = {}
    try:
        found = find_answer_columns("train", table, PoolOptions(text=text_column, label=label_column))
        for row, text in enumerate(found.table.column(found.text)):
            references = decode_references(found.read(row, text or "")) if text else None
            if text and references:
                gold.setdefault(normalize_whitespace(text), references[0])
    except BadData as error:
        raise with_keys(error, "teacher") from None
    except UnreadableAnswerError as error:
        raise BadData(f"{table.name}: row {table.line_numbers[row]:,} {error}.", "Correct the answers.") from None
    if not gold:
        raise BadData(f"{table.name} has no answered text.", "Give a file with texts and their answers.")
    return gold


class FreeTextReplayTeacher(FormReplayGeneration):
    """Replays answers. Equal texts get equal answers: the random seed is made of text and seed.

    Args:
        setup: task and seed.
        settings: the options.
        gold: text (white space collapsed) -> its answer.
        price: turns usage into money.
        file: its name, for the report.
    """

    simulated = True
    needs_prior_correction = False
    greenlet_safe = False

    def __init__(
        self, setup: TeacherSetup, settings: FormReplaySettings, gold: Mapping[str, str], price: Price, file: str
    ) -> None:
        self.name = "replay" + (f":{setup.model}" if setup.model else "")
        self.batch_size, self.parallel, self.price = settings.batch_size, settings.parallel, price
        self.category: Category = "human" if settings.is_human else "llm"
        self._settings, self._gold, self._seed = settings, gold, setup.seed
        self._others = sorted(set(gold.values()))
        self._longest = max(map(count_tokens, self._others))
        examples = [(example.text, example.label) for example in setup.examples]
        self.key = content_key(
            "replay free text", setup.task.key, content_key(sorted(gold.items())), settings.pace, examples, setup.seed
        )
        self.writer = settings.writer(setup.seed, self._rewritten)
        self.generation_key = generation_key(self.key, settings.source)
        self.capabilities = form_replay_capabilities("free", writes=self.writer is not None)
        self.metadata = TeacherMetadata(
            price=price.source,
            simulation="replays known answers; accuracy, price and pace are assumptions",
            extra={"file": file, "accuracy": settings.accuracy},
        )

    def max_usage(self, texts: Sequence[str]) -> Usage:
        """An upper bound of `answer(texts)`: each reply is counted with as many tokens as the longest answer has."""
        return self._usage(texts, [self._longest] * len(texts))

    def estimate_usage(self, texts: Sequence[str]) -> UsageEstimate:
        """The usage if all answers are right."""
        expected = self._usage(texts, [count_tokens(self._gold.get(normalize_whitespace(each), "")) for each in texts])
        return UsageEstimate(expected, expected)

    def _usage(self, texts: Sequence[str], reply_tokens: Sequence[int]) -> Usage:
        if self._settings.is_human:
            return Usage(labels=len(texts))
        prompts = sum(self._settings.prompt_tokens + count_tokens(text) for text in texts)
        return Usage(input_tokens=prompts, output_tokens=sum(reply_tokens))

    def answer(self, texts: Sequence[str]) -> Reply:
        """One answer a text; a text that is not in the file is unparsable. Failures are charged, too."""
        time.sleep(self._settings.latency_ms / 1000)
        answers = tuple(map(self._answer_one, texts))
        return Reply(answers, self._usage(texts, [count_tokens(each.text) for each in answers]))

    def _answer_one(self, text: str) -> FreeTextAnswer:
        known = self._gold.get(normalize_whitespace(text))
        if known is None:
            return FreeTextAnswer("unparsable", raw="not in the replayed file")
        rng = np.random.default_rng(text_seed(self._seed, text))
        if rng.random() < self._settings.failure_rate:
            return FreeTextAnswer("failed", raw="simulated failure")
        known = self._replayed(known, self._settings.accuracy, rng)
        return FreeTextAnswer("ok", raw=known[:200], text=known)

    def _rewritten(self, answer: str, accuracy: float, rng: np.random.Generator) -> str:
        """The answer beside a text that is written."""
        return encode_written_answer(self._replayed(read_written_answer(answer) or "", accuracy, rng))

    def _replayed(self, known: str, accuracy: float, rng: np.random.Generator) -> str:
        """The answer, or that of another text."""
        others = [each for each in self._others if each != known]
        return str(rng.choice(others)) if rng.random() >= accuracy and others else known
