"""The URL of the Redis or Valkey server: put together from settings, and shown without its secrets."""

import re
import ssl
from pathlib import Path
from urllib.parse import parse_qs, quote, urlencode, urlsplit, urlunsplit

from redis import Redis

SCHEMES = ("redis", "rediss", "unix")


def check_url(url: str) -> None:
    """Raise ValueError, with a text that holds nothing of the URL, if no connection can be made from it."""
    if url.partition("://")[0] not in SCHEMES or "://" not in url:
        raise ValueError("a Redis URL begins with redis://, rediss:// or unix://")
    try:
        Redis.from_url(url).close()
    except (ValueError, TypeError) as error:
        # Its own message may repeat a part of a password that was taken for a port.
        raise ValueError(
            "not a URL like redis://user:password@host:6379/0: write special characters of the password as %XX, or "
            "give it in MULETEER_REDIS_PASSWORD as it is"
        ) from error


def with_credentials(url: str, username: str, password: str) -> str:
    """Return ``url`` with the user and the password that are not empty; special characters are fine.

    Raises ValueError if the URL has the same itself.
    """
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    for value, there, name in (
        (username, parts.username or query.get("username"), "USERNAME"),
        (password, parts.password or query.get("password"), "PASSWORD"),
    ):
        if value and there:
            raise ValueError(f"MULETEER_REDIS_URL and MULETEER_REDIS_{name} both give one: take it out of the URL")
    if not username and not password:
        return url
    own, _, host = parts.netloc.rpartition("@")
    own_user, _, own_password = own.partition(":")
    user = quote(username, safe="") or own_user
    secret = quote(password, safe="") or own_password
    return urlunsplit(parts._replace(netloc=f"{user}:{secret}@{host}"))


def with_ca(url: str, ca: Path) -> str:
    """Return ``url`` with the file of certificates that the server's must be signed by.

    Raises ValueError if the connection is not encrypted, or the file holds no certificate.
    """
    parts = urlsplit(url)
    if parts.scheme != "rediss":
        raise ValueError(
            "MULETEER_REDIS_CA is for an encrypted connection: MULETEER_REDIS_URL must begin with rediss://"
        )
    if "ssl_ca_certs" in parse_qs(parts.query):
        raise ValueError("MULETEER_REDIS_URL and MULETEER_REDIS_CA both give one: take ssl_ca_certs out of the URL")
    try:
        ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"MULETEER_REDIS_CA={str(ca)!r} cannot be read as PEM certificates: {error}") from error
    more = urlencode({"ssl_ca_certs": str(ca)})
    return urlunsplit(parts._replace(query=f"{parts.query}&{more}" if parts.query else more))


def without_secrets(url: str) -> str:
    """Return ``url`` for people and logs: user and password are shown as ``***``."""
    # Up to the last @, because a password that should have been encoded may hold one, or a slash.
    shown = re.sub(r"(?<=://).*@", "***@", url, count=1, flags=re.DOTALL)
    return re.sub(r"(?<=[?&])(username|password)=[^&]*", r"\1=***", shown)
