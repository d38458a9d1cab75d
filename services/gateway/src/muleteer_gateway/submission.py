"""Handing jobs to the queue and hearing whether it took them."""

import asyncio
import logging

from redis.exceptions import RedisError

from muleteer.errors import MuleteerError, UnavailableError
from muleteer.queue.jobs import Jobs
from muleteer.queue.producer import NewJob, Producer, Refusal
from muleteer.queue.replies import Future, Replies
from muleteer_gateway.http import ClientDisconnectedError

logger = logging.getLogger(__name__)


class RefusedError(Exception):
    """The queue did not take a job: it is full, or its client is over a limit."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.code)
        self.refusal = refusal


class KeyTakenError(Exception):
    """The request's idempotency key already stands for a job."""

    def __init__(self, job_id: str, *, same_body: bool) -> None:
        super().__init__(job_id)
        self.job_id = job_id
        self.same_body = same_body


class Submissions:
    """The listener of this gateway's submissions: turns their outcome into futures' results."""

    def __init__(self, producer: Producer, replies: Replies, jobs: Jobs, patience: float) -> None:
        """``patience``: seconds until an enqueue that has heard nothing from Redis is given up."""
        self._producer = producer
        self._replies = replies
        self._jobs = jobs
        self._patience = patience
        self._abandoned: list[str] = []
        self._abandoning: asyncio.Task[None] | None = None
        self._accepting: dict[str, asyncio.Future[None]] = {}

    def submit_and_expect(self, job: NewJob, timeout: float) -> Future:
        """Enqueue ``job`` and return the future of its reply; a refusal becomes the future's exception."""

        def resubmit() -> None:
            self._producer.submit(job, self, again=True)

        future = self._replies.expect(job.id, timeout, resubmit)
        self._producer.submit(job, self)
        return future

    async def submit(self, job: NewJob) -> None:
        """Enqueue ``job`` and return once Redis has it. Raises RefusedError, KeyTakenError or UnavailableError."""
        accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._accepting[job.id] = accepted
        self._producer.submit(job, self)
        try:
            async with asyncio.timeout(self._patience):
                await accepted
        except TimeoutError as error:
            raise UnavailableError("The queue does not answer now.", retry_after=1) from error
        finally:
            self._accepting.pop(job.id, None)

    def abandon(self, job_id: str) -> None:
        """Let a job go whose caller went away: it is dropped unless it runs already or somebody else is to see it."""
        self._replies.fail(job_id, ClientDisconnectedError())
        self._abandoned.append(job_id)
        if self._abandoning is None:
            self._abandoning = asyncio.create_task(self._abandon(), name="abandon")

    async def _abandon(self) -> None:
        while self._abandoned:
            ids, self._abandoned = self._abandoned, []
            try:
                await self._jobs.abandon(ids)
            except (RedisError, OSError) as error:
                # They are computed for nobody, or dropped some seconds after their time.
                logger.debug("%d jobs of callers that went away are not dropped: %s", len(ids), error)
        self._abandoning = None

    def accepted(self, job: NewJob) -> None:
        """Redis has the job."""
        future = self._accepting.get(job.id)
        if future is not None and not future.done():
            future.set_result(None)

    def refused(self, job: NewJob, refusal: Refusal) -> None:
        """Redis did not take the job."""
        if refusal.code in ("same", "conflict"):
            self._fail(job, KeyTakenError(refusal.detail, same_body=refusal.code == "same"))
        else:
            self._fail(job, RefusedError(refusal))

    def failed(self, job: NewJob, error: MuleteerError) -> None:
        """Redis could not be asked."""
        self._fail(job, error)

    def _fail(self, job: NewJob, error: Exception) -> None:
        future = self._accepting.get(job.id)
        if future is not None and not future.done():
            future.set_exception(error)
        self._replies.fail(job.id, error)
