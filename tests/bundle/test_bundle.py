"""Bundles: they load without torch, predict under any use, and say in one sentence what is wrong with a damaged one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import get_ident
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.tinybert import write_tinybert

from potstill.bundle import sessions
from potstill.bundle.bundle import Bundle, load
from potstill.bundle.export.export import export
from potstill.bundle.record import write_record
from potstill.data.task import Task
from potstill.errors import BadData, BadInput, RunNotFound
from potstill.students.base import Student, StudentConfig
from potstill.students.encoder import EncoderStudent
from potstill.students.linear import LinearStudent
from potstill.testing import ODD_TEXTS, StudentContract

LESSON = StudentContract().training_data()
TASK = Task(StudentContract.labels)
GOLD = LESSON.targets.argmax(axis=1)


def _made(kind: str, folder: Path) -> Path:
    student: Student
    if kind == "encoder":
        pytest.importorskip("torch")
        pytest.importorskip("onnx")
        weights = str(write_tinybert(folder / "weights"))
        student = EncoderStudent(StudentConfig(TASK.labels, weights=weights, options={"mode": "frozen", "c": 100.0}))
    else:
        student = LinearStudent(StudentConfig(TASK.labels))
    made = export(student.fit(LESSON), folder / "bundle", task=TASK, texts=LESSON.texts, gold=GOLD)
    write_record(made.folder, replace(made.record, temperature=2.0, abstain_threshold=0.6))
    return folder / "bundle"


@pytest.fixture(scope="module", params=["encoder", "linear"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _made(request.param, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    return load(folder)


@pytest.fixture
def broken(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    """A linear bundle to damage."""
    made = tmp_path_factory.getbasetemp() / "sound"
    if not made.exists():
        _made("linear", made)
    shutil.copytree(made / "bundle", tmp_path / "bundle")
    return tmp_path / "bundle"


def test_it_predicts_the_labels_it_was_trained_on(bundle: Bundle) -> None:
    found = bundle.predict(LESSON.texts)
    assert np.mean([label == TASK.labels[gold] for label, gold in zip(found, GOLD, strict=True)]) > 0.9
    assert bundle.labels == TASK.labels


def test_probabilities_are_tempered_rows_that_sum_to_one(bundle: Bundle) -> None:
    probabilities, logits = bundle.predict_proba(LESSON.texts), bundle.predict_logits(LESSON.texts)
    assert probabilities.dtype == np.float32
    likely = np.exp(logits.astype(float) / 2.0)
    np.testing.assert_allclose(probabilities, likely / likely.sum(axis=1, keepdims=True), atol=1e-6)


def test_the_order_of_texts_does_not_matter(folder: Path) -> None:
    bundle = load(folder, graph="fp32")
    texts = [text * (1 + i % 7) for i, text in enumerate(LESSON.texts * 5)]
    shuffled = np.random.default_rng(0).permutation(len(texts))
    np.testing.assert_allclose(
        bundle.predict_logits([texts[i] for i in shuffled]), bundle.predict_logits(texts)[shuffled], atol=1e-4
    )


def test_unusual_texts_and_no_texts_are_answered(bundle: Bundle) -> None:
    assert np.isfinite(bundle.predict_proba(ODD_TEXTS)).all()
    assert bundle.predict([]) == []
    assert bundle.predict_proba([]).shape == (0, 3)


@pytest.mark.parametrize("texts", ["one text", [None], ["a", 3]])
def test_what_is_no_list_of_strings_is_refused(bundle: Bundle, texts: Any) -> None:
    with pytest.raises(BadData):
        bundle.predict(texts)


def test_a_stream_is_answered_in_order_and_never_read_far_ahead(bundle: Bundle) -> None:
    taken = 0

    def source() -> Iterator[str]:
        nonlocal taken
        for i in range(1000):
            taken += 1
            yield LESSON.texts[i % len(LESSON.texts)]

    answers = bundle.iter_predictions(source(), rows=50)
    first = [next(answers) for _ in range(60)]
    assert taken <= 100
    wanted = bundle.predict(LESSON.texts)
    assert [answer.label for answer in first] == [wanted[i % len(wanted)] for i in range(60)]
    assert len(first) + sum(1 for _ in answers) == 1000


def test_a_text_of_low_probability_is_marked_as_not_confident(bundle: Bundle) -> None:
    answers = list(bundle.iter_predictions([*LESSON.texts, "zzz qqq"]))
    assert {answer.confident for answer in answers} == {True, False}
    assert all(answer.confident == (answer.probability >= 0.6) for answer in answers)


def test_with_abstain_a_text_that_is_not_confident_gets_none(bundle: Bundle) -> None:
    texts = [*LESSON.texts, "zzz qqq"]
    found = bundle.predict(texts, abstain=True)
    confident = [answer.confident for answer in bundle.iter_predictions(texts)]
    assert [label is not None for label in found] == confident
    assert [label for label in found if label] == [
        label for label, keep in zip(bundle.predict(texts), confident, strict=True) if keep
    ]


def test_a_bundle_without_calibration_guarantees_nothing(bundle: Bundle) -> None:
    assert bundle.guarantees is None
    for ask in (lambda: bundle.predict_sets(["a"]), lambda: bundle.predict(["a"], abstain=0.9)):
        with pytest.raises(BadInput, match=r"This bundle (has no|was not calibrated)") as raised:
            ask()
        assert "--validation" in raised.value.hint
    assert [answer.typicality for answer in bundle.iter_predictions(["a"])] == [None]


def test_without_a_threshold_no_prediction_is_confident_or_not(broken: Path) -> None:
    _edit(broken, abstain_threshold=None)
    assert [answer.confident for answer in load(broken).iter_predictions(["a"])] == [None]


def test_many_threads_get_the_answers_of_one(bundle: Bundle) -> None:
    parts = [LESSON.texts[i : i + 4] for i in range(0, 36, 4)] * 8
    wanted = [bundle.predict_proba(part) for part in parts]
    with ThreadPoolExecutor(8) as pool:
        for got, want in zip(pool.map(bundle.predict_proba, parts), wanted, strict=True):
            np.testing.assert_allclose(got, want, atol=1e-5)


def test_a_runs_folder_leads_to_its_bundle(folder: Path) -> None:
    assert load(folder.parent).folder == folder
    assert load(str(folder), verify=True, threads=1).folder == folder


def test_the_size_is_that_of_what_predicting_reads(folder: Path, bundle: Bundle) -> None:
    whole = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
    graph = (folder / bundle.graph).stat().st_size / 1e6
    assert graph < bundle.size_mb < whole


def test_facts_are_flat(bundle: Bundle) -> None:
    facts = bundle.summary()
    assert facts["temperature"] == 2.0
    assert all(isinstance(value, str | int | float | bool) for value in facts.values())


def test_a_machine_without_torch_loads_and_predicts(folder: Path, bundle: Bundle) -> None:
    """In a child process that refuses every library but the three a bundle needs."""
    code = f"""
