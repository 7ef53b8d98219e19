"""Standard input and pipes: what can be read once only is copied into a temporary file, since tables are read twice."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryDirectory

from potstill.errors import BadData

STANDARD_INPUT = "-"
STREAM_NAME = "standard input"


def is_stream(path: str | Path) -> bool:
    """Whether it can be read once only: standard input, or a pipe."""
    if str(path) == STANDARD_INPUT or str(path).startswith("/dev/"):  # /dev/stdin, /dev/fd/63
        return True
    path = Path(path)
    try:
        return path.exists() and not path.is_file() and not path.is_dir()
    except OSError:  # a name that no file can have: `check_path` says why
        return False


@contextmanager
def stored_stream(path: str | Path) -> Iterator[Path]:
    """A copy of a stream as a file, which lives as long as the context.

    Raises:
        BadData: it is empty, or cannot be opened.
    """
    path = Path(path)
    name = STREAM_NAME if str(path) in (STANDARD_INPUT, "/dev/stdin") else path.name
    with TemporaryDirectory(prefix="potstill-") as folder:
        copy = Path(folder) / (STREAM_NAME if name.isdecimal() else name)
        try:
            with copy.open("wb") as target:
                if str(path) == STANDARD_INPUT:
                    copyfileobj(sys.stdin.buffer, target)
                else:
                    with path.open("rb") as source:
                        copyfileobj(source, target)
        except OSError as error:
            raise BadData(f"{path} cannot be read: {error.strerror}.", "Give a file.") from None
        if not copy.stat().st_size:
            shown = name.capitalize() if name == STREAM_NAME else str(path)
            raise BadData(f"{shown} is empty.", "Give one text a line, or a table with a header.")
        yield copy
