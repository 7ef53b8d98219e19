"""The record of a bundle, `potstill.json`, format 3: how to predict, what was checked at export, what was measured.

Read by `load`, written once by `export`. Bundles of older formats are upgraded while they are read. Does not load
models or graphs; needs the standard library and numpy.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from potstill.bundle.layout import is_bundle_path
from potstill.bundle.upgrade import upgrade
from potstill.data.atomic import atomic_file
from potstill.data.tables import Layout
from potstill.data.task import JsonObject, Task
from potstill.errors import BadSpec, RunNotFound
from potstill.evaluation.guarantees import Guarantees
from potstill.evaluation.metrics import Score
from potstill.evaluation.multilabel_thresholds import MultilabelGuarantees

FORMAT = 3
RECORD_FILE = "potstill.json"
MAX_RECORD_BYTES = 64_000_000
EXPORT_AGAIN = (
    "Copy the bundle again; or delete its folder and run the same distill command again: it exports the student anew "
    "and buys nothing."
)


@dataclass(frozen=True)
class FileRecord:
    """A file of the bundle: its size and its SHA-256, in hex."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class PreprocessorRecord:
    """What turns texts into a graph's inputs.

    Attributes:
        name: a key of `preprocessors.PREPROCESSORS`.
        config: what it needs beside its files; each preprocessor knows its keys.
        files: the files it reads.
    """

    name: str
    config: JsonObject
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class ParityCheck:
    """The largest difference of a logit between the exported graph and the student, and the tolerance."""

    max_abs_difference: float
    tolerance: float


@dataclass(frozen=True)
class QuantizationResult:
    """The comparison of the int8 graph with fp32 on check texts.

    Attributes:
        accepted: True if int8 is served.
        reason: one sentence.
        accuracy_loss: by how much int8 lowers the accuracy on check texts; without gold, the share of disagreements.
        agreement: share of check texts on which both predict the same label.
        speedup: seconds of fp32 over seconds of int8 on the same texts, on the machine that exported.
        texts: number of check texts.
    """

    accepted: bool
    reason: str
    accuracy_loss: float
    agreement: float
    speedup: float
    texts: int


@dataclass(frozen=True)
class Lineage:
    """Where the student comes from: the run's folder, the recipe, and the names of student and teacher in its spec."""

    run: str = ""
    procedure: str = ""
    student: str = ""
    teacher: str = ""


