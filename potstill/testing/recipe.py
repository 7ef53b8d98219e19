"""The contract of every recipe, as tests on a small task. Does not test quality on real data."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from potstill.data.pool import PoolOptions, build_pool
from potstill.data.tables import Table
from potstill.data.task import Task
from potstill.errors import PotstillError
from potstill.procedures.base import Recipe
from potstill.run.run import Run
from potstill.run.spec import Spec
from potstill.students import BASELINE_STUDENT
from potstill.students.base import Student
from potstill.teachers import SIMULATED_TEACHER
from potstill.testing.checks import check

WORDS = {
    "food": ("soup", "bread", "cheese", "dinner", "apple", "kitchen"),
    "sport": ("match", "goal", "referee", "tennis", "runner", "stadium"),
    "money": ("bank", "loan", "market", "shares", "profit", "invoice"),
}
TEXT = "the {0} and the {1}"
SPLIT_SIZES = {"train": 8, "validation": 5, "test": 5, "pool": 12}  # texts of each label
AMPLE_USD = 5.0


class _Interrupted(BaseException):
    """Raised by the contract in place of a crash."""


@dataclass(frozen=True)
class RunOutcome:
    """What a finished run came to.

    Attributes:
        logits: (N, K) of the student, for all texts of the task, or other scores that equal students have in common.
        charged_micros: charged by teachers; compute is left out, since its time is measured anew.
        n_steps: stored steps, of all the run's attempts.
        n_calls: calls in the ledger.
    """

    logits: NDArray[np.float32]
    charged_micros: int
    n_steps: int
    n_calls: int


class RecipeContract:
    """What every recipe promises. Override `open_recipe`, and what is different below.

    Attributes:
        options: what `[procedure]` says beside the name. "{labels}" anywhere becomes a file with the texts' labels.
        teacher: the `[teacher]` table; None takes a simulated one that is right and costs $0.002 a text.
        student: the student's name.
        prices: the `[prices]` table.
        min_accuracy: of the student on the training texts, which a child could tell apart.
        budgets_usd: sums, from too little to ample, that may not be exceeded.
        max_cuts: at how many stored steps a run is cut, at most.
    """

    options: ClassVar[Mapping[str, object]] = {}
    teacher: ClassVar[Mapping[str, object] | None] = None
    student: ClassVar[str] = BASELINE_STUDENT
    prices: ClassVar[Mapping[str, object]] = {"usd_per_label": 0.002}
    min_accuracy: ClassVar[float] = 0.8
    budgets_usd: ClassVar[tuple[float, ...]] = (0.0001, 0.01, 0.06, 1.0)
    max_cuts: ClassVar[int] = 20

    def open_recipe(self) -> Callable[[Run], Student]:
        """The recipe."""
        raise NotImplementedError

    # --- what it is run on -------------------------------------------------------------------------------------

    def pool(self, test_text: str = "on that day there was {0}, then {1}") -> Any:
        """90 short texts of three labels; those of the test part have a wording of their own, which may be another."""
        rows = []
        for label, words in WORDS.items():
            pairs = iter(permutations(words, 2))
            for split, n in SPLIT_SIZES.items():
                for (one, other), _ in zip(pairs, range(n), strict=False):
                    text = (test_text if split == "test" else TEXT).format(one, other)
                    rows.append((text, "" if split == "pool" else label, split))
        columns = dict(zip(("text", "label", "split"), zip(*rows, strict=True), strict=True))
        table = Table.from_columns({name: list(values) for name, values in columns.items()})
        return build_pool(table, labels=tuple(WORDS), options=PoolOptions(split="split")).pool

    def spec(self, folder: Path, budget_usd: float) -> Spec:
        """The spec of a run below `folder`."""
        labels = folder / "labels.jsonl"
        labels.write_text("\n".join(map(json.dumps, _labelled_rows())), encoding="utf-8")
        simulated = {
            "name": SIMULATED_TEACHER,
            "file": "{labels}",
            "generate_from": "{labels}",
            "usd_per_label": 0.002,
        }
        recipe = self.open_recipe()
        record = {
            "budget": budget_usd,
            "teacher": self.teacher or simulated,
            "student": self.student,
            "procedure": {"name": recipe.name if isinstance(recipe, Recipe) else "recipe", **self.options},
            "prices": self.prices,
            "cache": False,
        }
        return Spec.from_dict(json.loads(json.dumps(record).replace("{labels}", str(labels))))

    def _attempt(self, folder: Path, pool: Any, *, cut_after: int = 0, budget_usd: float = AMPLE_USD) -> RunOutcome:
        """Run the recipe in `folder`, or resume it; with `cut_after` raises `_Interrupted` after so many steps."""
        folder.mkdir(exist_ok=True)
        with Run.open(folder / "run", self.spec(folder, budget_usd), self.task(pool), pool) as run:
            with _counting_steps(run, cut_after) as steps:
                student = self.open_recipe()(run)
            charged = sum(row.charged for row in run.store.calls() if row.category != "compute")
            texts = [text for name in ("train", "validation", "pool") for text in pool.subset(name).texts]
            return RunOutcome(self.scores(student, texts), charged, len(steps), len(run.store.calls()))

    def task(self, pool: Any) -> Task:
        """The task of a pool."""
        return Task(pool.labels, name="contract")

    def scores(self, student: Any, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, K) logits of N texts: equal students have equal ones."""
        return np.asarray(student.predict_logits(texts))

    # --- the promises ------------------------------------------------------------------------------------------

    def test_the_student_can_do_the_task(self) -> None:
        """It predicts the labels of its training texts."""
        pool = self.pool()
        with tempfile.TemporaryDirectory() as folder:
            logits = self._attempt(Path(folder), pool).logits
        gold = pool.subset("train").gold
        check(logits.shape[1] == len(pool.labels), f"{logits.shape[1]} scores for {len(pool.labels)} labels")
        check(np.isfinite(logits).all(), "the student's scores are not finite")
        accuracy = float((logits[: len(gold)].argmax(axis=1) == gold).mean())
        check(accuracy >= self.min_accuracy, f"it is right about {accuracy:.0%} of the training texts")

    def test_the_test_texts_change_nothing(self) -> None:
        """What is chosen with the test part cannot be measured with it."""
        with tempfile.TemporaryDirectory() as folder:
            one = self._attempt(Path(folder) / "one", self.pool())
            other = self._attempt(Path(folder) / "other", self.pool("first we saw {0} and after it {1}"))
        check(np.array_equal(one.logits, other.logits), "other test texts gave another student")

    def test_it_is_never_over_budget(self) -> None:
        """With any budget, what is held and charged stays within it; too little money is a PotstillError."""
        for budget_usd in self.budgets_usd:
            with tempfile.TemporaryDirectory() as folder:
                here, pool = Path(folder), self.pool()
                spec = self.spec(here, budget_usd)
                with Run.open(here / "run", spec, self.task(pool), pool) as run:
                    with suppress(PotstillError):
                        self.open_recipe()(run)
                    committed = run.store.committed()
                check(committed <= spec.limit_micros, f"with ${budget_usd} it committed {committed} micro-dollars")

    def test_a_finished_run_buys_nothing_again(self) -> None:
        """The same command arrives at once: every step is in the store."""
        with tempfile.TemporaryDirectory() as folder:
            first = self._attempt(Path(folder), self.pool())
            second = self._attempt(Path(folder), self.pool())
        check(second.n_calls == first.n_calls, f"{second.n_calls - first.n_calls} calls were made again")
        check(np.array_equal(first.logits, second.logits), "run again it returned another student")

    def test_it_ends_the_same_wherever_it_is_cut(self) -> None:
        """A run that stops after any stored step, and is called again, ends with the same student and the same bill."""
        with tempfile.TemporaryDirectory() as folder:
            uncut = self._attempt(Path(folder) / "uncut", self.pool())
            cuts = sorted({*np.linspace(1, uncut.n_steps, min(uncut.n_steps, self.max_cuts)).astype(int).tolist()})
            for cut in cuts:
                here = Path(folder) / f"cut{cut}"
                try:
                    self._attempt(here, self.pool(), cut_after=cut)
                except _Interrupted:
                    pass
                else:
                    check(False, f"it had {uncut.n_steps} stored steps, and run again not even {cut}")
                resumed = self._attempt(here, self.pool())
                check(np.array_equal(uncut.logits, resumed.logits), f"cut after step {cut} it gave another student")
                check(
                    uncut.charged_micros == resumed.charged_micros,
                    f"cut after step {cut} it was charged {resumed.charged_micros} micro-dollars for answers, "
                    f"and uncut {uncut.charged_micros}",
                )


