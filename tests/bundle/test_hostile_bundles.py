"""Bundles from elsewhere: whatever is in their files, loading ends with a bundle that predicts or with one sentence."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from potstill.bundle.bundle import load
from potstill.bundle.check_graph import check_graph
from potstill.errors import BadData, PotstillError, RunNotFound

FORMAT_1 = Path(__file__).parent / "format1"
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(),
    st.floats(),
    st.sampled_from(["", "a", "../x", "\0", "\ud800", "features", "tokens", "pattern", "multi", "pair", 10**400, [[]]]),
    st.lists(st.integers(-1, 2), max_size=3),
    st.dictionaries(st.sampled_from(["labels", "name", "a"]), st.integers(), max_size=2),
)


@pytest.fixture(params=["linear", "multi"])
def bundle(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A sound bundle of today's format, with guarantees."""
    shutil.copytree(FORMAT_1 / request.param, tmp_path / "bundle")
    return upgraded(tmp_path / "bundle")


def upgraded(folder: Path) -> Path:
    """The bundle with its record in today's format."""
    record = load(folder).record
    (folder / "potstill.json").write_text(json.dumps(record.to_json()), "utf-8")
    return folder


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in a JSON document."""
    yield path
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else list(enumerate(value))[:3]:
            yield from paths(each, (*path, key))


def changed(record: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The document with another value at the end of the path; without it if the value is `...`."""
    if not path:
        return value
    copy = dict(record) if isinstance(record, dict) else list(record)
    if len(path) == 1 and value is ...:
        del copy[path[0]]
    else:
        copy[path[0]] = changed(copy[path[0]], path[1:], value)
    return copy


def outcome(folder: Path) -> str:
    """What comes of the bundle: probabilities that are some, or the sentence that refuses it."""
    try:
        probs = load(folder, threads=1).predict_proba(["a text", ""])
    except PotstillError as error:
        return error.message
    assert np.isfinite(probs).all()
    assert ((probs >= 0) & (probs <= 1)).all()
    return ""


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    found = {}
    for name in ("linear", "multi"):
        folder = tmp_path_factory.mktemp(name) / "bundle"
        shutil.copytree(FORMAT_1 / name, folder)
        found[name] = upgraded(folder), json.loads((folder / "potstill.json").read_text("utf-8"))
    return found


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(data=st.data(), name=st.sampled_from(["linear", "multi"]))
def test_a_record_with_any_value_changed_is_read_or_refused(
    fuzzed: dict[str, tuple[Path, Any]], data: st.DataObject, name: str
) -> None:
    folder, record = fuzzed[name]
    path = data.draw(st.sampled_from(list(paths(record))))
    value = data.draw(VALUES | st.just(...)) if path else data.draw(VALUES)
    (folder / "potstill.json").write_text(json.dumps(changed(record, path, value)), "utf-8")
    outcome(folder)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("temperature",), float("nan")),
        (("temperature",), 10**400),
        (("temperature",), -1.0),
        (("temperature",), 0),
        (("temperature",), float("inf")),
        (("abstain_threshold",), 1.5),
        (("abstain_threshold",), float("nan")),
        (("abstain_threshold",), "0.5"),
        (("abstain_threshold",), True),
        (("guarantees", "n"), 0),
        (("guarantees", "scaling", "scale"), []),
        (("guarantees", "scaling", "scale"), [float("nan")]),
        (("guarantees", "scaling", "scale"), [-1.0]),
        (("guarantees", "scaling", "scale"), [1.0] * 9),
        (("guarantees", "scaling", "shift"), [float("inf")]),
        (("task", "labels"), "ab"),
        (("task", "labels"), ["a", 3]),
        (("task", "kind"), "guess"),
        (("task", "descriptions"), {"a": 3}),
        (("files", "model.onnx", "bytes"), 10**18),
        (("files", "model.onnx", "bytes"), -1),
        (("files", "model.onnx", "bytes"), True),
        (("files", "model.onnx", "sha256"), 3),
        (("notes",), [3]),
        (("lineage", "run"), 3),
        (("text_columns",), ["a", "b", "c"]),
        (("metrics",), {"accuracy": {"value": "high", "low": 0, "high": 1}}),
        (("parity", "tolerance"), "small"),
        (("format",), True),
        (("preprocessor", "files"), ["../x"]),
        (("preprocessor", "config"), {"vectorizer": "ngrams", "max_length": "long"}),
    ],
    ids=str,
)
def test_a_value_that_cannot_be_is_refused_when_the_bundle_is_loaded(
    bundle: Path, path: tuple[str, ...], value: Any
) -> None:
    record = json.loads((bundle / "potstill.json").read_text("utf-8"))
    (bundle / "potstill.json").write_text(json.dumps(changed(record, path, value)), "utf-8")
    with pytest.raises(RunNotFound):
        load(bundle)


