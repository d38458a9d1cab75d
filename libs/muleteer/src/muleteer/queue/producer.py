"""The gateway's side of enqueueing: all jobs of one event-loop tick go to Redis in one Lua call."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Protocol

import orjson
from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError, OutOfMemoryError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from muleteer.errors import MuleteerError, UnavailableError
from muleteer.queue import rqformat
from muleteer.queue.line import AsyncLine
from muleteer.queue.names import JobClass, lane_name
from muleteer.queue.scripts import Argument, script

logger = logging.getLogger(__name__)

MAX_JOBS_A_CALL = 256
MAX_BYTES_A_CALL = 4 * 1024 * 1024
REGISTER_SECONDS = 0.5
"""How often queues are registered with RQ: its tools find them by that, and can also drop them."""
RETRYABLE = (RedisConnectionError, RedisTimeoutError, BusyLoadingError, OSError)
"""What a Redis that restarts answers with: the call is repeated, which the script makes harmless."""


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """What one client may have."""

    rate: float = 0.0
    """Requests a second in the long run; 0 is no limit."""
    burst: float = 0.0
    """Requests at once after a pause, at least 1 where there is a rate."""
    concurrency: int = 0
    """Jobs queued or running at once; 0 is no limit."""

    @property
    def argument(self) -> str:
        """Return the limits as ``enqueue.lua`` reads them."""
        return f"{self.rate:g} {max(1.0, self.burst or self.rate):g} {self.concurrency}"


@dataclass(slots=True, eq=False)
class NewJob:
    """A request's instances on their way into the queue."""

    id: str
    queue: str
    model: str
    version: str
    pool: str
    input: bytes
    """JSON array of instances."""
    rows: int
    reply_to: str
    """Gateway that gets the answer; empty for none."""
    kept: bool
    """The result is stored beyond its first waiter."""
    wait_limit: float | None
    """Seconds that the caller waits; a while later the job is dropped unclaimed. None for never."""
    timeout: int
    result_ttl: int
    failure_ttl: int
    max_queue_jobs: int
    idempotency_key: str = ""
    digest: str = ""
    """Digest of the body that the idempotency key stands for."""
    extra: bytes = b""
    """JSON object that travels with the job: request id, keys of the instances."""
    callback: str = ""
    client: str = ""
    """Who sent it, for fair queueing and limits; empty for a nameless client."""
    job_class: JobClass = "interactive"
    limits: "ClientLimits | None" = None
    max_queue_rows: int | None = None

    @property
    def kind(self) -> tuple[Argument, ...]:
        """What many jobs have in common, as ``enqueue.lua`` reads it: it is sent once a call."""
        return (
            self.queue,
            self.model,
            self.version,
            self.pool,
            self.reply_to,
            "1" if self.kept else "",
            "" if self.wait_limit is None or self.kept else self.wait_limit,
            self.timeout,
            self.result_ttl,
            self.failure_ttl,
            self.max_queue_jobs,
            "" if self.max_queue_rows is None else self.max_queue_rows,
            lane_name(self.queue, self.job_class, self.client),
            self.client,
            self.limits.argument if self.limits is not None else "",
        )

    def rest(self, *, again: bool) -> bytes:
        """Return what few jobs have, as ``enqueue.lua`` reads it: a JSON object, or nothing."""
        if not (again or self.idempotency_key or self.callback):
            return b""
        rest: dict[str, object] = {"again": again, "callback": self.callback, "digest": self.digest}
        if self.idempotency_key:
            rest["key"] = f"muleteer:idempotency:{self.idempotency_key}"
        return orjson.dumps(rest)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a job was not enqueued, and a detail of it.

    ``same`` or ``conflict`` (the job of that key), ``full`` (jobs queued), ``rows`` (instances queued), ``rate``
    (seconds until the client may try again) or ``busy`` (jobs that the client has under way).
    """

    code: str
    detail: str


class Listener(Protocol):
    """Whoever submitted a job and wants to know what became of the submission."""

    def accepted(self, job: NewJob) -> None:
        """Redis has the job."""

    def refused(self, job: NewJob, refusal: Refusal) -> None:
        """Redis did not take the job."""

    def failed(self, job: NewJob, error: MuleteerError) -> None:
        """Redis could not be asked; whether it has the job is not known."""


@dataclass(slots=True, eq=False)
class _Submission:
    job: NewJob
    listener: Listener
    since: float
    """When it was submitted (event-loop time)."""
    again: bool
    """Redis may have the job already."""


class Producer:
    """Collects submissions and enqueues them in as few calls as there are event-loop ticks."""

    def __init__(self, connection: Redis, retry_seconds: float = 2.0) -> None:
        self._line = AsyncLine(connection)
        self._retry_seconds = retry_seconds
        self._pending: list[_Submission] = []
        self._wake: asyncio.Future[None] | None = None
        self._registered: dict[str, float] = {}
        """When each queue was registered with RQ last (event-loop time)."""

    def submit(self, job: NewJob, listener: Listener, *, again: bool = False) -> None:
        """Enqueue ``job`` with the next call; ``listener`` hears the outcome. ``again``: Redis may have it already."""
        self._pending.append(_Submission(job, listener, asyncio.get_running_loop().time(), again))
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def run(self) -> None:
        """Send what is submitted until cancelled."""
        while True:
            if not self._pending:
                self._wake = asyncio.get_running_loop().create_future()
                await self._wake
                self._wake = None
            batch = self._take()
            await self._send(batch)

    def _take(self) -> list[_Submission]:
        size = 0
        for count, submission in enumerate(self._pending, 1):
            size += len(submission.job.input)
            if count == MAX_JOBS_A_CALL or size >= MAX_BYTES_A_CALL:
                batch, self._pending = self._pending[:count], self._pending[count:]
                return batch
        batch, self._pending = self._pending, []
        return batch

    async def _send(self, batch: list[_Submission]) -> None:
        loop = asyncio.get_running_loop()
        created_at = rqformat.timestamp()
        deadline, delay, again = batch[0].since + self._retry_seconds, 0.02, False
        while True:
            register = self._registration(batch, loop.time())
            arguments = _arguments(batch, created_at, again=again, register=register)
            try:
                answer = await self._line.run(script("enqueue"), *arguments)
            except RETRYABLE as error:
                if loop.time() + delay > deadline:
                    logger.warning("Redis cannot be reached, %d jobs refused: %s", len(batch), error)
                    return self._fail(batch, UnavailableError("The queue cannot be reached now.", retry_after=1))
                again = True
                await asyncio.sleep(delay)
                delay = min(delay * 2, 0.5)
            except OutOfMemoryError as error:
                logger.error("Redis is at its memory limit, %d jobs refused: %s", len(batch), error)
                return self._fail(batch, UnavailableError("The queue's memory is full.", retry_after=5))
            except RedisError as error:
                logger.error("Redis refused %d jobs: %s", len(batch), error)
                return self._fail(batch, UnavailableError("The queue refused the job.", retry_after=5))
            else:
                if register:
                    self._registered |= dict.fromkeys((submission.job.queue for submission in batch), loop.time())
                return self._settle(batch, answer)

    def _registration(self, batch: list[_Submission], now: float) -> bool:
        """Tell whether some queue of the batch is to be registered with RQ."""
        due = now - REGISTER_SECONDS
        return any(self._registered.get(submission.job.queue, 0.0) <= due for submission in batch)

    def _settle(self, batch: list[_Submission], answer: list[bytes | int]) -> None:
        refusals = {
            int(answer[n]) - 1: Refusal(_text(answer[n + 1]), _text(answer[n + 2])) for n in range(0, len(answer), 3)
        }
        for index, submission in enumerate(batch):
            if refusals and index in refusals:
                submission.listener.refused(submission.job, refusals[index])
            else:
                submission.listener.accepted(submission.job)

    def _fail(self, batch: list[_Submission], error: MuleteerError) -> None:
        for submission in batch:
            submission.listener.failed(submission.job, error)


def _arguments(batch: list[_Submission], created_at: str, *, again: bool, register: bool) -> list[Argument]:
    """Return jobs as ``enqueue.lua`` reads them."""
    kinds: dict[tuple[Argument, ...], int] = {}
    jobs: list[Argument] = []
    for submission in batch:
        job = submission.job
        number = kinds.setdefault(job.kind, len(kinds) + 1)
        jobs += (job.id, number, job.input, job.rows, job.extra, job.rest(again=again or submission.again))
    arguments: list[Argument] = [created_at, "1" if register else "", len(kinds)]
    for kind in kinds:
        arguments += kind
    return arguments + jobs


def _text(value: bytes | int) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
