"""The bytes of a table file, unpacked while they are read: gzip, bzip2, xz, zstd, and a zip archive with one table.

The compression is seen by the first bytes, whatever the name says. A file that unpacks to far more than it holds is
refused before its rows are in memory. Not supported: tar archives, and archives with a password.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from potstill.data.tables.formats import COMPRESSION_SUFFIXES, SUFFIXES, is_workbook
from potstill.errors import BadData, missing_extra

_MAGIC = ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ\x00", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"))
_COMMANDS = {"gzip": "gunzip -c", "bzip2": "bunzip2 -c", "xz": "xz -dc", "zstd": "zstd -dc", "zip": "unzip -p"}
# A text is packed to a tenth; what unpacks to more than both limits is refused.
MAX_RATIO, MAX_UNPACKED = 100, 100_000_000
_DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError, RuntimeError)
_MAX_SHOWN = 5


@dataclass(frozen=True)
class Source:
    """A file, and how its bytes are packed.

    Attributes:
        path: the file.
        compression: gzip, bzip2, xz, zstd or zip; "" if there is none.
        member: the file inside a zip archive; "" without one.
    """

    path: Path
    compression: str = ""
    member: str = ""

    @property
    def inner_name(self) -> str:
        """The name of the unpacked file; its suffix says what it holds."""
        name = self.member or self.path.name
        stem, dot, suffix = name.rpartition(".")
        return stem if f"{dot}{suffix}".lower() in COMPRESSION_SUFFIXES and stem else name

    def open(self) -> BinaryIO:
        """The unpacked bytes from the start; the stream can be set back to it.

        While reading it raises BadData if the file is damaged or unpacks to more than is allowed.
        """
        return cast(BinaryIO, io.BufferedReader(_Unpacking(self))) if self.compression else self.path.open("rb")

    def head(self, n: int) -> bytes:
        """The first n bytes, unpacked."""
        with self.open() as handle:
            return handle.read(n)

    def read_all(self) -> bytes:
        """All bytes, for formats that are not read from start to end."""
        with self.open() as handle:
            return handle.read()


def find_source(path: Path) -> Source:
    """The file with its compression.

    Raises:
        BadData: a zip archive without a table, or with several.
        MissingExtra: zstd on a Python without it.
    """
    with path.open("rb") as handle:
        head = handle.read(512)
    if (
        head.startswith((b"PK\x03\x04", b"PK\x05\x06"))
        and SUFFIXES.get(path.suffix.lower()) != "excel"
        and not is_workbook(path)
    ):
        return Source(path, "zip", _find_member(path))
    name = next((name for magic, name in _MAGIC if head.startswith(magic)), "")
    if name == "zstd":
        _zstd(path)
    return Source(path, name)


def file_head(path: Path, n: int) -> bytes:
    """The first n bytes of a file, unpacked."""
    return find_source(path).head(n)


def _find_member(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [each.filename for each in archive.infolist() if not each.is_dir()]
    except _DAMAGED as error:
        raise _damaged(Source(path, "zip"), error) from None
    names = [n for n in names if not any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(n).parts)]
    tables = [name for name in names if PurePosixPath(name).suffix.lower() in SUFFIXES]
    tables = [name for name in tables if not name.lower().endswith(".txt")] or tables  # a text beside it explains it
    if len(tables) == 1:
        return tables[0]
    inside = ", ".join((tables or names)[:_MAX_SHOWN]) or "nothing"
    if not tables:
        raise BadData(f"{path.name} holds no table, but {inside}.", "Give an archive with one table, or the table.")
    raise BadData(
        f"{path.name} holds {len(tables)} tables: {inside}.", f"Unpack it (unzip {path}) and give one, or several."
    )


def unpacked_limit(path: Path) -> int:
    """The number of bytes to which a file may unpack."""
    return max(MAX_UNPACKED, MAX_RATIO * path.stat().st_size)


class _Unpacking(io.RawIOBase):
    """The unpacked bytes of a source; can only be set back to the start."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source
        self._limit = unpacked_limit(source.path)
        self._n = 0
        self._stream = _open_packed(source)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._n

    def seek(self, offset: int, whence: int = 0) -> int:
        if offset == 0 and whence == 0:
            self._stream.close()
            self._stream, self._n = _open_packed(self._source), 0
        elif (offset, whence) != (self._n, 0):
            raise io.UnsupportedOperation("seek")
        return self._n

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        try:
            data = self._stream.read(len(view))
        except BadData:
            raise
        except Exception as error:
            if not isinstance(error, _DAMAGED) and type(error).__name__ != "ZstdError":
                raise
            raise _damaged(self._source, error) from None
        view[: len(data)] = data
        self._n += len(data)
        if self._n > self._limit:
            path, command = self._source.path, _COMMANDS[self._source.compression]
            raise BadData(
                f"{path.name} unpacks to more than {self._limit / 1e6:,.0f} MB, over {MAX_RATIO} times its size, as a "
                "file does that is made to fill the memory.",
                f"If it is yours, unpack it first: {command} {path} > {Path(self._source.inner_name).name}",
            )
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


def _open_packed(source: Source) -> Any:
    path = source.path
    try:
        match source.compression:
            case "gzip":
                return gzip.open(path)
            case "bzip2":
                return bz2.open(path)
            case "xz":
                return lzma.open(path)
            case "zstd":
                return _zstd(path).open(path)
            case _:
                return zipfile.ZipFile(path).open(source.member)
    except _DAMAGED as error:
        raise _damaged(source, error) from None


def _damaged(source: Source, error: BaseException) -> BadData:
    name = source.path.name
    if "password" in str(error):
        return BadData(
            f"{name} is encrypted.", f"Unpack it with its password (unzip {source.path}) and give the table."
        )
    return BadData(
        f"{name} cannot be unpacked ({source.compression}: {' '.join(str(error).split()) or type(error).__name__}).",
        "It is damaged or cut off: copy or write it again.",
    )


def _zstd(path: Path) -> Any:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore] # of Python 3.14
    except ImportError:
        try:
            from backports import zstd  # type: ignore[no-redef,unused-ignore]
        except ImportError:
            raise missing_extra("backports.zstd", "zstd", f"{path.name} (zstd)") from None
    return zstd
