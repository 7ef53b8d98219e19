"""Paths as a user gives them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from potstill.errors import BadSpec


def as_path(given: str | Path) -> Path:
    """The path, with `~` as the user's folder; of "~$book.xlsx", which names no user, the path as it is."""
    try:
        return Path(given).expanduser()
    except RuntimeError:
        return Path(given)


def as_text(path: Path) -> str:
    """The path as text that can be stored and printed: bytes of a name that are not UTF-8 become replacement marks."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def utf8_folder(path: Path) -> Path:
    """The path of a folder for models.

    Raises:
        BadSpec: its name is not UTF-8: onnxruntime opens no such path.
    """
    if as_text(path.absolute()) != str(path.absolute()):
        raise BadSpec(f"The name of the folder {str(path)!r} is not UTF-8.", "Give another folder with -o.")
    return path


def folder_name(name: str) -> str:
    """A name that anyone may have chosen as the name of one folder: it leads nowhere else, and can be typed.

    Blanks, separators of paths and control characters become hyphens, dots at the beginning are left out, and it is cut
    at 100 bytes.
    """
    plain = "-".join(re.sub(r"[/\\:\x00-\x1f\x7f-\x9f\ud800-\udfff]", " ", name).split()).lstrip(".-")
    return plain.encode()[:100].decode(errors="ignore") or "run"


def as_path_or_none(given: str | Path | None) -> Path | None:
    """The same of an option that may be left out."""
    return None if given is None else as_path(given)


def is_paths(given: Any) -> bool:
    """Whether it is the path of a file, or several paths."""
    several = isinstance(given, list | tuple) and bool(given) and all(isinstance(each, str | Path) for each in given)
    return isinstance(given, str | Path) or several
