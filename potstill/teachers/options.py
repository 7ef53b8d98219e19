"""A teacher's options: read by `registry.read_options`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from potstill.registry import Options, OptionsT, read_options


class TeacherOptions(Options):
    """The base of a teacher's options."""


def read_teacher_options(kind: type[OptionsT], teacher: str, raw_options: Mapping[str, Any]) -> OptionsT:
    """The options of a teacher as its own record. Raises BadSpec."""
    return read_options(kind, f"teacher {teacher!r}", raw_options)
