"""The contract of a recipe in text-to-text tasks: that of every recipe, on marked texts or answers in words.

There is no such student without pretrained weights: a subclass names one, with weights of its own.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from potstill.data.entities.build import build_entity_pool
from potstill.data.free_text.build import build_free_text_pool
from potstill.data.pool import PoolOptions
from potstill.data.tables import Table
from potstill.data.task import Output, OutputForm, Task
from potstill.run.run import Run
from potstill.run.spec import Spec
from potstill.teachers import SIMULATED_TEACHER
from potstill.testing.checks import check
from potstill.testing.recipe import AMPLE_USD, SPLIT_SIZES, TEXT, WORDS, RecipeContract

MIN_SHARE = 0.5  # of the training texts that a student answers as gold does


class FormRecipeContract(RecipeContract):
    """What every recipe of text-to-text tasks promises. Override `open_recipe`, `student`, and what is different below.

    Attributes:
        form: of the answers.
        student: the name of a student of this form.
        student_options: what `[student]` says beside it.
    """

    form: ClassVar[OutputForm] = "entities"
    student: ClassVar[str] = ""
    student_options: ClassVar[Mapping[str, object]] = {}

    def _answer(self, label: str, text: str) -> str:
        """Its label is the answer to a text, or the type of the words in it."""
        if self.form == "free":
            return label
        starts = [(text.index(word), word) for word in WORDS[label] if word in text.split()]
        return json.dumps([[start, start + len(word), label] for start, word in sorted(starts)])

    def pool(self, test_text: str = "on that day there was {0} then {1}") -> Any:
        """Short texts of two nouns of a group; those of the test part have a wording of their own."""
        rows = []
        for label, words in WORDS.items():
            pairs = iter(permutations(words, 2))
            for split, n in SPLIT_SIZES.items():
                for (one, other), _ in zip(pairs, range(n), strict=False):
                    text = (test_text if split == "test" else TEXT).format(one, other)
                    rows.append((text, "" if split == "pool" else self._answer(label, text), split))
        columns = dict(zip(("text", "answer", "split"), zip(*rows, strict=True), strict=True))
        table = Table.from_columns({name: list(values) for name, values in columns.items()})
        options = PoolOptions(text="text", label="answer", split="split")
        build = build_free_text_pool if self.form == "free" else build_entity_pool
        return build(table, options=options).pool

    def task(self, pool: Any) -> Task:
        """The task of a pool."""
        return Task(pool.labels, name="contract", kind="text2text", output=Output(self.form))

    def spec(self, folder: Path, budget_usd: float) -> Spec:
        """The spec of a run below `folder`."""
        known = folder / "known.jsonl"
        known.write_text("\n".join(map(json.dumps, self._known())), encoding="utf-8")
        simulated = {"name": SIMULATED_TEACHER, "file": "{known}", "generate_from": "{known}", "usd_per_label": 0.002}
        record = {
            "budget": budget_usd,
            "teacher": self.teacher or simulated,
            "student": {"name": self.student, **self.student_options},
            "procedure": {"name": getattr(self.open_recipe(), "name", "recipe"), **self.options},
            "prices": self.prices,
            "cache": False,
        }
        return Spec.from_dict(json.loads(json.dumps(record).replace("{known}", str(known))))

    def _known(self) -> Iterator[dict[str, object]]:
        """Texts that are in no part, with their answers, and those of the pool."""
        for label, words in WORDS.items():
            for one, two in permutations(words, 2):
                yield self._row(label, TEXT.format(one, two))
            for one, two, three in permutations(words[:4], 3):
                yield self._row(label, f"a {one} a {two} or a {three}")

    def _row(self, label: str, text: str) -> dict[str, object]:
        answer = self._answer(label, text)
        return (
            {"text": text, "answer": answer} if self.form == "free" else {"text": text, "entities": json.loads(answer)}
        )

    def scores(self, student: Any, texts: Sequence[str]) -> NDArray[np.float32]:
        """All scores of the words' labels, or of the first tokens of the answers."""
        found = (
            student.forced_logits(texts, ["food"] * len(texts)) if self.form == "free" else student.unit_scores(texts)
        )
        return np.concatenate([np.asarray(each, dtype=np.float32).ravel() for each in found])

    def test_the_student_can_do_the_task(self) -> None:
        """It answers most training texts as gold does."""
        pool = self.pool()
        with tempfile.TemporaryDirectory() as folder:
            here = Path(folder)
            with Run.open(here / "run", self.spec(here, AMPLE_USD), self.task(pool), pool) as run:
                student: Any = self.open_recipe()(run)
            train = pool.subset("train")
            if self.form == "free":
                right = [each.text in own for each, own in zip(student.generate(train.texts), train.gold, strict=True)]
            else:
                found = [each.entities for each in student.find_entities(train.texts)]
                right = [tuple(own) == tuple(gold) for own, gold in zip(found, train.gold, strict=True)]
        check(np.mean(right) >= MIN_SHARE, f"it is right about {np.mean(right):.0%} of the training texts")
