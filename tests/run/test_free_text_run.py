"""A run on answers in words from the command's function on: files, student, bundle, report, predictions, refusals."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.answered import answered_texts

pytest.importorskip("torch")
pytest.importorskip("transformers")

import potstill
from potstill.api import bench, distill, export, init, label_errors, plan, predict, report
from potstill.api.distill import DistillResult
from potstill.bundle import bundle as labels
from potstill.bundle.entity_bundle import EntityBundle
from potstill.bundle.free_text_bundle import FreeTextBundle
from potstill.errors import BadInput, PotstillError, RunNotFound
from potstill.evaluation.text2text.answer_metrics import METRIC_NAMES
from potstill.ledger.store import RunStore
from potstill.reports import render_html, render_terminal
from potstill.run.inputs import read_inputs, spec_overrides

TEXT = "the soup bank please"


@pytest.fixture(scope="module")
def run(free_text_run: DistillResult) -> DistillResult:
    return free_text_run


@pytest.fixture(scope="module")
def bundle(run: DistillResult) -> FreeTextBundle:
    found: Any = potstill.load(run.folder)
    assert isinstance(found, FreeTextBundle)
    return found


def test_the_report_has_every_metric_with_intervals(run: DistillResult) -> None:
    found = run.report
    assert found.student.evaluation is not None
    assert found.free_text is not None
    assert found.student.evaluation.main_score == found.free_text.scores["exact_match"]
    assert found.student.evaluation.main_score.value > 0.8
    assert set(found.free_text.scores) == set(METRIC_NAMES)
    assert {each.name for each in found.baselines} == {"the most frequent answer", "the text itself"}
    assert all(each.gold for each in found.samples)
    page, terminal = render_html(found), render_terminal(found)
    for shown in (page, terminal):
        assert "exact match" in shown.replace("Exact match", "exact match")
        assert "token F1" in shown.replace("Token F1", "token F1")
        assert "ROUGE-L" in shown
        assert "acro F1" not in shown
    stored = json.loads((run.folder / "report.json").read_text(encoding="utf-8"))
    assert stored["free_text"]["scores"]["bleu"].keys() == {"value", "low", "high"}
    assert report(run.folder).report == found


def test_predict_answers_texts(run: DistillResult, bundle: FreeTextBundle) -> None:
    assert bundle.predict([TEXT]) == ["food money"]
    assert run.predict([TEXT]) == ["food money"]
    assert bundle.predict([]) == []
    (answer,) = bundle.generate([TEXT])
    assert 0 < answer.confidence <= 1
    assert answer.complete
    assert [each.text for each in bundle.iter_answers(iter([TEXT] * 3), rows=2)] == ["food money"] * 3
    assert pickle.loads(pickle.dumps(bundle)).predict([TEXT]) == ["food money"]
    result = predict(run.folder, TEXT, "a goal tennis and")
    assert result.to_text().splitlines()[:2] == [TEXT, "  food money"]
    assert result.to_json()["predictions"][1]["answer"] == "sport sport"
    assert predict(run.folder, [{"text": TEXT, "other": 1}]).answers == (answer,)


def test_the_bundle_gives_the_students_scores_and_says_so(bundle: FreeTextBundle) -> None:
    record = bundle.record
    assert record.parity is not None
    assert record.parity.max_abs_difference <= 1e-3
    assert record.int8 is not None
    assert set(record.metrics) == set(METRIC_NAMES)
    assert record.task.output is not None
    assert (record.task.labels, record.task.output.metric) == ((), "exact_match")
    assert record.preprocessor.config["max_tokens"] == 2
    card = (bundle.folder / "README.md").read_text(encoding="utf-8")
    assert "Answers a text in words" in card
    assert 'pipeline_tag: "text-generation"' in card
    texts = ["the soup bank", TEXT, "a goal " * 30]
    alone = [bundle.forced_logits([text], ["food"])[0] for text in texts]
    for one, other in zip(bundle.forced_logits(texts, ["food"] * 3), alone, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


def test_a_slim_copy_and_each_graph_answer_the_same(run: DistillResult, tmp_path: Path) -> None:
    copied = export(run.folder, tmp_path / "copy", slim=True)
    assert isinstance(copied.bundle, FreeTextBundle)
    assert copied.bundle.predict([TEXT]) == ["food money"]
    assert "generation_config.json" in copied.files
    assert "model.safetensors" not in copied.files
    assert copied.bundle.record.transformers_difference is None
    assert "transformers" not in (copied.folder / "README.md").read_text(encoding="utf-8")
    exact: Any = potstill.load(run.folder, graph="fp32", verify=True)
    assert exact.summary()["precision"] == "fp32"
    (copied.folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(RunNotFound):
        potstill.load(copied.folder)


def test_transformers_generates_the_same_from_the_folder(run: DistillResult, bundle: FreeTextBundle) -> None:
    from transformers import pipeline

    exact: Any = potstill.load(run.folder, graph="fp32")
    texts = [text for text, _ in answered_texts(12, seed=7)]
    write = pipeline("text-generation", str(bundle.folder))
    found = write(texts, return_full_text=False, batch_size=4)  # type: ignore[call-overload]
    assert [each[0]["generated_text"].strip() for each in found] == exact.predict(texts)
    assert bundle.record.transformers_difference is not None
    assert bundle.record.transformers_difference < 1e-3
    long = write.tokenizer(f"{TEXT} " * 20, truncation=True)["input_ids"]  # type: ignore[misc]
    assert long == bundle.preprocessor.encode([f"{TEXT} " * 20])[0].tolist()
    card = (bundle.folder / "README.md").read_text(encoding="utf-8")
    assert 'pipeline("text-generation", "this-folder")' in card
    assert 'library_name: "transformers"' in card
    assert "classif" not in card


def test_files_get_an_answer_a_row(run: DistillResult, tmp_path: Path) -> None:
    rows = answered_texts(30, seed=5)
    table = tmp_path / "new.csv"
    table.write_text("id,text\n" + "".join(f"{i},{text}\n" for i, (text, _) in enumerate(rows)), encoding="utf-8")
    written = predict(run.folder, table, out=tmp_path / "out.jsonl")
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert written.files[0].n == len(found) == 30
    right = [row["predicted"] == answer for row, (_, answer) in zip(found, rows, strict=True)]
    assert np.mean(right) > 0.7
    assert all(0 <= row["confidence"] <= 1 for row in found)
    predict(run.folder, table)
    assert (tmp_path / "new.labelled.csv").read_text(encoding="utf-8").startswith("id,text,predicted,confidence\n")
    old = tmp_path / "old.csv"
    old.write_bytes(f"text;name\n{TEXT};café\n".encode("cp1252"))
    (file,) = predict(run.folder, old, encoding="cp1252").files
    assert any("answers may have characters that CP1252 lacks" in note for note in file.notes)
    assert "food money" in (tmp_path / "old.labelled.csv").read_text(encoding="utf-8-sig")


def test_the_same_command_trains_nothing_again(run: DistillResult) -> None:
    toml = run.folder.parent / "potstill.toml"
    store = RunStore(run.folder, write=False)
    calls = len(store.calls())
    store.close()
    (run.folder / "report.json").unlink()
    again = distill(toml, out=run.folder)
    assert again.report.free_text == run.report.free_text
    store = RunStore(run.folder, write=False)
    assert len(store.calls()) == calls
    store.close()


def test_what_answers_in_words_cannot_do_is_one_sentence_with_a_mend(run: DistillResult) -> None:
    data = run.folder.parent / "answered.jsonl"
    out = run.folder.parent / "never"
    free: Any = {"budget": 1, "out": out, "form": "free"}
    refused: list[tuple[Any, str, str]] = [
        (lambda: distill(data, **free, procedure="selftrain"), "'selftrain' cannot do a task", "finetune"),
        (lambda: distill(data, **free, student="linear"), "'linear' cannot learn", "--student causal"),
        (lambda: distill(data, **free, student="tagger"), "the form 'free'", "--student causal"),
        (lambda: distill(data, **free, labels="a,b"), "have no labels", "--labels"),
        (lambda: distill(data, **free, metric="rouge"), "rouge. is not valid", "Did you mean 'rouge_l'"),
        (lambda: distill(data, budget=1, out=out, metric="bleu"), "metric is of answers in words", "--form free"),
        (lambda: distill(data, budget=1, out=out, kind="text2text"), "does not show the form", "--form free"),
        (lambda: plan(data, budget=1, form="free", measure=True), "this one is of answers in words", "--measure"),
        (lambda: label_errors(data, form="free"), "these data have answers in words", "--kind single"),
        (lambda: predict(run.folder, "the bank", coverage=0.9), "nothing is guaranteed", "--coverage"),
        (lambda: labels.load(run.folder), "answers in words, and gives no labels", "potstill predict"),
        (lambda: EntityBundle.open(run.folder), "answers in words, and finds no entities", "potstill predict"),
        (lambda: bench(run.folder), "answers in words, and gives no labels", "potstill predict"),
    ]
    for attempt, what, mend in refused:
        with pytest.raises(PotstillError, match=what) as caught:
            attempt()
        assert isinstance(caught.value, BadInput)
        assert mend in caught.value.hint, (what, caught.value.hint)
    assert not out.exists()


def test_init_writes_a_file_that_is_read_as_the_same_task(run: DistillResult) -> None:
    data = run.folder.parent / "answered.jsonl"
    options: Any = {"form": "free", "metric": "rouge_l", "max_tokens": 7}
    written = init(data, out=run.folder.parent / "new.toml", budget=1, **options).file
    by_toml = read_inputs(written, None, spec_overrides(None, None, None, {}))
    by_file = read_inputs(data, None, spec_overrides(None, None, 1, options))
    assert by_toml.task.key == by_file.task.key
    assert by_toml.spec.student.name == "causal"
    assert by_toml.spec.procedure.name == "finetune"
    assert by_toml.spec.teacher is None
