"""A TCP line between two parts that can be cut, closed, slowed and stalled, as networks are."""

import asyncio
import socket
import struct
from collections import deque
from typing import Self

from muleteer.embedded import HOST

NO_LINGER = struct.pack("ii", 1, 0)


class _Way:
    """One direction of a connection: what is on its way, and when it is due."""

    def __init__(self, link: "Link", *, answers: bool) -> None:
        self._answers = answers
        self.sink: asyncio.Transport | None = None
        self.dead = False
        self._link = link
        self._sent: deque[tuple[float, bytes | None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def send(self, data: bytes | None) -> None:
        """Bring ``data`` to the other side, None for the end of the connection: never before what was sent earlier."""
        due = asyncio.get_running_loop().time() + self._link.latency
        if self._sent:
            due = max(due, self._sent[-1][0])
        self._sent.append((due, data))
        self.move()

    def move(self) -> None:
        """Write what is due, unless the link stands still or the other side is not connected yet."""
        if self.sink is None or self._link.stalled or (self._answers and self._link.muted):
            return
        loop = asyncio.get_running_loop()
        while self._sent and self._sent[0][0] <= loop.time():
            data = self._sent.popleft()[1]
            if data is None:
                self.sink.close()
            elif not self.sink.is_closing():
                self.sink.write(data)
        if self._sent and self._timer is None:
            self._timer = loop.call_at(self._sent[0][0], self._due)

    def stop(self) -> None:
        self.dead = True
        if self._timer is not None:
            self._timer.cancel()
        if self.sink is not None:
            if not self.sink.is_closing():  # to linger for no time is to end with a reset, as when a node has gone
                self.sink.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            self.sink.abort()

    def _due(self) -> None:
        self._timer = None
        self.move()


class _End(asyncio.Protocol):
    """Where the link meets one of the two parts: what comes in here goes ``out``, to the other part."""

    def __init__(self, link: "Link", back: _Way, out: _Way) -> None:
        self._link, self._back, self._out = link, back, out

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._back.sink = transport
        if self._back.dead:  # cut before it was made
            transport.abort()
            return
        self._link.ways |= {self._back, self._out}
        self._back.move()

    def data_received(self, data: bytes) -> None:
        self._out.send(data)

    def connection_lost(self, _: Exception | None) -> None:
        self._out.send(None)
        self._link.ways.discard(self._back)


class Link:
    """Passes connections to ``port`` of this machine on to ``target``; use as an async context manager.

    All its faults act on the connections that are open and on those to come. They must be called in the event loop.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.latency = 0.0
        """Seconds that everything takes on its way, each way."""
        self.stalled = False
        self.muted = False
        """What the target answers is held, what it is sent is not."""
        self.ways: set[_Way] = set()
        self._closed = False
        self._dialing: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def redis_url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accepted, HOST, 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._dialing, return_exceptions=True)
        self.cut()
        await asyncio.sleep(0)  # aborted transports tell their protocols in the loop's next turn

    def cut(self) -> None:
        """Reset every connection; what was on its way is lost."""
        for way in list(self.ways):
            way.stop()
        self.ways.clear()

    def close(self) -> None:
        """Reset every connection, and every new one until ``open``."""
        self._closed = True
        self.cut()

    def open(self) -> None:
        self._closed = False

    def stall(self) -> None:
        """Let nothing through until ``flow``, and lose nothing."""
        self.stalled = True

    def flow(self) -> None:
        self.stalled = False
        for way in list(self.ways):
            way.move()

    def mute(self) -> None:
        """Let requests through but no answer, until ``lose_answers``."""
        self.muted = True

    def lose_answers(self) -> None:
        """Reset every connection: what was asked since ``mute`` has been done, and nobody was told."""
        self.cut()
        self.muted = False

    def _accepted(self) -> _End:
        to_server, to_client = _Way(self, answers=False), _Way(self, answers=True)
        task = asyncio.create_task(self._dial(to_server, to_client))
        self._dialing.add(task)
        task.add_done_callback(self._dialing.discard)
        return _End(self, back=to_client, out=to_server)

    async def _dial(self, to_server: _Way, to_client: _Way) -> None:
        try:
            if self._closed:
                raise ConnectionRefusedError
            loop = asyncio.get_running_loop()
            await loop.create_connection(lambda: _End(self, back=to_server, out=to_client), HOST, self.target)
            if self._closed:
                raise ConnectionRefusedError
        except OSError:
            to_server.stop()
            to_client.stop()
            self.ways -= {to_server, to_client}
