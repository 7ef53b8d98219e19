"""Studies of entities and of answers in words, run to their report: what is run, run again, asked, and refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from support.form_study import counted_recipes, form_study, write_answers, write_entities
from support.study import run

pytest.importorskip("torch")
pytest.importorskip("transformers")

from potstill.api.compare import CompareResult, compare, study_recipes
from potstill.errors import BadSpec
from potstill.models.bio import ScoredEntities
from potstill.students.tagger import TaggerStudent
from potstill.study.page import render_page
from potstill.study.records import Cell, Footprint, FormCellScores, StudyResult
from potstill.study.spec import StudySpec
from potstill.study.terminal import render_study


def replay(folder: Path, **options: Any) -> dict[str, Any]:
    known = {"name": "replay", "file": str(folder / "known.jsonl"), "accuracy": 0.9, "usd_per_million_tokens": 1.0}
    return known | options


@pytest.fixture(scope="module")
def entities(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("entities")
    return folder, write_entities(folder)


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """An export takes seconds, and is measured in the tests of a whole study."""
    monkeypatch.setattr("potstill.study.cell_kind.measure_form_footprint", lambda *_: Footprint())


@pytest.fixture
def one_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a whole study the first student of the backbone "small" is exported and measured, quickly."""
    from potstill.evaluation.latency import measure_latency
    from potstill.study.form_footprint import measure_form_footprint

    monkeypatch.setattr(
        "potstill.study.form_footprint.measure_latency",
        lambda predict, texts, **_: measure_latency(predict, texts, seconds=0.02),
    )
    monkeypatch.setattr(
        "potstill.study.cell_kind.measure_form_footprint",
        lambda *given: measure_form_footprint(*given) if given[-1].endswith("small") else Footprint(),
    )


def compared(study: StudySpec, out: Path, monkeypatch: pytest.MonkeyPatch) -> CompareResult:
    """The command's function on a study that is in no file."""
    monkeypatch.setattr(StudySpec, "from_toml", classmethod(lambda *_: study))
    return compare("study.toml", out=out)


def scores(study: StudyResult, procedure: str) -> list[dict[str, float]]:
    found = [result.scores for cell, result in study.results.items() if cell.procedure == procedure]
    return [dict(each.values) for each in found if isinstance(each, FormCellScores)]


