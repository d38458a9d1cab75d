"""HTTP/1.1 as uvicorn speaks it, with our answer to what is not HTTP and an end to what never arrives."""

import asyncio
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import unquote

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, parse_url
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from muleteer.errors import BadRequestError, MuleteerError
from muleteer.queue.ids import Ids
from muleteer_gateway.exchange import Exchange
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


class HttpProtocol(HttpToolsProtocol):
    """One client connection."""

    head_bytes = 0

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
        parser, scope = self.parser, self.scope
        if parser.should_upgrade():
            return
        version, url = parser.get_http_version(), parse_url(self.url)
        path = url.path.decode("ascii")
        scope["method"] = parser.get_method().decode("ascii")
        scope["http_version"] = version
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = url.path
        scope["query_string"] = url.query or b""
        before = self.cycle
        self.cycle = Exchange(
            self,
            keep_alive=version != "1.0" and parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_response_complete(self) -> None:
        """Begin with the next request, if it is there already."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())

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

    def arriving(self) -> object:
        """Return what stands for the request that is still arriving; None when none is."""
        cycle = self.cycle
        if self.reading_head():
            return self.scope
        return self.scope if cycle is not None and cycle.more_body and not cycle.response_started else None

    def idle(self) -> object:
        """Return what stands for the wait for the next request; None while there is one."""
        if self.cycle is None:
            return None if self.reading_head() else self
        return self.cycle if self.cycle.response_complete and not self.reading_head() else None

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


async def sweep(connections: set[Any], receive_seconds: float, idle_seconds: float) -> None:
    """End what takes too long, until cancelled: requests that do not arrive, and connections without one.

    One look at all connections now and then, because a timer a request would cost more than reading one.
    """
    loop = asyncio.get_running_loop()
    since: dict[HttpProtocol, tuple[object, float]] = {}
    while True:
        await asyncio.sleep(min(SWEEP_SECONDS, receive_seconds / 10, idle_seconds / 10))
        before, since, now = since, {}, loop.time()
        for connection in list(connections):
            arriving = connection.arriving()
            waiting = arriving or connection.idle()
            if waiting is None:
                continue
            known, began = before.get(connection, (None, now))
            began = began if known is waiting else now
            since[connection] = (waiting, began)
            if arriving is None and now - began > idle_seconds:
                connection.timeout_keep_alive_handler()
            elif arriving is not None and now - began > receive_seconds:
                connection.refuse(
                    ReceiveTimeoutError(
                        f"The request did not arrive whole in {receive_seconds:g} s (MULETEER_RECEIVE_SECONDS)."
                    )
                )
