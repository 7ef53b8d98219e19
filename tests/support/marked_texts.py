"""Texts with marked entities that a tiny encoder learns in seconds: each word shows whether it begins an entity."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from potstill.evaluation.text2text.entities import Entities, Entity

FOOD, MORE_FOOD, MONEY = ("soup", "cheese"), ("bread", "apple"), ("bank", "loan", "market", "profit")
OTHER = ("the", "a", "please", "longer")
TYPES = ("dish", "finance")


def marked_texts(n: int, seed: int = 0) -> list[tuple[str, Entities]]:
    """N different texts; a dish is a word of food, and perhaps more of it; finance is a word of money."""
    draw, found = random.Random(seed), dict[str, Entities]()
    while len(found) < n:
        words: list[str] = []
        entities = []
        for _ in range(draw.randint(2, 5)):
            group = draw.choice((FOOD, FOOD, MONEY, OTHER, OTHER))
            if group is OTHER:
                words.append(draw.choice(OTHER))
                continue
            start = len(" ".join([*words, ""])) if words else 0
            own = [draw.choice(group)]
            own += [draw.choice(MORE_FOOD)] if group is FOOD and draw.random() < 0.5 else []
            words += [*own, draw.choice(OTHER)]
            entities.append(Entity(start, start + len(" ".join(own)), TYPES[group is MONEY]))
        found[" ".join(words)] = tuple(entities)
    return list(found.items())


def write_marked(path: Path, texts: list[tuple[str, Entities]]) -> Path:
    """Write the texts as JSON Lines with a list of spans."""
    rows: list[dict[str, Any]] = [
        {"text": text, "entities": [{"start": e.start, "end": e.end, "type": e.type} for e in marks]}
        for text, marks in texts
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