import sys, json
ALLOWED = {{"numpy", "onnxruntime", "tokenizers", "potstill"}}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top in ALLOWED or top in sys.stdlib_module_names:
            return None
        if top in {"coloredlogs", "flatbuffers", "google", "sympy", "packaging"}:
            return None  # what onnxruntime itself may look for
        raise ModuleNotFoundError("refused: " + name, name=name)
sys.meta_path.insert(0, Refuse())
import potstill
bundle = potstill.load({str(folder)!r}, verify=True)
print(json.dumps(bundle.predict_proba({list(LESSON.texts[:8])!r}).tolist()))
assert not {{"torch", "transformers", "scipy", "sklearn", "pydantic"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    np.testing.assert_allclose(json.loads(done.stdout), bundle.predict_proba(LESSON.texts[:8]), atol=1e-5)


# --- damage ------------------------------------------------------------------------------------------------


def _edit(folder: Path, **changes: Any) -> None:
    record = json.loads((folder / "potstill.json").read_text("utf-8"))
    (folder / "potstill.json").write_text(json.dumps(record | changes), "utf-8")


def test_a_folder_without_a_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunNotFound, match="holds no bundle"):
        load(tmp_path)
    with pytest.raises(RunNotFound, match="does not exist"):
        load(tmp_path / "nowhere")


def test_a_truncated_graph_is_found_by_its_size(broken: Path) -> None:
    graph = broken / "onnx" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-100])
    with pytest.raises(RunNotFound, match=r"model\.onnx has \d+ bytes"):
        load(broken)


def test_a_changed_byte_is_found_by_its_hash(broken: Path) -> None:
    file = broken / "ngrams.json"
    file.write_text(file.read_text("utf-8").replace("soup", "soap"), "utf-8")
    load(broken)
    with pytest.raises(RunNotFound, match="SHA-256"):
        load(broken, verify=True)


def test_a_graph_of_noise_is_one_sentence(broken: Path) -> None:
    graph = broken / "onnx" / "model.onnx"
    graph.write_bytes(b"\0" * graph.stat().st_size)
    with pytest.raises(RunNotFound, match="not a graph that onnxruntime can run"):
        load(broken)


def test_a_missing_file_is_named(broken: Path) -> None:
    (broken / "ngrams.json").unlink()
    with pytest.raises(RunNotFound, match=r"ngrams\.json is missing"):
        load(broken)


