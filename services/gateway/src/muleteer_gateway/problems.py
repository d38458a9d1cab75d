"""Errors as problem details (RFC 9457), with the ``error`` string that V1 clients read beside them."""

import math
from http import HTTPStatus

import orjson
from starlette.types import Scope

from muleteer.errors import MuleteerError

Headers = list[tuple[bytes, bytes]]


def problem_body(error: MuleteerError, path: str, request_id: str) -> bytes:
    """Return the problem document of an error."""
    document = {
        "type": "about:blank" if error.title == HTTPStatus(error.status).phrase else _type_of(error),
        "title": error.title,
        "status": error.status,
        "detail": error.message,
        "error": error.message,
        "instance": path,
        "request_id": request_id,
    }
    return orjson.dumps(document | error.extra, default=str)


def problem_headers(error: MuleteerError) -> Headers:
    """Return the headers that go with an error's body."""
    headers = [(b"content-type", b"application/problem+json")]
    if error.retry_after is not None:
        headers.append((b"retry-after", str(max(1, math.ceil(error.retry_after))).encode()))
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", b"Bearer"))
    if "allow" in error.extra:
        headers.append((b"allow", ", ".join(error.extra["allow"]).encode()))
    return headers


def request_path(scope: Scope) -> str:
    """Return the request's path, for a problem's ``instance``, at a bounded length."""
    return str(scope["path"])[:200]


def _type_of(error: MuleteerError) -> str:
    return "urn:muleteer:problem:" + error.title.lower().replace(" ", "-")
