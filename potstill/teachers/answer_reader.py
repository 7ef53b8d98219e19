"""Turns a chat model's replies about one text into an answer: a parsed label, its scores, votes, shortlists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from potstill.data.task import Answer, Task
from potstill.teachers.label_parsing import (
    LabelParser,
    ParsedLabel,
    locate_code,
    scores_from_label,
    scores_from_logprobs,
    scores_from_votes,
    scores_from_weights,
)
from potstill.teachers.label_set_parsing import LabelSetParser, scores_from_label_set, scores_from_label_set_votes
from potstill.teachers.messages import Choice, shorten
from potstill.teachers.prompts import Prompt, PromptContext
from potstill.teachers.shortlist import ShortlistScores, combine_shortlists, predicts_none


class AnswerReader:
    """Reads replies strictly: a reply that cannot be parsed is no answer.

    Args:
        task: its kind decides whether a reply names one label or a set.
        prompt: names and codes of the labels, and whether they are shortlisted.
        aliases: other names the model may use -> label.
        candidates: whether a reply may name several labels with weights.
        one_hot_confidence: probability of the label if only a bare label is known.
    """

    def __init__(
        self, task: Task, prompt: Prompt, aliases: Mapping[str, str], candidates: bool, one_hot_confidence: float
    ) -> None:
        parser = LabelSetParser if task.kind == "multi" else LabelParser
        self._parser = parser(prompt.names, prompt.codes, aliases, candidates)
        self._n_labels = task.n_labels
        self._shortlisted = prompt.shortlisted
        self._confidence = one_hot_confidence

    def parse(self, choice: Choice, context: PromptContext | None = None) -> ParsedLabel | None:
        """What a reply says; None if it cannot be parsed, or names a label that `context` does not offer."""
        parsed = self._parser.parse(choice.text)
        if parsed is None or context is None or not self._shortlisted:
            return parsed
        offered = {*context.columns, *([self._n_labels] if context.offers_none else [])}
        return parsed if {parsed.column, *parsed.weights} <= offered else None

    def parse_all(self, choices: Sequence[Choice], context: PromptContext | None = None) -> list[ParsedLabel]:
        """What the replies say, without those that cannot be parsed."""
        return [parsed for choice in choices if (parsed := self.parse(choice, context))]

    def answer(self, choice: Choice, parsed: ParsedLabel) -> Answer:
        """The answer of one parsed reply, with a score for every code, "none of these" included."""
        raw, codes = shorten(choice.text), self._parser.codes
        if parsed.columns is not None:
            return Answer("ok", scores_from_label_set(parsed.columns, len(codes), self._confidence), "one-hot", raw)
        if choice.token_logprobs and parsed.code_offset is not None:
            at = locate_code(choice.token_logprobs, choice.text, parsed.code_offset, len(codes[0]))
            scores = None if at is None else scores_from_logprobs(choice.token_logprobs, at, codes)
            if scores is not None:
                return Answer("ok", scores, "logprobs", raw)
        if parsed.weights:
            return Answer("ok", scores_from_weights(parsed.weights, len(codes), self._confidence), "stated", raw)
        return Answer("ok", scores_from_label(parsed.column, len(codes), self._confidence), "one-hot", raw)

    def vote(self, choices: Sequence[Choice], parsed: Sequence[ParsedLabel]) -> Answer:
        """The answer of several replies, with a score for every code."""
        raw = shorten(" | ".join(choice.text for choice in choices))
        if not parsed:
            return Answer("unparsable", raw=raw)
        n, sets = len(self._parser.codes), [each.columns for each in parsed if each.columns is not None]
        scores = (
            scores_from_label_set_votes(sets, n) if sets else scores_from_votes([each.column for each in parsed], n)
        )
        return Answer("ok", scores, "votes", raw)

    def without_none(self, answer: Answer) -> Answer:
        """The answer with a score for every label; unparsable if it says "none of these"."""
        if answer.scores is None or not self._shortlisted:
            return answer
        if predicts_none(answer.scores):
            return Answer("unparsable", raw="none of the labels offered")
        return replace(answer, scores=combine_shortlists([ShortlistScores(range(self._n_labels), answer.scores)]))