@dataclass(frozen=True, kw_only=True)
class BundleRecord:
    """All that is known of a bundle.

    Attributes:
        made_by: "potstill VERSION"; made_at: local time in ISO 8601.
        task: its labels are the columns of every (N, K) array.
        preprocessor: what turns texts into the graph's inputs.
        graph: the file that is served.
        files: every other file of the folder.
        parity: the check of the fp32 graph against the student.
        int8: the check of the int8 graph; None if none was made.
        transformers_difference: largest difference of a logit when transformers loads the folder; None if it cannot.
        guarantees: measured on held-out texts, of the graph with the SHA-256 that they name; None without such texts.
        calibration_in_graph: whether the graphs and the weights for transformers give calibrated logits; in older
            formats their logits are to be scaled by `guarantees.scaling`.
        temperature, abstain_threshold: of the calibration, for other programs; without `guarantees` they are applied.
        metrics: on test texts.
        student: facts about the student and its training.
        lineage: where it comes from.
        text_columns: the column it was trained on, or the two of a pair; empty if unknown.
        layout: how the file it was trained on is laid out, as far as known.
        notes: sentences a user of the bundle should read.
    """

    made_by: str
    made_at: str
    task: Task
    preprocessor: PreprocessorRecord
    graph: str
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    parity: ParityCheck | None = None
    int8: QuantizationResult | None = None
    transformers_difference: float | None = None
    guarantees: Guarantees | MultilabelGuarantees | None = None
    calibration_in_graph: bool = False
    temperature: float = 1.0
    abstain_threshold: float | None = None
    metrics: Mapping[str, Score] = field(default_factory=dict)
    student: JsonObject = field(default_factory=dict)
    lineage: Lineage = field(default_factory=Lineage)
    text_columns: tuple[str, ...] = ()
    layout: Layout = field(default_factory=Layout)
    notes: tuple[str, ...] = ()

    def needed_files(self, graph: str = "") -> tuple[str, ...]:
        """The files, beside the record, that predicting with a graph reads; with the graph that is served if "" ."""
        return (graph or self.graph, *self.preprocessor.files)

    def files_beside(self, graph: str) -> tuple[str, ...]:
        """The names, from the graph's folder on, of the files in the graph's folder."""
        parent = PurePosixPath(graph).parent
        return tuple(PurePosixPath(name).name for name in self.files if PurePosixPath(name).parent == parent)

    def to_json(self) -> JsonObject:
        """The document as JSON values; `BundleRecord.from_json` reads it back."""
        return {"format": FORMAT, **{name: _plain(value) for name, value in vars(self).items()}}

    @classmethod
    def from_json(cls, record: JsonObject) -> BundleRecord:
        """The record that `to_json` wrote, of this format or an older one.

        Raises:
            KeyError: a key is missing.
            TypeError, ValueError: a value is of another kind.
        """
        record = upgrade(record)
        if not isinstance(record["task"]["labels"], list):
            raise TypeError("the labels are no list")
        parity, int8, guarantees = record["parity"], record["int8"], record["guarantees"]
        task = Task.from_json(record["task"])
        kind = MultilabelGuarantees if task.kind == "multi" else Guarantees
        preprocessor = record["preprocessor"]
        return cls(
            made_by=str(record["made_by"]),
            made_at=str(record["made_at"]),
            task=task,
            preprocessor=PreprocessorRecord(
                str(preprocessor["name"]), dict(preprocessor["config"]), tuple(preprocessor["files"])
            ),
            graph=str(record["graph"]),
            files={str(name): FileRecord(**file) for name, file in record["files"].items()},
            parity=None if parity is None else ParityCheck(**parity),
            int8=None if int8 is None else QuantizationResult(**int8),
            transformers_difference=record["transformers_difference"],
            guarantees=None if guarantees is None else kind.from_json(guarantees),
            calibration_in_graph=record["calibration_in_graph"],
            temperature=float(record["temperature"]),
            abstain_threshold=record["abstain_threshold"],
            metrics={str(name): Score.from_json(score) for name, score in record["metrics"].items()},
            student=dict(record["student"]),
            lineage=Lineage(**record["lineage"]),
            text_columns=tuple(map(str, record.get("text_columns", ()))),
            layout=Layout.from_json(record.get("layout", {})),
            notes=tuple(record["notes"]),
        )


def _plain(value: Any) -> Any:
    if hasattr(value, "to_json"):
        return value.to_json()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return {name: _plain(each) for name, each in value.items()} if isinstance(value, Mapping) else value


def read_record(folder: Path) -> BundleRecord:
    """The record of the bundle in `folder`.

    Raises:
        RunNotFound: there is none, it is damaged, or its format is newer than this version's.
    """
    file = folder / RECORD_FILE
    if not folder.is_dir() or not (file.exists() or file.is_symlink()):
        what = "holds no bundle" if folder.is_dir() else "does not exist or is not a folder"
        raise RunNotFound(f"{folder} {what}.", "Give the folder of a finished run, or of a bundle.")
    try:
        if not file.is_file() or file.stat().st_size > MAX_RECORD_BYTES:
            raise ValueError(f"it is no file, or larger than {MAX_RECORD_BYTES // 10**6} MB")
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunNotFound(f"{file} cannot be read: {error}.", EXPORT_AGAIN) from error
    version = record.get("format") if isinstance(record, dict) else None
    if type(version) is not int:
        raise RunNotFound(f"{file} is not the record of a bundle.", EXPORT_AGAIN)
    if version > FORMAT:
        raise newer_version(folder, str(record.get("made_by", "unknown")), version)
    try:
        return BundleRecord.from_json(record)
    except KeyError as error:
        raise RunNotFound(f"{file} is damaged: it lacks {error}.", EXPORT_AGAIN) from error
    except (TypeError, ValueError, AttributeError, OverflowError, RecursionError, BadSpec) as error:
        raise RunNotFound(f"{file} is damaged: {type(error).__name__}: {error}.", EXPORT_AGAIN) from error


