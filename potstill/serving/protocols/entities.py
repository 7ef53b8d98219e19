"""What the addresses that give labels give of a model that finds entities.

The bare address answers as Hugging Face's pipelines of token classification do with an aggregation strategy, whatever
strategy is asked for: `InferenceClient.token_classification` reads it. `/label` gives potstill's own fields.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from potstill.serving.entity_model import EntityModelAnswer
from potstill.serving.protocols.base import RenderedReply, json_reply

GROUPS = [{"entity_group": "Amount", "score": 0.98, "word": "5 ml", "start": 4, "end": 8}]
LABELLED = [{"start": 4, "end": 8, "type": "Amount", "text": "5 ml", "confidence": 0.98}]


def entity_groups(answer: EntityModelAnswer, ignored: Collection[str] = ()) -> list[list[dict[str, Any]]]:
    """The entities of each text in the fields of Hugging Face, without those of `ignored` types."""
    return [
        [
            {
                "entity_group": each.type,
                "score": each.confidence,
                "word": each.text,
                "start": each.start,
                "end": each.end,
            }
            for each in own
            if each.type not in ignored
        ]
        for own in answer.computed.entities
    ]


def labelled_entities(answer: EntityModelAnswer) -> RenderedReply:
    """The model, and the entities of each text in potstill's fields."""
    texts = [{"entities": [each.to_json() for each in own]} for own in answer.computed.entities]
    return json_reply({"model": answer.model.name, "version": answer.model.version, "texts": texts})
