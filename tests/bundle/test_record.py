"""bundle/record.py and upgrade.py: a record survives JSON, and bundles of older formats still load."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from potstill.bundle.bundle import load
from potstill.bundle.record import BundleRecord, Lineage, read_record, write_record

# Written by potstill 0.1: two whole bundles with their answers, and the records of two larger ones.
FORMAT_1 = Path(__file__).parent / "format1"
# Written by potstill 0.2: their graphs lie beside the record, and give logits that are not calibrated.
FORMAT_2 = Path(__file__).parent / "format2"


@pytest.mark.parametrize("name", ["linear", "multi"])
def test_a_bundle_of_format_1_answers_as_it_did_when_it_was_made(name: str) -> None:
    answers = json.loads((FORMAT_1 / f"{name}.answers.json").read_text(encoding="utf-8"))
    bundle = load(FORMAT_1 / name, verify=True)
    np.testing.assert_allclose(bundle.predict_proba(answers["texts"]), answers["probs"], atol=1e-6)
    assert bundle.record.lineage == Lineage("r1", "kd", name, "replay")
    assert bundle.record.metrics["accuracy"].value == 0.9
    assert bundle.multilabel is (name == "multi")
    assert (bundle.multilabel_guarantees or bundle.guarantees) is bundle.record.guarantees


@pytest.mark.parametrize("name", ["linear/potstill.json", "multi/potstill.json", "encoder.json", "cloze.json"])
def test_a_record_of_format_1_is_read_whole_and_written_as_format_3(name: str, tmp_path: Path) -> None:
    old = json.loads((FORMAT_1 / name).read_text(encoding="utf-8"))
    record = BundleRecord.from_json(old)
    assert record.graph == old["serve"]
    assert record.task.labels == tuple(old["labels"])
    assert record.made_at == old["made"]
    assert record.parity is not None
    assert record.parity.max_abs_difference == old["parity"]["largest_difference"]
    assert (record.int8 is not None) is bool(old.get("int8"))
    assert (record.transformers_difference is not None) is bool(old.get("hub"))
    assert record.guarantees is not None
    assert record.guarantees.n == old["trust"]["n"]
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record
    assert json.loads((tmp_path / "potstill.json").read_text(encoding="utf-8"))["format"] == 3


@pytest.mark.parametrize("name", ["linear", "multi"])
def test_a_bundle_of_format_2_answers_as_it_did_when_it_was_made(name: str) -> None:
    answers = json.loads((FORMAT_2 / f"{name}.answers.json").read_text(encoding="utf-8"))
    bundle = load(FORMAT_2 / name, verify=True, graph="fp32")
    np.testing.assert_allclose(bundle.predict_proba(answers["texts"]), answers["probs"], atol=1e-6)
    assert bundle.graph == "model.onnx"
    assert not bundle.record.calibration_in_graph
    if name == "multi":
        assert [list(labels) for labels in bundle.predict(answers["texts"])] == answers["labels"]
        return
    assert bundle.summary()["calibration"] == "temperature"
    assert [list(labels) for labels in bundle.predict_sets(answers["texts"], 0.8)] == answers["sets"]
    typicality = [each.typicality for each in bundle.iter_predictions(answers["texts"])]
    assert typicality == pytest.approx(answers["typicality"], abs=0.007)  # a rank of 150, in a tie


def test_a_pattern_of_format_1_has_the_names_of_today() -> None:
    old = json.loads((FORMAT_1 / "cloze.json").read_text(encoding="utf-8"))
    config = BundleRecord.from_json(old).preprocessor.config
    assert list(config["prefix_ids"]) == old["settings"]["begin"]
    assert list(config["suffix_ids"]) == old["settings"]["end"]
    assert config["text_prefix"] == old["settings"]["glue"]


def test_a_record_keeps_numbers_that_json_has_not_as_null(tmp_path: Path) -> None:
    record = load(FORMAT_1 / "linear").record
    write_record(tmp_path, replace(record, student={"loss": float("nan"), "list": [1, 2, 3]}))
    assert read_record(tmp_path).student == {"loss": None, "list": [1, 2, 3]}
    assert "[ 1, 2, 3 ]" in (tmp_path / "potstill.json").read_text(encoding="utf-8")
