"""Where a server is and which key it gets: from a URL and the environment. Opens no connection."""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit

from potstill.errors import BadSpec
from potstill.teachers.rate_limit import unbilled_error


def host_of(url: str) -> str:
    """Host and port, without what a URL may hide in user name or query. Raises BadSpec for what is no address."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadSpec(f"base_url = {url.split('@')[-1]!r} is no address of a server.", "Give https://HOST/v1.")
    try:
        port = parts.port
    except ValueError:
        raise BadSpec(f"The port in base_url of {parts.hostname} is no port.", "Give https://HOST:PORT/v1.") from None
    return parts.hostname + (f":{port}" if port else "")


def is_loopback(url: str) -> bool:
    """Whether the server is on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def api_key_for(url: str, variable: str, *, asks: bool = True) -> str:
    """The key in the environment variable; a server on this machine, and one that is not asked, needs none.

    Raises:
        TeacherError: the variable is not set.
    """
    key = os.environ.get(variable, "").strip()
    if key:
        return key
    if is_loopback(url) or not asks:
        return "none"
    raise unbilled_error(
        f"The server at {host_of(url)} needs a key and {variable} is not set.",
        f"Set {variable} in the environment, or name another variable with key_env.",
    )
