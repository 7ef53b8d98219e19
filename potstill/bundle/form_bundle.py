"""What the bundles of text-to-text tasks have in common: folder, record, graph, facts. Each form has its own `predict`.

Siblings of `Bundle`: the same folder, record and checks. Needs numpy, onnxruntime and tokenizers, never torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

from potstill.bundle.forms import GIVES, check_form
from potstill.bundle.layout import precision_of
from potstill.bundle.open_folder import open_folder
from potstill.bundle.preprocessors import PREPROCESSORS, Preprocessor
from potstill.bundle.record import EXPORT_AGAIN, RECORD_FILE, BundleRecord
from potstill.bundle.sessions import open_session
from potstill.data.task import OutputForm
from potstill.errors import BadInput, RunNotFound

BLOCK_TEXTS = 2048  # texts whose answers are in memory at once
PreprocessorT = TypeVar("PreprocessorT", bound=Preprocessor)


class FormBundle(Generic[PreprocessorT]):
    """A trained student of a text-to-text task, ready to predict; any number of threads may share it.

    Attributes:
        folder: of the bundle.
        record: the whole of `potstill.json`.
        labels: the K types of entities; none in other forms.
        takes_pairs: False: it reads one text.
        graph: the file that is served.
        preprocessor: texts -> the graph's inputs.
        session: the graph, open in onnxruntime; may be replaced, such as by one on a GPU.
        threads: number of batches computed at once; may be set.
    """

    takes_pairs = False
    form: ClassVar[OutputForm]
    preprocessor_type: ClassVar[type[Any]]

    def __init__(self, folder: Path, record: BundleRecord, *, graph: str = "", threads: int = 1) -> None:
        self.folder = folder
        self.record = record
        self.graph = graph or record.graph
        self.threads = threads
        self.labels = record.task.labels
        preprocessor: Any = PREPROCESSORS[record.preprocessor.name](folder, record.preprocessor.config)
        if not isinstance(preprocessor, self.preprocessor_type):
            what = f"its preprocessor {record.preprocessor.name!r} is of another task"
            raise RunNotFound(f"{folder} is damaged: {what}.", EXPORT_AGAIN)
        self.preprocessor: PreprocessorT = preprocessor
        self.session = open_session(folder / self.graph)

    @classmethod
    def open(
        cls, path: str | Path, *, verify: bool = False, threads: int | None = None, graph: str | None = None
    ) -> Self:
        """The bundle in a folder, or in the `bundle` folder of a run.

        Args:
            path: the bundle's or the run's folder.
            verify: compare every file's SHA-256 too.
            threads: batches computed at once; None as for `bundle.load`.
            graph: "fp32" or "int8", or the name of its file; None takes the one that export chose.

        Raises:
            RunNotFound: there is no bundle, it is damaged, or a newer potstill made it.
            MissingExtra: onnxruntime or tokenizers is not installed.
            BadInput: the bundle is of another task; or fewer than one thread.
        """

        def make(folder: Path, record: BundleRecord, chosen: str, n_threads: int) -> Any:
            check_form(folder, record.task, cls.form)
            return cls(folder, record, graph=chosen, threads=n_threads)

        bundle: Self = open_folder(path, make, verify=verify, threads=threads, graph=graph)
        return bundle

    def __reduce__(self) -> tuple[Any, ...]:
        """A pickle or a copy is the folder's path, opened again: a session of onnxruntime cannot be pickled."""
        return _reopen, (type(self), str(self.folder.absolute()), self.graph, self.threads)

    @property
    def truncated(self) -> int:
        """The number of texts so far that were too long to be read as a whole."""
        return self.preprocessor.truncated

    @property
    def unknown(self) -> int:
        """The number of texts so far that are mostly tokens which the student's vocabulary lacks."""
        return self.preprocessor.unknown

    @property
    def size_mb(self) -> float:
        """Megabytes (10^6 bytes) of the files that predicting reads."""
        needed = [RECORD_FILE, *self.record.needed_files(self.graph)]
        return sum((self.folder / name).stat().st_size for name in needed) / 1e6

    def predict(self, texts: Sequence[str]) -> list[Any]:
        """What the student gives for each of N texts, in their order."""
        raise NotImplementedError

    def try_out(self) -> None:
        """Predict two texts. Raises BadData, or the error of a library, if the files do not fit together."""
        raise NotImplementedError

    def summary(self) -> dict[str, str | int | float | bool]:
        """Facts for a report, as one flat dictionary."""
        flat: dict[str, str | int | float | bool] = {
            "preprocessor": self.record.preprocessor.name,
            "graph": self.graph,
            "precision": precision_of(self.graph),
            "size_mb": round(self.size_mb, 2),
        }
        for facts in (self.record.preprocessor.config, self.record.student):
            for name, value in facts.items():
                if isinstance(value, str | int | float | bool) and name not in flat:
                    flat[name] = value
        return flat


def no_label_sets(form: OutputForm | None) -> BadInput:
    """The error for a coverage that is asked of a bundle without labels."""
    return BadInput(
        f"This student {GIVES[form]}, and nothing is guaranteed of a set of labels.", "Leave --coverage out."
    )


def _reopen(kind: Any, folder: str, graph: str, threads: int) -> Any:
    return kind.open(folder, graph=graph, threads=threads)
