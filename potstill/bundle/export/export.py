"""A trained student -> a bundle folder: exported, compared with the original, quantised if that pays, described.

The bundle is loaded back and must predict what the student predicts, or nothing is written. Does not cover evaluation
(the metrics come from outside) or how a kind of student writes its graph.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill import __version__
from potstill.bundle.bundle import FORMAT, METADATA_FILE, Bundle, load, sha256
from potstill.bundle.export.model_card import write_model_card
from potstill.bundle.export.quantize import QuantizationResult, compare_int8, write_int8
from potstill.data.atomic import atomic_file, atomic_folder
from potstill.data.pairs import join_pair, split_pair
from potstill.data.task import Task
from potstill.errors import BadData, RunNotFound
from potstill.evaluation.fit_guarantees import fit_guarantees
from potstill.evaluation.fit_thresholds import fit_multilabel_guarantees
from potstill.students.base import ExportedGraph, Student

FP32, INT8 = "model.onnx", "model.int8.onnx"
TRANSFORMERS_FILES = ("config.json", "model.safetensors", "tokenizer_config.json")
# The most a logit of the bundle may differ from the student's.
TOLERANCE = 1e-3
PARITY_TEXTS, PADDED_TEXTS, CHECK_TEXTS = 200, 16, 1000
# Lengths and scripts that the check texts may lack.
EDGE_CASES = ("", "a", "word " * 700, "naïve café 東京 🙂", "\n\t ")
# What becomes of a text that is too long, by the way it is read; windows are for predicting only.
TRUNCATION_NOTES = {
    "head": "lost their tail",
    "head+tail": "lost their middle",
    "windows": "were learnt from without their middle",
}
INT8_SKIPPED = "fp32 is served: int8 is not tried on a student whose arithmetic is a small part of its work."
# Keys of `about` that have a place of their own in the record.
RECORD_DEFAULTS: dict[str, Any] = {"temperature": 1.0, "abstain_below": None, "metrics": {}, "notes": []}


@dataclass(frozen=True)
class ExportResult:
    """What `export` wrote.

    Attributes:
        folder: the bundle.
        serve: the graph that will be served.
        largest_difference: the most a logit of the fp32 graph differs from the student's.
        int8: the verdict on the int8 graph; None where none was tried.
        hub: True if `transformers.pipeline("text-classification", folder)` loads the folder too.
    """

    folder: Path
    serve: str
    largest_difference: float
    int8: QuantizationResult | None
    hub: bool


def export(
    student: Student,
    folder: str | Path,
    *,
    task: Task,
    texts: Sequence[str],
    gold: NDArray[np.integer] | None = None,
    lineage: Mapping[str, Any] | None = None,
    about: Mapping[str, Any] | None = None,
) -> ExportResult:
    """Write the student as a bundle; an earlier bundle in `folder` is replaced only when the new one is whole.

    Args:
        student: trained.
        folder: where the bundle goes; absent, empty, or a bundle.
        task: what it decides; labels in the student's order.
        texts: texts to compare on, best ones it did not learn from; the first 1,000 are used.
        gold: columns of their right labels, or (N, K) truths, for int8's accuracy.
        lineage: where the student comes from (run, procedure, teacher, ...), JSON values.
        about: `temperature`, `abstain_below` (a probability), `metrics` (with intervals), `notes` (sentences), and
            anything else worth keeping; JSON values.

    Raises:
        BadData: the exported graph does not predict what the student predicts; nothing was written.
        NotARun: the folder holds something that is not a bundle.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / METADATA_FILE).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunNotFound(f"{folder} exists and is not a bundle.", "Give another folder, or empty that one.")
    texts = list(texts[:CHECK_TEXTS])
    gold = None if gold is None else np.asarray(gold)[: len(texts)]
    with atomic_folder(folder) as fresh:
        graph = student.export(fresh)
        reader_files = sorted(file.name for file in fresh.iterdir() if file.name not in (FP32, *TRANSFORMERS_FILES))
        record = _record(student, task, graph, lineage or {}, about or {})
        record["reader_files"] = reader_files
        _write_record(fresh, record)
        odd = _probes(task)
        difference = _parity(student, fresh, texts, odd)
        record["parity"] = {"largest_difference": difference, "tolerance": TOLERANCE}
        verdict = None
        if graph.quantizable:
            verdict = _try_int8(fresh, record, texts, gold)
        else:
            record["notes"].append(INT8_SKIPPED)
        # transformers takes an empty second text for none at all.
        fair = [text for text in (*texts[:32], *odd) if task.kind != "pair" or split_pair(text)[1]]
        if graph.preprocessor_config.get("long", "head") != "head":  # nor can it read both ends of a long one
            fair = [text for text in fair if 4 * len(text.split()) < graph.preprocessor_config["max_length"]]
        hub = _check_hub(student, fresh, record, fair)
        write_model_card(fresh, record)
        _write_record(fresh, record)
        load(fresh, verify=True)
    return ExportResult(folder, record["serve"], difference, verdict, hub)


