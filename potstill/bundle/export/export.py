"""A trained student -> a bundle folder: exported, checked against the original, quantised if that pays, calibrated.

The bundle must predict what the student predicts, or nothing is written. Does not cover how a kind of student writes
its graph, or what is measured on test texts (the caller adds that).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potstill import __version__
from potstill.bundle.bundle import Bundle, load
from potstill.bundle.export.copy_bundle import check_replaceable, finish
from potstill.bundle.export.edit_graph import remove_metadata
from potstill.bundle.export.fold_calibration import fold_calibration
from potstill.bundle.export.parity import check_parity, check_transformers
from potstill.bundle.export.quantize import accept_int8, write_int8
from potstill.bundle.layout import ENCODER, FP32, INT8, OLD_ENCODER, OLD_FP32, TRANSFORMERS_FILES, TRANSFORMERS_WEIGHTS
from potstill.bundle.record import BundleRecord, PreprocessorRecord, list_files
from potstill.data.atomic import atomic_folder
from potstill.data.pairs import join_pair, split_pair
from potstill.data.task import Task
from potstill.evaluation.cross_validation import OutOfFoldScores
from potstill.evaluation.fit_guarantees import fit_guarantees
from potstill.evaluation.fit_thresholds import fit_multilabel_guarantees
from potstill.evaluation.guarantees import Guarantees
from potstill.models.weights import base_model_facts
from potstill.students.base import Student, TrainedModel

CHECK_TEXTS, FOLDED_TEXTS, TRANSFORMERS_TEXTS = 1000, 32, 32
# Lengths and scripts that the check texts may lack.
EDGE_CASES = ("", "a", "word " * 700, "naïve café 東京 🙂", "\n\t ")
# The loss of a text that is too long, by the way it is read; windows are for predicting only.
TRUNCATION_NOTES = {
    "head": "lost their tail",
    "head+tail": "lost their middle",
    "windows": "were trained on without their middle",
}
INT8_SKIPPED = "fp32 is served: int8 is not tried on a student whose arithmetic is a small part of its work."
NO_INT8_TEXTS = "There were no texts to check int8 on: fp32 is served."


def export(
    student: Student,
    folder: str | Path,
    *,
    task: Task,
    texts: Sequence[str],
    gold: NDArray[np.integer] | None = None,
    calibrate: bool | OutOfFoldScores = False,
    complete: Callable[[Bundle], BundleRecord] | None = None,
) -> Bundle:
    """Write the student as a bundle; an earlier bundle in `folder` is replaced only when the new one is complete.

    Args:
        student: trained.
        folder: where the bundle goes; absent, empty, or a bundle.
        task: what it decides.
        texts: N texts to compare student and graph on, best ones it was not trained on; the first 1,000 are used.
        gold: (N,) columns of their labels, -1 if unlabelled, or (N, K) zeros and ones.
        calibrate: True fits the guarantees on all of `texts` and `gold`: the student must not have been trained on
            them. Out-of-fold scores fit them on these.
        complete: returns the record of the finished bundle with what only the caller knows: lineage, test metrics.

    Returns:
        The bundle, loaded from `folder`.

    Raises:
        BadData: the exported graph does not predict what the student predicts; nothing was written.
        RunNotFound: the folder holds something that is not a bundle.
    """
    folder = Path(folder)
    check_replaceable(folder)
    with atomic_folder(folder) as fresh:
        record = export_graph(student, fresh, task)
        record = _check(student, fresh, record, texts[:CHECK_TEXTS], gold)
        if isinstance(calibrate, OutOfFoldScores):
            record = _with_guarantees(record, calibrate)
        elif calibrate and gold is not None:
            record = _calibrate(Bundle(fresh, record), texts, np.asarray(gold))
        record = fold_calibration(fresh, record, [*texts[:FOLDED_TEXTS], *_edge_cases(record.task)])
        record = _check_transformers(student, fresh, record, texts[:TRANSFORMERS_TEXTS])
        if complete is not None:
            record = complete(Bundle(fresh, record))
            known = {name: score for name, score in record.metrics.items() if isfinite(score.value)}
            record = replace(record, metrics=known)
        finish(fresh, record)
    return load(folder)


def export_graph(student: TrainedModel, folder: Path, task: Task) -> BundleRecord:
    """Write the fp32 graph and the files of its preprocessor; the record as far as it is known then."""
    graph = student.export(folder)
    (folder / FP32).parent.mkdir()
    (folder / OLD_FP32).rename(folder / FP32)
    remove_metadata(folder / FP32)
    if (folder / OLD_ENCODER).exists():
        (folder / OLD_ENCODER).rename(folder / ENCODER)
        remove_metadata(folder / ENCODER)
    config = graph.preprocessor_config.to_json()
    files = list_files(folder)
    needed = tuple(name for name in files if name not in (FP32, *TRANSFORMERS_FILES))
    facts = dict(student.metadata)
    facts |= base_model_facts(str(facts["weights"])) if facts.get("weights") else {}
    notes = []
    if facts.get("truncated"):
        lost = TRUNCATION_NOTES[str(config.get("long", "head"))]
        notes.append(f"{facts['truncated']:.1%} of the texts it was trained on were too long and {lost}.")
    if facts.get("unknown"):
        notes.append(
            f"{facts['unknown']:.1%} of the texts it was trained on are mostly characters that its vocabulary lacks, "
            "so it cannot tell them apart: take --student linear, which reads every script, or an encoder for their "
            "language (--student encoder:FOLDER)."
        )
    return BundleRecord(
        made_by=f"potstill {__version__}",
        made_at=datetime.now().astimezone().isoformat(timespec="seconds"),
        task=replace(task, labels=tuple(student.labels)),
        preprocessor=PreprocessorRecord(graph.preprocessor, config, needed),
        graph=FP32,
        files=files,
        student=facts,
        notes=tuple(notes if graph.quantizable else [*notes, INT8_SKIPPED]),
    )


def _check(
    student: Student, folder: Path, record: BundleRecord, texts: Sequence[str], gold: NDArray[np.integer] | None
) -> BundleRecord:
    """Compare the fp32 graph with the student, and int8 with fp32."""
    exact = Bundle(folder, record)
    record = replace(record, parity=check_parity(student, exact, texts, _edge_cases(record.task)))
    if INT8_SKIPPED not in record.notes:
        record = _try_int8(exact, record, texts, None if gold is None else np.asarray(gold)[: len(texts)])
    return record


def _check_transformers(student: Student, folder: Path, record: BundleRecord, texts: Sequence[str]) -> BundleRecord:
    """Compare what transformers loads with the student, as it is calibrated; its files go if they differ."""
    if not (folder / TRANSFORMERS_WEIGHTS).exists():
        return record
    # transformers takes an empty second text for none at all, and cannot read both ends of a long text.
    pairs = record.task.kind == "pair"
    fair = [text for text in (*texts, *_edge_cases(record.task)) if not pairs or split_pair(text)[1]]
    config = record.preprocessor.config
    if config.get("long", "head") != "head":
        fair = [text for text in fair if 4 * len(text.split()) < config["max_length"]]
    logits: NDArray[np.floating] = student.predict_logits(fair)
    if record.calibration_in_graph and record.guarantees is not None:
        logits = record.guarantees.scaling.scaled(logits)
    return keep_transformers(folder, record, *check_transformers(folder, fair, logits))


def keep_transformers(folder: Path, record: BundleRecord, difference: float, note: str) -> BundleRecord:
    """The record with what the check of transformers' files found; with a note they are deleted."""
    if note:
        for name in TRANSFORMERS_FILES:
            (folder / name).unlink(missing_ok=True)
    notes = (*record.notes, note) if note else record.notes
    return replace(record, transformers_difference=None if note else difference, notes=notes, files=list_files(folder))


