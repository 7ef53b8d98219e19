"""A bundle of a text-to-text task as a served model: what those of all forms have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

from potstill.bundle.bundle import Text
from potstill.bundle.form_bundle import FormBundle
from potstill.bundle.forms import GIVES
from potstill.bundle.layout import precision_of
from potstill.data.task import OutputForm
from potstill.errors import RequestRefused
from potstill.serving.model import CHARACTERS_PER_TOKEN, PADDING, SPECIAL_TOKENS, WARM_TEXTS, ServedFacts

BundleT = TypeVar("BundleT", bound=FormBundle[Any])


@dataclass(frozen=True)
class LoggedAnswer:
    """The answer to a text as the log has labels: words, and the least confidence in them."""

    labels: tuple[str, ...]
    probability: float
    confident: bool | None = None
    in_scope: bool = True


class ServedFormModel(Generic[BundleT]):
    """A bundle of a text-to-text task under a name; see `ServedModel`."""

    form: ClassVar[OutputForm]
    bundle_type: ClassVar[type[Any]]
    task: ClassVar[str]  # in the words of model hubs
    max_tokens: int | None = None

    def __init__(self, name: str, bundle: BundleT) -> None:
        self.name = name
        self.bundle = bundle
        self.threads, bundle.threads = bundle.threads, 1
        self.labels = bundle.labels
        self.version = bundle.record.files[bundle.graph].sha256[:12]

    @classmethod
    def load(cls, name: str, folder: Path, threads: int | None = None) -> Self:
        """Load and warm a bundle; see `ServedModel.load`."""
        model = cls(name, cls.bundle_type.open(folder, threads=threads))
        model.compute(list(WARM_TEXTS))
        return model

    @property
    def facts(self) -> ServedFacts:
        """What the server says of it."""
        return ServedFacts(self.task, precision_of(self.bundle.graph))

    def cost(self, text: Text) -> int:
        """About how many padded tokens a text adds to a batch; at least one."""
        characters = len(text) if isinstance(text, str) else len(text[0]) + len(text[1])
        return -(-(characters // CHARACTERS_PER_TOKEN + SPECIAL_TOKENS) // PADDING) * PADDING

    def check_task(self, texts: Sequence[Text], *, embedding: bool = False) -> None:
        """Raise RequestRefused for a pair. The protocol of embeddings refuses this kind of model itself."""
        wrong = next((row for row, text in enumerate(texts) if not isinstance(text, str)), None)
        if wrong is not None:
            raise RequestRefused(
                "task",
                f"Text {wrong + 1} is a pair, and {self.name} {GIVES[self.form]} for one text.",
                'Two strings in an array are a pair; a batch is an array of arrays: [["first"], ["second"]].',
            )

    def exceeds_limit(self, text: Text) -> bool:
        """Whether a text is not read as a whole."""
        return False

    def compute(self, texts: Sequence[Text], *, embedding: bool = False) -> Any:
        """What a batch of N texts gives; there are no embeddings."""
        raise NotImplementedError