def add_test_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Add what was measured on texts that nothing was learnt from to a bundle's record and model card."""
    record = json.loads((folder / METADATA_FILE).read_text(encoding="utf-8"))
    record["metrics"] = dict(metrics)
    write_model_card(folder, record)
    _write_record(folder, record)


def calibrate_bundle(folder: str | Path, texts: Sequence[str], gold: NDArray[np.integer]) -> None:
    """Measure on N held-out texts how far the bundle's scores may be trusted, and add that to its record and card.

    Measured is the graph that is served; with another graph, or after an export, nothing of it counts any more.

    Args:
        folder: a bundle.
        texts: N texts that the student did not learn from.
        gold: (N,) their right columns, or (N, K) truths where a text may have several labels; a text with -1 is left
            out.
    """
    folder = Path(folder)
    known = np.flatnonzero((np.asarray(gold).reshape(len(texts), -1) >= 0).all(axis=1)).tolist()
    bundle = load(folder)
    record = json.loads((folder / METADATA_FILE).read_text(encoding="utf-8"))
    logits = bundle.predict_logits([texts[row] for row in known])
    graph = record["files"][bundle.graph]["sha256"]
    if bundle.multilabel:
        record["trust"] = fit_multilabel_guarantees(logits, np.asarray(gold)[known] == 1, graph=graph).to_json()
        write_model_card(folder, record)
        _write_record(folder, record)
        return
    trust = fit_guarantees(logits, np.asarray(gold)[known], graph=graph)
    record["trust"] = trust.to_json()
    record["temperature"] = 1 / trust.scaling.scale[0] if len(trust.scaling.scale) == 1 else 1.0
    record["abstain_below"] = trust.threshold()
    write_model_card(folder, record)
    _write_record(folder, record)


def _record(
    student: Student, task: Task, graph: ExportedGraph, lineage: Mapping[str, Any], about: Mapping[str, Any]
) -> dict[str, Any]:
    lifted = {key: about.get(key, default) for key, default in RECORD_DEFAULTS.items()}
    facts, notes = dict(getattr(student, "metadata", {})), list(lifted["notes"])
    if facts.get("truncated"):
        lost = TRUNCATION_NOTES[str(graph.preprocessor_config.get("long", "head"))]
        notes.append(f"{facts['truncated']:.1%} of the texts it learnt from were too long and {lost}.")
    return {
        "format": FORMAT,
        "made_by": f"potstill {__version__}",
        "made": datetime.now().astimezone().isoformat(timespec="seconds"),
        "labels": list(student.labels),
        "task": task.to_json(),
        "kind": graph.preprocessor,
        "settings": dict(graph.preprocessor_config),
        "serve": FP32,
        **lifted,
        "notes": notes,
        "student": facts,
        "lineage": dict(lineage),
        "about": {key: value for key, value in about.items() if key not in RECORD_DEFAULTS},
    }


def _write_record(folder: Path, record: dict[str, Any]) -> None:
    files = sorted(file for file in folder.iterdir() if file.name != METADATA_FILE)
    record["files"] = {file.name: {"bytes": file.stat().st_size, "sha256": sha256(file)} for file in files}
    # A metric that could not be computed is null: JSON has no NaN.
    plain = json.loads(json.dumps(record), parse_constant=lambda name: None)
    written = json.dumps(plain, ensure_ascii=False, indent=1, allow_nan=False)
    # A list of numbers on one line: a person reads this file, too.
    written = re.sub(r"\[\n[\s\d.,eE+-]*(?:null[\s\d.,eE+-]*)*\]", lambda found: " ".join(found[0].split()), written)
    with atomic_file(folder / METADATA_FILE) as path:
        path.write_text(written, encoding="utf-8")


