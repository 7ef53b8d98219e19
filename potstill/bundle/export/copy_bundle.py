"""Copies a bundle to another folder: all of it, or only what is served.

A bundle of an older format becomes one of today's. Does not train, measure or quantise anything.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from potstill.bundle.bundle import TRY_OUT_TEXTS
from potstill.bundle.export.fold_calibration import fold_calibration
from potstill.bundle.export.model_card import CARD_FILE, write_model_card
from potstill.bundle.layout import CONFIG_FILES, FP32, GENERATION_CONFIG, INT8, OLD_FP32, OLD_INT8, TRANSFORMERS_WEIGHTS
from potstill.bundle.load import AnyBundle, load
from potstill.bundle.record import RECORD_FILE, BundleRecord, list_files, write_record
from potstill.data.atomic import atomic_folder
from potstill.data.pairs import join_pair
from potstill.errors import RunNotFound

FILE_MODE = 0o644  # a container may serve them as another user
NEW_NAMES = {OLD_FP32: FP32, OLD_INT8: INT8}


def copy_bundle(bundle: AnyBundle, folder: Path, *, slim: bool = False) -> AnyBundle:
    """Write a copy of a bundle.

    Args:
        bundle: loaded.
        folder: where the copy goes; absent, empty, or a bundle, which is replaced.
        slim: copy the graph that is served, what its preprocessor reads, the card, and the configuration that other
            programs read; leave out the other graph and the weights for transformers.

    Returns:
        The copy, loaded from `folder`.

    Raises:
        RunNotFound: the folder holds something that is not a bundle, or a file of the bundle is missing or damaged.
        MissingExtra: the bundle is of an older format, has weights for transformers, and safetensors is not installed.
    """
    check_replaceable(folder)
    if folder.exists() and folder.samefile(bundle.folder):
        raise RunNotFound(f"{folder} is the bundle itself.", "Give another folder.")
    served = bundle.record.needed_files(bundle.record.graph)
    wanted = [*served, *CONFIG_FILES, GENERATION_CONFIG, CARD_FILE] if slim else list(bundle.record.files)
    with atomic_folder(folder) as fresh:
        for name in wanted:
            if name in bundle.record.files:
                _copy(bundle.folder / name, fresh / NEW_NAMES.get(name, name))
        record = _renewed(fresh, bundle.record, bundle.takes_pairs)
        if not (fresh / TRANSFORMERS_WEIGHTS).exists():
            record = replace(record, transformers_difference=None)
        finish(fresh, record)
    return load(folder)


def check_replaceable(folder: Path) -> None:
    """Check that a bundle may be written to `folder`: it is absent, empty, or holds a bundle.

    Raises:
        RunNotFound: it holds something else.
    """
    if folder.exists() and not (folder / RECORD_FILE).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunNotFound(f"{folder} exists and is not a bundle.", "Give another folder, or empty that one.")


def finish(folder: Path, record: BundleRecord, name: str = "this-folder") -> None:
    """Write the card and the record of the files in `folder`, make all readable for every user, and load the bundle.

    Args:
        folder: of a bundle that is complete but for these two.
        record: of the bundle.
        name: what the card's examples load.
    """
    write_model_card(folder, record, name)
    write_record(folder, replace(record, files=list_files(folder)))
    for file in (RECORD_FILE, *list_files(folder)):
        (folder / file).chmod(FILE_MODE)
    load(folder, verify=True)


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise RunNotFound(
            f"{source} is missing.", "Copy the whole bundle again, or make a slim copy, which does without it."
        )
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(source, target)


def _renewed(folder: Path, record: BundleRecord, pairs: bool) -> BundleRecord:
    """The record of the copied files, whose graphs give calibrated logits from here on."""
    record = replace(record, graph=NEW_NAMES.get(record.graph, record.graph), files=list_files(folder))
    if record.calibration_in_graph or record.guarantees is None:
        return record
    return fold_calibration(folder, record, _try_out(pairs))


def _try_out(pairs: bool) -> Sequence[str]:
    return [join_pair(text, text) if pairs else text for text in TRY_OUT_TEXTS]
