"""A log of requests as JSON lines, one a request; with texts and labels only if that was asked for.

The newest are kept in memory as well, for the page. A disk that is full ends the log, not the server.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from potstill.bundle.bundle import Prediction, Text
from potstill.errors import BadSpec
from potstill.serving.form_model import LoggedAnswer
from potstill.serving.served import AnyAnswer

RECENT = 50  # texts that the page can show
FILE_MODE = 0o600  # it may hold texts


@dataclass(frozen=True)
class LoggedRequest:
    """A request in the log.

    Attributes:
        time: when it was answered, UTC, ISO 8601.
        address: the route.
        status: of the response.
        model, version: which answered; "" if none did.
        texts: their number.
        tokens: that were read.
        milliseconds: from its arrival.
    """

    time: str
    address: str
    status: int
    model: str = ""
    version: str = ""
    texts: int = 0
    tokens: int = 0
    milliseconds: float = 0.0


@dataclass(frozen=True)
class LoggedText:
    """A text that was asked, and its labels."""

    text: str | list[str]
    labels: list[str]
    probability: float
    confident: bool | None
    in_scope: bool


class RequestLog:
    """The log of one server.

    Args:
        path: a file, which is appended to; None for the memory alone.
        texts: whether texts and labels are logged.

    Raises:
        BadSpec: the file cannot be written.
    """

    def __init__(self, path: Path | None, *, texts: bool = False) -> None:
        self.path = path
        self.texts = texts
        self._lock = threading.Lock()
        self._recent: deque[LoggedText] = deque(maxlen=RECENT)
        self._file: int | None = None
        if path is not None:
            try:
                self._file = self._open(path)
            except OSError as error:
                raise BadSpec(
                    f"The log {path} cannot be written: {error.strerror}.", "Give another file with --log."
                ) from None

    @property
    def recent(self) -> Sequence[LoggedText]:
        """The newest texts first; empty unless texts are logged."""
        return [*reversed(self._recent)]

    def reopen(self) -> None:
        """Open the file anew: it was moved away to be rotated."""
        if self.path is not None:
            with self._lock, suppress(OSError):
                opened = self._open(self.path)
                if self._file is not None:
                    os.close(self._file)
                self._file = opened

    def add(self, request: LoggedRequest, texts: Sequence[Text] = (), answer: AnyAnswer | None = None) -> None:
        """Log a request, and its texts if that was asked for."""
        line = asdict(request)
        if self.texts and answer is not None:
            found: Sequence[Prediction | LoggedAnswer] = answer.predictions()
            logged = [
                LoggedText(
                    text if isinstance(text, str) else list(text),
                    list(each.labels),
                    each.probability,
                    each.confident,
                    each.in_scope,
                )
                for text, each in zip(texts, found, strict=True)
            ]
            self._recent.extend(logged)
            line["asked"] = [asdict(each) for each in logged]
        if self._file is not None:
            self._write(json.dumps(line).encode("ascii") + b"\n")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def _write(self, line: bytes) -> None:
        with self._lock:
            if self._file is None:
                return
            try:
                os.write(self._file, line)
            except OSError as error:
                os.close(self._file)
                self._file = None
                print(f"potstill serve: the log ended: {error.strerror}.", file=sys.stderr, flush=True)

    @staticmethod
    def _open(path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, FILE_MODE)


def utc_now() -> str:
    """The time, UTC, in ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
