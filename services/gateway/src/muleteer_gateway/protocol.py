"""HTTP/1.1 as uvicorn speaks it, with our answer to what is not HTTP and an end to requests that never arrive."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from muleteer.errors import BadRequestError, MuleteerError
from muleteer.queue.ids import Ids
from muleteer_gateway.http import GONE
from muleteer_gateway.problems import problem_body, problem_headers

MAX_HEAD_BYTES = 1024 * 1024
"""A request line with headers longer than this is not read to its end, whatever MULETEER_MAX_HEADER_BYTES says."""
SWEEP_SECONDS = 5.0

_IDS = Ids()


class HeadersTooLargeError(MuleteerError):
    """The request's headers are more than the gateway reads."""

    status = 431
    title = "Request header fields too large"


class ReceiveTimeoutError(MuleteerError):
    """The request did not arrive whole in the time there is for it."""

    status = 408
    title = "Request timed out"


class OneWrite:
    """A transport that sends an answer's head together with its body: each send wakes the client up by itself."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def write(self, data: bytes) -> None:
        """Write ``data``; a head is held back until what follows it, at most to the event loop's next turn."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/1.1 "):
            self._head = data
            self._loop.call_soon(self.flush)
            return
        self._transport.write(data)

    def flush(self) -> None:
        """Write what is held back."""
        if self._head:
            head, self._head = self._head, b""
            if not self._transport.is_closing():
                self._transport.write(head)

    def close(self) -> None:
        """Close once everything is written."""
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class HttpProtocol(HttpToolsProtocol):
    """One client connection."""

    head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # narrower, as upstream
        """Begin to serve a connection."""
        super().connection_made(transport)
        self.transport = OneWrite(transport, self.loop)  # type: ignore[assignment]  # it has all that is called

    def connection_lost(self, exc: Exception | None) -> None:
        """End; a request that is still being answered is told that nobody waits for it any more."""
        cycle = self.cycle
        waiting = cycle is not None and not cycle.response_complete
        gone = cast("Callable[[], None] | None", cycle.scope.get(GONE)) if waiting else None
        super().connection_lost(exc)
        if gone is not None:
            gone()

    def data_received(self, data: bytes) -> None:
        """Read what came; refuse what is not HTTP, and a request whose headers do not end."""
        self._unset_keepalive_if_required()
        rest = data
        while True:
            try:
                self.parser.feed_data(rest)
                break
            except HttpParserUpgrade as upgrade:
                if self.parser.get_method() == b"CONNECT":
                    return self.refuse(BadRequestError("This is not a proxy: CONNECT is not served."))
                rest = self._without_upgrade() + rest[upgrade.args[0] :]
                self.parser = HttpRequestParser(self)
            except HttpParserError as error:
                return self.refuse(BadRequestError(f"The request is not HTTP/1.1: {error}."))
        if not self.reading_head():
            self.head_bytes = 0
            return None
        self.head_bytes += len(data)
        if self.head_bytes > MAX_HEAD_BYTES:
            self.refuse(HeadersTooLargeError(f"Headers are limited to {MAX_HEAD_BYTES} bytes."))
        return None

    def on_headers_complete(self) -> None:
        """Begin to answer; a request that offers another protocol is first read again without its offer."""
        if not self.parser.should_upgrade():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Take the body as complete."""
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _without_upgrade(self) -> bytes:
        """Return the head that was just read without its offer of another protocol.

        Java's client offers HTTP/2 with every first request. The parser then takes the body for that protocol's.
        """
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/" + self.parser.get_http_version().encode()]
        for name, value in self.headers:
            if name == b"connection":
                tokens = [token.strip() for token in value.split(b",")]
                lines.append(b"connection: " + b", ".join(token for token in tokens if token.lower() != b"upgrade"))
            elif name != b"upgrade":
                lines.append(name + b": " + value)
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def reading_head(self) -> bool:
        """Tell whether a request line or headers have begun and not ended."""
        return self.scope is not None and (self.cycle is None or self.cycle.scope is not self.scope)

    def unfinished(self) -> Any:
        """Return what stands for the request that is still arriving; None when none is."""
        cycle = self.cycle
        if self.reading_head():
            return self.scope
        return self.scope if cycle is not None and cycle.more_body and not cycle.response_started else None

    def refuse(self, error: MuleteerError) -> None:
        """Answer with a problem document on behalf of the application, and close the connection."""
        if self.transport.is_closing():
            return
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if cycle.response_started or not cycle.more_body:
                # The request before is being answered: that is still sent, then the connection ends.
                cycle.keep_alive = False
                return
            cycle.disconnected = True
            cycle.message_event.set()
        request_id = _IDS.take()
        body = problem_body(error, "", request_id)
        headers = [
            *self.server_state.default_headers,
            *problem_headers(error),
            (b"x-request-id", request_id.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        self.transport.write(b"".join([STATUS_LINE[error.status], *lines, b"\r\n", body]))
        self.transport.close()


async def end_unfinished_requests(connections: set[Any], seconds: float) -> None:
    """Refuse requests that have been arriving for more than ``seconds``, until cancelled.

    One look at all connections now and then, because a timer a request would cost more than reading one.
    """
    loop = asyncio.get_running_loop()
    since: dict[HttpProtocol, tuple[Any, float]] = {}
    while True:
        await asyncio.sleep(min(SWEEP_SECONDS, seconds / 10))
        before, since, now = since, {}, loop.time()
        for connection in list(connections):
            request = connection.unfinished()
            if request is None:
                continue
            known, began = before.get(connection, (None, now))
            since[connection] = (request, began if known is request else now)
            if now - since[connection][1] > seconds:
                connection.refuse(
                    ReceiveTimeoutError(
                        f"The request did not arrive whole in {seconds:g} s (MULETEER_RECEIVE_SECONDS)."
                    )
                )
