"""A run on entities from the command's function on: files, student, bundle, report, predictions, resuming, refusals."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.marked_texts import TYPES, marked_texts, write_marked
from support.tinybert import write_tinybert

pytest.importorskip("torch")
pytest.importorskip("transformers")

import potstill
from potstill.api import bench, distill, export, init, label_errors, plan, predict, report
from potstill.api.distill import DistillResult
from potstill.bundle import bundle as labels
from potstill.bundle.entity_bundle import EntityBundle, PredictedEntity
from potstill.errors import BadInput, BadSpec, PotstillError, RunNotFound
from potstill.ledger.store import RunStore
from potstill.reports import render_html, render_terminal
from potstill.run.inputs import read_inputs, spec_overrides

TOML = """
budget = 1
[data]
file = "marked.jsonl"
[student]
name = "tagger:{weights}"
epochs = 8
lr = 2e-2
max_length = 32
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> DistillResult:
    folder = tmp_path_factory.mktemp("entities")
    (folder / "weights").mkdir()
    weights = write_tinybert(folder / "weights", layers=1)  # a layer is seconds of the exporter
    write_marked(folder / "marked.jsonl", marked_texts(200))
    (folder / "potstill.toml").write_text(TOML.format(weights=weights), encoding="utf-8")
    return distill(folder / "potstill.toml", out=folder / "run")


@pytest.fixture(scope="module")
def bundle(run: DistillResult) -> EntityBundle:
    found: Any = potstill.load(run.folder)
    assert isinstance(found, EntityBundle)
    return found


def test_the_report_has_the_scores_of_each_type_with_intervals(run: DistillResult) -> None:
    found = run.report
    assert found.student.evaluation is not None
    assert found.entities is not None
    assert found.student.evaluation.main_score.value > 0.9
    assert [each.type for each in found.entities.per_type] == list(TYPES)
    assert all(each.f1.low <= each.f1.value <= each.f1.high for each in found.entities.per_type)
    assert sum(each.support for each in found.entities.per_type) == found.entities.n_gold > 50
    (known,) = found.baselines
    assert known.name.startswith("known words")
    assert any("[dish]" in each.student for each in found.samples)
    page, terminal = render_html(found), render_terminal(found)
    for shown in (page, terminal):
        assert "entity F1" in shown.replace("Entity F1", "entity F1")
        assert "finance" in shown
        assert "lenient score" in shown
    assert "Types of entities" in page
    stored = json.loads((run.folder / "report.json").read_text(encoding="utf-8"))
    assert stored["entities"]["per_type"][0]["f1"].keys() == {"value", "low", "high"}
    assert report(run.folder).report == found


def test_predict_gives_entities_with_characters_type_and_confidence(run: DistillResult, bundle: EntityBundle) -> None:
    text = "the soup bread please bank"
    (found,) = bundle.predict([text])
    assert [(each.start, each.end, each.type, each.text) for each in found] == [
        (4, 14, "dish", "soup bread"),
        (22, 26, "finance", "bank"),
    ]
    assert all(0 < each.confidence <= 1 for each in found)
    assert bundle.predict(["", "the"]) == [(), ()]
    assert run.predict([text]) == [found]
    assert list(bundle.iter_predictions(iter([text] * 3), rows=2)) == [found] * 3
    assert pickle.loads(pickle.dumps(bundle)).predict([text])[0][0].type == "dish"
    result = predict(run.folder, text, "the")
    assert "dish" in result.to_text()
    assert "no entity" in result.to_text()
    assert result.to_json()["predictions"][0]["entities"][1]["text"] == "bank"
    frame = [{"text": text, "other": 1}]
    assert predict(run.folder, frame).entities == (found,)


def test_the_bundle_gives_the_students_scores_and_says_so(run: DistillResult, bundle: EntityBundle) -> None:
    record = bundle.record
    assert record.parity is not None
    assert record.parity.max_abs_difference <= 1e-3
    assert record.int8 is not None
    assert set(record.metrics) == {"entity_f1", "macro_f1", "exact_texts"}
    assert record.task.labels == TYPES
    card = (bundle.folder / "README.md").read_text(encoding="utf-8")
    assert "Finds entities of 2 types" in card
    assert "token-classification" in card
    assert "A confidence is the geometric mean of the probabilities of the labels of an entity's words" in card
    text = "the bank " * 40
    exact: Any = potstill.load(run.folder, graph="fp32")  # in int8 the other texts of a batch change what is rounded
    one, several = exact.unit_scores([text])[0], exact.unit_scores(["the", text, "soup"])[1]
    np.testing.assert_allclose(one, several, atol=1e-3)