def _try_int8(
    exact: Bundle, record: BundleRecord, texts: Sequence[str], gold: NDArray[np.integer] | None
) -> BundleRecord:
    if not texts:
        return replace(record, notes=(*record.notes, NO_INT8_TEXTS))
    write_int8(exact, exact.folder / INT8, texts)
    files = list_files(exact.folder)
    result = accept_int8(exact, Bundle(exact.folder, replace(record, files=files), graph=INT8), texts, gold)
    record = replace(record, int8=result, notes=(*record.notes, result.reason))
    if result.accepted:
        return replace(record, graph=INT8, files=files)
    (exact.folder / INT8).unlink()
    return record


def _calibrate(bundle: Bundle, texts: Sequence[str], gold: NDArray[np.integer]) -> BundleRecord:
    """The bundle's record with guarantees, measured of the graph that is served on the labelled texts."""
    labelled = np.flatnonzero((gold.reshape(len(texts), -1) >= 0).all(axis=1)).tolist()
    logits = bundle.predict_logits([texts[row] for row in labelled])
    return _with_guarantees(
        bundle.record, OutOfFoldScores(logits, np.asarray(gold[labelled], dtype=np.int64), n_folds=0)
    )


def _with_guarantees(record: BundleRecord, scores: OutOfFoldScores) -> BundleRecord:
    """The record with guarantees of its graph, fitted on scores of held-out texts (no folds) or out-of-fold ones."""
    graph, folds = record.files[record.graph].sha256, scores.n_folds
    if record.task.kind == "multi":
        measured = fit_multilabel_guarantees(scores.logits, scores.gold == 1, graph=graph)
        return replace(record, guarantees=replace(measured, n_folds=folds))
    guarantees: Guarantees = replace(fit_guarantees(scores.logits, scores.gold, graph=graph), n_folds=folds)
    scale = guarantees.scaling.scale
    return replace(
        record,
        guarantees=guarantees,
        temperature=1 / scale[0] if len(scale) == 1 else 1.0,
        abstain_threshold=guarantees.threshold(),
    )


def _edge_cases(task: Task) -> tuple[str, ...]:
    if task.kind != "pair":
        return EDGE_CASES
    return tuple(join_pair(one, other) for one, other in zip(EDGE_CASES, EDGE_CASES[1:] + EDGE_CASES[:1], strict=True))
