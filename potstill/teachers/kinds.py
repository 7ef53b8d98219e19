"""The kind of teacher a name stands for."""

from __future__ import annotations

from potstill.teachers import MENU
from potstill.teachers.base import TeacherCapabilities, TeacherKind


def teacher_kind(name: str) -> TeacherKind:
    """The kind called `name`.

    A plug-in may register a bare function `TeacherSetup -> Teacher`; it counts as remote, so that it is asked about
    before it spends.

    Raises:
        UnknownName: no kind has this name.
        BadSpec: what is registered under it does not exist.
    """
    found = MENU.resolve(name)
    return found if isinstance(found, TeacherKind) else TeacherKind(found, TeacherCapabilities(remote=True))
