"""A toy task in which keywords tell three labels apart."""

from __future__ import annotations

import numpy as np

WORDS = {
    "money": ["price", "bank", "loan", "coin", "fee", "market", "bond", "tax"],
    "sport": ["goal", "match", "team", "race", "coach", "score", "cup", "fans"],
    "weather": ["rain", "storm", "sun", "wind", "snow", "cloud", "frost", "heat"],
}

ALL_WORDS = [word for words in WORDS.values() for word in words]


def world(n: int) -> dict[str, list[str]]:
    rng = np.random.default_rng(0)
    rows = [
        (" ".join([*rng.choice(words, 3), *rng.choice(ALL_WORDS, 2), str(i)]), label)
        for i in range(n)
        for label, words in WORDS.items()
    ]
    return {"text": [text for text, _ in rows], "label": [label for _, label in rows]}
