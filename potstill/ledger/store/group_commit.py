"""Group commit: steps of many threads share a transaction, and so one wait for the disk.

If no thread is writing, the next one writes all waiting steps, its own among them; the others sleep until their step is
on the disk, or until it is their turn to write. There is no extra thread, and a step that comes alone costs what a
transaction costs. Contains no SQL: the writer is an argument.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from potstill.engines.greenlets import Event, yield_to_others

T = TypeVar("T")


def _nothing(_: object) -> None:
    """Do nothing: the step changed only the file."""


class WriteStep(Generic[T]):
    """A step of a transaction, and its result or error.

    Args:
        do: writes. It may be called again after a rollback, with `undo` of its first result in between.
        undo: reverts what `do` changed outside of the file.
        paid: it stores what was paid for.
    """

    def __init__(self, do: Callable[[], T], undo: Callable[[T], None], paid: bool = False) -> None:
        self.do = do
        self.undo = undo
        self.paid = paid
        self.done = False
        self.result: T | None = None
        self.error: BaseException | None = None
        self.event = Event()


class GroupCommit:
    """Writes the steps of many threads in batches.

    Args:
        write: does all steps of a batch in one transaction, sets their `result` or `error`, and returns once they are
            durable. An exception is the error of every step.
    """

    def __init__(self, write: Callable[[Sequence[WriteStep[object]]], None]) -> None:
        self._write = write
        self._guard = threading.Lock()
        self._waiting: list[WriteStep[object]] = []
        self._writing = False

    def do(self, step: Callable[[], T], undo: Callable[[T], None] = _nothing, *, paid: bool = False) -> T:
        """Do a step; return its result once it is on the disk. Raises the error of the step or of the transaction."""
        own: WriteStep[T] = WriteStep(step, undo, paid)
        with self._guard:
            self._waiting.append(own)  # type: ignore[arg-type]
            first, self._writing = not self._writing, True
        if first:
            yield_to_others()
            self._lead()
        else:
            own.event.wait()
            if not own.done:
                self._lead()
        if own.error is not None:
            raise own.error
        return own.result  # type: ignore[return-value]

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
                successor = self._waiting[0] if self._waiting else None
                self._writing = successor is not None
            for step in batch:
                step.event.set()
            if successor is not None:
                successor.event.set()
