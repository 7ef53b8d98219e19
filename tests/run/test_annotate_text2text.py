"""People mark entities or answer texts: a run waits, goes on, pays each text once and learns the answers."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.annotation_run import human_calls
from support.answer_run import EMOJI, answer_all, answers, begin, go_on, write_world
from support.pgkd_text2text import opened

pytest.importorskip("torch")
pytest.importorskip("transformers")

from potstill.api import annotate, distill, plan
from potstill.errors import BadData, BadSpec, TeacherError, Waiting
from potstill.ledger.store import AnnotationStore, RunStore
from potstill.procedures.kinds import recipe_kind
from potstill.reports import render_html, render_terminal

N = 60


def states(run: Path) -> list[tuple[str, int]]:
    return [(call.state, call.charged) for call in human_calls(run)]


@pytest.mark.parametrize("form", ["entities", "free"])
def test_a_run_without_gold_waits_for_people_and_learns_their_answers(tmp_path: Path, form: str) -> None:
    toml = write_world(tmp_path, form, n=N, test=40, extra=(EMOJI,))
    planned = plan(toml).teacher
    assert planned is not None
    assert planned.n_texts == N + 1
    with pytest.raises(Waiting, match=f"{N + 1} texts wait for people to (mark|answer) them") as waiting:
        go_on(tmp_path)
    assert "potstill annotate" in waiting.value.hint
    run = tmp_path / "run"
    assert states(run) == [("held", 0)] * (N + 1)
    known = answers(form, N)
    assert answer_all(run, known, n=20) == 20
    with pytest.raises(Waiting, match=f"{N - 19} texts wait .* 20 of {N + 1} texts have come back"):
        go_on(tmp_path)
    assert states(run).count(("settled", 100_000)) == 20
    assert answer_all(run, known) == N - 19
    done = go_on(tmp_path)
    assert sum(charged for _, charged in states(run)) == 100_000 * (N + 1)
    found = done.report
    assert found.student.evaluation is not None
    assert found.student.evaluation.main_score.value > 0.5
    assert found.settings.procedure == "annotate"
    assert any(f"One person gave {N + 1} answers to {N + 1} texts, 2.0 s each." in note for note in found.notes)
    for shown in (render_html(found), render_terminal(found)):
        assert "human" in shown
    n_calls = len(states(run))
    assert go_on(tmp_path).report == found
    assert len(states(run)) == n_calls
    store = AnnotationStore(run)
    assert all(request.collected for request in store.requests())
    store.close()


def train(folder: Path, name: str = "run") -> dict[str, Any]:
    """Go on with a run as far as its student, which is not exported; its notes by name."""
    with opened(folder / "potstill.toml", name) as run:
        student: Any = recipe_kind("annotate").train(run)
        assert student.find_entities(["the soup"])
        return {"key": run.student_key(student), **{note.name: note.record for note in run.notes()}}


def test_gold_and_answers_are_learnt_together_and_a_second_run_asks_no_one_twice(tmp_path: Path) -> None:
    run = begin(tmp_path, "entities", n=8, gold=12)
    assert answer_all(run, answers("entities", 8)) == 8
    made = train(tmp_path)
    assert made["named_entities"].dropped == {}  # no mark of people is left out
    store = RunStore(run, write=False)
    assert [call.n_texts for call in store.calls() if call.category == "compute"] == [
        16
    ]  # of 12 with gold, 4 are set aside
    store.close()
    assert train(tmp_path, "other")["key"] == made["key"]  # its answers are the workspace's
    assert [(call.n_texts, call.paid) for call in human_calls(tmp_path / "other")] == [(8, 0)]


def test_of_two_peoples_answers_the_most_frequent_is_learnt_and_their_agreement_is_reported(tmp_path: Path) -> None:
    run = begin(tmp_path, "entities", n=10, gold=12, teacher=", annotators_per_text = 2")
    known = answers("entities", 10)
    changed = [text for text, own in known.items() if own != "[]"][:2]
    answer_all(run, known)
    answer_all(run, known | dict.fromkeys(changed, "[]"), annotator="bob")
    result = annotate(run, export=tmp_path / "out.csv")
    agreement = (
        "8 of 10 texts with more than one answer have identical ones; two answers to a text have a mean F1 of 0.800. "
        "Where they differ the answer that most people gave is learnt; on 2 texts there is no such answer, and the "
        "first one counts."
    )
    assert agreement in result.to_text()
    assert "nothing in it" in result.to_text()
    assert "--quality" not in result.to_text()
    assert {"ann", "bob"} == {each.name for each in result.summary.annotators}
    note = train(tmp_path)["annotated_answers"]
    assert note.sentence() == f"2 people gave 20 answers to 10 texts, 2.0 s each. {agreement}"
    assert sum(charged for _, charged in states(run)) == 2_000_000


def test_an_answer_that_was_edited_in_the_file_is_refused_when_the_run_reads_it(tmp_path: Path) -> None:
    run = begin(tmp_path, "entities", n=4, gold=12)
    answer_all(run, answers("entities", 4))
    with closing(sqlite3.connect(run / "labels.sqlite")) as file, file:
        file.execute("UPDATE annotations SET label = '[[0, 999, \"dish\"]]'")
    with pytest.raises(TeacherError, match=r"has the answer .* which the task does not have"):
        train(tmp_path)


def test_closing_goes_on_with_the_answers_there_are_and_without_any_it_is_refused(tmp_path: Path) -> None:
    run = begin(tmp_path / "some", "entities", n=20, gold=12)
    answer_all(run, answers("entities", 20), n=5)
    assert annotate(run, close=True).n_closed == 15
    train(tmp_path / "some")
    assert sum(charged for _, charged in states(run)) == 500_000
    run = begin(tmp_path / "none", "entities", n=4)
    assert "4 texts were closed without an answer" in annotate(run, close=True).to_text()
    with pytest.raises(BadData, match="No text got an answer, and all are closed"):
        train(tmp_path / "none")


def test_simulated_people_reveal_a_file_or_the_pool_at_once(tmp_path: Path) -> None:
    toml = write_world(tmp_path, "entities", n=20, gold=12, teacher=', simulate_from = "known.jsonl"')
    assert plan(toml).teacher is not None
    train(tmp_path)
    assert sum(charged for _, charged in states(tmp_path / "run")) == 2_000_000
    text = toml.read_text(encoding="utf-8").replace('"known.jsonl"', '"pool"').replace("new.jsonl", "known.jsonl")
    toml.write_text(text, encoding="utf-8")
    assert plan(toml).teacher is not None
    train(tmp_path, "pool")
    assert states(tmp_path / "pool")


def test_what_cannot_be_is_refused_in_one_sentence_before_anything_is_spent(tmp_path: Path) -> None:
    toml = write_world(tmp_path, "entities", n=4)
    for option, given in (("rounds", "2"), ("query_strategy", '"margin"'), ("cold_start", '"random"')):
        text = toml.read_text(encoding="utf-8").replace('name = "annotate"', f'name = "annotate", {option} = {given}')
        (tmp_path / "odd.toml").write_text(text, encoding="utf-8")
        with pytest.raises(BadSpec, match=f"{option} is about labels, and this task has marked entities"):
            distill(tmp_path / "odd.toml", out=tmp_path / option)
    text = toml.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("labels")]
    (tmp_path / "odd.toml").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(BadData, match="their types are unknown") as unnamed:
        distill(tmp_path / "odd.toml", out=tmp_path / "unnamed")
    assert "--labels" in unnamed.value.hint
    (tmp_path / "odd.toml").write_text(text.replace("budget = 20", "budget = 0.05"), encoding="utf-8")
    with pytest.raises(BadData, match=r"An answer can cost \$0.1000 and \$0.\d+ of the budget is for answers"):
        distill(tmp_path / "odd.toml", out=tmp_path / "poor")
    for procedure, message in (("kd", "people answer only some"), ("finetune", "nothing to learn")):
        changed = text.replace('name = "annotate"', f'name = "{procedure}"')
        rows = (
            [{"text": "soup"}, {"text": "bread the", "entities": [[0, 5, "dish"]]}]
            if procedure == "kd"
            else [{"text": "soup"}]
        )
        (tmp_path / "new.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        (tmp_path / "odd.toml").write_text(changed, encoding="utf-8")
        with pytest.raises((BadSpec, BadData), match=message):
            distill(tmp_path / "odd.toml", out=tmp_path / procedure)