def newer_version(folder: Path, made_by: str, version: int = FORMAT) -> RunNotFound:
    """The error for a bundle that this version cannot read yet."""
    return RunNotFound(
        f"{folder} was made by a newer potstill ({made_by}, format {version}).",
        "Upgrade with: pip install --upgrade potstill",
    )


def write_record(folder: Path, record: BundleRecord) -> None:
    """Write `potstill.json`; a list of numbers stays on one line, and NaN is written as null, since JSON has no NaN."""
    plain = json.loads(json.dumps(record.to_json()), parse_constant=lambda name: None)
    written = json.dumps(plain, ensure_ascii=False, indent=1, allow_nan=False)
    written = re.sub(r"\[\n[\s\d.,eE+-]*(?:null[\s\d.,eE+-]*)*\]", lambda found: " ".join(found[0].split()), written)
    with atomic_file(folder / RECORD_FILE) as path:
        path.write_text(written, encoding="utf-8", errors="replace")  # a folder's name may hold what is not UTF-8


def list_files(folder: Path) -> dict[str, FileRecord]:
    """Size and SHA-256 of every file of a bundle but its record, by its path within the folder."""
    names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if not file.is_dir())
    paths = {name: folder / name for name in names if name != RECORD_FILE}
    return {name: FileRecord(path.stat().st_size, sha256(path)) for name, path in paths.items()}


def check_files(folder: Path, record: BundleRecord, needed: Collection[str], *, verify: bool) -> None:
    """Compare the files of a bundle with its record: their sizes, and with `verify` SHA-256.

    Args:
        folder: of the bundle.
        record: its record.
        needed: the files that must be there; with `verify` all of the record's.
        verify: compare the SHA-256 too.

    Raises:
        RunNotFound: one is missing, differs, or would lie outside the folder.
    """
    for name in needed:
        if name not in record.files:
            raise RunNotFound(f"{folder / RECORD_FILE} does not list the file {name!r}.", EXPORT_AGAIN)
    for name, file in record.files.items():
        _check_file(folder, name, file, needed=verify or name in needed, verify=verify)


def _check_file(folder: Path, name: str, file: FileRecord, *, needed: bool, verify: bool) -> None:
    if not is_bundle_path(name):
        raise RunNotFound(f"{folder / RECORD_FILE} names the file {name!r}, outside its folder.", EXPORT_AGAIN)
    path = folder / name
    if not path.is_file():
        if not needed and not path.is_symlink():
            return
        raise RunNotFound(f"{path} is missing.", EXPORT_AGAIN)
    if not _leads_inside(path, folder):
        raise RunNotFound(f"{path} is a symbolic link that leads out of its folder.", EXPORT_AGAIN)
    if path.stat().st_size != file.bytes:
        raise RunNotFound(f"{path} has {path.stat().st_size} bytes, and {file.bytes} were written.", EXPORT_AGAIN)
    if verify and sha256(path) != file.sha256:
        raise RunNotFound(f"{path} was changed: its SHA-256 differs from the record's.", EXPORT_AGAIN)


def _leads_inside(path: Path, folder: Path) -> bool:
    """Whether a file is in the folder, or among the blobs beside it as in the cache of the Hugging Face hub."""
    inside, target = folder.resolve(), path.resolve()
    blobs = inside.parent.parent / "blobs" if inside.parent.name == "snapshots" else inside
    return target.is_relative_to(inside) or target.parent == blobs


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
