"""Where a server is and which key it gets: from a URL and the environment. Opens no connection."""

from __future__ import annotations

import ipaddress
import os
import re
from urllib.parse import urljoin, urlsplit

from potstill.errors import BadSpec
from potstill.teachers.rate_limit import unbilled_error

MAX_REPLY_BYTES = 16 * 2**20  # of one reply, or of one line of a batch's results
NO_KEY = "none"  # given to a server on this machine, and to one that is not asked
KEY_SUFFIX = "_API_KEY"  # of the environment variables that may be sent: a TOML file of another could name any secret
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[\w.-]+)(:[0-9]{0,5})?", re.I)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def host_of(url: str) -> str:
    """Host and port. Raises BadSpec for what is no address, and for one with a user name, password or query.

    No message repeats the address: it may hold a key.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise BadSpec("base_url is no address of a server.", "Give https://HOST/v1.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadSpec("base_url is no address of a server.", "Give https://HOST/v1.")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise BadSpec(
            f"base_url of {parts.hostname} holds more than an address: a user name, a password or a query. It would be "
            "stored with the run and shown in reports.",
            "Give https://HOST/v1, and name the environment variable of the key with key_env.",
        )
    try:
        port = parts.port
    except ValueError:
        raise BadSpec(
            f"The port in base_url of {parts.hostname} is no port.", "Give https://HOST/v1 or https://HOST:PORT/v1."
        ) from None
    if not _HOST.fullmatch(parts.netloc) or not url.isprintable() or any(map(str.isspace, url)):
        raise BadSpec("base_url is no address of a server.", "Give https://HOST/v1.")
    return parts.hostname + (f":{port}" if port else "")


def same_origin(url: str, target: str) -> str:
    """The absolute address that a server at `url` redirects to.

    Raises:
        TeacherError: it is another server, or cannot be read. Texts and keys go only to the server that was named.
    """
    try:
        address = urljoin(url, target)
        if _origin(address) == _origin(url):
            return address
        where = f"{urlsplit(address).scheme}://{urlsplit(address).hostname}"
    except ValueError:
        where = "what is no address"
    raise unbilled_error(
        f"The server at {urlsplit(url).hostname} redirects to another one: {ascii(where)[1:-1]}.",
        "Texts go only to the server that was named; if you trust the other one, give its address as base_url.",
    )


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


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
        BadSpec: the name is none of a variable, looks like a key itself, or does not end in `KEY_SUFFIX`; the message
            does not repeat it.
        TeacherError: the variable is not set.
    """
    is_set = variable in os.environ
    # Names of variables are words; keys are long and mix small letters with digits.
    like_key = len(variable) >= 16 and re.search("[a-z]", variable) and re.search("[0-9]", variable)
    if not _VARIABLE.fullmatch(variable) or (like_key and not is_set):
        raise BadSpec(
            "key_env is no name of an environment variable.",
            "Put the key into a variable and give its name, such as OPENAI_API_KEY; never the key itself.",
        )
    if not variable.upper().endswith(KEY_SUFFIX):
        raise BadSpec(
            f"key_env names a variable that does not end in {KEY_SUFFIX}; no other one is sent to a server.",
            "Put the key into a variable such as MY_API_KEY, and name that one.",
        )
    key = os.environ.get(variable, "").strip()
    if key:
        return key
    if is_loopback(url) or not asks:
        return NO_KEY
    raise unbilled_error(
        f"The server at {host_of(url)} needs a key and {variable} is not set.",
        f"Set {variable} in the environment, or name another variable with key_env under [teacher].",
    )
