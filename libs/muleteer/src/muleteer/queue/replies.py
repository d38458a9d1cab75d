"""A gateway's answers: one task reads its reply list and resolves the futures of those who wait."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError

from muleteer.queue.line import AsyncLine
from muleteer.queue.names import replies_key
from muleteer.queue.scripts import script

logger = logging.getLogger(__name__)

READ_AT_ONCE = 1000
BLOCK_SECONDS = 5.0
LOOK_AFTER_SECONDS = 1.0
"""A waiter this old has its job looked at in Redis, in case its reply was lost (or a stock worker ran the job)."""
LOOK_AT_ONCE = 1000
TICK_SECONDS = 0.02
"""How exactly waiting ends."""


class Reply(NamedTuple):
    """How a job ended, as its worker told this gateway."""

    status: str
    """finished, failed, canceled or expired."""
    payload: bytes
    """JSON array of predictions, or JSON object of the error."""
    waited: float = 0.0
    batch_seconds: float = 0.0
    predict_seconds: float = 0.0
    rows: int = 0


class WaitTimeout(Exception):  # noqa: N818 - an outcome of waiting, not an error
    """The answer did not come within the time waited."""


Future = asyncio.Future[Reply]


class Deadlines:
    """When each waiter's time is up. Waiters with the same patience expire in the order they came.

    An event-loop timer a request would cost more than the rest of its waiting; here one tick serves all.
    """

    def __init__(self) -> None:
        self._by_patience: dict[float, dict[Future, tuple[float, str]]] = {}

    def add(self, future: Future, job_id: str, now: float, seconds: float) -> None:
        """Let ``future`` expire ``seconds`` after ``now`` (event-loop time)."""
        self._by_patience.setdefault(seconds, {})[future] = (now + seconds, job_id)

    def remove(self, future: Future, seconds: float) -> None:
        """Forget a future; it need not be known."""
        waiting = self._by_patience.get(seconds)
        if waiting is not None:
            waiting.pop(future, None)

    def expired(self, now: float) -> list[tuple[Future, str]]:
        """Take out the futures whose time is up, with their job ids."""
        out = []
        for seconds, waiting in list(self._by_patience.items()):
            while waiting:
                future = next(iter(waiting))
                deadline, job_id = waiting[future]
                if deadline > now:
                    break
                del waiting[future]
                out.append((future, job_id))
            if not waiting:
                del self._by_patience[seconds]
        return out


@dataclass(slots=True, eq=False)
class _Waiting:
    futures: dict[Future, float]
    """Those who wait, and how many seconds each does."""
    since: float
    resubmit: Callable[[], None] | None
    missed: int = 0


def parse_reply(element: bytes) -> tuple[str, Reply]:
    """Read one element of a reply list: an answer's head, a line feed, its payload."""
    head, _, payload = element.partition(b"\n")
    job_id, status, *figures = head.decode().split(" ")
    if len(figures) < 4:
        return job_id, Reply(status, payload)
    waited, batch, predict, rows = figures
    return job_id, Reply(status, payload, float(waited), float(batch), float(predict), int(rows))


