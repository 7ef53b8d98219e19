"""A conditional random field on words (sklearn-crfsuite), for bench/tagger.py. Runs in an environment of its own.

    python bench/rivals/crf.py < rows.json > tags.json

Reads {"train": [[words, tags], ...], "test": [words, ...]} and writes {"tags": [tags, ...], "seconds": ...}. The
features are the usual ones of CoNLL: the word, its ends, its shape, and the same of two words to each side.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence


def shape(word: str) -> str:
    """Capitals, letters and digits of a word, runs of one sort as one."""
    return re.sub(r"(.)\1+", r"\1", re.sub(r"\d", "0", re.sub(r"[a-z]", "a", re.sub(r"[A-Z]", "A", word))))


def features(words: Sequence[str], at: int) -> dict[str, str | bool]:
    """The features of one word."""
    found: dict[str, str | bool] = {"begins": at == 0, "ends": at == len(words) - 1}
    for gap in (-2, -1, 0, 1, 2):
        if 0 <= at + gap < len(words):
            word = words[at + gap]
            found |= {f"{gap} word": word.lower(), f"{gap} shape": shape(word), f"{gap} end": word[-3:].lower()}
    word = words[at]
    return found | {"end 2": word[-2:], "start 3": word[:3].lower(), "digits": any(map(str.isdigit, word))}


def main() -> None:
    """Train and tag."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    from sklearn_crfsuite import CRF

    rows = json.load(sys.stdin)
    train = [[features(words, i) for i in range(len(words))] for words, _ in rows["train"]]
    test = [[features(words, i) for i in range(len(words))] for words in rows["test"]]
    started = time.process_time()
    model = CRF(algorithm="lbfgs", c1=0.1, c2=0.1, max_iterations=100, all_possible_transitions=True)
    model.fit(train, [tags for _, tags in rows["train"]])
    trained = time.process_time()
    tags = [list(map(str, each)) for each in model.predict(test)]
    seconds = {"train": trained - started, "test": time.process_time() - trained}
    json.dump({"tags": tags, "seconds": seconds}, sys.stdout)


if __name__ == "__main__":
    main()
