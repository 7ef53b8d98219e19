"""The jinja environment of the pages, and a rich console that writes into a string."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

from potstill.data.printable import escape_controls

if TYPE_CHECKING:
    from jinja2 import Environment
    from rich.console import Console


def jinja_environment() -> Environment:
    """The pages in `templates/`: markup and control characters in values are escaped; an undefined name is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("potstill.reports"),
        autoescape=True,
        finalize=_without_controls,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _without_controls(value: object) -> object:
    """A string without control characters; markup of our own stays as it is."""
    return escape_controls(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def string_console(out: StringIO, width: int, *, color: bool) -> Console:
    """A console of `width` columns that writes into `out`, with ANSI colours or without."""
    from rich.console import Console

    return Console(
        file=out,
        width=width,
        force_terminal=color,
        color_system="256" if color else None,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )
