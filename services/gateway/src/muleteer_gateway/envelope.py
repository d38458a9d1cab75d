"""The ASGI layer around everything: request ids, problem documents, header limits, keys, and leaving connections."""

import logging
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from muleteer.errors import MethodNotAllowedError, MuleteerError, NotFoundError
from muleteer_gateway.core import Gateway
from muleteer_gateway.http import ClientDisconnectedError, read_headers, send_answer
from muleteer_gateway.problems import problem_body, problem_headers, request_path
from muleteer_gateway.protocol import HeadersTooLargeError
from muleteer_gateway.request_id import request_id_of

logger = logging.getLogger(__name__)

GUARDED = ("/v1/", "/v2/models")
"""What wants a key where there are keys."""
MAX_HEADERS = 100
PAYLOAD_TOO_LARGE = 413
"""After this answer the rest of the body is not read, so that the connection cannot be used again."""


class Envelope:
    """Pure ASGI: gives every answer its request id, turns every error into a problem document."""

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self._app = app
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_marked(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                self._mark(scope, message)
            await send(message)

        try:
            self._check_headers(scope)
            await self._app(scope, receive, send_marked)
        except ClientDisconnectedError:
            logger.debug("client went away", extra={"request_id": request_id_of(scope)})
        except Exception as error:
            if not isinstance(error, MuleteerError):
                # The stack goes to the log; the caller gets the id to find it by.
                logger.exception(
                    "Unexpected error on %s", request_path(scope), extra={"request_id": request_id_of(scope)}
                )
                error = MuleteerError("Something unexpected went wrong: the log has it under this request id.")
            if started:
                raise
            await _send_problem(scope, send_marked, error)

    def _mark(self, scope: Scope, message: Message) -> None:
        headers = message["headers"] = list(message.get("headers", ()))
        headers.append((b"x-request-id", request_id_of(scope).encode()))
        if self._gateway.draining or message["status"] == PAYLOAD_TOO_LARGE:
            headers.append((b"connection", b"close"))

    def _check_headers(self, scope: Scope) -> None:
        headers, size = scope["headers"], 0
        for name, value in headers:
            size += len(name) + len(value)
        limit = self._gateway.settings.max_header_bytes
        if len(headers) > MAX_HEADERS or size > limit:
            raise HeadersTooLargeError(f"Headers are limited to {MAX_HEADERS} fields and {limit} bytes together.")
        if self._gateway.settings.keys and scope["path"].startswith(GUARDED):
            self._gateway.clients.identify(read_headers(scope))


def as_problem(error: HTTPException, allow: list[str]) -> MuleteerError:
    """Return the framework's own error as one of ours; ``allow`` are the methods that the path is for."""
    if error.status_code == HTTPStatus.NOT_FOUND:
        return NotFoundError("There is nothing at this path; /docs shows what there is.")
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return MethodNotAllowedError(f"This method is not for this path: use {' or '.join(allow)}.", allow=allow)
    problem = MuleteerError(str(error.detail))
    problem.status = error.status_code
    problem.title = "Request refused"
    return problem


async def _send_problem(scope: Scope, send: Send, error: MuleteerError) -> None:
    body = problem_body(error, request_path(scope), request_id_of(scope))
    await send_answer(send, error.status, problem_headers(error), b"" if scope["method"] == "HEAD" else body)
