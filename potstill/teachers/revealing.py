"""People, simulated: labels that were known all along are revealed at a person's price, at once, some of them wrong.

It is a simulation and says so (`simulated`). Errors are drawn evenly over the other labels, which real people's are
not; nobody is slow, tired, or unsure. For tests, benchmarks and plans.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from potstill.data.task import Answer, content_key
from potstill.errors import BadSpec
from potstill.ledger.prices import Rates, Usage
from potstill.teachers.base import Reply, Setup
from potstill.teachers.people import HumanOptions, People, answer_of
from potstill.teachers.replay import ReplayOptions, collapsed, read_known

FROM_POOL = "pool"


def open_revealing(
    setup: Setup, options: HumanOptions, price: Rates, known: Mapping[str, int] | None = None
) -> Revealing:
    """Simulated people.

    Args:
        setup: the task, and the seed their errors are drawn by.
        options: `reveals` names the file(s), unless it is "pool".
        price: a person's.
        known: text -> true column, for `reveals = "pool"`.

    Raises:
        BadSpec: "pool", and the procedure handed over nothing.
        BadData: a file that cannot be used.
    """
    columns: dict[str, int] = {}
    if options.reveals == FROM_POOL:
        if known is None and setup.asks:
            raise BadSpec("This procedure holds no labels back to reveal.", "Name a labelled file: reveals = FILE.")
        columns = {collapsed(text): column for text, column in (known or {}).items()}
    else:
        files = (options.reveals,) if isinstance(options.reveals, str) else options.reveals
        reading = ReplayOptions(file=files, text=options.text, text_b=options.text_b, label=options.label)
        for file in files:
            columns = read_known(setup.workspace / file, reading, setup.task) | columns
    return Revealing(setup, options, price, columns)


class Revealing(People):
    """Simulated people; equal texts get equal answers. See `HumanOptions`.

    Args:
        setup, options, price: as for people.
        known: text (white space collapsed) -> true column.
    """

    simulated = True
    batch = 64

    def __init__(self, setup: Setup, options: HumanOptions, price: Rates, known: Mapping[str, int]) -> None:
        super().__init__(setup, options, price)
        self._known, self._seed = known, setup.seed
        digest = hashlib.sha256(repr(sorted(known.items())).encode("utf-8", "surrogatepass")).hexdigest()
        self.key = content_key("revealing", 1, self.key, digest, options.error_rate, setup.seed)
        self.about = {**self.about, "simulation": "labels known all along are revealed at a person's price"}
        if options.error_rate:
            self.about = {**self.about, "error rate, simulated": options.error_rate}

    def answer(self, texts: Sequence[str]) -> Reply:
        """One answer a text; a text nobody knows is unsure, and paid for like the others."""
        return Reply(tuple(self._one(text) for text in texts), self._spent(len(texts)))

    def _spent(self, n: int) -> Usage:
        return self._usage([self._options.seconds_at_most] * (n * self._options.annotators))

    def _one(self, text: str) -> Answer:
        truth = self._known.get(collapsed(text))
        if truth is None:
            return answer_of(self._task, [""])
        number = hashlib.sha256(f"{self._seed}\n{collapsed(text)}".encode("utf-8", "surrogatepass")).digest()[:8]
        draw = np.random.default_rng(int.from_bytes(number, "big"))
        others = [column for column in range(self._task.n_labels) if column != truth]
        wrong = draw.random(self._options.annotators) < self._options.error_rate
        columns = [int(draw.choice(others)) if each else truth for each in wrong]
        return answer_of(self._task, [self._task.labels[column] for column in columns])
