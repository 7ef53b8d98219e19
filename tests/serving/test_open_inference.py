"""The Open Inference Protocol: tensors in JSON and binary, both ways, and any bytes that claim to be tensors."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.served_bundles import LABELS, Served

from potstill.bundle.bundle import load
from potstill.errors import RequestRefused
from potstill.serving.protocols.base import Incoming
from potstill.serving.protocols.open_inference import (
    HEADER_LENGTH,
    OUTPUTS,
    parse_infer,
    read_byte_strings,
    write_byte_strings,
)

SOUP, GOAL = "the soup and the bread", "a goal in the städium 🙂"
INFER = "/v2/models/small/infer"


def tensor(*texts: Any, name: str = "text", shape: list[int] | None = None, **more: Any) -> dict[str, Any]:
    return {"name": name, "shape": shape or [len(texts)], "datatype": "BYTES", "data": list(texts), **more}


def outputs(reply: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each["data"] for each in reply["outputs"]}


def test_labels_and_probabilities_come_as_tensors(served: Served, bundle_folder: Path) -> None:
    bundle = load(bundle_folder)
    reply = served.ask(INFER, {"id": "7", "inputs": [tensor(SOUP, GOAL)]}).json()
    assert (reply["id"], reply["model_name"]) == ("7", "small")
    found = outputs(reply)
    assert found["label"] == bundle.predict([SOUP, GOAL])
    assert found["probabilities"] == bundle.predict_proba([SOUP, GOAL]).ravel().tolist()
    assert [each["shape"] for each in reply["outputs"]] == [[2], [2], [2, 3]]


def test_every_output_that_the_metadata_names_can_be_asked_for(served: Served, bundle_folder: Path) -> None:
    metadata = served.ask("/v2/models/small").json()
    assert metadata["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    names = [each["name"] for each in metadata["outputs"]]
    assert names == list(OUTPUTS)
    asked = {"inputs": [tensor(SOUP)], "outputs": [{"name": name} for name in names], "parameters": {"coverage": 0.8}}
    reply = served.ask(INFER, asked).json()
    declared = {each["name"]: (each["datatype"], [1, *each["shape"][1:]]) for each in metadata["outputs"]}
    assert {each["name"]: (each["datatype"], each["shape"]) for each in reply["outputs"]} == declared
    found, bundle = outputs(reply), load(bundle_folder)
    (wanted,) = bundle.iter_predictions([SOUP])
    assert found["confident"] == [wanted.confident]
    assert found["in_scope"] == [wanted.in_scope]
    (label_set,) = bundle.predict_sets([SOUP], 0.8)
    assert {label for label, inside in zip(LABELS, found["label_set"], strict=True) if inside} == set(label_set)


def test_binary_tensors_both_ways(served: Served, bundle_folder: Path) -> None:
    bundle = load(bundle_folder)
    data = write_byte_strings([SOUP, GOAL])
    head = json.dumps(
        {
            "inputs": [
                {"name": "text", "shape": [2, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(data)}}
            ],
            "outputs": [
                {"name": "probabilities", "parameters": {"binary_data": True}},
                {"name": "label", "parameters": {"binary_data": True}},
                {"name": "probability", "parameters": {"binary_data": False}},
            ],
        }
    ).encode()
    reply = served.ask(
        INFER,
        head + data,
        Content_Type="application/octet-stream",
        Inference_Header_Content_Length=str(len(head)),
    )
    assert reply.status == 200
    end = int(reply.headers[HEADER_LENGTH])
    described = {each["name"]: each for each in json.loads(reply.body[:end])["outputs"]}
    size = described["probabilities"]["parameters"]["binary_data_size"]
    probs = np.frombuffer(reply.body[end : end + size], dtype="<f4").reshape(2, 3)
    np.testing.assert_array_equal(probs, bundle.predict_proba([SOUP, GOAL]))
    assert read_byte_strings("label", reply.body[end + size :]) == bundle.predict([SOUP, GOAL])
    assert len(described["probability"]["data"]) == 2


def test_pairs_come_as_two_tensors_or_as_two_columns(served: Served, pair_folder: Path) -> None:
    wanted = load(pair_folder).predict_proba([(SOUP, GOAL)]).ravel().tolist()
    two = {"inputs": [tensor(SOUP), tensor(GOAL, name="text_pair")]}
    columns = {"inputs": [tensor([SOUP, GOAL], shape=[1, 2])]}
    for asked in (two, columns):
        assert outputs(served.ask("/v2/models/pairs/infer", asked).json())["probabilities"] == wanted


def test_several_labels_a_text_are_marked(served: Served, multilabel_folder: Path) -> None:
    bundle = load(multilabel_folder)
    found = outputs(served.ask("/v2/models/several/infer", {"inputs": [tensor(SOUP)]}).json())
    given_labels = {label for label, marked in zip(LABELS, found["label_indicator"], strict=True) if marked}
    assert given_labels == set(bundle.predict([SOUP])[0])
    refused = served.ask("/v2/models/several/infer", {"inputs": [tensor(SOUP)], "outputs": [{"name": "label_set"}]})
    assert refused.status == 422


def test_health_and_versions(served: Served) -> None:
    assert served.ask("/v2").json()["extensions"] == ["binary_tensor_data"]
    assert served.ask("/v2/health/live").json() == {"live": True}
    assert served.ask("/v2/health/ready").json() == {"live": True, "ready": True}
    assert served.ask("/v2/models/small/ready").json() == {"name": "small", "ready": True}
    version = served.ask("/v2/models/small").json()["versions"][0]
    assert served.ask(f"/v2/models/small/versions/{version}/infer", {"inputs": [tensor(SOUP)]}).status == 200
    for path in ("/v2/models/other", "/v2/models/small/versions/9", "/v2/nothing"):
        missing = served.ask(path)
        assert (missing.status, set(missing.json())) == (404, {"error"})


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": []},
        {"inputs": [tensor(SOUP, shape=[2])]},
        {"inputs": [tensor(SOUP, shape=[-1])]},
        {"inputs": [tensor(SOUP, shape=[1, 1, 1])]},
        {"inputs": [tensor(3)]},
        {"inputs": [tensor(SOUP, datatype="FP32")]},
        {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES"}]},
        {"inputs": [tensor(SOUP, parameters={"binary_data_size": 9})]},
        {"inputs": [tensor(SOUP, parameters={"shared_memory_region": "r"})]},
        {"inputs": [tensor(SOUP)], "outputs": [{"name": "nothing"}]},
        {"inputs": [tensor(SOUP)], "outputs": [{"name": "label", "parameters": {"classification": 2}}]},
        {"inputs": [tensor(SOUP)], "parameters": {"coverage": 2}},
        {"inputs": [tensor(SOUP), tensor(SOUP, GOAL, name="text_pair")]},
        {"inputs": [tensor(SOUP), tensor(SOUP, name="other")]},
    ],
    ids=str,
)
def test_tensors_that_do_not_fit_are_refused(served: Served, body: Any) -> None:
    refused = served.ask(INFER, body)
    assert (refused.status, set(refused.json())) == (422, {"error"})


@given(texts=st.lists(st.text(st.characters(codec="utf-8"), max_size=20)))
def test_strings_survive_their_binary_form(texts: list[str]) -> None:
    assert read_byte_strings("text", write_byte_strings(texts)) == texts


@given(data=st.binary(max_size=60))
def test_any_bytes_are_strings_or_refused(data: bytes) -> None:
    try:
        texts = read_byte_strings("text", data)
    except RequestRefused:
        return
    assert write_byte_strings(texts) == data


SIZES = st.none() | st.integers(-2, 40) | st.sampled_from(["3", True, 1.5, 2**40])


@given(
    data=st.binary(max_size=30)
    | st.lists(st.binary(max_size=6), max_size=4).map(
        lambda parts: b"".join(struct.pack("<I", len(part)) + part for part in parts)
    ),
    size=SIZES,
    shape=st.lists(st.integers(-1, 4), max_size=3),
    length=st.none() | st.sampled_from(["", "x", "-1", "0", "99999", "3"]),
)
def test_any_binary_request_is_read_or_refused(data: bytes, size: Any, shape: list[int], length: str | None) -> None:
    tensor = {"name": "text", "shape": shape, "datatype": "BYTES", "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {HEADER_LENGTH: str(len(head)) if length is None else length}
    try:
        question = parse_infer(Incoming(head + data, headers, "small", takes_pairs=False))
    except RequestRefused:
        return
    assert size == len(data)
    assert all(isinstance(text, str | tuple) for text in question.texts)
