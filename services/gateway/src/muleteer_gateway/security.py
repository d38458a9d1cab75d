"""API keys: who may call."""

import hmac

from muleteer.errors import UnauthorizedError
from muleteer_gateway.http import RequestHeaders


def authorize(headers: RequestHeaders, keys: tuple[bytes, ...]) -> None:
    """Raise UnauthorizedError unless one of ``keys`` was sent, as Bearer token or X-Api-Key. No keys: all may."""
    if not keys:
        return
    sent = headers.api_key
    if headers.authorization[:7].lower() == b"bearer ":
        sent = headers.authorization[7:].strip()
    # Every key is compared, each in constant time: the time taken tells nothing about them.
    matches = [hmac.compare_digest(sent, key) for key in keys]
    if not any(matches):
        raise UnauthorizedError("Send a valid API key as `Authorization: Bearer <key>` or `X-Api-Key: <key>`.")
