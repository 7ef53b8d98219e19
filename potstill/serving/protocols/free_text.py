"""What the addresses that give labels give of a model that answers in words.

The bare address answers as Hugging Face's text generation does: `InferenceClient.text_generation` reads it, whatever
parameters are sent. `/label` gives potstill's own fields.
"""

from __future__ import annotations

from typing import Any

from potstill.serving.free_text_model import FreeTextModelAnswer
from potstill.serving.protocols.base import RenderedReply, json_reply


def generated_texts(answer: FreeTextModelAnswer) -> list[dict[str, Any]]:
    """The answer to each text in the fields of Hugging Face."""
    return [{"generated_text": each.text} for each in answer.computed.answers]


def answered_texts(answer: FreeTextModelAnswer) -> RenderedReply:
    """The model, and the answer to each text in potstill's fields."""
    texts = [
        {"answer": each.text, "confidence": round(each.confidence, 4), "complete": each.complete}
        for each in answer.computed.answers
    ]
    return json_reply({"model": answer.model.name, "version": answer.model.version, "texts": texts})
