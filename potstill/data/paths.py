"""Paths as a user gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def as_path(given: str | Path) -> Path:
    """The path, with `~` as the user's folder."""
    return Path(given).expanduser()


def as_path_or_none(given: str | Path | None) -> Path | None:
    """The same of an option that may be left out."""
    return None if given is None else as_path(given)


def is_paths(given: Any) -> bool:
    """Whether it is the path of a file, or several paths."""
    several = isinstance(given, list | tuple) and bool(given) and all(isinstance(each, str | Path) for each in given)
    return isinstance(given, str | Path) or several
