"""The URL that a caller names for its webhook: checked where it comes in, so that it can be called when it is due."""

import re

import httpx

MAX_LENGTH = 2048
_HOST = re.compile(r"[a-z0-9._:-]+")
_MAX_PORT = 65_535


def webhook_host(value: object) -> str:
    """Return the host, in lower case, of an http:// or https:// URL; empty when ``value`` is no such URL.

    Read by the library that will call it: two readers of one URL could see two hosts.
    """
    if not isinstance(value, str) or not 0 < len(value) <= MAX_LENGTH:
        return ""
    try:
        url = httpx.URL(value)
        host = url.raw_host.decode("ascii").lower()
    except (httpx.InvalidURL, ValueError):
        return ""
    good = url.scheme in ("http", "https") and _HOST.fullmatch(host) and 0 < (url.port or 1) <= _MAX_PORT
    return host if good else ""
