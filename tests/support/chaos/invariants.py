"""What must hold once all faults are undone, looked at from outside: HTTP answers, Redis keys, metrics."""

import asyncio
import time
from collections import Counter

import httpx
import redis

from muleteer.queue.connection import connect
from support.chaos.arena import PROCESSES, Arena
from support.chaos.book import Book
from support.chaos.caller import Caller
from support.chaos.callers import Callers
from support.chaos.keys import left_over
from support.chaos.ledger import misaccounted, off_balance
from support.chaos.model import VERSIONS
from support.pod import until

ENDED_SECONDS = 60.0
"""All that was accepted has ended this long after the last fault was undone."""
QUIET_SECONDS = 20.0
PROBES = 200
PROBE_SECONDS = 20.0
AT_ONCE = 16


async def check_all(arena: Arena, callers: Callers, book: Book, seed: int) -> None:
    """Add what does not hold to the book's violations."""
    async with Caller(arena, book, "audit", 0, seed) as auditor:
        await _all_promises_end(auditor, book)
    await _throughput_returns(arena, book)
    await callers.ask_keys_again(20)
    with connect(arena.valkey.url) as connection:
        await _nothing_waits_or_runs(connection, book)
        for wrong in off_balance(connection):
            book.violate(f"ledger: {wrong}")
        await _keys_are_right(connection, book)
    await _accounts_are_right(arena, book)


async def watch_ledger(arena: Arena, book: Book) -> None:
    """Hold the ledger against queues and leases twice a second, until cancelled."""
    with redis.Redis.from_url(arena.valkey.url, socket_timeout=1, retry_on_timeout=False, retry=None) as connection:
        while True:
            await asyncio.sleep(0.5)
            try:
                wrong = await asyncio.to_thread(off_balance, connection)
            except (redis.ConnectionError, redis.TimeoutError):
                continue  # Valkey is down or stands still
            for line in wrong:
                book.violate(f"while it runs: {line}")


async def _all_promises_end(auditor: Caller, book: Book) -> None:
    """Look at every promised job until it has ended; one that is seen for the second time must have ended the same."""
    open_promises = list(book.promises.values())
    deadline = time.monotonic() + ENDED_SECONDS
    while open_promises and time.monotonic() < deadline:
        still_open = []
        for first in range(0, len(open_promises), AT_ONCE):
            some = open_promises[first : first + AT_ONCE]
            done = await asyncio.gather(*(auditor.look(promise) for promise in some))
            still_open += [promise for promise, ended in zip(some, done, strict=True) if not ended]
        open_promises = still_open
    for promise in open_promises:
        book.violate(f"job {promise.job_id} has not ended within {ENDED_SECONDS:g} s of the last fault")


async def _throughput_returns(arena: Arena, book: Book) -> None:
    """Send requests to both gateways: each is answered with 200, and all soon."""
    began = time.monotonic()
    async with Caller(arena, book, "probe", 0, 0) as caller:
        for _ in range(0, PROBES, AT_ONCE):
            parts = [caller.texts() for _ in range(AT_ONCE)]
            answers = await asyncio.gather(*(caller.predict(texts) for texts in parts))
            for texts, seen in zip(parts, answers, strict=True):
                caller.judge(seen, texts)
                if seen.status != 200:
                    book.violate(f"after the faults a request is answered with {seen.status}: {seen.document}")
    if time.monotonic() - began > PROBE_SECONDS:
        book.violate(f"after the faults {PROBES} requests take {time.monotonic() - began:.1f} s")


async def _nothing_waits_or_runs(connection: redis.Redis, book: Book) -> None:
    def busy() -> list[str]:
        patterns = ("rq:wip:*", "rq:queue:*", "muleteer:lanes:*")
        return [key.decode() for pattern in patterns for key in connection.scan_iter(pattern, count=1000)]

    try:
        await until(lambda: not busy(), QUIET_SECONDS, "no job waits or runs")
    except AssertionError:
        for key in busy():
            book.violate(
                f"{key} still holds jobs {QUIET_SECONDS:g} s after all others have ended: {_members(connection, key)}"
            )


def _members(connection: redis.Redis, key: str) -> list[str]:
    kind = connection.type(key)
    found = connection.lrange(key, 0, 4) if kind == b"list" else connection.zrange(key, 0, 4)
    return [member.decode() for member in found]


async def _keys_are_right(connection: redis.Redis, book: Book) -> None:
    for wrong in await asyncio.to_thread(left_over, connection, sum(PROCESSES)):
        book.violate(f"left in Redis: {wrong}")
    for promise in book.promises.values():
        results = connection.xlen(f"rq:results:{promise.job_id}")
        wanted = 1 if promise.end is not None and promise.end["status"] in ("finished", "failed") else 0
        if promise.end is not None and results != wanted:
            book.violate(f"job {promise.job_id} is {promise.end['status']} and has {results} results")


async def _accounts_are_right(arena: Arena, book: Book) -> None:
    """Hold what gateways say of the ledger against itself and against what callers know, once they have looked anew."""
    known: dict[str, Counter[str]] = {version: Counter() for version in VERSIONS}
    ends = {job: (version, "finished") for job, version in book.answered.items()}
    ends |= {p.job_id: (p.end["version"], p.end["status"]) for p in book.promises.values() if p.end is not None}
    for version, status in ends.values():
        known[version].update({"accepted": 1, status: 1})
    if book.chronicle.appendfsync != "always":
        known = {}  # what callers saw may have been lost, and the ledger with it
    for gateway in arena.gateways:

        def wrong(url: str = gateway.url) -> list[str]:
            return misaccounted(httpx.get(f"{url}/metrics", timeout=5).text, known)

        try:
            await until(lambda w=wrong: not w(), 10, "the accounts add up")
        except AssertionError:
            for line in wrong():
                book.violate(f"metrics: {line}")
