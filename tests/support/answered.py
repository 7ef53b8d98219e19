"""Texts with answers that a tiny causal model learns in seconds: the topics of two words, in their order; and a run."""

from __future__ import annotations

import json
import random
from pathlib import Path

from support.tinylm import write_tinycausal

TOPICS = {"food": ("soup", "bread", "cheese"), "money": ("bank", "loan", "market"), "sport": ("goal", "tennis")}
FILLERS = ("the", "and", "please", "a", "one")


def answered_texts(n: int, seed: int = 0) -> list[tuple[str, str]]:
    """N different texts and their answers."""
    draw, found = random.Random(seed), dict[str, str]()
    words = [(word, topic) for topic, own in TOPICS.items() for word in own]
    while len(found) < n:
        (first, one), (second, other) = draw.choice(words), draw.choice(words)
        before, after = draw.choice(FILLERS), draw.choice(FILLERS)
        found[f"{before} {first} {second} {after}"] = f"{one} {other}"
    return list(found.items())


def write_answered(path: Path, rows: list[tuple[str, str]]) -> Path:
    """Write the texts as JSON Lines."""
    lines = (json.dumps({"text": text, "answer": answer}) + "\n" for text, answer in rows)
    path.write_text("".join(lines), encoding="utf-8")
    return path


TOML = """
budget = 1
[task]
form = "free"
metric = "exact_match"
instruction = "one text"
[data]
file = "answered.jsonl"
[student]
name = "causal:{weights}"
mode = "full"
epochs = 15
lr = 1e-2
max_length = 24
"""


def write_run(folder: Path) -> Path:
    """Write weights, texts and a potstill.toml into the folder; the TOML file."""
    weights = write_tinycausal(folder / "weights")
    write_answered(folder / "answered.jsonl", answered_texts(240))
    (folder / "potstill.toml").write_text(TOML.format(weights=weights), encoding="utf-8")
    return folder / "potstill.toml"
