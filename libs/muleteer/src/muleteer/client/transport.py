"""httpx on one side, the protocol's steps on the other: what the sync and the async client translate alike."""

from typing import Any, TypedDict

import httpx

from muleteer.client.answers import Answer
from muleteer.client.protocol import Failure, Protocol, Send

CONNECT_SECONDS = 5.0


class ClientOptions(TypedDict):
    """How both kinds of httpx client are made."""

    base_url: str
    headers: dict[str, str]
    limits: httpx.Limits


def client_options(protocol: Protocol) -> ClientOptions:
    """Return the arguments for ``httpx.Client`` and ``httpx.AsyncClient``."""
    limits = httpx.Limits(max_connections=256, max_keepalive_connections=256)
    return {"base_url": protocol.url, "headers": protocol.headers, "limits": limits}


def request_arguments(step: Send) -> dict[str, Any]:
    """Return the arguments for httpx's ``request``."""
    request = step.request
    connect = min(CONNECT_SECONDS, step.seconds)
    return {
        "method": request.method,
        "url": request.path,
        "headers": request.headers,
        "content": request.body,
        "timeout": httpx.Timeout(step.seconds, connect=connect),
    }


def answer_of(response: httpx.Response) -> Answer:
    """Return httpx's response as the protocol reads it."""
    return Answer(response.status_code, dict(response.headers), response.content)


def failure_of(error: httpx.RequestError) -> Failure:
    """Return what httpx's exception means to the protocol."""
    message = str(error) or type(error).__name__
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
        return Failure("refused", message)
    if isinstance(error, httpx.TimeoutException):
        return Failure("timeout", message)
    return Failure("broken", message)
