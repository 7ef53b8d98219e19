"""Named sections of `bench/RESULTS.md`: each benchmark rewrites its own and leaves the others as they are.

A section stands between `<!-- NAME -->` and `<!-- /NAME -->`. Does not measure, and knows no benchmark.
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
import subprocess
import tempfile
from datetime import datetime
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")
HEAD = """# What was measured

Each section is written by the command it names, with the commit it was measured on; nothing here is typed by hand.
"""


def write_section(name: str, markdown: str, path: Path = RESULTS) -> None:
    """Replace the section `name` of the file, or add it at the end; the rest stays as it is, byte for byte.

    Args:
        name: letters, digits and dashes.
        markdown: the section's text, its own `## ` title included.
        path: the file; made if it is not there.

    Raises:
        ValueError: the name cannot stand in a marker, the text holds a marker of its own, or the file's are broken.
    """
    if not re.fullmatch(r"[a-z0-9-]+", name):
        raise ValueError(f"{name!r} cannot name a section: only a-z, 0-9 and dashes")
    opened, closed = f"<!-- {name} -->", f"<!-- /{name} -->"
    if opened in markdown or closed in markdown:
        raise ValueError(f"the text of section {name!r} holds its own marker")
    section = f"{opened}\n{markdown.strip()}\n{closed}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with (Path(tempfile.gettempdir()) / f"sections-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two benchmarks may end at once
        there = path.read_text(encoding="utf-8") if path.exists() else HEAD
        if (there.count(opened), there.count(closed)) not in ((0, 0), (1, 1)):
            raise ValueError(f"{path} has broken markers of section {name!r}")
        if opened in there:
            before, rest = there.split(opened)
            if closed not in rest:
                raise ValueError(f"{path} closes section {name!r} before it opens")
            written = before + section + rest.split(closed)[1]
        else:
            written = f"{there.rstrip()}\n\n{section}\n"
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        unfinished.write_text(written, encoding="utf-8")
        unfinished.replace(path)


def commit() -> str:
    """The short commit that is measured, with `+` where the working tree differs from it; empty outside of git."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], capture_output=True, text=True, check=False, cwd=RESULTS.parent)
        return done.stdout.strip()

    head = git("rev-parse", "--short", "HEAD")
    return f"{head}+" if head and git("status", "--porcelain", "--untracked-files=no", "--", "../potstill") else head


def circumstances() -> dict[str, str | float]:
    """When and on what a measurement is begun: commit, time, machine, and the load of the last minute."""
    return {
        "commit": commit(),
        "when": datetime.now().astimezone().isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        "busy": round(os.getloadavg()[0], 1),
    }


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; the first column left, the others right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
