"""Simulated annotators: reveal known labels at the price of a human label, at once, some of them wrong.

It is a simulation (`simulated`). Errors are uniform over the other labels, unlike those of real annotators; no label
takes time and none is unsure. For tests, benchmarks and plans.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from potstill.data.task import Answer, content_key
from potstill.errors import BadSpec
from potstill.ledger.prices import Rates, Usage
from potstill.teachers.base import Reply, TeacherSetup
from potstill.teachers.human_labels import HumanOptions, HumanTeacherBase, aggregate_labels
from potstill.teachers.labelled_file import normalize_whitespace, read_gold_labels

FROM_POOL = "pool"


def open_simulated_human(setup: TeacherSetup, options: HumanOptions, price: Rates) -> SimulatedHumanTeacher:
    """Open simulated annotators.

    Args:
        setup: the task, the seed of the errors, and `hidden_gold` for `simulate_from = "pool"`.
        options: `simulate_from` names the file(s), unless it is "pool".
        price: of a human label.

    Raises:
        BadSpec: `simulate_from` is "pool", and the setup has no gold labels.
        BadData: a file that cannot be used.
    """
    columns: dict[str, int] = {}
    if options.simulate_from == FROM_POOL:
        if setup.hidden_gold is None and setup.will_call:
            raise BadSpec(
                "This procedure holds no labels back to reveal.", "Name a labelled file: simulate_from = FILE."
            )
        hidden = cast(Mapping[str, int], setup.hidden_gold or {})
        columns = {normalize_whitespace(text): column for text, column in hidden.items()}
    else:
        files = (options.simulate_from,) if isinstance(options.simulate_from, str) else options.simulate_from
        for file in files:
            columns = {**read_gold_labels(setup.workspace / file, options, setup.task).columns, **columns}
    return SimulatedHumanTeacher(setup, options, price, columns)


class SimulatedHumanTeacher(HumanTeacherBase):
    """Simulated annotators; equal texts get equal answers. See `HumanOptions`.

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
        self._gold, self._seed = gold_columns, setup.seed
        digest = hashlib.sha256(repr(sorted(gold_columns.items())).encode("utf-8", "surrogatepass")).hexdigest()
        self.key = self.generation_key = content_key("revealing", 1, self.key, digest, options.error_rate, setup.seed)
        extra = {**self.metadata.extra, "error rate, simulated": options.error_rate} if options.error_rate else {}
        self.metadata = replace(
            self.metadata,
            simulation="labels known all along are revealed at a person's price",
            extra=extra or self.metadata.extra,
        )

    def answer(self, texts: Sequence[str]) -> Reply:
        """One answer a text; a text without a known label is unsure, and charged like the others."""
        return Reply(tuple(self._answer_one(text) for text in texts), self._usage_of(len(texts)))

    def _usage_of(self, n: int) -> Usage:
        return self._usage([self._options.max_seconds] * (n * self._options.annotators_per_text))

    def _answer_one(self, text: str) -> Answer:
        truth = self._gold.get(normalize_whitespace(text))
        if truth is None:
            return aggregate_labels(self._task, [""])
        seed = hashlib.sha256(f"{self._seed}\n{normalize_whitespace(text)}".encode("utf-8", "surrogatepass")).digest()[
            :8
        ]
        rng = np.random.default_rng(int.from_bytes(seed, "big"))
        others = [column for column in range(self._task.n_labels) if column != truth]
        wrong = rng.random(self._options.annotators_per_text) < self._options.error_rate
        columns = [int(rng.choice(others)) if is_wrong else truth for is_wrong in wrong]
        return aggregate_labels(self._task, [self._task.labels[column] for column in columns])