class Replies:
    """Futures by job id, resolved from this gateway's reply list.

    A reply can be lost with a connection. Therefore a job that somebody has waited for longer than a second is looked
    at: one that has ended is read from its result, and one that has gone without a trace is submitted again.
    """

    def __init__(self, connection: Redis, gateway: str, read_result: Callable[[str], Awaitable[Reply | None]]) -> None:
        self._connection = connection
        self._gateway = gateway
        self._read_result = read_result
        self._waiting: dict[str, _Waiting] = {}
        self._deadlines = Deadlines()

    def __len__(self) -> int:
        return len(self._waiting)

    def expect(self, job_id: str, timeout: float, resubmit: Callable[[], None] | None = None) -> Future:
        """Return a future of the job's reply, or of WaitTimeout after ``timeout`` seconds.

        ``resubmit`` is called when the job turns out to be gone from Redis.
        """
        loop = asyncio.get_running_loop()
        future: Future = loop.create_future()
        now = loop.time()
        waiting = self._waiting.get(job_id)
        if waiting is None:
            self._waiting[job_id] = _Waiting({future: timeout}, now, resubmit)
        else:
            waiting.futures[future] = timeout
        self._deadlines.add(future, job_id, now, timeout)
        return future

    def forget(self, job_id: str, future: Future) -> None:
        """Stop waiting; does nothing when the reply has come."""
        waiting = self._waiting.get(job_id)
        if waiting is not None and future in waiting.futures:
            self._deadlines.remove(future, waiting.futures.pop(future))
            if not waiting.futures:
                del self._waiting[job_id]

    def fail(self, job_id: str, error: Exception) -> None:
        """Give everyone who waits for the job an error instead of a reply."""
        for future in self._take(job_id):
            if not future.done():
                future.set_exception(error)

    def resolve(self, job_id: str, reply: Reply) -> None:
        """Give everyone who waits for the job its reply; a reply nobody waits for is dropped."""
        for future in self._take(job_id):
            if not future.done():
                future.set_result(reply)

    def _take(self, job_id: str) -> Iterable[Future]:
        waiting = self._waiting.pop(job_id, None)
        if waiting is None:
            return ()
        for future, seconds in waiting.futures.items():
            self._deadlines.remove(future, seconds)
        return waiting.futures

    async def run(self) -> None:
        """Read replies until cancelled; a lost connection is made anew."""
        key, delay, line = replies_key(self._gateway), 0.05, AsyncLine(self._connection)
        while True:
            try:
                found = await line.call("BLMPOP", BLOCK_SECONDS, 1, key, "LEFT", "COUNT", READ_AT_ONCE)
            except (RedisError, OSError) as error:
                if delay <= 0.05:
                    logger.warning("Replies cannot be read, trying again: %s", error)
                await asyncio.sleep(delay)
                delay = min(delay * 2, 1.0)
                continue
            delay = 0.05
            if found:
                for element in found[1]:
                    self.resolve(*parse_reply(element))
                # Those who waited answer their callers first; asking for more comes after.
                await asyncio.sleep(0)

    async def run_look(self) -> None:
        """Look at jobs that have been waited for a while, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_AFTER_SECONDS)
            try:
                await self._look()
            except (RedisError, OSError) as error:
                logger.debug("jobs cannot be looked at, trying again: %s", error)

    async def _look(self) -> None:
        before = asyncio.get_running_loop().time() - LOOK_AFTER_SECONDS
        old = [job_id for job_id, waiting in self._waiting.items() if waiting.since < before]
        for first in range(0, len(old), LOOK_AT_ONCE):
            ids = old[first : first + LOOK_AT_ONCE]
            statuses = await script("peek").call_async(self._connection, *ids)
            for job_id, status in zip(ids, statuses, strict=True):
                await self._judge(job_id, status.decode())

    async def _judge(self, job_id: str, status: str) -> None:
        waiting = self._waiting.get(job_id)
        if waiting is None or status in ("queued", "started"):
            if waiting is not None:
                waiting.missed = 0
            return
        if status:
            reply = await self._read_result(job_id)
            if reply is not None:
                self.resolve(job_id, reply)
            return
        # Gone: its reply is on the way, or was lost. Twice missed, it is lost; predictions may be repeated.
        waiting.missed += 1
        if waiting.missed >= 2:
            waiting.missed = 0
            if waiting.resubmit is not None:
                logger.info("the reply of a job was lost, it is enqueued again", extra={"job_id": job_id})
                waiting.resubmit()

    async def run_deadlines(self) -> None:
        """End the waiting of those whose time is up, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            for future, job_id in self._deadlines.expired(loop.time()):
                self.forget(job_id, future)
                if not future.done():
                    future.set_exception(WaitTimeout())