def test_thresholds_and_quantiles_outside_their_range_are_refused(bundle: Path) -> None:
    record = json.loads((bundle / "potstill.json").read_text("utf-8"))
    multi = record["task"]["kind"] == "multi"
    thresholds = ([], [1.5], [float("nan")], ["a"])
    changes: list[tuple[tuple[str, ...], Any]] = [
        (("guarantees", "label_thresholds", "thresholds"), v) for v in thresholds
    ]
    if not multi:
        n = record["guarantees"]["n"]
        changes = [
            (("guarantees", "n_above"), [n + 1] * 100),
            (("guarantees", "n_wrong_above"), [-1] * 100),
            (("guarantees", "energy_quantiles"), [float("nan")] * 99),
            (("guarantees", "energy_quantiles"), list(range(99, 0, -1))),
            (("guarantees", "conformal_scores"), [-1.0] * 50),
            (("guarantees", "conformal_scores"), []),
        ]
    for path, value in changes:
        (bundle / "potstill.json").write_text(json.dumps(changed(record, path, value)), "utf-8")
        with pytest.raises(RunNotFound, match="is damaged"):
            load(bundle)


@pytest.mark.parametrize(
    "text", ["[" * 50_000, '{"format": 2, "x": ' + "[" * 50_000, '{"format": 1' + "0" * 5000 + "}"]
)
def test_json_that_is_nested_or_numbers_that_are_long_are_one_sentence(bundle: Path, text: str) -> None:
    (bundle / "potstill.json").write_text(text, "utf-8")
    with pytest.raises(RunNotFound):
        load(bundle)


# --- the other files ----------------------------------------------------------------------------------------------


def resized(bundle: Path, name: str, content: bytes) -> None:
    """Write a file, and its size into the record."""
    (bundle / name).write_bytes(content)
    record = json.loads((bundle / "potstill.json").read_text("utf-8"))
    record["files"].setdefault(name, {"sha256": ""})["bytes"] = len(content)
    (bundle / "potstill.json").write_text(json.dumps(record), "utf-8")


@settings(max_examples=50, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_vocabulary_with_any_value_changed_is_read_or_refused(
    fuzzed: dict[str, tuple[Path, Any]], data: st.DataObject
) -> None:
    folder, record = fuzzed["linear"]
    (folder / "potstill.json").write_text(json.dumps(record), "utf-8")
    original = json.loads((FORMAT_1 / "linear" / "ngrams.json").read_text("utf-8"))
    path = data.draw(st.sampled_from(list(paths(original))))
    resized(folder, "ngrams.json", json.dumps(changed(original, path, data.draw(VALUES))).encode())
    outcome(folder)
    shutil.copy(FORMAT_1 / "linear" / "ngrams.json", folder / "ngrams.json")


@settings(max_examples=50, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_graph_with_any_byte_changed_is_opened_or_refused(
    fuzzed: dict[str, tuple[Path, Any]], data: st.DataObject
) -> None:
    folder, record = fuzzed["linear"]
    (folder / "potstill.json").write_text(json.dumps(record), "utf-8")
    graph = bytearray((FORMAT_1 / "linear" / record["graph"]).read_bytes())
    at = data.draw(st.integers(0, min(len(graph), 400) - 1) | st.integers(0, len(graph) - 1))
    graph[at] = data.draw(st.integers(0, 255))
    (folder / record["graph"]).write_bytes(graph)
    outcome(folder)
    shutil.copy(FORMAT_1 / "linear" / record["graph"], folder / record["graph"])


def test_links_out_of_the_folder_pipes_and_folders_are_refused(bundle: Path, tmp_path: Path) -> None:
    graph = bundle / "model.onnx"
    (tmp_path / "secret").write_bytes(graph.read_bytes())
    graph.unlink()
    graph.symlink_to(tmp_path / "secret")
    with pytest.raises(RunNotFound, match="leads out of its folder"):
        load(bundle)
    graph.unlink()
    os.mkfifo(graph)
    with pytest.raises(RunNotFound, match="is missing"):
        load(bundle)
    (bundle / "potstill.json").unlink()
    os.mkfifo(bundle / "potstill.json")
    with pytest.raises(RunNotFound, match="it is no file"):
        load(bundle)


def test_a_snapshot_of_the_hugging_face_hub_consists_of_links_and_is_loaded(bundle: Path, tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "0123", tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for file in bundle.iterdir():
        shutil.move(file, blobs / file.name)
        (snapshot / file.name).symlink_to(Path("..") / ".." / "blobs" / file.name)
    assert outcome(snapshot) == ""


# --- graphs -------------------------------------------------------------------------------------------------------


def write_graph(bundle: Path, nodes: list[Any], functions: Any = (), initializers: Any = ()) -> None:
    """A graph with the inputs of a linear student and these nodes, in place of the bundle's."""
    from onnx import TensorProto, helper

    inputs = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, ["N", "T"]),
        helper.make_tensor_value_info("values", TensorProto.FLOAT, ["N", "T"]),
    ]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", inputs, [output], list(initializers))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=list(functions))
    resized(bundle, "model.onnx", model.SerializeToString())


def endless() -> Any:
    """A Loop without a limit whose condition stays true."""
    from onnx import TensorProto, helper

    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["on_out"]), helper.make_node("Identity", ["x"], ["x_out"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x_out", TensorProto.FLOAT, None),
        ],
    )
    return helper.make_node("Loop", ["", "", "values"], ["logits"], body=body)