@pytest.mark.parametrize("changes", [{"format": 4}, {"preprocessor": {"name": "telepathy", "config": {}, "files": []}}])
def test_a_bundle_of_a_newer_potstill_says_upgrade(broken: Path, changes: dict[str, Any]) -> None:
    _edit(broken, **changes)
    with pytest.raises(RunNotFound, match="newer potstill") as raised:
        load(broken)
    assert "pip install --upgrade" in raised.value.hint


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"format": "one"}', '{"format": 1}', '{"format": 2}', '{"format": 3}']
)
def test_a_damaged_record_is_one_sentence(broken: Path, text: str) -> None:
    (broken / "potstill.json").write_text(text, "utf-8")
    with pytest.raises(RunNotFound):
        load(broken)


@pytest.mark.parametrize(
    "changes",
    [
        {"task": {"labels": 3}},
        {"task": {"labels": ["one"]}},
        {"preprocessor": {"name": "features", "config": {}, "files": ["ngrams.json"]}},
        {"temperature": "warm"},
        {"files": {"../x": {"bytes": 1, "sha256": ""}}},
        {"files": {"x": {"bytes": 1}}},
        {"graph": "y.onnx"},
    ],
)
def test_a_record_of_nonsense_is_one_sentence(broken: Path, changes: dict[str, Any]) -> None:
    _edit(broken, **changes)
    with pytest.raises(RunNotFound):
        load(broken)


# --- any number of texts, of any size ------------------------------------------------------------------------


def test_texts_may_come_from_anything_that_can_be_gone_through(bundle: Bundle) -> None:
    wanted = bundle.predict(LESSON.texts)
    assert bundle.predict(text for text in LESSON.texts) == wanted
    assert bundle.predict(np.array(LESSON.texts)) == wanted


def test_more_texts_than_a_block_are_answered_alike_and_a_bad_one_is_named_by_its_place(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = bundle.predict_logits(LESSON.texts)
    monkeypatch.setattr("potstill.bundle.bundle.MAX_BLOCK_TEXTS", 7)
    np.testing.assert_allclose(bundle.predict_logits(LESSON.texts), wanted, atol=0.05)
    with pytest.raises(BadData, match="Text 12 is bytes"):
        bundle.predict([*LESSON.texts[:11], b"soup", *LESSON.texts])  # type: ignore[list-item]


def test_ten_times_the_texts_stream_in_the_same_memory(bundle: Bundle) -> None:
    def peak(n: int) -> int:
        source = (f"{LESSON.texts[i % len(LESSON.texts)]} {i % 50}" for i in range(n))
        tracemalloc.start()
        assert sum(1 for _ in bundle.iter_predictions(source, rows=100)) == n
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(200)  # what is remembered of words, and onnxruntime's own
    assert peak(2000) < 2 * peak(200)


def test_a_text_of_fifty_megabytes_is_answered_from_its_ends(bundle: Bundle) -> None:
    phrase = "soup and bread for dinner "
    huge = phrase * 2_000_000
    found = bundle.predict_proba([huge, "match"])
    assert np.isfinite(found).all()
    np.testing.assert_allclose(bundle.predict_proba([phrase * 40_000, "match"]), found, atol=1e-4)


@pytest.mark.parametrize("threads", [0, -1])
def test_fewer_than_one_thread_is_refused(folder: Path, threads: int) -> None:
    with pytest.raises(BadInput, match="at least one is needed"):
        load(folder, threads=threads)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_number_of_threads_changes_no_answer_and_is_kept_to(
    folder: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = load(folder, threads=threads, graph="fp32")
    texts = [f"{text} {' and' * (i % 40)}" for i, text in enumerate(LESSON.texts * 20)]
    wanted = load(folder, threads=1, graph="fp32").predict_logits(texts)
    seen: set[int] = set()
    real = bundle.session.run
    stub = SimpleNamespace(run=lambda *feeds: seen.add(get_ident()) or real(*feeds))
    monkeypatch.setattr(bundle, "session", stub)
    np.testing.assert_allclose(bundle.predict_logits(texts), wanted, atol=1e-5)
    assert 1 <= len(seen) <= threads


def test_a_container_with_two_processors_of_many_starts_two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions.os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    for quota, wanted in (("200000 100000", 2), ("150000 100000", 2), ("max 100000", 64), ("nonsense", 64)):
        monkeypatch.setattr(Path, "read_text", lambda self, quota=quota, **how: quota)
        assert sessions.available_cpus() == wanted


def test_the_environment_may_say_how_many_threads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POTSTILL_THREADS", "3")
    assert load(folder).threads == 3
    assert load(folder, threads=1).threads == 1
    for wrong in ("0", "-2", "many", "1.5"):
        monkeypatch.setenv("POTSTILL_THREADS", wrong)
        with pytest.raises(BadInput, match="POTSTILL_THREADS is"):
            load(folder)
