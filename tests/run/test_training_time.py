"""What teaching a student will take: probed here, scaled by what has to be done, and never more than is held."""

from __future__ import annotations

import time
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from support.tinybert import WORDS, write_tinybert

from potstill.data.task import Task
from potstill.errors import BadSpec
from potstill.ledger.prices import Rates
from potstill.ledger.store import RunStore
from potstill.planning.cost_estimate import estimate_cost
from potstill.procedures.soft_labels import open_kd_teacher
from potstill.run.inputs import read_inputs, spec_overrides
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec, Spec, teacher_backbone
from potstill.run.training_time import estimate_training_time
from potstill.students.base import TrainingData
from potstill.students.encoder_options import ENCODER_EPOCHS
from potstill.students.kinds import student_kind
from potstill.students.linear import LinearStudent

TASK = Task(("a", "b"))
RATES = Rates("a test", usd_per_hour=Decimal("3.6"))


def training_rows(n: int) -> tuple[list[str], np.ndarray]:
    draw = np.random.default_rng(n)
    texts = [" ".join(draw.choice(WORDS, 8)) + f" n{i}" for i in range(n)]
    return texts, np.eye(2, dtype=np.float32)[np.arange(n) % 2]


def test_a_transformer_is_counted_in_operations_and_twice_the_epochs_take_longer(tmp_path: Path) -> None:
    weights = write_tinybert(tmp_path / "tiny")
    texts, targets = training_rows(400)
    found = {
        epochs: estimate_training_time(
            ComponentSpec(name=f"encoder:{weights}", epochs=epochs), TASK, texts, targets, RATES
        )
        for epochs in (2, 8)
    }
    one, four = found[2], found[8]
    assert one.flops is not None
    assert four.flops is not None
    assert four.flops / one.flops == pytest.approx((6 * 8 + 2) / (6 * 2 + 2))
    assert 0 < one.low_s < one.high_s
    assert one.usd == pytest.approx((one.low_s + one.high_s) / 2 * 0.001, abs=2e-6)
    assert "FLOPs" in one.sentence()


def test_any_other_student_is_scaled_by_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows_trained = [0]
    fit = LinearStudent.fit

    def counted(student: LinearStudent, data: TrainingData) -> LinearStudent:
        rows_trained[0] += len(data.texts)
        return fit(student, data)

    monkeypatch.setattr(LinearStudent, "fit", counted)
    monkeypatch.setattr(time, "perf_counter", lambda: rows_trained[0] / 1000)  # a clock that ticks with each row
    few, many = (
        estimate_training_time(ComponentSpec(name="linear"), TASK, *training_rows(n), RATES) for n in (300, 3_000)
    )
    assert few.flops is None
    assert many.high_s == pytest.approx(10 * few.high_s)
    assert "FLOPs" not in few.sentence()


def test_the_number_of_passes_is_the_students_own() -> None:
    assert student_kind("encoder").training_passes({}, 10) == ENCODER_EPOCHS.max_epochs
    assert student_kind("encoder").training_passes({}, 10**6) == ENCODER_EPOCHS.min_epochs
    assert student_kind("encoder").training_passes({"epochs": 7, "class_weights": "balanced"}, 10) == 7
    assert student_kind("encoder").training_passes({"mode": "frozen"}, 10) == 0
    assert student_kind("static").training_passes({}, 10) is None
    assert teacher_backbone(ComponentSpec(name="trained:gte-small")).name == "encoder:gte-small"


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    rows = [f"{'rain and wind' if i % 2 else 'a goal in the match'} n{i},{i % 2}" for i in range(120)]
    rows += [f"an open text n{i}," for i in range(50)]
    path = tmp_path / "texts.csv"
    path.write_text("text,label\n" + "\n".join(rows), encoding="utf-8")
    return path


def test_a_plan_shows_what_training_the_teacher_takes(texts: Path) -> None:
    plan = estimate_cost(read_inputs(texts, None, spec_overrides("trained:linear", None, 5, {})))
    assert plan.teacher_training_usd > 0
    assert "training it takes " in plan.to_text()
    assert plan.n_texts == 50
    assert plan.host == ""
    texts.write_text("text,label\n" + "\n".join(f"text {i}," for i in range(50)), encoding="utf-8")
    with pytest.raises(BadSpec, match="linear cannot begin without a labelled text"):
        estimate_cost(read_inputs(texts, None, spec_overrides("trained:linear", None, 5, {"labels": "a,b"})))


def test_training_stops_where_its_hold_ends(tmp_path: Path) -> None:
    """A large model on little money: the weights so far are kept, and the budget is not exceeded."""
    weights = write_tinybert(tmp_path / "tiny", hidden=96, layers=4)
    from potstill.data.pool import PoolOptions, build_pool
    from potstill.data.tables import Table

    words, targets = training_rows(600)
    columns = {"text": words, "label": ["ab"[int(row.argmax())] for row in targets]}
    pool = build_pool(Table.from_columns(columns), options=PoolOptions()).pool
    # Two seconds of this machine are all the money there is; thirty epochs would take far longer.
    spec = Spec.from_dict({"budget": 0.002, "prices": {"usd_per_hour": 3.6}, "teacher": f"trained:{weights}"})
    with Run.open(tmp_path / "run", spec, Task(pool.labels), pool) as run:
        gold = run.pool.subset("train")
        student = ComponentSpec(name=f"encoder:{weights}", epochs=300, mode="full")
        large = run.learn(gold.texts, np.eye(2)[gold.gold], student=student, purpose="teach")
        assert large.predict_proba(["a goal"]).shape == (1, 2)
        assert getattr(large, "fit_info").stop_reason == "deadline"  # noqa: B009
    store = RunStore(tmp_path / "run", write=False)
    (call,) = store.calls()
    store.close()
    assert (call.category, call.state, call.purpose) == ("compute", "settled", "teach")
    assert 0 < call.charged <= call.held == 2000


def test_training_a_teacher_leaves_money_for_its_student(tmp_path: Path, texts: Path) -> None:
    order = read_inputs(texts, None, spec_overrides("trained:linear", "linear", 1, {}))
    with Run.open(tmp_path / "run", order.spec, order.task, order.pool) as run:
        gold = run.pool.subset("train")
        open_kd_teacher(run, gold, [])
        (call,) = run.store.calls()
        assert call.held == 500_000
        assert call.charged < call.held
        with run.ledger.reserve("later", 900_000):
            run.learn(gold.texts, np.eye(2)[gold.gold][::-1].copy())
        run.learn(gold.texts[:40], np.eye(2)[gold.gold][:40])
        held = [call.held for call in run.store.calls()]
        assert held[1] == 100_000 - call.charged
        assert held[2] > 900_000
