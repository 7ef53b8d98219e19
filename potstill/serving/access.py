"""Who may ask: keys, and for a server without one, only programs and pages of this machine.

A key comes from a file or the environment, never from the command line, where every user of the machine could read it.
Without a key a server listens on loopback alone. There a page of another site could still reach it through a browser:
by its own address (refused by the Origin header), or by a name that resolves to this machine (refused by the Host).
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from potstill.errors import BadSpec, RequestRefused

KEY_VARIABLE = "POTSTILL_SERVE_KEY"
MIN_KEY = 16  # characters
MAX_KEY_FILE_BYTES = 65_536


@dataclass(frozen=True, repr=False)
class Access:
    """Who may ask a server.

    Attributes:
        keys: each of which opens it; none for a server on loopback that asks for none.
    """

    keys: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return f"Access({len(self.keys)} keys)"

    def check(self, headers: Mapping[str, str]) -> None:
        """Let a request pass.

        Args:
            headers: by lower-case name.

        Raises:
            RequestRefused: no key or a wrong one; without keys, a request of another site.
        """
        if not self.keys:
            _check_same_site(headers)
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        key = given.strip().encode("utf-8", "replace") if scheme.lower() == "bearer" else b""
        if sum(hmac.compare_digest(key, each) for each in self.keys) == 0:  # all are compared, in equal time
            raise RequestRefused("key", "The key is missing or wrong.", "Send the header Authorization: Bearer KEY.")


def _check_same_site(headers: Mapping[str, str]) -> None:
    host = headers.get("host", "")
    if host and not is_loopback(_without_port(host)):
        raise RequestRefused(
            "origin", "This server answers to names of its own machine alone.", "Serve with a key behind a proxy."
        )
    origin = headers.get("origin", "")
    if origin and origin.partition("://")[2] != host:
        raise RequestRefused("origin", "A page of another site may not ask a server without a key.")


def _without_port(host: str) -> str:
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's own alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_access(key_file: Path | None, environment: Mapping[str, str], host: str) -> Access:
    """The keys of a server: a line each of the file, else the environment's.

    Raises:
        BadSpec: a key is too short or cannot be sent, or the server would be open to other machines.
    """
    if key_file is not None:
        keys = _lines(key_file)
        where = str(key_file)
    else:
        keys = [environment[KEY_VARIABLE].strip()] if KEY_VARIABLE in environment else []
        where = KEY_VARIABLE
    for key in keys:
        if len(key) < MIN_KEY or not key.isascii() or not key.isprintable() or " " in key:
            raise BadSpec(
                f"A key in {where} has fewer than {MIN_KEY} characters, or others than letters, digits and signs.",
                "Make one with: openssl rand -hex 24",
            )
    if not keys and (key_file is not None or not is_loopback(host)):
        what = f"{key_file} holds no key" if key_file is not None else f"{host} is open to other machines"
        raise BadSpec(
            f"{what}, and such a server asks for a key.",
            f"Give --key-file FILE with a key a line, or set {KEY_VARIABLE}.",
        )
    return Access(tuple(key.encode("ascii") for key in keys))


def _lines(file: Path) -> list[str]:
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_KEY_FILE_BYTES).decode("utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise BadSpec(f"The key file {file} cannot be read: {reason}.", "Name a text file with a key a line.") from None
    return [line.strip() for line in content.splitlines() if line.strip()]
