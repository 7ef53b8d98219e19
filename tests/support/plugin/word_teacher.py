"""A plug-in teacher, registered as a bare function: right if the label's first word is in the text; sold for money."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from potstill.data.task import Answer, GenerationRequest, content_key
from potstill.errors import TeacherError
from potstill.ledger.prices import Category, Price, Usage
from potstill.teachers.base import (
    GeneratedTexts,
    Reply,
    TeacherCapabilities,
    TeacherMetadata,
    TeacherSetup,
    UsageEstimate,
)
from potstill.teachers.price_options import parse_rates


class WordTeacher:
    """A dollar for a million input tokens, and a token for each character."""

    name = "words"
    capabilities = TeacherCapabilities(remote=True)
    category: Category = "llm"
    price: Price = parse_rates({"usd_per_million_input": 1, "usd_per_million_output": 1}, "the plug-in's list")
    batch_size, parallel, greenlet_safe = 4, 2, False
    simulated = needs_prior_correction = False
    metadata = TeacherMetadata(price="the plug-in's list", host="words.example")

    def __init__(self, setup: TeacherSetup) -> None:
        self.labels = setup.task.labels
        self.key = self.generation_key = content_key("words", 1, setup.task.key)

    def max_usage(self, texts: Sequence[str]) -> Usage:
        return Usage(input_tokens=sum(map(len, texts)), output_tokens=len(texts))

    def estimate_usage(self, texts: Sequence[str]) -> UsageEstimate:
        return UsageEstimate(self.max_usage(texts), self.max_usage(texts))

    def answer(self, texts: Sequence[str]) -> Reply:
        with Path(os.environ["PLUGIN_LOG"]).open("a", encoding="utf-8") as log:
            log.write(f"asked {len(texts)}\n")
        answers = (
            Answer("ok", tuple(0.0 if label in text else -4.0 for label in self.labels), "scored") for text in texts
        )
        return Reply(tuple(answers), self.max_usage(texts))

    def max_generation_usage(self, request: GenerationRequest) -> Usage:
        return Usage()

    def estimate_generation_usage(self, request: GenerationRequest) -> UsageEstimate:
        return UsageEstimate(Usage(), Usage())

    def generate(self, request: GenerationRequest) -> GeneratedTexts:
        raise TeacherError("The teacher 'words' cannot write.", "Take another.")


def open_teacher(setup: TeacherSetup) -> WordTeacher:
    """What the entry point leads to."""
    return WordTeacher(setup)
