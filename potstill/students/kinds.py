"""Looks up a student class by name."""

from __future__ import annotations

from potstill.errors import BadSpec
from potstill.students import REGISTRY
from potstill.students.base import Student


def student_kind(name: str) -> type[Student]:
    """The student class registered as `name`: "linear", "encoder", ... without the weights after the colon.

    Raises:
        UnknownName: no kind has this name.
        BadSpec: what is registered under it does not exist, or is no student.
    """
    found: type[Student] = REGISTRY.resolve(name)
    for attribute in ("capabilities", "revision", "training_passes"):
        if not hasattr(found, attribute):
            raise BadSpec(
                f"The student {name!r} has no attribute {attribute!r}.",
                "Derive its class from potstill.students.base.Student, which has defaults.",
            )
    return found


def revision(name: str) -> int:
    """The revision of a kind's training: raised when equal options and data lead to other weights than before.

    Part of the keys under which trained students and results are stored, so that no result of older code is reused.
    """
    return student_kind(name).revision