def test_a_slim_copy_and_each_graph_find_the_same(run: DistillResult, bundle: EntityBundle, tmp_path: Path) -> None:
    text = "the soup bread please bank"
    copied = export(run.folder, tmp_path / "copy", slim=True)
    assert isinstance(copied.bundle, EntityBundle)
    assert copied.bundle.predict([text]) == bundle.predict([text])
    exact: Any = potstill.load(run.folder, graph="fp32", verify=True)
    assert exact.summary()["precision"] == "fp32"
    assert [each.type for each in exact.predict([text])[0]] == ["dish", "finance"]
    (copied.folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(RunNotFound):
        potstill.load(copied.folder)


def test_files_get_the_entities_of_each_text(run: DistillResult, tmp_path: Path) -> None:
    texts = [text for text, _ in marked_texts(30, seed=5)]
    table = tmp_path / "new.csv"
    table.write_text("id,text\n" + "".join(f'{i},"{text}"\n' for i, text in enumerate(texts)), encoding="utf-8")
    written = predict(run.folder, table, out=tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert written.files[0].n == len(rows) == 30
    assert any(row["predicted"] for row in rows)
    for row in rows:
        assert all(row["text"][each["start"] : each["end"]] == each["text"] for each in row["predicted"])
        assert (row["confidence"] is None) == (not row["predicted"])
    predict(run.folder, table)
    csv = (tmp_path / "new.labelled.csv").read_text(encoding="utf-8")
    assert csv.startswith("id,text,predicted,confidence\n")
    tasks = tmp_path / "tasks.json"
    predict(run.folder, table, out=tasks)
    marks = json.loads(tasks.read_text(encoding="utf-8"))
    assert [task["data"]["text"] for task in marks] == texts
    annotated = [{**task, "annotations": [{"result": task["predictions"][0]["result"]}]} for task in marks]
    (tmp_path / "annotated.json").write_text(json.dumps(annotated), encoding="utf-8")
    pool: Any = read_inputs(tmp_path / "annotated.json", None, spec_overrides(None, None, 1, {})).pool
    by_text = dict(zip(pool.texts, pool.gold, strict=True))
    for row in rows:
        spans = [(each["start"], each["end"], each["type"]) for each in row["predicted"]]
        assert [(e.start, e.end, e.type) for e in by_text[row["text"]]] == spans


def test_the_same_command_trains_nothing_again(run: DistillResult) -> None:
    toml = run.folder.parent / "potstill.toml"
    store = RunStore(run.folder, write=False)
    calls = len(store.calls())
    store.close()
    (run.folder / "report.json").unlink()
    again = distill(toml, out=run.folder)
    assert again.report.entities == run.report.entities
    store = RunStore(run.folder, write=False)
    assert len(store.calls()) == calls
    store.close()


def test_what_entities_cannot_do_is_one_sentence_with_a_mend(run: DistillResult) -> None:
    data = run.folder.parent / "marked.jsonl"
    out = run.folder.parent / "never"
    refused: list[tuple[Any, str, str]] = [
        (lambda: distill(data, budget=1, out=out, procedure="selftrain"), "'selftrain' cannot do a task", "finetune"),
        (lambda: distill(data, budget=1, out=out, student="linear"), "'linear' cannot learn", "--student tagger"),
        (lambda: distill(data, budget=1, out=out, teacher="human"), "no unlabelled texts for people", "--pool"),
        (lambda: plan(data, budget=1, measure=True), "this one is of entities", "--measure"),
        (lambda: label_errors(data), "these data have marked entities", "--kind single"),
        (lambda: predict(run.folder, "the bank", coverage=0.9), "nothing is guaranteed", "--coverage"),
        (lambda: labels.load(run.folder), "finds entities, and gives no labels", "potstill predict"),
        (lambda: bench(run.folder), "finds entities, and gives no labels", "potstill predict"),
    ]
    for attempt, what, mend in refused:
        with pytest.raises(PotstillError, match=what) as caught:
            attempt()
        assert isinstance(caught.value, BadInput)
        assert mend in caught.value.hint, what
    assert not out.exists()
    frame = [{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(40)]
    with pytest.raises(BadSpec, match="'tagger' cannot learn a task of the kind 'single'"):
        distill(frame, budget=1, out=out, student="tagger", procedure="finetune")


def test_init_writes_a_file_that_is_read_as_the_same_task(run: DistillResult) -> None:
    data = run.folder.parent / "marked.jsonl"
    written = init(data, out=run.folder.parent / "new.toml", budget=1).file
    by_toml, by_file = (read_inputs(each, None, spec_overrides(None, None, 1, {})) for each in (written, data))
    assert by_toml.task.key == by_file.task.key
    assert by_toml.spec.student.name == "tagger"
    assert by_toml.spec.procedure.name == "finetune"
    assert by_toml.spec.teacher is None


def test_a_predicted_entity_is_json() -> None:
    found = PredictedEntity(4, 8, "Amount", "5 ml", 0.987654)
    assert found.to_json() == {"start": 4, "end": 8, "type": "Amount", "text": "5 ml", "confidence": 0.9877}
