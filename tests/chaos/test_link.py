"""The lines that chaos breaks do break, and only as they are told to."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from support.link import Link

Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def echoing() -> AsyncIterator[tuple[Link, list[bytes]]]:
    """Run a server that says every line again, behind a link; yield the link and the lines that it got."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                heard.append(line)
                writer.write(line)
        except ConnectionError:
            pass  # the link was cut
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, Link(server.sockets[0].getsockname()[1]) as link:
        yield link, heard


@asynccontextmanager
async def connected(link: Link) -> AsyncIterator[Line]:
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def say(line: Line, text: bytes) -> bytes:
    """Send a line and return what comes back; empty or ConnectionError when the connection is lost."""
    line[1].write(text)
    async with asyncio.timeout(10):
        return await line[0].readline()


async def is_lost(line: Line, text: bytes = b"anybody?\n") -> bool:
    try:
        return await say(line, text) == b""
    except ConnectionError:
        return True


async def test_a_sound_link_passes_everything_on() -> None:
    async with echoing() as (link, _), connected(link) as line:
        assert await say(line, b"one\n") == b"one\n"
        assert await say(line, b"x" * 60_000 + b"\n") == b"x" * 60_000 + b"\n"


async def test_a_cut_ends_connections_and_new_ones_can_be_made() -> None:
    async with echoing() as (link, _), connected(link) as line:
        assert await say(line, b"one\n") == b"one\n"
        link.cut()
        assert await is_lost(line)
        async with connected(link) as another:
            assert await say(another, b"two\n") == b"two\n"


async def test_a_closed_link_refuses_until_it_is_opened() -> None:
    async with echoing() as (link, heard):
        link.close()
        async with connected(link) as line:
            assert await is_lost(line)
        assert heard == []
        link.open()
        async with connected(link) as line:
            assert await say(line, b"one\n") == b"one\n"


async def test_a_stalled_link_holds_everything_and_loses_nothing() -> None:
    async with echoing() as (link, heard), connected(link) as line:
        link.stall()
        answer = asyncio.create_task(say(line, b"one\n"))
        done, _ = await asyncio.wait([answer], timeout=0.2)
        assert not done
        assert heard == []
        link.flow()
        assert await answer == b"one\n"


async def test_latency_is_added_each_way_and_keeps_the_order_when_it_ends() -> None:
    async with echoing() as (link, _), connected(link) as line:
        assert await say(line, b"one\n") == b"one\n"
        link.latency = 0.15
        began = time.monotonic()
        assert await say(line, b"two\n") == b"two\n"
        assert time.monotonic() - began >= 0.3
        slow = asyncio.create_task(say(line, b"three\n"))
        await asyncio.sleep(0.05)  # it is on its way
        link.latency = 0.0
        line[1].write(b"four\n")
        assert await slow == b"three\n"
        assert await line[0].readline() == b"four\n"


async def test_lost_answers_are_to_requests_that_were_done() -> None:
    text = b"done\n"
    async with echoing() as (link, heard), connected(link) as line:
        link.mute()
        answer = asyncio.create_task(is_lost(line, text))
        async with asyncio.timeout(10):
            while heard != [text]:  # noqa: ASYNC110 - a condition of the server's
                await asyncio.sleep(0.01)
        link.lose_answers()
        assert await answer
        async with connected(link) as another:
            assert await say(another, b"again\n") == b"again\n"
