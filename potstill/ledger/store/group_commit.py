"""Group commit: steps that come from many threads at once share a transaction, and so one wait for the disk.

A thread that finds nobody writing writes what is waiting, its own step among it; the others sleep until theirs is on
the disk, or until it is their turn to write. No thread of its own, and alone a step costs what a transaction costs.
Knows no SQL: the writer is given.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from potstill.engines.greenlets import Event, yield_to_others

T = TypeVar("T")


def _nothing(_: object) -> None:
    """Nothing was changed outside of the file."""


class WriteStep(Generic[T]):
    """Something to be done in a transaction, and what came of it.

    Args:
        do: writes; may be called once more after a rollback, with `undo` of its first result in between.
        undo: takes back what `do` changed outside of the file.
    """

    def __init__(self, do: Callable[[], T], undo: Callable[[T], None]) -> None:
        self.do = do
        self.undo = undo
        self.done = False
        self.result: T | None = None
        self.error: BaseException | None = None
        self.event = Event()


class GroupCommit:
    """Takes steps from many threads and writes them by the batch.

    Args:
        write: does all steps of a batch in one transaction, fills their `result` or `error`, returns once it is
            durable; what it raises is the error of every step.
    """

    def __init__(self, write: Callable[[Sequence[WriteStep[object]]], None]) -> None:
        self._write = write
        self._guard = threading.Lock()
        self._waiting: list[WriteStep[object]] = []
        self._writing = False

    def do(self, step: Callable[[], T], undo: Callable[[T], None] = _nothing) -> T:
        """What `step` returns, once it is on the disk. Raises what it raises, or what the transaction raises."""
        mine: WriteStep[T] = WriteStep(step, undo)
        with self._guard:
            self._waiting.append(mine)  # type: ignore[arg-type]
            first, self._writing = not self._writing, True
        if first:
            yield_to_others()
            self._lead()
        else:
            mine.event.wait()
            if not mine.done:
                self._lead()
        if mine.error is not None:
            raise mine.error
        return mine.result  # type: ignore[return-value]

    def _lead(self) -> None:
        with self._guard:
            batch, self._waiting = self._waiting, []
        try:
            self._write(batch)
        except BaseException as error:
            for step in batch:
                step.error = error
        finally:
            for step in batch:
                step.done = True
            with self._guard:
                heir = self._waiting[0] if self._waiting else None
                self._writing = heir is not None
            for step in batch:
                step.event.set()
            if heir is not None:
                heir.event.set()
