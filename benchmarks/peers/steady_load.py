"""A load that accounts for each request: how it ended and when, also while a system falls and comes back.

wrk counts errors but not when they happened, and forgets requests that are never answered.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

RETRY_SECONDS = 0.05
"""How long a connection that failed waits before its next request."""


@dataclass(slots=True)
class Account:
    """What became of every request, by the clock of ``time.monotonic``."""

    answered: list[float] = field(default_factory=list)
    """When each success came."""
    failed: dict[str, int] = field(default_factory=dict)
    """How many requests ended otherwise, by how."""

    def fail(self, how: str) -> None:
        """Count a failed request."""
        self.failed[how] = self.failed.get(how, 0) + 1


async def load_steadily(
    url: str, bodies: Sequence[bytes], connections: int, until: float, grace_seconds: float, account: Account
) -> None:
    """Keep ``connections`` requests on their way until ``until``; what has no answer long after that has failed."""
    clients = [_Connection(url, bodies, index, until, account) for index in range(connections)]
    tasks = [asyncio.create_task(client.run()) for client in clients]
    _, waiting = await asyncio.wait(tasks, timeout=until - time.monotonic() + grace_seconds)
    for task in waiting:
        account.fail("never answered")
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
            raise result


class _Connection:
    """One connection with at most one request on its way, as wrk's are."""

    def __init__(self, url: str, bodies: Sequence[bytes], index: int, until: float, account: Account) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        self._requests = [f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies]
        self._next = index * 7
        self._until = until
        self._account = account
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self) -> None:
        """Send one request after the other."""
        try:
            while time.monotonic() < self._until:
                try:
                    status = await self._ask()
                except ConnectionRefusedError:
                    await self._failed("refused")
                except (OSError, EOFError) as error:
                    await self._failed(f"broken off ({type(error).__name__})")
                else:
                    if status == 200:
                        self._account.answered.append(time.monotonic())
                    else:
                        await self._failed(f"status {status}")
        finally:
            self._close()

    async def _failed(self, how: str) -> None:
        self._account.fail(how)
        self._close()
        await asyncio.sleep(RETRY_SECONDS)

    def _close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _ask(self) -> int:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        self._next += 1
        writer.write(self._requests[self._next % len(self._requests)])
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await self._read_body(reader, head)
        if b"\r\nconnection: close" in head:
            self._close()
        return int(head.split(b" ", 2)[1])

    @staticmethod
    async def _read_body(reader: asyncio.StreamReader, head: bytes) -> None:
        _, found, rest = head.partition(b"\r\ncontent-length:")
        if found:
            await reader.readexactly(int(rest.partition(b"\r\n")[0]))
        elif b"\r\ntransfer-encoding: chunked" in head:
            while size := int(await reader.readline(), 16):
                await reader.readexactly(size + 2)
            await reader.readline()
