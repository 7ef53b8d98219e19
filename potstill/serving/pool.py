"""The models of a server by name: load, warm, find, and replace by what a folder holds now, without losing a request.

A request belongs to the queue it was put into: after a reload the old model answers what waits for it and then ends,
while new requests go to the new one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from potstill.bundle.bundle import Text
from potstill.bundle.record import RECORD_FILE
from potstill.data.paths import as_path
from potstill.errors import BadSpec, RequestRefused, did_you_mean
from potstill.serving.batching import Batcher, BatchFacts, Ticket
from potstill.serving.limits import ServingLimits
from potstill.serving.served import AnyServedModel, load_served

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
BUNDLE = "bundle"  # the folder of a run that holds its bundle
OnBatch = Callable[[str, BatchFacts], None]


class ModelPool:
    """The served models; the first one is the default.

    Args:
        folders: name -> folder of a bundle or run.
        limits: of each model's queue.
        threads: batches that a model computes at once, each in its own queue's thread; None for one a processor.
        on_batch: called with a model's name before each of its batches, in the model's thread.
    """

    def __init__(
        self,
        folders: Mapping[str, Path],
        limits: ServingLimits = ServingLimits(),  # noqa: B008 - frozen
        *,
        threads: int | None = None,
        on_batch: OnBatch = lambda name, facts: None,
    ) -> None:
        self.folders = dict(folders)
        self.limits = limits
        self._threads = threads
        self._on_batch = on_batch
        self._batchers: dict[str, Batcher] = {}
        self._ending: list[Batcher] = []
        self._draining = self._closed = False

    @property
    def default(self) -> str:
        """The name of the model that is meant where a protocol names none."""
        return next(iter(self.folders))

    @property
    def loaded(self) -> bool:
        """Whether every model is loaded and warm."""
        return len(self._batchers) == len(self.folders)

    @property
    def ready(self) -> bool:
        """Whether new requests are welcome: every model is loaded, and the server is not being stopped."""
        return self.loaded and not self._draining

    def __iter__(self) -> Iterator[AnyServedModel]:
        return iter([batcher.model for batcher in self._batchers.values()])

    def load(self, name: str) -> AnyServedModel:
        """Load and warm what the folder holds, and serve it under this name from now on. For any thread.

        Raises:
            RunNotFound: there is no bundle, it is damaged, or newer; what was served before goes on.
        """
        model = load_served(name, self.folders[name], self._threads)
        batcher = Batcher(model, self.limits, lambda facts: self._on_batch(name, facts))
        before = self._batchers.get(name)
        self._batchers[name] = batcher
        if before is not None:
            before.close()
            self._ending = [each for each in self._ending if each.alive] + [before]
        return model

    def load_all(self) -> None:
        """Load every model, in order.

        Raises:
            RunNotFound: as `load`.
        """
        for name in self.folders:
            self.load(name)

    def batcher(self, name: str = "") -> Batcher:
        """The queue of a model; of the default one for "".

        Raises:
            RequestRefused: there is no such model, or it is not loaded yet.
        """
        found = self._batchers.get(name or self.default)
        if found is not None:
            return found
        if name and name not in self.folders:
            raise RequestRefused("model", f"There is no model called {name[:100]!r}.", did_you_mean(name, self.folders))
        raise RequestRefused("unready", "The model is being loaded.", retry_after_s=1)

    def find(self, name: str = "") -> AnyServedModel:
        """The model of that name; the default one for "".

        Raises:
            RequestRefused: as `batcher`.
        """
        return self.batcher(name).model

    def submit(
        self, name: str, texts: Sequence[Text], *, truncate: bool = True, embedding: bool = False
    ) -> tuple[Batcher, Ticket]:
        """Put a request into the queue of a model, after the checks of the number, length and kind of its texts.

        Raises:
            RequestRefused: as `batcher`, `Batcher.submit`, `ServedModel.check_task`; or no texts, or too much.
        """
        self._check_size(texts)
        while True:
            batcher = self.batcher(name)
            batcher.model.check_task(texts, embedding=embedding)
            ticket = batcher.submit(texts, truncate=truncate, embedding=embedding)
            if ticket is not None:
                return batcher, ticket
            if self._closed:  # else it was replaced at this very moment
                raise RequestRefused("unready", "The server is stopping.", retry_after_s=1)

    def _check_size(self, texts: Sequence[Text]) -> None:
        if not texts:
            raise RequestRefused("empty", "There are no texts.", "Send at least one.")
        if len(texts) > self.limits.texts:
            raise RequestRefused(
                "large", f"{len(texts)} texts are more than the {self.limits.texts} of one request.", "Send several."
            )
        for row, text in enumerate(texts):
            longest = len(text) if isinstance(text, str) else max(map(len, text))
            if longest > self.limits.characters:
                raise RequestRefused(
                    "large",
                    f"Text {row + 1} has {longest} characters, more than {self.limits.characters}.",
                    "Send its beginning: a model reads no more of it.",
                )

    def drain(self) -> None:
        """`ready` is False from now on, so that no new requests are sent here; those that come are answered."""
        self._draining = True

    def close(self, timeout_s: float = 5.0) -> None:
        """End all models after what waits for them, and wait for their threads."""
        self._draining = self._closed = True
        ending = [*self._batchers.values(), *self._ending]
        for batcher in ending:
            batcher.close()
        for batcher in ending:
            batcher.join(timeout_s)


def name_bundles(arguments: Sequence[str | Path]) -> dict[str, Path]:
    """Name -> folder, of arguments that are folders or NAME=FOLDER; a folder's name is that of its run.

    Raises:
        BadSpec: a name is used twice, or cannot stand in an address.
    """
    found: dict[str, Path] = {}
    for argument in arguments:
        name, folder = _name_of(argument)
        if not NAME.fullmatch(name):
            raise BadSpec(
                f"{name!r} cannot be a model's name in an address.", f"Give another: {_suggested(name)}={folder}"
            )
        if name in found:
            raise BadSpec(
                f"{found[name]} and {folder} are both called {name!r}.", f"Give one another name: NAME={folder}"
            )
        found[name] = folder
    return found


def _name_of(argument: str | Path) -> tuple[str, Path]:
    head, equals, tail = str(argument).partition("=")
    if equals and head and "/" not in head and not as_path(argument).exists():
        return head, as_path(tail)
    folder = as_path(argument)
    whole = folder.absolute()
    return (whole.parent if whole.name == BUNDLE and (whole / RECORD_FILE).exists() else whole).name, folder


def _suggested(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._") or "model"
