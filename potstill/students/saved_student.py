"""The record that a saved student begins with: a JSON file with a format number, read back as it was written."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from potstill.data.task import TaskKind
from potstill.errors import PotstillError, RunNotFound
from potstill.students.base import TrainedModel

ModelT = TypeVar("ModelT", bound=TrainedModel)


class SavedStudent(BaseModel):
    """What every kind stores beside its arrays; each adds its own fields.

    Attributes:
        format: raised when a field changes; other formats are refused.
        labels: the K label names.
        kind: of the task.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[2] = 2
    labels: tuple[str, ...]
    kind: TaskKind

    def write(self, file: Path) -> None:
        """Write the record as JSON."""
        file.write_text(self.model_dump_json(indent=1), encoding="utf-8")

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read what `write` wrote.

        Raises:
            RunNotFound: the file does not exist, is damaged, or has another format.
        """
        try:
            return cls.model_validate_json(file.read_bytes())
        except (OSError, ValidationError) as error:
            raise RunNotFound(
                f"{file} is not the record of a student that this version of potstill saved.",
                "Train the student again.",
            ) from error


def load_saved(kind: type[ModelT], folder: Path) -> ModelT:
    """The student that was saved in `folder`.

    Raises:
        RunNotFound: a file of it is missing or damaged.
    """
    try:
        return kind.load(folder)
    except PotstillError:
        raise
    except Exception as error:  # each library has errors of its own for a damaged file
        reason = (str(error) or "no reason given").splitlines()[0][:200]
        raise RunNotFound(
            f"The student in {folder} is damaged: {type(error).__name__}: {reason}.",
            f"Restore a copy, or remove {folder} and run the same command again: it trains the student anew.",
        ) from error
