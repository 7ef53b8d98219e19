"""A server of a bundle that finds entities: the Hugging Face client, /label, other protocols, the log and the page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import InferenceClient, constants
from support.marked_texts import TYPES, marked_texts
from support.served_bundles import Served, serving
from support.tinybert import write_tinybert

pytest.importorskip("torch")
pytest.importorskip("transformers")

from potstill.bundle.entity_bundle import load_entities
from potstill.bundle.export.export_entities import export_entities
from potstill.data.task import Task
from potstill.serving.request_log import RequestLog
from potstill.students.base import StudentConfig
from potstill.students.entity_student import EntityTrainingData, MarkedTexts
from potstill.students.tagger import TaggerStudent

TEXT, OTHER = "the soup bread please bank", "a market"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a tiny tagger."""
    where = tmp_path_factory.mktemp("entities")
    (where / "weights").mkdir()
    rows = marked_texts(200)
    marked = MarkedTexts([text for text, _ in rows], [entities for _, entities in rows])
    options = {"epochs": 12, "lr": 1e-2, "max_length": 32}
    weights = str(write_tinybert(where / "weights", layers=1))
    student = TaggerStudent(StudentConfig(TYPES, weights, options=options, kind="text2text"))
    student.fit(EntityTrainingData(marked, MarkedTexts(marked.texts[:40], marked.entities[:40])))
    check = MarkedTexts(marked.texts[:20], marked.entities[:20])
    with pytest.MonkeyPatch.context() as patch:  # an int8 graph would round otherwise in another batch
        patch.setattr("potstill.bundle.export.export_entities.measure_speedup", lambda *given: 1.0)
        export_entities(student, where / "bundle", task=Task(TYPES, kind="text2text"), check=check)
    return where / "bundle"


@pytest.fixture(scope="module")
def served(folder: Path, bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of two models: protocols (the default), and one of labels."""
    log = RequestLog(tmp_path_factory.mktemp("log") / "log.jsonl", texts=True)
    with serving({"protocols": folder, "small": bundle_folder}, log=log) as server:
        yield server


def test_the_hugging_face_client_reads_the_bundles_entities(
    served: Served, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # it would refuse loopback, too
    (expected,) = load_entities(folder).predict([TEXT])
    assert len(expected) == 2
    client = InferenceClient(model=served.url)
    found = client.token_classification(TEXT, aggregation_strategy="simple")
    assert [(each.entity_group, each.word, each.start, each.end) for each in found] == [
        (each.type, each.text, each.start, each.end) for each in expected
    ]
    assert [each.score for each in found] == pytest.approx([each.confidence for each in expected], abs=1e-4)
    assert client.token_classification("the") == []
    kept = client.token_classification(TEXT, ignore_labels=["dish"])
    assert [each.entity_group for each in kept] == ["finance"]
    batch = served.ask("/models/protocols", {"inputs": [TEXT, "the", OTHER]}).json()
    assert [len(each) for each in batch] == [2, 0, 1]


def test_label_gives_entities_of_each_text_and_nothing_about_labels(served: Served, folder: Path) -> None:
    reply = served.ask("/label", {"texts": [TEXT, "", "the " * 300 + "bank"]}).json()
    assert reply["model"] == "protocols"
    expected = load_entities(folder).predict([TEXT])[0]
    assert reply["texts"][0]["entities"] == [each.to_json() for each in expected]
    assert reply["texts"][1]["entities"] == []
    assert reply["texts"][2]["entities"][-1]["text"] == "bank"
    for more in ({"coverage": 0.9}, {"precision": 0.9}):
        assert served.ask("/label", {"texts": [TEXT], **more}).status == 422
    assert "probabilities" in served.ask("/label", {"texts": [TEXT], "model": "small"}).json()["texts"][0]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict", {"inputs": TEXT}),
        ("/classify", {"input": TEXT, "model": "protocols"}),
        (
            "/v2/models/protocols/infer",
            {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [TEXT]}]},
        ),
    ],
)
def test_protocols_without_a_place_for_spans_refuse_in_one_sentence(served: Served, path: str, body: Any) -> None:
    refused = served.ask(path, body)
    assert refused.status == 422
    assert "finds entities" in refused.body.decode()


def test_a_pair_is_refused_and_broken_bodies_have_the_protocols_errors(served: Served) -> None:
    assert served.ask("/label", {"texts": [[TEXT, OTHER]]}).status == 422
    assert served.ask("/", {"inputs": 3}).json()["error_type"] == "Validation"


def test_facts_say_what_the_model_is(served: Served) -> None:
    models = served.ask("/models").json()["models"]
    assert [(each["name"], each["entities"]) for each in models] == [("protocols", True), ("small", False)]
    assert models[0]["labels"] == list(TYPES)
    assert served.ask("/info").json()["task"] == "token_classification"
    assert served.ask("/models/small/info").json()["task"] == "single_label_classification"
    assert served.ask("/v2/models/protocols").json()["outputs"] == []
    assert 'te_predict_count{model="protocols"}' in served.ask("/metrics").body.decode()


def test_the_log_has_words_with_their_types_and_tokens_are_counted(served: Served) -> None:
    response = served.ask("/", {"inputs": TEXT})
    assert int(response.headers["x-compute-tokens"]) > len(TEXT.split())
    recent = served.ask("/recent").json()["texts"][0]
    assert recent["labels"] == ["soup bread [dish]", "bank [finance]"]
    assert 0 < recent["probability"] <= 1
    assert json.dumps(recent["confident"]) == "null"
