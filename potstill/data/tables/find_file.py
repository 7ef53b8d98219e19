"""Checks the path of a table before it is opened: each reason why it cannot be read is one sentence with a mend."""

from __future__ import annotations

import glob
from difflib import get_close_matches
from pathlib import Path

from potstill.data.paths import as_path
from potstill.data.tables.formats import COMPRESSION_SUFFIXES, FILE_FORMATS, SUFFIXES
from potstill.errors import BadData

_MAX_SHOWN = 5


def looks_like_table(path: Path) -> bool:
    """Whether the name of a file is that of a table, compressed or not."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = bool(suffixes) and suffixes[-1] in COMPRESSION_SUFFIXES
    inner = suffixes[-2] if packed and len(suffixes) > 1 else suffixes[-1] if suffixes else ""
    return inner in SUFFIXES or inner == ".zip"


def check_path(given: str | Path) -> Path:
    """The path of an existing file that can be opened and is not empty.

    Raises:
        BadData: it is none; the hint names files of a similar name, or what is in a folder.
    """
    path = as_path(given)
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except ValueError:
        raise BadData(f"{str(path)!r} is not the name of a file.", "Check the path.") from None
    except OSError as error:  # a name that is too long, links in a circle, a folder that may not be entered
        raise BadData(f"{path} cannot be opened: {error.strerror}.", "Check the path.") from None
    if path.is_dir():
        inside = sorted(each.name for each in path.iterdir() if looks_like_table(each))[:_MAX_SHOWN]
        hint = f"Name a file in it: {', '.join(inside)}" if inside else f"Name a file ({', '.join(FILE_FORMATS)})."
        raise BadData(f"{path} is a folder, not a file.", hint)
    if not path.exists():
        raise _pattern_error(path) if glob.has_magic(str(path)) else _missing_error(path)
    try:
        if path.is_file() and path.stat().st_size == 0:
            raise BadData(f"{path.name} is empty.", "Check that the file was written.")
        path.open("rb").close()
    except OSError as error:
        raise BadData(f"{path} cannot be opened: {error.strerror}.", "Check its permissions.") from None
    return path


def _pattern_error(path: Path) -> BadData:
    found = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - a pattern may be absolute
    if not found:
        return BadData(f"No file fits the pattern {path}.", "Check the folder and the ending.")
    more = f" and {len(found) - _MAX_SHOWN} more" if len(found) > _MAX_SHOWN else ""
    return BadData(
        f"{path} is a pattern, which {len(found)} file{'s fit' if len(found) > 1 else ' fits'}: "
        f"{', '.join(found[:_MAX_SHOWN])}{more}.",
        "Give the pattern without quotes, so that the shell names the files, or name them one after the other; an "
        "option is repeated for each file.",
    )


def _missing_error(path: Path) -> BadData:
    folder = path.parent
    if not folder.is_dir():
        existing = next(each for each in (*path.parents, Path()) if each.is_dir())
        wanted = path.relative_to(existing).parts[0] if path.is_relative_to(existing) else path.parts[0]
        near = get_close_matches(wanted, [each.name for each in existing.iterdir() if each.is_dir()], n=3, cutoff=0.6)
        hint = f"Did you mean the folder {' or '.join(str(existing / name) for name in near)}?" if near else ""
        return BadData(f"There is no folder {folder}, so no {path.name} in it.", hint or "Check the path.")
    names = sorted(each.name for each in folder.iterdir() if looks_like_table(each))
    stems: dict[str, list[str]] = {}
    for name in names:
        stems.setdefault(_stem(name), []).append(name)
    near = [name for stem in get_close_matches(_stem(path.name), stems, n=3, cutoff=0.7) for name in stems[stem]]
    hint = f"Did you mean {' or '.join(near[:3])}?" if near else "Check the path."
    return BadData(f"There is no file {path}.", hint)


def _stem(name: str) -> str:
    """The name without the endings of a table."""
    path = Path(name)
    path = path.with_suffix("") if path.suffix.lower() in COMPRESSION_SUFFIXES else path
    return path.stem.casefold()