def _probes(task: Task) -> tuple[str, ...]:
    if task.kind != "pair":
        return EDGE_CASES
    return tuple(join_pair(one, other) for one, other in zip(EDGE_CASES, EDGE_CASES[1:] + EDGE_CASES[:1], strict=True))


def _parity(student: Student, folder: Path, texts: Sequence[str], odd: Sequence[str]) -> float:
    """The largest difference of a logit, in batches and one by one: shapes the exporter never saw.

    Raises:
        BadData: it is above the tolerance.
    """
    some = [*texts[:PARITY_TEXTS], *odd]
    wanted = student.predict_logits(some)
    bundle = load(folder)
    together = bundle.predict_logits(some)
    alone = np.concatenate([bundle.predict_logits([text]) for text in some[-2 * len(odd) :]])
    # A difference counts against the size of the logits, as float32 itself does.
    scale = max(1.0, float(np.abs(wanted).max()) / 10)
    difference = max(
        float(np.abs(together - wanted).max()) / scale,
        float(np.abs(alone - wanted[-2 * len(odd) :]).max()) / scale,
        _change_by_padding(bundle, some[-PADDED_TEXTS:]) / scale,
    )
    if not difference <= TOLERANCE:
        raise BadData(
            f"The exported graph differs from the student by {difference:.2g} in a logit; {TOLERANCE:g} is allowed.",
            "This is a fault of the exporter: report it, with the versions of torch and onnxruntime.",
        )
    return difference


def _change_by_padding(bundle: Bundle, texts: Sequence[str]) -> float:
    """The most a logit changes when each text is padded to the longest of them, or three positions more.

    The bundle's own batches are sorted by length and hold hardly any padding, so they would not show a wrong mask.
    """
    feeds = [fed for text in texts for _, fed in bundle._reader.feeds([text])]
    settings, longest = bundle.metadata["settings"], max(inputs.shape[1] for fed in feeds for inputs in fed.values())
    width = max(
        longest, min(longest + 3, int(settings.get("max_length", longest + 3)))
    )  # a network has so many positions
    fill = {"input_ids": int(settings.get("pad_id", 0))}
    padded = {
        name: np.concatenate(
            [
                np.pad(fed[name], ((0, 0), (0, width - fed[name].shape[1])), constant_values=fill.get(name, 0))
                for fed in feeds
            ]
        )
        for name in feeds[0]
    }
    alone = np.concatenate([bundle._session.run(["logits"], fed)[0] for fed in feeds])
    return float(np.abs(bundle._session.run(["logits"], padded)[0] - alone).max())


def _try_int8(
    folder: Path, record: dict[str, Any], texts: Sequence[str], gold: NDArray[np.integer] | None
) -> QuantizationResult | None:
    if not texts:
        record["notes"].append("There were no texts to judge int8 on: fp32 is served.")
        return None
    write_int8(folder, FP32, INT8, texts)
    _write_record(folder, record)
    verdict = compare_int8(folder, FP32, INT8, texts, gold)
    record["int8"] = asdict(verdict)
    record["notes"].append(verdict.reason)
    if verdict.accepted:
        record["serve"] = INT8
    else:
        (folder / INT8).unlink()
    return verdict


def _check_hub(student: Student, folder: Path, record: dict[str, Any], texts: Sequence[str]) -> bool:
    """Keep the transformers files only if they predict the same of these texts."""
    if not (folder / TRANSFORMERS_FILES[0]).exists():
        return False
    from potstill.students.transformers_export import transformers_logits

    difference = float(np.abs(transformers_logits(folder, texts) - student.predict_logits(texts)).max())
    record["hub"] = {"largest_difference": difference}
    if difference <= TOLERANCE:
        return True
    for name in TRANSFORMERS_FILES:
        (folder / name).unlink()
    record["notes"].append(f"transformers would differ by {difference:.2g} in a logit: its files were left out.")
    return False
