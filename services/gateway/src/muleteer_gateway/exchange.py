"""One request and its answer, on uvicorn's terms, with a whole answer in one write."""

from asyncio import Event
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

PRINTED = bytes(byte for byte in range(256) if byte == 0x09 or (byte >= 0x20 and byte != 0x7F))
"""What the lines of an answer's head may hold (RFC 9112); only their ends are other bytes."""
Message = dict[str, Any]


class Exchange(RequestResponseCycle):
    """uvicorn's cycle, but it holds an answer's head back until the body comes: each write wakes the client up.

    The head is checked as a whole, where uvicorn has two regular expressions a header. What is not a plain answer
    (streamed, to HEAD, on a connection that is closed by its headers) is left to uvicorn.
    """

    def __init__(self, connection: HttpToolsProtocol, *, keep_alive: bool, on_response: Callable[[], None]) -> None:
        super().__init__(
            scope=connection.scope,
            transport=connection.transport,
            flow=connection.flow,
            logger=connection.logger,
            access_logger=connection.access_logger,
            access_log=connection.access_log,
            default_headers=connection.server_state.default_headers,
            message_event=Event(),
            expect_100_continue=connection.expect_100_continue,
            keep_alive=keep_alive,
            on_response=on_response,
        )
        self._head: Message | None = None

    async def send(self, message: Message) -> None:  # type: ignore[override]  # what ASGI calls a message
        """Take a message of the answer. Raises RuntimeError when the answer is not HTTP."""
        if message["type"] == "http.response.start" and not self.response_started:
            self._head = message
            return
        head, self._head = self._head, None
        if head is not None:
            whole = self._whole(head, message)
            if whole:
                self._answer(whole)
                return
            await super().send(head)  # type: ignore[arg-type]  # see above
        await super().send(message)  # type: ignore[arg-type]  # see above

    def _whole(self, head: Message, message: Message) -> bytes:
        """Return an answer as it is written; nothing when it is not a plain one. Raises RuntimeError, see ``send``."""
        body: bytes = message.get("body", b"")
        if (
            message.get("more_body")
            or self.flow.write_paused
            or self.disconnected
            or self.access_log
            or self.scope["method"] == "HEAD"
        ):
            return b""
        parts, lines, length = [STATUS_LINE[head["status"]]], 1, b""
        for headers in (self.default_headers, head["headers"]):
            for name, value in headers:
                if name == b"connection":
                    return b""
                if name == b"content-length":
                    length = value
                parts += (name, b": ", value, b"\r\n")
                lines += 1
        if not self.keep_alive:
            parts.append(b"connection: close\r\n")
            lines += 1
        text = b"".join(parts)
        if text.translate(None, PRINTED) != b"\r\n" * lines:
            raise RuntimeError(f"A header of the answer holds a byte that no header may hold: {text!r}")
        if not length:
            return b""
        if length != b"%d" % len(body):
            raise RuntimeError(f"The answer has {len(body)} bytes, its Content-Length is {length!r}.")
        return b"%b\r\n%b" % (text, body)

    def _answer(self, whole: bytes) -> None:
        self.response_started = self.response_complete = True
        self.message_event.set()
        self.transport.write(whole)
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
