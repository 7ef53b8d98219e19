"""What every engine is: it runs a function over items, several at once."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Engine(Protocol):
    """Runs calls. A kind is opened with a function that is given a sentence for the user, or with None."""

    def map(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        parallel: int = 1,
        *,
        greenlet_safe: bool = False,
    ) -> Generator[Result]:
        """Yield `function(item)` for each item, in the order of the items.

        Args:
            function: closes over the run's ledger and store, so it is called in this process.
            items: may be endless: only a bounded number is taken ahead of what was yielded.
            parallel: the most calls at once.
            greenlet_safe: `function` waits by `engines.greenlets` alone, so one thread can hold many calls.

        The first exception of a call is raised in that call's turn. After it, and after the caller closes the
        generator, no call is started; those in flight end before the generator does.
        """


OpenEngine = Callable[[Callable[[str], None] | None], Engine]
