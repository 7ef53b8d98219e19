"""Studies run end to end on linear students: what is run, what is run again, what stops, what fails."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.study import RECIPES, run, study_of, write_topics

from potstill.api.compare import compare
from potstill.errors import BadData, TeacherError, UnknownName
from potstill.ledger.store import decoded
from potstill.run import SilentReporter
from potstill.run.run import Run
from potstill.students.base import Student
from potstill.study.records import Cell, CellResult, CellScores, Footprint, StudyResult
from potstill.study.run_study import StudyLimits
from potstill.study.spec_tables import Procedure
from potstill.study.tables import cell_rows, study_record, write_tables


@pytest.fixture(autouse=True)
def topics(tmp_path: Path) -> Path:
    return write_topics(tmp_path / "topics")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    from potstill.evaluation.latency import measure_latency

    monkeypatch.setattr(
        "potstill.study.footprint.measure_latency",
        lambda predict, texts, **_: measure_latency(predict, texts, seconds=0.02),
    )


@dataclass(frozen=True)
class CountedRecipe:
    """A recipe that appends each of its calls to `calls`, and may fail or interrupt the process."""

    procedure: Procedure
    calls: list[tuple[Procedure, int]]
    fails: bool = False
    max_calls: int = 1000

    @property
    def name(self) -> str:
        return RECIPES[self.procedure].name

    def __call__(self, run: Run) -> Student:
        if len(self.calls) == self.max_calls:
            raise KeyboardInterrupt
        self.calls.append((self.procedure, run.spec.seed))
        if self.fails:
            raise TeacherError("The teacher does not answer.", "Start it.")
        return RECIPES[self.procedure](run)


class CountedRecipes(dict[Procedure, CountedRecipe]):
    """All recipes, with a list of their calls."""

    def __init__(self, fail: str = "", max_calls: int = 1000) -> None:
        self.calls: list[tuple[Procedure, int]] = []
        super().__init__({name: CountedRecipe(name, self.calls, name == fail, max_calls) for name in RECIPES})


def quality(study: StudyResult) -> dict[Cell, tuple[int, ...]]:
    return {cell: result.predictions for cell, result in study.results.items()}


def test_a_study_runs_every_cell_and_its_baselines(tmp_path: Path) -> None:
    done = run(study_of(tmp_path), tmp_path / "out")
    assert all(result.state == "done" for result in done.results.values())
    of_one = sorted((cell.procedure, cell.backbone) for cell in done.results if cell.n == 6 and cell.seed == 0)
    assert of_one == [("ft", "large"), ("ft", "tiny"), ("ft+kd", "tiny"), ("majority", ""), ("tf-idf", "")]
    assert {cell.n for cell in done.results} == {6, 24}
    large = done.footprint(Cell("topics", 24, 0, "ft", "large"))
    assert large.parameters
    assert large.flops
    assert large.p50_ms


def test_the_same_study_twice_gives_the_same_predictions_to_the_bit(tmp_path: Path) -> None:
    first, second = (run(study_of(tmp_path), tmp_path / name) for name in ("one", "two"))
    assert quality(first) == quality(second)
    assert [r.scores for r in first.results.values()] == [r.scores for r in second.results.values()]


def test_finished_cells_are_not_run_again_and_a_new_seed_runs_alone(tmp_path: Path) -> None:
    first = run(study_of(tmp_path), tmp_path / "out")
    again = CountedRecipes()
    second = run(study_of(tmp_path), tmp_path / "out", recipes=again)
    assert again.calls == []
    assert quality(first) == quality(second)
    run(study_of(tmp_path, seeds=3), tmp_path / "out", recipes=again)
    assert {seed for _, seed in again.calls} == {2}


def test_a_stored_cell_that_cannot_be_is_run_again_alone(tmp_path: Path) -> None:
    first = run(study_of(tmp_path), tmp_path / "out")
    (store,) = [file for file in (tmp_path / "out").rglob("run.sqlite") if b'"chosen_options"' in file.read_bytes()]
    with sqlite3.connect(store) as db:
        key = "SELECT MAX(key) FROM results WHERE value LIKE '%chosen_options%'"
        db.execute(f"UPDATE results SET value = json_set(value, '$.predictions[0]', 99) WHERE key = ({key})")
    db.close()
    again = CountedRecipes()
    assert quality(run(study_of(tmp_path), tmp_path / "out", recipes=again)) == quality(first)
    assert len(again.calls) <= 1


@pytest.mark.parametrize(
    "changes",
    [
        {"predictions": [0]},
        {"predictions": [0, 99]},
        {"predictions": [0, -2]},
        {"predictions": [0, "1"]},
        {"predictions": [0, True]},
        {"scores": None},
        {"scores": {"accuracy": "1", "macro_f1": 1.0, "mcc": 1.0}},
        {"scores": {"accuracy": float("nan"), "macro_f1": 1.0, "mcc": 1.0}},
        {"scores": {"accuracy": 1.0}},
        {"usage": 3},
        {"usage": {"seconds": -1.0}},
        {"n_train": "8"},
        {"state": "fine"},
        {"chosen_options": []},
        {"more": 1},
    ],
    ids=str,
)
def test_a_cell_with_a_value_that_cannot_be_is_not_read(changes: dict[str, Any]) -> None:
    whole = CellResult("done", scores=CellScores(1.0, 1.0, 1.0), predictions=(0, 1), n_train=8).to_json()
    record = json.loads(json.dumps(whole))
    assert CellResult.read(record, 2, 2).predictions == (0, 1)
    assert CellResult.read(record | {"predictions": [0, -1]}, 2, 2).predictions == (0, -1)  # unanswered
    assert decoded(partial(CellResult.read, n_texts=2, n_labels=2), record | changes) is None


def test_a_student_of_a_new_revision_is_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(study_of(tmp_path), tmp_path / "out")
    monkeypatch.setattr("potstill.students.linear.LinearStudent.revision", 99, raising=False)
    again = CountedRecipes()
    run(study_of(tmp_path), tmp_path / "out", recipes=again)
    assert {name for name, _ in again.calls} == {"ft", "ft+kd"}


def test_an_interrupted_study_continues(tmp_path: Path) -> None:
    cut, rest = CountedRecipes(max_calls=5), CountedRecipes()
    with pytest.raises(KeyboardInterrupt):
        run(study_of(tmp_path), tmp_path / "out", recipes=cut)
    whole = run(study_of(tmp_path), tmp_path / "out", recipes=rest)
    assert quality(whole) == quality(run(study_of(tmp_path), tmp_path / "other"))
    everything = CountedRecipes()
    run(study_of(tmp_path), tmp_path / "third", recipes=everything)
    assert len(rest.calls) == len(everything.calls) - 5


def test_a_failed_cell_has_a_reason_and_the_others_are_run(tmp_path: Path) -> None:
    done = run(study_of(tmp_path), tmp_path / "out", recipes=CountedRecipes(fail="ft+kd"))
    states = {cell.procedure: result for cell, result in done.results.items() if cell.seed == 1}
    assert states["ft+kd"].state == "failed"
    assert "does not answer" in states["ft+kd"].reason
    assert states["ft"].state == "done"
    mended = run(study_of(tmp_path), tmp_path / "out")
    assert all(result.state == "done" for result in mended.results.values())


def test_teacher_labels_are_bought_once_for_all_students(tmp_path: Path) -> None:
    backbones = [{"name": name, "student": "linear", "options": {"max_features": n}}
                 for name, n in (("large", 500), ("a", 40), ("b", 30))]  # fmt: skip
    done = run(study_of(tmp_path, backbones=backbones, sizes=[8], seeds=1), tmp_path / "out")
    assert sum(cell.procedure == "ft+kd" for cell in done.results) == 2
    from potstill.ledger.store import RunStore

    asked, trained = 0, 0
    for folder in (tmp_path / "out" / "subsets").glob("topics-24-*"):
        store = RunStore(folder, write=False)
        asked += sum(row.n_texts for row in store.calls() if row.teacher.startswith("trained"))
        trained += sum(row.mode == "train" for row in store.calls())
        store.close()
    assert asked == 60
    assert trained == 6  # the baseline, three fine-tuned, two students of the first
    kd = done.results[Cell("topics", 24, 0, "ft+kd", "a")]
    assert kd.usage.seconds > kd.usage.teacher_seconds > 0


def test_the_time_and_the_money_stop_a_study_cleanly(tmp_path: Path) -> None:
    late = run(study_of(tmp_path), tmp_path / "late", StudyLimits(max_hours=0.0))
    assert "time" in late.stop_reason
    assert {result.state for result in late.results.values()} == {"pending"}
    poor = run(study_of(tmp_path, budget="0.000002"), tmp_path / "poor")
    assert "budget" in poor.stop_reason
    assert any(result.state == "pending" for result in poor.results.values())
    assert poor.charged_usd <= 0.000002
    rich = run(study_of(tmp_path), tmp_path / "poor")
    assert all(result.state == "done" for result in rich.results.values())


def test_alternatives_are_selected_on_gold_set_aside_for_it(tmp_path: Path) -> None:
    backbones = [{"name": "large", "student": "linear", "alternatives": [{"c": 0.0001}, {"c": 10.0}]}]
    spec = study_of(tmp_path, backbones=backbones, procedures=["ft"], kd={}, sizes=[10], seeds=1)
    found = run(spec, tmp_path / "out").results[Cell("topics", 30, 0, "ft", "large")]
    assert found.n_train + found.n_validation == 30
    assert found.n_validation == 6
    assert found.chosen_options in ({"c": 0.0001}, {"c": 10.0})


def test_leaks_are_counted_and_refused_unless_allowed(tmp_path: Path, topics: Path) -> None:
    rows = (topics / "test.csv").read_text().splitlines()
    with (topics / "train.csv").open("a") as file:
        file.write("\n".join(rows[1:4]) + "\n")
    with pytest.raises(BadData, match="3 rows") as refused:
        run(study_of(tmp_path), tmp_path / "out")
    assert "--allow-leak" in refused.value.hint
    assert not (tmp_path / "out").exists()
    done = run(study_of(tmp_path, sizes=[2], seeds=1), tmp_path / "out", StudyLimits(allow_leak=True))
    assert done.data["topics"].leaks == 3


def test_the_tables_hold_every_cell(tmp_path: Path) -> None:
    done = run(study_of(tmp_path), tmp_path / "out")
    write_tables(done, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert record == json.loads(json.dumps(study_record(done).to_json()))
    header, *lines = (tmp_path / "out" / "cells.csv").read_text().splitlines()
    assert len(record["cells"]) == len(done.results) == len(lines)
    assert {"procedure", "accuracy", "seconds", "total_usd", "p50_ms", "size_mb"} <= set(header.split(","))
    assert len(set(header.split(","))) == len(header.split(","))
    row = next(row for row in cell_rows(done) if row.procedure == "FT+KD" and row.labels == 24)
    assert row.cost.labels_usd == pytest.approx(2.4)
    assert row.cost.compute_usd is not None
    assert row.cost.total_usd == pytest.approx(row.cost.labels_usd + row.cost.compute_usd)


def test_a_language_model_is_asked_once_for_all_cells_and_is_a_baseline(tmp_path: Path, topics: Path) -> None:
    known = tmp_path / "known.csv"
    rows = [line for part in ("train", "test") for line in (topics / f"{part}.csv").read_text().splitlines()[1:]]
    known.write_text("\n".join(["text,label", *rows]))
    teacher = {"name": "replay", "file": str(known), "accuracy": 0.9, "usd_per_million_tokens": 1.0}
    done = run(study_of(tmp_path, procedures=["ft", "llm+kd"], kd={}, teacher=teacher), tmp_path / "out")
    assert all(result.state == "done" for result in done.results.values())
    zero = done.results[Cell("topics", 0, 0, "zero-llm", "replay")]
    assert zero.scores is not None
    assert zero.scores.accuracy == pytest.approx(0.9, abs=0.1)
    assert done.cost(Cell("topics", 0, 0, "zero-llm", "replay")).labels_usd == 0
    kd = done.results[Cell("topics", 24, 1, "llm+kd", "large")]
    assert kd.scores is not None
    assert kd.scores.accuracy > 0.5
    assert kd.usage.llm_usd > 0
    assert "Simulation" in done.simulation


def test_a_language_model_with_examples_is_a_baseline_of_each_subset(tmp_path: Path, topics: Path) -> None:
    known = tmp_path / "known.csv"
    rows = [line for part in ("train", "test") for line in (topics / f"{part}.csv").read_text().splitlines()[1:]]
    known.write_text("\n".join(["text,label", *rows]))
    teacher = {"name": "replay", "file": str(known), "accuracy": 0.9, "usd_per_million_tokens": 1.0}
    asked = {"procedures": ["ft", "llm+kd"], "teacher": teacher, "seeds": 1, "max_size": {"few-llm": 2}}
    plain = run(study_of(tmp_path, kd={}, **asked), tmp_path / "out")
    done = run(study_of(tmp_path, kd={"shots": 1}, **asked), tmp_path / "out")
    assert all(result.state == "done" for result in done.results.values())
    few = [cell for cell in done.results if cell.procedure == "few-llm"]
    assert [(cell.n, cell.title) for cell in few] == [(6, "few-shot LLM replay")]
    assert done.results[few[0]].scores is not None
    cell = Cell("topics", 24, 0, "llm+kd", "large")
    assert 0 < done.results[cell].usage.llm_usd < 2 * plain.results[cell].usage.llm_usd
    assert done.results[Cell("topics", 24, 0, "ft", "large")] == plain.results[Cell("topics", 24, 0, "ft", "large")]


@pytest.mark.nightly
def test_one_causal_model_under_a_head_and_by_its_words_teaches_a_small_student(tmp_path: Path) -> None:
    from support.tinylm import write_tinycausal

    lm = str(write_tinycausal(tmp_path / "lm"))
    quick = {"epochs": 1, "dtype": "bfloat16"}
    backbones = [{"name": lm, "procedures": ["ft", "p"], "options": quick, "prompt": quick}, "linear"]
    kd = {"ft_teacher": lm, "p_teacher": lm}
    spec = study_of(
        tmp_path,
        backbones=backbones,
        procedures=["ft", "p", "ft+kd", "p+kd"],
        kd=kd,
        sizes=[2],
        seeds=1,
        max_test=30,
        max_unlabelled=20,
    )
    done = run(spec, tmp_path / "out")
    assert [result.reason for result in done.results.values() if result.state != "done"] == []
    assert {(cell.procedure, cell.backbone) for cell in done.results} >= {
        ("ft", lm), ("p", lm), ("ft", "linear"), ("ft+kd", "linear"), ("p+kd", "linear"),
    }  # fmt: skip
    taught = [done.results[Cell("topics", 6, 0, how, "linear")].usage.teacher_seconds for how in ("ft+kd", "p+kd")]
    assert min(taught) > 0
    assert done.footprint(Cell("topics", 6, 0, "ft", lm)).flops


@pytest.mark.slow
def test_all_four_procedures_on_one_masked_language_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from support.tinylm import write_tinymlm

    folder = write_tinymlm(tmp_path / "lm", layers=1)
    backbones = [
        {"name": "lm", "student": f"encoder:{folder}", "options": {"mode": "frozen"}, "prompt": {"epochs": 2}},
        {"name": "tiny", "student": "linear"},
    ]
    four = ["ft", "p", "ft+kd", "p+kd"]
    spec = study_of(
        tmp_path, backbones=backbones, procedures=four, kd={}, sizes=[2], seeds=1, max_test=30, max_unlabelled=20
    )
    done = run(spec, tmp_path / "out")
    assert {(cell.procedure, cell.backbone) for cell in done.results if cell.n} == {
        ("majority", ""), ("tf-idf", ""), ("ft", "lm"), ("ft", "tiny"), ("p", "lm"), ("ft+kd", "tiny"),
        ("p+kd", "lm"), ("p+kd", "tiny"),
    }  # fmt: skip
    assert [result.reason for result in done.results.values() if result.state != "done"] == []
    monkeypatch.setattr(
        "potstill.study.cell_kind.measure_footprint", lambda *_: Footprint()
    )  # was measured the first time
    assert quality(done) == quality(run(spec, tmp_path / "again"))
    assert done.footprint(Cell("topics", 6, 0, "p", "lm")).flops
    assert done.footprint(Cell("topics", 6, 0, "ft", "lm")).flops


def test_a_teacher_without_an_answer_fails_its_cells_and_the_others_are_run(tmp_path: Path, topics: Path) -> None:
    (tmp_path / "other.csv").write_text("text,label\nnothing of this task,food\nor this,sport\nor that,money\n")
    teacher = {"name": "replay", "file": str(tmp_path / "other.csv"), "usd_per_million_tokens": 1.0}
    spec = study_of(tmp_path, procedures=["ft", "llm+kd"], kd={"shots": 1}, teacher=teacher, sizes=[2], seeds=1)
    done = run(spec, tmp_path / "out")
    failed = {cell.procedure: result.reason for cell, result in done.results.items() if result.state == "failed"}
    assert set(failed) == {"zero-llm", "few-llm", "llm+kd"}
    assert all("answered none of" in reason for reason in failed.values())
    assert done.results[Cell("topics", 6, 0, "ft", "large")].state == "done"


def test_a_cell_without_memory_fails_alone_and_the_same_command_runs_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as short:
        short.setattr("potstill.students.linear.LinearStudent.fit", no_memory)
        first = compare(_written(tmp_path), out=tmp_path / "out").study
    assert {result.reason for result in first.results.values() if result.state == "failed"} == {"MemoryError: "}
    assert first.results[Cell("topics", 6, 0, "majority")].state == "done"
    assert all(
        result.state == "done" for result in compare(_written(tmp_path), out=tmp_path / "out").study.results.values()
    )


def test_a_size_above_the_labels_there_are_is_said(tmp_path: Path) -> None:
    said: list[str] = []

    class Listing(SilentReporter):
        def info(self, sentence: str) -> None:
            said.append(sentence)

    done = run(study_of(tmp_path, sizes=[2, 500], seeds=1, procedures=["ft"]), tmp_path / "out", tell=Listing())
    assert "topics has too few labels for the size 500 per class: it is run with all 180." in said
    assert any("too few labels for the size 500" in note for note in done.data["topics"].notes)
    assert {cell.n for cell in done.results if cell.procedure == "ft"} == {6, 180}


def _written(folder: Path) -> Path:
    """The study in a file, as the command reads it."""
    file = folder / "study.toml"
    file.write_text(
        'name = "s"\nbudget = 1\nprocedures = ["ft"]\nsizes = [2]\nseeds = 1\n'
        'backbones = ["linear"]\n[data.topics]\nfolder = "topics"\n'
    )
    return file


def test_money_held_by_a_killed_session_does_not_stop_the_study(tmp_path: Path) -> None:
    from potstill.ledger.prices import Purchase
    from potstill.ledger.store import RunStore

    run(study_of(tmp_path, seeds=1), tmp_path / "out")
    store = RunStore(next((tmp_path / "out" / "subsets").glob("topics-24-0-*")), write=True)
    assert store.hold(Purchase("compute", "train", "train large", micros_per_second=28.0), 900_000, 1_000_000)
    store.close()
    done = run(study_of(tmp_path, seeds=2), tmp_path / "out")
    assert all(result.state == "done" for result in done.results.values())


def test_a_procedure_that_is_no_recipe_is_refused_before_anything_runs(tmp_path: Path) -> None:
    write_topics(tmp_path / "topics")
    with pytest.raises(UnknownName, match="no procedure called 'zen'"):
        run(study_of(tmp_path, procedures=["ft", "zen"]), tmp_path / "out")
    assert not (tmp_path / "out").exists()
