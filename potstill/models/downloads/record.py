"""The record of a download, `download.json`: what a folder of the cache holds, its licence and its sources."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from potstill.models.downloads.catalogue import Download, DownloadKind

if TYPE_CHECKING:
    from potstill.data.task import JsonObject  # at run time it would load numpy

RECORD_FILE = "download.json"
FORMAT = 2  # raised when the same distribution files would be unpacked into something else
OLD_RECORD_FILE = "carrier.json"  # format 1, of the same contents under older names


@dataclass(frozen=True)
class DownloadRecord:
    """What a folder of the cache holds.

    Attributes:
        name: the short name.
        kind: as in the catalogue.
        licence: of the contents.
        pooling: how an encoder's token vectors become one; empty for the other kinds.
        conversion: a key of `unpack.CONVERSIONS`.
        sha256: of each distribution file, in order.
    """

    name: str
    kind: DownloadKind
    licence: str
    pooling: Literal["", "mean", "cls"]
    conversion: str
    sha256: tuple[str, ...]

    @classmethod
    def of(cls, row: Download) -> Self:
        """The record of a row of the catalogue."""
        hashes = tuple(file.sha256 for file in row.files)
        return cls(row.name, row.kind, row.licence, row.pooling, row.conversion, hashes)

    def write(self, folder: Path) -> None:
        """Write `download.json`, with the size of each file that is in the folder."""
        sizes = {file.name: file.stat().st_size for file in sorted(folder.iterdir()) if file.is_file()}
        text = json.dumps({"format": FORMAT, **asdict(self), "bytes": sizes}, indent=2)
        (folder / RECORD_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The record in `folder`, of format 2 or 1; None if there is none or it is damaged."""
        for record in _records(folder):
            try:
                return cls(
                    name=record["name"],
                    kind=record["kind"],
                    licence=str(record["licence"]),
                    pooling=record["pooling"],
                    conversion=record["conversion"] if record["format"] == FORMAT else record["shape"],
                    sha256=tuple(record["sha256"]),
                )
            except (KeyError, TypeError):
                continue
        return None


def is_whole(folder: Path) -> bool:
    """Whether each file that the record lists is there, with its size; a record may list none."""
    try:
        sizes = next(_records(folder)).get("bytes", {})
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (StopIteration, OSError, AttributeError, TypeError):
        return False


def _records(folder: Path) -> Iterator[JsonObject]:
    for name in (RECORD_FILE, OLD_RECORD_FILE):
        try:
            yield json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
