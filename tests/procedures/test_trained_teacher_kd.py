"""P, FT + KD and P + KD as recipes: what the student learns from, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from potstill.data.pool import Pool
from potstill.data.task import Task
from potstill.errors import BadData, BadSpec
from potstill.procedures.prompt import prompt
from potstill.procedures.trained_teacher_kd import ft_kd, p_kd
from potstill.run.run import Run
from potstill.run.spec import Spec
from potstill.students.base import Student

TEXTS = tuple(f"{'good fine nice' if i % 2 else 'bad poor sad'} film {i}" for i in range(40))


def pool_of(gold: int = 10, loose: int = 20) -> Pool:
    n = len(TEXTS)
    split = np.array(["train"] * gold + ["pool"] * loose + ["test"] * (n - gold - loose), dtype="<U10")
    labels = np.arange(n) % 2
    return Pool(("no", "yes"), TEXTS, np.where(split == "pool", -1, labels), split, TEXTS, np.full(n, -1))


class RecordingRun(Run):
    """A run that records what students are trained on."""

    trained: list[tuple[list[str], np.ndarray, Any]]

    def learn(self, texts: Any, targets: Any, **over: Any) -> Student:  # type: ignore[override]
        self.trained.append((list(texts), np.asarray(targets), over["trust"].weights if "trust" in over else None))
        return super().learn(texts, targets, **over)


def run_of(folder: Path, pool: Pool, **over: Any) -> RecordingRun:
    spec = Spec.from_dict({"budget": 1, "student": "linear", "teacher": "trained:linear", "procedure": "ft-kd", **over})
    run = RecordingRun.open(folder / "run", spec, Task(pool.labels), pool)
    run.trained = []
    return run


def test_the_student_trains_on_the_softened_distribution_alone(tmp_path: Path) -> None:
    pool = pool_of()
    with run_of(tmp_path, pool, procedure={"name": "ft-kd", "temperature": 2.0}) as run:
        ft_kd(run)
        (gold, _, _), (texts, soft, weights) = run.trained
    assert gold == list(pool.subset("train").texts)
    assert texts == list(pool.subset("pool").texts)
    assert weights is None
    with run_of(tmp_path / "sharp", pool, procedure={"name": "ft-kd", "temperature": 1.0}) as run:
        ft_kd(run)
        sharp = run.trained[1][1]
    odds, sharper = (np.log(each[:, 0] / each[:, 1]) for each in (soft, sharp))
    assert odds == pytest.approx(sharper / 2, abs=1e-4)


def test_with_gold_the_gold_weighs_as_much_as_the_soft_labels_over_t_squared(tmp_path: Path) -> None:
    with run_of(
        tmp_path, pool_of(10, 20), procedure={"name": "ft-kd", "temperature": 2.0, "train_on_gold": True}
    ) as run:
        ft_kd(run)
        texts, targets, weights = run.trained[1]
    assert len(texts) == 30
    assert targets[:10].max(axis=1) == pytest.approx(1)
    assert weights[:10].sum() * 2.0**2 == pytest.approx(weights[10:].sum())


@pytest.mark.parametrize(
    ("recipe", "over", "said"),
    [
        (ft_kd, {"teacher": "trained:cloze:smollm2"}, "not fine-tuned"),
        (ft_kd, {"teacher": "replay"}, "is trained here"),
        (p_kd, {"teacher": "trained:gte-small"}, "not trained by prompts"),
        (p_kd, {"teacher": None}, "none is named"),
        (ft_kd, {"procedure": {"name": "ft-kd", "heat": 3}}, "no option 'heat'"),
        (ft_kd, {"procedure": {"name": "ft-kd", "temperature": 0}}, "cannot take temperature = 0"),
        (ft_kd, {"procedure": {"name": "ft-kd", "train_on_gold": "yes"}}, 'cannot take train_on_gold = "yes"'),
        (prompt, {}, "no language-model head"),
    ],
)
def test_a_wrong_teacher_or_option_is_refused_with_a_hint(
    tmp_path: Path, recipe: Any, over: dict[str, Any], said: str
) -> None:
    with run_of(tmp_path, pool_of(), **over) as run, pytest.raises(BadSpec, match=said) as refused:
        recipe(run)
    assert refused.value.hint


def test_distilling_without_unlabelled_texts_says_so(tmp_path: Path) -> None:
    with run_of(tmp_path, pool_of(loose=0)) as run, pytest.raises(BadData, match="unlabelled texts"):
        ft_kd(run)


def test_variants_of_a_run_share_trained_students_but_not_their_spec(tmp_path: Path) -> None:
    pool = pool_of()
    with run_of(tmp_path, pool) as run:
        first, second = run.variant(), run.variant(seed=run.spec.seed)
        ft_kd(first)
        charged = run.ledger.totals().calls
        ft_kd(second)
        assert run.ledger.totals().calls == charged
        assert first.student_keys == second.student_keys
        assert run.student_keys == ()