def test_a_study_of_entities_runs_to_its_report_with_a_teacher(
    entities: tuple[Path, dict[str, Any]], tmp_path: Path, one_measured: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, keys = entities
    asked = {"procedures": ["ft", "ft+kd", "llm+kd"], "teacher": replay(folder)}
    small = {"backbones": [keys["backbones"][0], {**keys["backbones"][1], "procedures": ["ft+kd"]}]}
    study = form_study(folder, keys, sizes=[40], seeds=1, **asked, **small)
    done = compared(study, tmp_path / "out", monkeypatch)
    assert [result.reason for result in done.study.results.values() if result.state != "done"] == []
    assert [(cell.n, cell.procedure, cell.backbone) for cell in done.study.results] == [
        (0, "zero-llm", "replay"), (40, "known-words", ""), (40, "ft", "large"), (40, "ft+kd", "small"),
        (40, "llm+kd", "large"),
    ]  # fmt: skip
    (ft,), (known,), (llm,) = (scores(done.study, name) for name in ("ft", "known-words", "zero-llm"))
    assert ft.keys() == {"entity_f1", "macro_f1", "exact_texts"}
    assert min(ft["entity_f1"], known["entity_f1"], llm["entity_f1"]) > 0.5
    assert done.study.results[Cell("food", 40, 0, "ft", "large")].n_validation == 8
    kd = done.study.results[Cell("food", 40, 0, "ft+kd", "small")]
    assert 0 < kd.usage.teacher_seconds < kd.usage.seconds
    assert done.study.results[Cell("food", 40, 0, "llm+kd", "large")].usage.llm_usd > 0
    footprint = done.study.footprint(Cell("food", 40, 0, "ft+kd", "small"))
    assert footprint.parameters
    assert footprint.flops
    assert footprint.p50_ms
    assert footprint.size_mb
    assert footprint.note == "measured on food, FT+KD small"
    page, text = (done.folder / "compare.html").read_text(encoding="utf-8"), done.to_text()
    for shown in (page, text):
        assert "2 types of entities" in shown
        assert "entity F1" in shown
        assert "Simulation: the teacher replays known answers." in shown
        assert "accuracy" not in shown.lower().replace(json.dumps(str(folder)), "")
        assert "classes" not in shown
    assert "Entity F1 by gold labels" in page
    record = json.loads((done.folder / "compare.json").read_text(encoding="utf-8"))
    assert (record["data"]["food"]["metric"], record["data"]["food"]["form"]) == ("entity_f1", "entities")
    with (done.folder / "cells.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [each["procedure"] for each in lines][:2] == ["zero-shot LLM", "known words"]
    assert float(lines[2]["entity_f1"]) == ft["entity_f1"]
    assert "accuracy" not in lines[0]


def test_a_study_of_answers_in_words_runs_to_its_report(
    tmp_path: Path, one_measured: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = write_answers(tmp_path)
    small = {**keys["backbones"][1], "procedures": ["ft+kd"]}
    backbones = [{**keys["backbones"][0], "procedures": ["ft"]}, small]
    study = form_study(tmp_path, keys, sizes=[100], seeds=1, teacher=replay(tmp_path), backbones=backbones)
    done = compared(study, tmp_path / "out", monkeypatch)
    assert [result.reason for result in done.study.results.values() if result.state != "done"] == []
    assert [(cell.n, cell.procedure) for cell in done.study.results] == [
        (0, "text-itself"), (0, "zero-llm"), (100, "frequent-answer"), (100, "ft"), (100, "ft+kd"),
    ]  # fmt: skip
    (ft,), (frequent,), (same,) = (scores(done.study, name) for name in ("ft", "frequent-answer", "text-itself"))
    assert ft.keys() == {"exact_match", "token_f1", "rouge_1", "rouge_2", "rouge_l", "bleu"}
    assert ft["exact_match"] > frequent["exact_match"] > same["exact_match"] == 0
    footprint = done.study.footprint(Cell("topics", 100, 0, "ft+kd", str(tmp_path / "small")))
    assert footprint.parameters
    assert footprint.flops
    assert footprint.p50_ms
    page, text = (done.folder / "compare.html").read_text(encoding="utf-8"), done.to_text()
    assert "Exact match by gold labels" in page
    assert "the text itself" in page
    assert "exact match in %" in text
    assert "accuracy" not in (page + text).lower()


def test_an_interrupted_study_goes_on_without_training_again(
    entities: tuple[Path, dict[str, Any]], tmp_path: Path, unmeasured: None
) -> None:
    study = form_study(*entities, sizes=[20, 40], seeds=1)
    cut, rest, again = list[str](), list[str](), list[str]()
    with pytest.raises(KeyboardInterrupt):
        run(study, tmp_path, recipes=counted_recipes("entities", cut, max_calls=4))
    assert cut == ["ft", "ft", "ft+kd", "ft"]
    whole = run(study, tmp_path, recipes=counted_recipes("entities", rest))
    assert rest == ["ft", "ft+kd"]
    assert all(result.state == "done" for result in whole.results.values())
    same = run(study, tmp_path, recipes=counted_recipes("entities", again))
    assert again == []
    assert same.results == whole.results


def test_a_failed_cell_has_a_reason_and_the_rest_goes_on(
    entities: tuple[Path, dict[str, Any]], tmp_path: Path, unmeasured: None
) -> None:
    study = form_study(*entities, sizes=[20], seeds=1)
    done = run(study, tmp_path, recipes=counted_recipes("entities", [], fail="ft"))
    states = {(cell.procedure, cell.backbone): result for cell, result in done.results.items()}
    assert states["ft", "large"].state == states["ft", "small"].state == "failed"
    assert "does not answer" in states["ft", "large"].reason
    assert states["ft+kd", "small"].state == "done"  # its teacher is trained for it
    assert "2 cells" not in render_study(done)
    assert "1 cell failed" in render_page(done)


def test_a_size_above_the_texts_there_are_is_said_and_run_with_all(
    entities: tuple[Path, dict[str, Any]], tmp_path: Path, unmeasured: None
) -> None:
    study = form_study(*entities, sizes=[20, 500], seeds=1, procedures=["ft"], kd={})
    done = run(study, tmp_path, recipes=study_recipes(form="entities"))
    note = "food has too few texts with marked entities for the size 500: it is run with all 160."
    assert note in done.data["food"].notes
    assert {cell.n for cell in done.results} == {20, 160}
    assert note in render_page(done)


def test_a_teacher_with_examples_is_a_baseline_of_each_size(
    entities: tuple[Path, dict[str, Any]], tmp_path: Path, unmeasured: None
) -> None:
    folder, keys = entities
    one = [{**keys["backbones"][0], "procedures": ["llm+kd"]}]
    over: dict[str, Any] = {"procedures": ["llm+kd"], "backbones": one, "sizes": [20], "seeds": 1}
    done = run(
        form_study(folder, keys, kd={"shots": 1}, teacher=replay(folder), **over),
        tmp_path,
        recipes=study_recipes(form="entities"),
    )
    assert [cell.title for cell in done.results] == [
        "zero-shot LLM replay", "known words", "few-shot LLM replay", "LLM+KD large",
    ]  # fmt: skip
    assert all(result.state == "done" for result in done.results.values())
    assert done.results[Cell("food", 20, 0, "llm+kd", "large")].usage.llm_usd > 0


def test_without_money_for_all_answers_a_cell_is_pending_and_runs_with_more(
    entities: tuple[Path, dict[str, Any]], tmp_path: Path, unmeasured: None
) -> None:
    folder, keys = entities
    one = [{**keys["backbones"][0], "procedures": ["llm+kd"]}]
    dear = replay(folder, usd_per_million_tokens=100.0)
    over: dict[str, Any] = {"procedures": ["llm+kd"], "backbones": one, "sizes": [20], "seeds": 1, "kd": {"shots": 1}}
    poor = run(
        form_study(folder, keys, teacher=dear, budget=0.02, **over), tmp_path, recipes=study_recipes(form="entities")
    )
    assert "does not reach further" in poor.stop_reason
    assert {result.state for result in poor.results.values()} >= {"pending"}
    rich = run(
        form_study(folder, keys, teacher=dear, budget=5, **over), tmp_path, recipes=study_recipes(form="entities")
    )
    assert {result.state for result in rich.results.values()} == {"done"}


def test_of_alternatives_the_best_by_entity_f1_is_taken(
    entities: tuple[Path, dict[str, Any]], tmp_path: Path, unmeasured: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, keys = entities
    find = TaggerStudent.find_entities
    monkeypatch.setattr(
        TaggerStudent,
        "find_entities",
        lambda self, texts: [ScoredEntities((), ())] * len(texts) if self.options.epochs == 1 else find(self, texts),
    )
    backbones = [{**keys["backbones"][0], "alternatives": [{"epochs": 1}, {"epochs": 2}]}]
    study = form_study(folder, keys, backbones=backbones, procedures=["ft"], kd={}, sizes=[40], seeds=1)
    done = run(study, tmp_path, recipes=study_recipes(form="entities"))
    result = done.results[Cell("food", 40, 0, "ft", "large")]
    assert result.chosen_options == {"epochs": 2}
    assert isinstance(result.scores, FormCellScores)
    assert result.scores.values["entity_f1"] > 0.5


def test_a_recipe_that_does_labels_alone_is_refused_before_anything_runs() -> None:
    with pytest.raises(BadSpec, match="'selftrain' cannot do a study of marked entities") as refused:
        study_recipes(["ft", "selftrain"], "entities")
    assert refused.value.hint
    assert "pgkd" in study_recipes(["pgkd"], "free")
