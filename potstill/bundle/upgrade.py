"""Older formats of `potstill.json` as format 3: format 1 was written by potstill 0.1, and format 2 by 0.2."""

from __future__ import annotations

from collections.abc import Mapping

from potstill.data.task import JsonObject

# Format 1's keys, and format 2's.
CONFIG = {
    "begin": "prefix_ids",
    "end": "suffix_ids",
    "glue": "text_prefix",
    "between": "separator_ids",
    "reader": "vectorizer",
}
PREPROCESSORS = {"encoder": "tokens", "bag": "features", "cloze": "pattern"}
VECTORIZERS = {"tokens": "subwords", "pair-tokens": "pair-subwords"}
INT8 = {"kept": "accepted", "why": "reason", "loss": "accuracy_loss"}
GUARANTEES = {
    "quality": "calibration_quality",
    "accepted": "n_above",
    "wrong": "n_wrong_above",
    "set_scores": "conformal_scores",
    "scope_scores": "energy_quantiles",
    "cut": "label_thresholds",
}


def upgrade(record: JsonObject) -> JsonObject:
    """A record of any format as one of format 3.

    Raises:
        KeyError: a key is missing.
    """
    if record["format"] == 1:
        record = _upgrade_format_1(record)
    # The graphs of format 2 give the student's own logits, and lie beside the record.
    return {**record, "format": 3, "calibration_in_graph": False} if record["format"] == 2 else record


def _upgrade_format_1(record: JsonObject) -> JsonObject:
    """A record of format 1 with the keys of format 2; and with the new identifiers in its values."""
    parity, int8, trust, hub = (record.get(name) for name in ("parity", "int8", "trust", "hub"))
    lineage = record.get("lineage", {})
    config = dict(_renamed(record["settings"], CONFIG))
    if "vectorizer" in config:
        config["vectorizer"] = VECTORIZERS.get(config["vectorizer"], config["vectorizer"])
    return {
        "format": 2,
        "made_by": record.get("made_by", "unknown"),
        "made_at": record.get("made", ""),
        "task": {**record.get("task", {}), "labels": record["labels"]},
        "preprocessor": {
            "name": PREPROCESSORS.get(record["kind"], record["kind"]),
            "config": config,
            "files": record["reader_files"],
        },
        "graph": record["serve"],
        "files": record["files"],
        "parity": parity and {"max_abs_difference": parity["largest_difference"], "tolerance": parity["tolerance"]},
        "int8": int8 and _renamed(int8, INT8),
        "transformers_difference": hub["largest_difference"] if hub and "config.json" in record["files"] else None,
        "guarantees": trust and _renamed(trust, GUARANTEES),
        "temperature": record["temperature"],
        "abstain_threshold": record.get("abstain_below"),
        "metrics": {name: score for name, score in record.get("metrics", {}).items() if score},
        "student": record.get("student", {}),
        "lineage": {name: lineage.get(name, "") for name in ("run", "procedure", "student", "teacher")},
        "notes": record.get("notes", []),
    }


def _renamed(record: JsonObject, names: Mapping[str, str]) -> JsonObject:
    return {names.get(name, name): value for name, value in record.items()}