def _labelled_rows() -> Iterator[dict[str, str]]:
    """The texts a simulated teacher has labels for: all but the test part, and as many that are in no part."""
    n_known = sum(SPLIT_SIZES.values()) - SPLIT_SIZES["test"]
    for label, words in WORDS.items():
        n_before_test = SPLIT_SIZES["train"] + SPLIT_SIZES["validation"]
        for i, (one, other) in enumerate(permutations(words, 2)):
            if not n_before_test <= i < n_before_test + SPLIT_SIZES["test"]:
                yield {"text": TEXT.format(one, other), "label": label}
        for (one, two, three), _ in zip(permutations(words, 3), range(n_known), strict=False):
            yield {"text": f"a {one}, a {two} or a {three}", "label": label}


@contextmanager
def _counting_steps(run: Run, cut_after: int) -> Iterator[list[str]]:
    """The stored steps of the run while the block lasts; after number `cut_after` raises `_Interrupted`."""
    steps: list[str] = []

    def counted(name: str) -> Callable[..., None]:
        stored: Callable[..., None] = getattr(run.store, name)

        def step(*args: object, **options: object) -> None:
            stored(*args, **options)
            steps.append(name)
            if len(steps) == cut_after:
                raise _Interrupted

        return step

    for name in ("save", "settle"):
        setattr(run.store, name, counted(name))
    try:
        yield steps
    finally:
        for name in ("save", "settle"):
            delattr(run.store, name)
