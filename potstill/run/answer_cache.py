"""How many answers other runs of a workspace have bought already: those are charged again and paid nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from potstill.data.answer_records import answer_form
from potstill.data.task import Task, content_key
from potstill.ledger.store import AnswerCache
from potstill.ledger.store.answer_cache import FILE, UNUSABLE
from potstill.teachers.base import Teacher


@dataclass(frozen=True)
class CachedAnswers:
    """Answers that a workspace has: of how many texts, what they cost when they were bought, and in which file."""

    n_cached: int
    n_texts: int
    usd: float
    cache_path: str

    def sentence(self) -> str:
        """The sentence of a plan."""
        return (
            f"{self.n_cached:,} of the {self.n_texts:,} answers are in {self.cache_path}: "
            f"the budget is charged their ${self.usd:,.4f} again, and nothing is paid for them."
        )


WORKSPACE = Path("runs")  # the folder of runs, unless another is given


def find_cached_answers(
    task: Task, teacher: Teacher, texts: Sequence[str], workspace: Path = WORKSPACE
) -> CachedAnswers:
    """The teacher's answers about these texts in the cache of a workspace; none without a cache."""
    file = workspace / FILE
    if not file.is_file() or not texts:
        return CachedAnswers(0, len(texts), 0.0, str(file))
    keys = [content_key("answer", task.key, teacher.key, text) for text in dict.fromkeys(texts)]
    try:
        with closing(AnswerCache(workspace)) as cache:
            cached = cache.get(keys)
    except UNUSABLE:
        cached = {}  # a plan changes no file: the run renames a damaged one and says so
    read = answer_form(task).read
    found = {key: each for key, each in cached.items() if read(each.value) is not None}
    return CachedAnswers(len(found), len(texts), sum(each.price_nanos for each in found.values()) / 1e9, str(file))
