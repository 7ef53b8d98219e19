"""People, simulated: labels that were known all along are revealed at a person's price, at once, some of them wrong.

It is a simulation (`simulated`). Errors are drawn evenly over the other labels, which real people's are
not; nothing is slow or unsure. For tests, benchmarks and plans.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from potstill.data.task import Answer, content_key
from potstill.errors import BadSpec
from potstill.ledger.prices import Rates, Usage
from potstill.teachers.base import Reply, TeacherSetup
from potstill.teachers.human_labels import HumanOptions, HumanTeacherBase, aggregate_labels
from potstill.teachers.replay import ReplayOptions, normalize_whitespace, read_gold_labels

FROM_POOL = "pool"


def open_simulated_human(setup: TeacherSetup, options: HumanOptions, price: Rates) -> SimulatedHumanTeacher:
    """Simulated people.

    Args:
        setup: the task, the seed of their errors, and `gold_columns` for `simulate_from = "pool"`.
        options: `simulate_from` names the file(s), unless it is "pool".
        price: a person's.

    Raises:
        BadSpec: "pool", and the procedure gave no gold labels.
        BadData: a file that cannot be used.
    """
    columns: dict[str, int] = {}
    if options.simulate_from == FROM_POOL:
        if setup.gold_columns is None and setup.will_call:
            raise BadSpec(
                "This procedure holds no labels back to reveal.", "Name a labelled file: simulate_from = FILE."
            )
        columns = {normalize_whitespace(text): column for text, column in (setup.gold_columns or {}).items()}
    else:
        files = (options.simulate_from,) if isinstance(options.simulate_from, str) else options.simulate_from
        reading = ReplayOptions(file=files, text=options.text, text_b=options.text_b, label=options.label)
        for file in files:
            columns = read_gold_labels(setup.workspace / file, reading, setup.task) | columns
    return SimulatedHumanTeacher(setup, options, price, columns)


class SimulatedHumanTeacher(HumanTeacherBase):
    """Simulated people; equal texts get equal answers. See `HumanOptions`.

    Args:
        setup: task and seed.
        options: the options, checked.
        price: of a label.
        gold_columns: text (white space collapsed) -> true column.
    """

    simulated = True
    batch_size = 64

    def __init__(
        self, setup: TeacherSetup, options: HumanOptions, price: Rates, gold_columns: Mapping[str, int]
    ) -> None:
        super().__init__(setup, options, price)
        self._known, self._seed = gold_columns, setup.seed
        digest = hashlib.sha256(repr(sorted(gold_columns.items())).encode("utf-8", "surrogatepass")).hexdigest()
        self.key = self.generation_key = content_key("revealing", 1, self.key, digest, options.error_rate, setup.seed)
        extra = {**self.metadata.extra, "error rate, simulated": options.error_rate} if options.error_rate else {}
        self.metadata = replace(
            self.metadata,
            simulation="labels known all along are revealed at a person's price",
            extra=extra or self.metadata.extra,
        )

    def answer(self, texts: Sequence[str]) -> Reply:
        """One answer a text; an unknown text is unsure, and paid for like the others."""
        return Reply(tuple(self._one(text) for text in texts), self._spent(len(texts)))

    def _spent(self, n: int) -> Usage:
        return self._usage([self._options.max_seconds] * (n * self._options.annotators))

    def _one(self, text: str) -> Answer:
        truth = self._known.get(normalize_whitespace(text))
        if truth is None:
            return aggregate_labels(self._task, [""])
        number = hashlib.sha256(
            f"{self._seed}\n{normalize_whitespace(text)}".encode("utf-8", "surrogatepass")
        ).digest()[:8]
        draw = np.random.default_rng(int.from_bytes(number, "big"))
        others = [column for column in range(self._task.n_labels) if column != truth]
        wrong = draw.random(self._options.annotators) < self._options.error_rate
        columns = [int(draw.choice(others)) if each else truth for each in wrong]
        return aggregate_labels(self._task, [self._task.labels[column] for column in columns])
