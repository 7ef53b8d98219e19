"""Looks up a teacher kind by name."""

from __future__ import annotations

from potstill.teachers import REGISTRY
from potstill.teachers.base import TeacherCapabilities, TeacherKind


def teacher_kind(name: str) -> TeacherKind:
    """The registered kind.

    A plug-in may register a bare callable. Its capabilities are unknown, so it counts as remote: the user is asked
    before it spends.

    Raises:
        UnknownName: no kind has this name.
        BadSpec: the registered attribute does not exist.
    """
    found = REGISTRY.resolve(name)
    return found if isinstance(found, TeacherKind) else TeacherKind(found, TeacherCapabilities(remote=True))
