"""potstill's own route, vLLM's `/classify`, and MLflow's `/invocations`, over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.served_bundles import LABELS, Served, serving

from potstill.bundle.bundle import load
from potstill.serving.service import served_protocols

SOUP, GOAL = "the soup and the bread", "a goal in the stadium"


@pytest.fixture(scope="module")
def mlflow(bundle_folder: Path, pair_folder: Path) -> Iterator[Served]:
    """A server that answers /invocations as MLflow does."""
    folders = {"small": bundle_folder, "pairs": pair_folder}
    with serving(folders, protocols=served_protocols(mlflow=True)) as server:
        yield server


def test_label_gives_all_that_is_known_of_a_text(served: Served, bundle_folder: Path) -> None:
    bundle = load(bundle_folder)
    reply = served.ask("/label", {"texts": [SOUP, GOAL], "coverage": 0.8}).json()
    wanted = bundle.iter_predictions([SOUP, GOAL])
    probabilities = bundle.predict_proba([SOUP, GOAL]).tolist()
    for found, one, probs in zip(reply["texts"], wanted, probabilities, strict=True):
        assert found["label"] == one.label
        assert found["probabilities"] == dict(zip(LABELS, probs, strict=True))
        assert (found["confident"], found["in_scope"], found["typicality"]) == (
            one.confident,
            one.in_scope,
            one.typicality,
        )
    assert [tuple(each["label_set"]) for each in reply["texts"]] == bundle.predict_sets([SOUP, GOAL], 0.8)


def test_sure_follows_the_precision_that_is_asked_for(served: Served, bundle_folder: Path) -> None:
    bundle = load(bundle_folder)
    (one,) = served.ask("/label", {"texts": ["goal soup"], "precision": 0.5}).json()["texts"]
    threshold = bundle.threshold_for(0.5)
    assert threshold is not None
    assert one["confident"] == (one["probability"] >= threshold)
    (unknown,) = served.ask("/label", {"texts": [SOUP], "precision": 0.9999}).json()["texts"]
    assert unknown["confident"] is None


def test_several_labels_and_pairs(served: Served, multilabel_folder: Path, pair_folder: Path) -> None:
    (several,) = served.ask("/label", {"model": "several", "texts": [SOUP]}).json()["texts"]
    assert several["labels"] == list(load(multilabel_folder).predict([SOUP])[0])
    (pair,) = served.ask("/models/pairs/label", {"texts": [[SOUP, GOAL]]}).json()["texts"]
    assert pair["label"] == load(pair_folder).predict([(SOUP, GOAL)])[0]
    listed = served.ask("/models").json()
    assert [(each["name"], each["takes_pairs"], each["several_labels"]) for each in listed["models"]] == [
        ("small", False, False),
        ("pairs", True, False),
        ("several", False, True),
    ]


@pytest.mark.parametrize(
    "body", [{}, {"texts": "a"}, {"texts": [3]}, {"texts": ["a"], "coverage": 1}, {"texts": [["a", "b"]]}], ids=str
)
def test_label_says_what_is_wrong(served: Served, body: Any) -> None:
    refused = served.ask("/label", body)
    assert (refused.status, set(refused.json())) == (422, {"error", "hint", "reason"})


def test_classify_is_vllms(served: Served, bundle_folder: Path, pair_folder: Path) -> None:
    bundle = load(bundle_folder)
    reply = served.ask("/classify", {"model": "small", "input": [SOUP, GOAL]}).json()
    assert (reply["object"], reply["model"]) == ("list", "small")
    assert [each["label"] for each in reply["data"]] == bundle.predict([SOUP, GOAL])
    assert [each["probs"] for each in reply["data"]] == bundle.predict_proba([SOUP, GOAL]).tolist()
    assert [(each["index"], each["num_classes"]) for each in reply["data"]] == [(0, 3), (1, 3)]
    assert reply["usage"]["prompt_tokens"] == reply["usage"]["total_tokens"] > 0
    (raw,) = served.ask("/v1/classify", {"input": SOUP, "use_activation": False}).json()["data"]
    assert raw["probs"] == bundle.predict_logits([SOUP])[0].tolist()
    (pair,) = served.ask("/classify", {"model": "pairs", "input": [[SOUP, GOAL]]}).json()["data"]
    assert pair["label"] == load(pair_folder).predict([(SOUP, GOAL)])[0]
    assert [each["id"] for each in served.ask("/v1/models").json()["data"]] == ["small", "pairs", "several"]


@pytest.mark.parametrize(
    ("body", "status"),
    [({"input": SOUP, "model": "no"}, 404), ({"input": [1, 2]}, 422), ({"model": "small"}, 422), ({"input": []}, 400)],
)
def test_classify_has_its_own_errors(served: Served, body: Any, status: int) -> None:
    refused = served.ask("/classify", body)
    assert refused.status == status
    assert set(refused.json()["error"]) == {"message", "type", "param", "code"}
    assert refused.json()["error"]["code"] == status


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": ["text"], "data": [[SOUP], [GOAL]]}},
        {"dataframe_split": {"columns": ["id", "text"], "index": [0, 1], "data": [[1, SOUP], [2, GOAL]]}},
        {"dataframe_records": [{"anything": SOUP}, {"anything": GOAL}]},
        {"instances": [SOUP, GOAL]},
        {"instances": [{"text": SOUP}, {"text": GOAL}]},
        {"inputs": [SOUP, GOAL]},
        {"inputs": {"text": [SOUP, GOAL]}},
    ],
    ids=lambda body: str(body)[:50],
)
def test_mlflow_reads_every_form(mlflow: Served, bundle_folder: Path, body: Any) -> None:
    bundle = load(bundle_folder)
    predictions = mlflow.ask("/invocations", {**body, "params": {"coverage": 0.8}}).json()["predictions"]
    assert [each["label"] for each in predictions] == bundle.predict([SOUP, GOAL])
    assert [each["score"] for each in predictions] == bundle.predict_proba([SOUP, GOAL]).max(axis=1).tolist()
    assert [tuple(each["label_set"]) for each in predictions] == bundle.predict_sets([SOUP, GOAL], 0.8)
    assert [each["confident"] for each in predictions] == [
        each.confident for each in bundle.iter_predictions([SOUP, GOAL])
    ]


@pytest.mark.parametrize(
    "table",
    [f"text\n{SOUP}\n\n{GOAL}\n", f'\ufeffid,text\r\n1,"{SOUP}"\r\n2,{GOAL}', f"anything\n{SOUP}\n{GOAL}"],
    ids=["blank line", "two columns", "any name"],
)
def test_mlflow_reads_a_table(mlflow: Served, bundle_folder: Path, table: str) -> None:
    reply = mlflow.ask("/invocations", table.encode(), Content_Type="text/csv; charset=utf-8")
    assert [each["label"] for each in reply.json()["predictions"]] == load(bundle_folder).predict([SOUP, GOAL])


@pytest.mark.parametrize(
    ("table", "status"),
    [(b"", 400), (b"text\n", 400), (b"a,b\n1,2\n", 422), (b"text\na,b\n", 422), (b'text\n"a', 422), (b"\xff\n", 422)],
)
def test_mlflow_refuses_another_table(mlflow: Served, table: bytes, status: int) -> None:
    refused = mlflow.ask("/invocations", table, Content_Type="text/csv")
    assert (refused.status, set(refused.json())) == (status, {"error_code", "message"})


def test_mlflow_reads_pairs_by_columns(mlflow: Served, pair_folder: Path) -> None:
    wanted = load(pair_folder).predict([(SOUP, GOAL)])
    records = {"dataframe_records": [{"first": SOUP, "second": GOAL}]}
    named = {"dataframe_records": [{"id": 1, "text_pair": GOAL, "text": SOUP}]}
    for body in (records, named, {"inputs": [[SOUP, GOAL]]}):
        found = mlflow.ask("/models/pairs/invocations", body).json()["predictions"]
        assert [each["label"] for each in found] == wanted


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"inputs": [SOUP], "instances": [SOUP]}, 422),
        ({"dataframe_split": {"columns": ["a", "b"], "data": [[SOUP, GOAL]]}}, 422),
        ({"dataframe_split": {"columns": ["a", "b"], "data": [[SOUP]]}}, 422),
        ({"inputs": {"a": [SOUP], "b": []}}, 422),
        ({"inputs": [3]}, 422),
        ({"inputs": []}, 400),
    ],
    ids=str,
)
def test_mlflow_has_its_own_errors(mlflow: Served, body: Any, status: int) -> None:
    refused = mlflow.ask("/invocations", body)
    assert (refused.status, set(refused.json())) == (status, {"error_code", "message"})


def test_invocations_is_sagemakers_unless_the_flag_says_otherwise(served: Served, mlflow: Served) -> None:
    assert served.ask("/invocations", {"inputs": SOUP}).json() == served.ask("/predict", {"inputs": SOUP}).json()
    assert served.ask("/version").status == 404
    assert mlflow.ask("/version").status == 200
