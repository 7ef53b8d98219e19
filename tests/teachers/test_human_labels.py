"""People as a teacher: what they cost, when they are paid, and how simulated ones differ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.annotation_run import begin, go_on, human_calls, label_all, labels_of, write_spec, write_texts

from potstill.api import distill
from potstill.data.task import GenerationRequest, LabelledText, Task
from potstill.errors import BadData, BadSpec, TeacherError, UnknownPrice, Waiting
from potstill.evaluation.calibration import softmax
from potstill.ledger.prices import Usage
from potstill.ledger.store import Annotation
from potstill.planning.cost_estimate import estimate_cost
from potstill.run.inputs import read_inputs
from potstill.teachers.base import DeferredTeacher, Teacher, TeacherSetup
from potstill.teachers.human import open_teacher
from potstill.teachers.human_labels import aggregate_labels, label_id
from potstill.teachers.price_options import PriceOptions
from potstill.testing import TeacherContract

TASK = Task(("world", "sports", "business"))
TEXTS = ("news of the world", "sports and more sports", "business as usual")
PER_LABEL = {"usd_per_label": 0.11}


def opened(
    prices: dict[str, Any] = PER_LABEL, task: Task = TASK, gold: dict[str, int] | None = None, **options: Any
) -> Any:
    parsed = PriceOptions.parse(prices)
    return open_teacher(TeacherSetup(task, options=options, prices=parsed, seed=1, hidden_gold=gold))


class TestSimulatedPeople(TeacherContract):
    """The shared promises."""

    reads_examples: ClassVar[bool] = False
    generates: ClassVar[bool] = False
    simulated: ClassVar[bool] = True

    def open_teacher(self, task: Task, examples: Sequence[LabelledText] = ()) -> Teacher:
        return opened(
            simulate_from="pool", gold={text: i for i, text in enumerate(TEXTS)}, annotators_per_text=3, error_rate=0.2
        )


def test_without_a_price_the_human_teacher_is_refused() -> None:
    with pytest.raises(UnknownPrice, match="price of a human label"):
        opened({"usd_per_hour": 0.1})  # this machine's price is not a person's
    with pytest.raises(BadSpec, match="Two prices"):
        opened({"usd_per_label": 0.1, "usd_per_labelling_hour": 18})


def test_human_labels_are_one_job_a_text_and_simulated_ones_are_direct() -> None:
    people = opened(annotators_per_text=3)
    assert isinstance(people, DeferredTeacher)
    assert people.category == "human"
    assert people.job_capacity(["a", "b", "c"]) == 1
    assert people.price.cost_micros(people.max_job_usage("a")) == 330_000
    assert not isinstance(opened(simulate_from="pool", gold={}), DeferredTeacher)
    for wrong in (lambda: people.answer(["a"]), lambda: people.generate(GenerationRequest("sports", 1))):
        with pytest.raises(TeacherError) as refused:
            wrong()
        assert not refused.value.billed


def test_paid_by_the_hour_the_longest_paid_time_is_held() -> None:
    people = opened({"usd_per_labelling_hour": 18}, max_seconds=60, annotators_per_text=2)
    assert people.max_job_usage("a") == Usage(labels=2, seconds=120)
    assert people.price.cost_micros(people.max_job_usage("a")) == 600_000


@given(st.lists(st.sampled_from(["", "world", "sports", "business"]), max_size=7))
def test_several_labels_become_their_shares_of_the_votes(said: list[str]) -> None:
    answer = aggregate_labels(TASK, said)
    votes = [label for label in said if label]
    if not votes:
        assert answer.state == "refused"
        return
    assert answer.scores is not None
    shares = [votes.count(label) / len(votes) for label in TASK.labels]
    np.testing.assert_allclose(softmax(np.array([answer.scores]))[0], shares, atol=1e-5)


def test_simulated_annotators_err_at_the_given_rate_and_are_never_unsure() -> None:
    known = {f"text {i}": i % 3 for i in range(2000)}
    people = opened(simulate_from="pool", gold=known, error_rate=0.2)
    answers = people.answer(list(known)).answers
    right = np.mean([np.argmax(a.scores) == k for a, k in zip(answers, known.values(), strict=True)])
    assert right == pytest.approx(0.8, abs=0.03)
    assert {round(max(a.scores), 4) for a in answers} == {0.0}
    assert people.metadata.simulation


def test_the_id_of_a_text_begins_with_its_task() -> None:
    other = Task(("world", "sports"))
    assert label_id(TASK, "a")[:6] == label_id(TASK, "b")[:6] != label_id(other, "a")[:6]
    assert label_id(TASK, "a") != label_id(TASK, "b")


# --- in a run ---------------------------------------------------------------------------------------------


def test_money_is_held_for_every_text_and_settled_for_those_that_are_labelled(tmp_path: Path) -> None:
    run = begin(tmp_path)
    assert [(call.state, call.held) for call in human_calls(run)] == [("held", 100_000)] * 20
    assert label_all(run, n=12) == 12
    with pytest.raises(Waiting, match=r"8 texts wait for people.*12 of 20"):
        go_on(tmp_path)
    assert [call.state for call in human_calls(run)].count("settled") == 12
    assert label_all(run) == 8
    done = go_on(tmp_path)
    calls = human_calls(run)
    assert sum(call.usage.labels for call in calls) == 20
    assert {call.state for call in calls} == {"settled"}
    assert sum(call.charged for call in calls) == 2_000_000
    assert done.report.money.by_category["human"] == pytest.approx(2.0)
    assert any("20 labels" in note for note in done.report.notes)
    assert done.report.student.evaluation.accuracy.value == 1.0


def test_annotators_paid_by_the_hour_are_charged_by_measured_time(tmp_path: Path) -> None:
    write_texts(tmp_path, n=3)
    run = begin(tmp_path, teacher="max_seconds = 100", prices="usd_per_labelling_hour = 36")
    assert [call.held for call in human_calls(run)] == [1_000_000] * 3
    labels = labels_of(run)
    for question, seconds in zip(labels.requests(), (5.0, 0.0, 500.0), strict=True):
        labels.add(Annotation(question.id, "ann", "sports", seconds))
    labels.close()
    go_on(tmp_path)
    # Measured; not measured; longer than is paid for.
    assert [call.charged for call in human_calls(run)] == [50_000, 1_000_000, 1_000_000]


def test_a_run_can_continue_with_the_labels_it_has(tmp_path: Path) -> None:
    from potstill.api import annotate

    run = begin(tmp_path)
    label_all(run, n=5)
    assert annotate(run, close=True).n_closed == 15
    go_on(tmp_path)
    calls = human_calls(run)
    assert sum(call.charged for call in calls) == 500_000
    assert sum(call.held for call in calls if call.state == "held") == 0


def test_the_next_run_pays_nothing_for_the_same_labels(tmp_path: Path) -> None:
    run = begin(tmp_path)
    label_all(run)
    go_on(tmp_path)
    again = distill(tmp_path / "potstill.toml", out=tmp_path / "second", student="linear", seed=0)
    assert again.report.money.by_category["human"] == pytest.approx(2.0)
    assert sum(call.paid for call in human_calls(tmp_path / "second")) == 0


def test_rounds_request_labels_of_texts_the_student_is_unsure_of(tmp_path: Path) -> None:
    write_texts(tmp_path, n=40)
    run = begin(tmp_path, more='procedure = { name = "annotate", n_texts = 10, rounds = 2, query_strategy = "margin" }')
    assert len(labels_of(run).requests()) == 5
    label_all(run)
    with pytest.raises(Waiting):
        go_on(tmp_path)
    assert len(labels_of(run).requests()) == 10
    label_all(run)
    go_on(tmp_path)
    assert sum(call.charged for call in human_calls(run)) == 1_000_000


def test_simulated_annotators_answer_at_once_and_the_report_states_it(tmp_path: Path) -> None:
    texts = write_texts(tmp_path)
    known = tmp_path / "known.csv"
    rows = [f"open {label} story {i},{label}" for i in range(20) for label in ("sports", "weather", "money")]
    known.write_text("text,label\n" + "\n".join(rows), encoding="utf-8")
    write_spec(tmp_path, teacher='simulate_from = "known.csv"')
    done = go_on(tmp_path)
    assert done.report.money.by_category["human"] == pytest.approx(2.0)
    assert "imulation" in done.report.simulation
    assert texts.exists()


def test_what_annotators_cannot_do_is_refused_in_one_sentence(tmp_path: Path) -> None:
    write_texts(tmp_path)
    write_spec(tmp_path, more='procedure = "kd"')
    with pytest.raises(BadSpec, match="procedure annotate"):
        go_on(tmp_path)
    write_spec(tmp_path, more='procedure = { name = "annotate", round = 2 }')
    with pytest.raises(BadSpec, match="Did you mean 'rounds'"):
        go_on(tmp_path)
    write_spec(tmp_path, more='procedure = { name = "annotate" }', prices="usd_per_label = 50")
    with pytest.raises(BadData, match="A label can cost"):
        go_on(tmp_path)
    assert not (tmp_path / "run").exists()


def test_a_plan_has_the_price_of_the_labels(tmp_path: Path) -> None:
    write_texts(tmp_path)
    found = estimate_cost(read_inputs(write_spec(tmp_path), None, {}))
    assert (found.n_texts, found.low_usd, found.high_usd) == (20, 2.0, 2.0)
    assert found.host == ""


def test_a_text_whose_money_was_held_and_that_never_arrived_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from potstill.run import batch_jobs as tickets
    from potstill.teachers.human_labels import HumanTeacher

    write_texts(tmp_path, n=3)
    write_spec(tmp_path)
    real, left = HumanTeacher.submit_job, []

    def killed(self: HumanTeacher, ticket: Any, texts: Any) -> Any:
        left.append(texts)
        if len(left) == 2:
            raise KeyboardInterrupt  # the hold is on the disk, the text is not
        return real(self, ticket, texts)

    monkeypatch.setattr(HumanTeacher, "submit_job", killed)
    with pytest.raises(KeyboardInterrupt):
        go_on(tmp_path)
    run = tmp_path / "run"
    assert [call.state for call in human_calls(run)] == ["held", "held"]
    with pytest.raises(Waiting):
        go_on(tmp_path)  # nobody knows yet whether it arrived
    monkeypatch.setattr(tickets, "VISIBLE_AFTER_S", 0.0)
    with pytest.raises(Waiting):
        go_on(tmp_path)
    assert sorted(call.state for call in human_calls(run)) == ["held", "held", "held", "released"]
    assert label_all(run) == 3
    go_on(tmp_path)
    assert sum(call.charged for call in human_calls(run)) == 300_000
