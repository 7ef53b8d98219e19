"""Reads a TOML file, and writes its strings and comments; what is no TOML is named in one sentence."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from potstill.data.printable import escape_controls, escaped_json
from potstill.errors import BadSpec


def read_toml(path: Path, mend: str) -> dict[str, Any]:
    """The tables of a TOML file.

    Args:
        path: the file.
        mend: what to do if there is none.

    Raises:
        BadSpec: there is no such file, it cannot be read, or it is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise BadSpec(f"There is no file {path}.", mend) from None
    except OSError as error:
        raise BadSpec(f"{path} cannot be read: {(error.strerror or str(error)).lower()}.", mend) from None
    except RecursionError:
        raise BadSpec(f"{path} is not a TOML file: it is nested too deeply.", "Flatten it.") from None
    except ValueError as error:  # a number may have more digits than Python converts
        reason = str(error).split(";")[0]
        raise BadSpec(f"{path} is not a TOML file: {reason}.", "Correct that line.") from None


def quoted(value: object) -> str:
    """A string, number or list as TOML writes it, on one line; strings are basic strings without control characters."""
    return escaped_json(value)


def comment(text: str) -> str:
    """Text from elsewhere as a TOML comment can hold it: one line without control characters."""
    return escape_controls(text.replace("\r", "\\r").replace("\n", "\\n"))
