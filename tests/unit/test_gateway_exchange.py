"""How an ASGI application's answers get onto the wire, over real sockets."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from muleteer.embedded import free_port
from muleteer_gateway.protocol import HttpProtocol, sweep
from support.raw import RawConnection, request
from support.waiting import wait_until

Message = dict[str, Any]
App = Callable[..., Awaitable[None]]
GET = request("/", method="GET")
BODY: Message = {"type": "http.response.body", "body": b"ok"}


def head(*headers: tuple[bytes, bytes], length: bytes = b"2") -> Message:
    return {"type": "http.response.start", "status": 200, "headers": [(b"content-length", length), *headers]}


def answering(*messages: Message, error: Exception | None = None) -> App:
    """Return an application that sends these messages, whatever it is asked, and then raises if it is to."""

    async def app(_scope: object, _receive: object, send: Callable[[Message], Awaitable[None]]) -> None:
        for message in messages:
            await send(message)
        if error is not None:
            raise error

    return app


@contextmanager
def serving(app: App, idle_seconds: float = 60.0) -> Iterator[str]:
    """Serve an application by our protocol; the block gets its URL."""
    port = free_port()
    settings: dict[str, Any] = {"ws": "none", "lifespan": "off", "access_log": False, "log_config": None}
    config = uvicorn.Config(app, port=port, http=HttpProtocol, **settings)
    server = uvicorn.Server(config)

    async def serve() -> None:
        sweeping = asyncio.create_task(sweep(server.server_state.connections, 60.0, idle_seconds))
        await server.serve()
        sweeping.cancel()

    thread = threading.Thread(target=asyncio.run, args=[serve()])
    thread.start()
    try:
        wait_until(lambda: server.started, 10, "the server listens")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


def exchange(app: App, sent: bytes = GET) -> bytes:
    """Return all that comes back on one connection, which the request or the answer ends."""
    with serving(app) as url, RawConnection(url) as raw:
        raw.send(sent)
        received = b""
        while data := raw.socket.recv(65_536):
            received += data
    return received


def test_a_whole_answer_is_one_write() -> None:
    with serving(answering(head(), BODY)) as url, RawConnection(url) as raw:
        received = raw.send(GET).socket.recv(65_536)
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert received.endswith(b"\r\n\r\nok")


def test_the_connection_goes_on_after_it() -> None:
    with serving(answering(head(), BODY)) as url, RawConnection(url) as raw:
        assert [raw.send(GET).response().text for _ in range(3)] == ["ok"] * 3


@pytest.mark.parametrize("sent", [request("/", b"", "Connection: close", method="GET"), b"GET / HTTP/1.0\r\n\r\n"])
def test_a_caller_that_wants_it_closed_is_told_so(sent: bytes) -> None:
    received = exchange(answering(head(), BODY), sent)
    assert received.count(b"\r\nconnection: close\r\n") == 1
    assert received.endswith(b"\r\n\r\nok")


def test_an_answer_that_closes_the_connection_says_so_once() -> None:
    received = exchange(answering(head((b"connection", b"close")), BODY))
    assert received.count(b"\r\nconnection: close\r\n") == 1
    assert received.endswith(b"\r\n\r\nok")


def test_an_answer_without_a_length_is_sent_in_chunks() -> None:
    start = {"type": "http.response.start", "status": 200, "headers": []}
    parts = [{**BODY, "more_body": True}, {**BODY, "body": b"!"}]
    received = exchange(answering(start, *parts), request("/", b"", "Connection: close", method="GET"))
    assert received.endswith(b"\r\n\r\n2\r\nok\r\n1\r\n!\r\n0\r\n\r\n")


def test_an_answer_to_head_has_no_body() -> None:
    received = exchange(answering(head(), BODY), request("/", b"", "Connection: close", method="HEAD"))
    assert b"\r\ncontent-length: 2\r\n" in received
    assert received.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "header",
    [(b"x-a", b"b\r\nset-cookie: c=d"), (b"x-a", b"b\n"), (b"x-a", b"b\x00"), (b"x-a\r\nx-b", b"c"), (b"x-a", b"\r")],
)
def test_a_header_that_would_be_two_is_not_sent(header: tuple[bytes, bytes]) -> None:
    received = exchange(answering(head(header), BODY))
    assert received.startswith(b"HTTP/1.1 500 ")
    assert b"set-cookie" not in received


def test_an_answer_that_breaks_off_before_its_body_is_a_500() -> None:
    received = exchange(answering(head(), error=RuntimeError("lost")))
    assert received.startswith(b"HTTP/1.1 500 ")


@pytest.mark.parametrize("length", [b"1", b"3"])
def test_a_body_of_another_length_than_was_said_is_a_500(length: bytes) -> None:
    assert exchange(answering(head(length=length), BODY)).startswith(b"HTTP/1.1 500 ")


def test_connections_without_a_request_are_closed() -> None:
    with (
        serving(answering(head(), BODY), idle_seconds=0.2) as url,
        RawConnection(url) as fresh,
        RawConnection(url) as used,
    ):
        used.send(GET).response()
        assert fresh.closed()
        assert used.closed()


def test_a_connection_whose_request_is_being_answered_is_not_idle() -> None:
    async def slow(_scope: object, _receive: object, send: Callable[[Message], Awaitable[None]]) -> None:
        await asyncio.sleep(1)  # the subject: longer than a connection may be idle
        await send(head())
        await send(BODY)

    with serving(slow, idle_seconds=0.2) as url, RawConnection(url) as raw:
        assert raw.send(GET).response().text == "ok"
        assert raw.closed()
