"""A teacher's answer in words to a text, as it is stored and read again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, get_args

from potstill.data.free_text.token_scores import TokenScores
from potstill.data.task import Answer, AnswerState, JsonObject

_FIELDS = {"state", "text", "raw"}


@dataclass(frozen=True)
class FreeTextAnswer(Answer):
    """A teacher's answer in words; it has no scores.

    Attributes:
        text: the answer; empty unless `state` is `ok`.
        tokens: what the teacher thinks of each token of the answer; None unless it was asked for.
    """

    text: str = ""
    tokens: TokenScores | None = None

    def to_json(self) -> JsonObject:
        """A JSON object that `read_free_text_answer` reads."""
        tokens = {} if self.tokens is None else {"tokens": self.tokens.to_json()}
        return {"state": self.state, "text": self.text, "raw": self.raw, **tokens}

    @classmethod
    def from_json(cls, record: JsonObject) -> FreeTextAnswer:
        """Read what `to_json` returned. Raises KeyError, TypeError or ValueError for tokens that are damaged."""
        tokens = TokenScores.from_json(record["tokens"]) if "tokens" in record else None
        return cls(record["state"], raw=record["raw"], text=record["text"], tokens=tokens)

    def checked(self, n_labels: int | None = None) -> FreeTextAnswer:
        """The answer without words unless its state is `ok`, and a failed one if it has none; it never has scores."""
        if self.state == "ok" and not self.text.strip():
            return FreeTextAnswer("failed", raw="an answer without words")
        return self if self.state == "ok" and self.scores is None else self._without_scores()

    def _without_scores(self) -> FreeTextAnswer:
        return replace(self, scores=None) if self.state == "ok" else FreeTextAnswer(self.state, raw=self.raw)


def check_free_text_answer(answer: Answer) -> FreeTextAnswer:
    """The answer as one in words; a failed one if it has scores of labels instead."""
    if isinstance(answer, FreeTextAnswer):
        return answer.checked()
    if answer.state == "ok":
        return FreeTextAnswer("failed", raw="scores of labels, and no answer in words")
    return FreeTextAnswer(answer.state, raw=answer.raw)


def read_free_text_answer(record: Any) -> FreeTextAnswer | None:
    """The answer that `FreeTextAnswer.to_json` wrote; None for anything else."""
    if (
        not isinstance(record, dict)
        or record.keys() - {"tokens"} != _FIELDS
        or record["state"] not in get_args(AnswerState)
    ):
        return None
    if not isinstance(record["text"], str) or not isinstance(record["raw"], str):
        return None
    if bool(record["text"]) != (record["state"] == "ok"):
        return None
    try:
        return FreeTextAnswer.from_json(record)
    except (KeyError, TypeError, ValueError):
        return None