@pytest.mark.parametrize("where", ["graph", "branch", "function"])
def test_a_graph_that_may_never_end_is_refused(where: str, bundle: Path) -> None:
    helper = pytest.importorskip("onnx").helper
    loop, functions = endless(), ()
    if where == "branch":
        branch = helper.make_graph([loop], "branch", [], [helper.make_tensor_value_info("logits", 1, None)])
        nodes = [
            helper.make_node("Constant", [], ["true"], value=helper.make_tensor("t", 9, [], [True])),
            helper.make_node("If", ["true"], ["logits"], then_branch=branch, else_branch=branch),
        ]
    elif where == "function":
        opset = [helper.make_opsetid("", 17)]
        functions = [helper.make_function("mine", "Quick", ["values"], ["logits"], [loop], opset)]
        nodes = [helper.make_node("Quick", ["values"], ["logits"], domain="mine")]
    else:
        nodes = [loop]
    write_graph(bundle, nodes, functions)
    with pytest.raises(RunNotFound, match="Loop, which may never end"):
        load(bundle)


def test_weights_outside_of_the_bundle_are_refused(bundle: Path) -> None:
    onnx = pytest.importorskip("onnx")
    weights = onnx.helper.make_tensor("w", 1, [2], [1.0, 2.0])
    weights.ClearField("float_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="../../etc/passwd")
    write_graph(bundle, [onnx.helper.make_node("Identity", ["w"], ["logits"])], initializers=[weights])
    with pytest.raises(RunNotFound, match=r"reads the file '\.\./\.\./etc/passwd'"):
        load(bundle)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_graph_without_finite_scores_is_refused_and_a_text_without_some_is_named(value: float, bundle: Path) -> None:
    helper = pytest.importorskip("onnx").helper
    n_labels = len(load(bundle).labels)
    constant = helper.make_tensor("c", 1, [1, n_labels], [value] * n_labels)
    zeros = [
        helper.make_node("ReduceSum", ["values", "axis"], ["sum"], keepdims=1),
        helper.make_node("Mul", ["sum", "zero"], ["none"]),
    ]
    initializers = [helper.make_tensor("axis", 7, [1], [1]), helper.make_tensor("zero", 1, [1], [0.0]), constant]
    write_graph(bundle, [*zeros, helper.make_node("Add", ["none", "c"], ["logits"])], initializers=initializers)
    with pytest.raises(RunNotFound, match="no finite score for text 1"):
        load(bundle)


def test_a_text_without_a_finite_score_is_an_error_that_names_it(bundle: Path) -> None:
    helper = pytest.importorskip("onnx").helper
    n_labels = len(load(bundle).labels)
    nodes = [  # zero divided by the weight of the text's features: fine as long as it has some
        helper.make_node("ReduceSum", ["values", "axis"], ["sum"], keepdims=1),
        helper.make_node("Greater", ["sum", "most"], ["long"]),
        helper.make_node("Where", ["long", "nan", "zero"], ["logits"]),
    ]
    initializers = [
        helper.make_tensor("axis", 7, [1], [1]),
        helper.make_tensor("most", 1, [1], [2.0]),
        helper.make_tensor("nan", 1, [1, n_labels], [float("nan")] * n_labels),
        helper.make_tensor("zero", 1, [1, n_labels], [0.0] * n_labels),
    ]
    write_graph(bundle, nodes, initializers=initializers)
    words = " ".join(json.loads((bundle / "ngrams.json").read_text("utf-8"))["words"][:40])
    found = load(bundle)
    assert found.predict_proba(["", "x"]).shape == (2, n_labels)
    with pytest.raises(BadData, match=r"no finite score for text 3 \("):
        found.predict_proba(["", "x", words])


def test_a_graph_of_another_shape_is_refused(bundle: Path) -> None:
    helper = pytest.importorskip("onnx").helper
    for nodes in (
        [helper.make_node("ReduceSum", ["values"], ["logits"], keepdims=0)],
        [helper.make_node("ReduceSum", ["values", "axis"], ["logits"], keepdims=1)],
        [helper.make_node("ReduceSum", ["values", "axis"], ["other"], keepdims=1)],
        [helper.make_node("Shape", ["ids"], ["logits"])],
    ):
        write_graph(bundle, nodes, initializers=[helper.make_tensor("axis", 7, [1], [1])])
        with pytest.raises(RunNotFound):
            load(bundle)


@given(st.binary(max_size=300))
def test_bytes_that_are_no_graph_are_checked_without_an_end_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "odd.onnx"
    file.write_bytes(content)
    try:
        check_graph(file, [])
    except RunNotFound as error:
        assert "not a graph" in error.message  # noqa: PT017
