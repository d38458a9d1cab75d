"""Handing jobs to the queue and hearing whether it took them."""

import asyncio

from muleteer.errors import MuleteerError, UnavailableError
from muleteer.queue.producer import NewJob, Producer, Refusal
from muleteer.queue.replies import Future, Replies


class QueueFullError(UnavailableError):
    """The version's queue is at its limit."""


class KeyTakenError(Exception):
    """The request's idempotency key already stands for a job."""

    def __init__(self, job_id: str, *, same_body: bool) -> None:
        super().__init__(job_id)
        self.job_id = job_id
        self.same_body = same_body


class Submissions:
    """The listener of this gateway's submissions: turns their outcome into futures' results."""

    def __init__(self, producer: Producer, replies: Replies, patience: float) -> None:
        """``patience``: seconds until an enqueue that has heard nothing from Redis is given up."""
        self._producer = producer
        self._replies = replies
        self._patience = patience
        self._accepting: dict[str, asyncio.Future[None]] = {}

    def submit_and_expect(self, job: NewJob, timeout: float) -> Future:
        """Enqueue ``job`` and return the future of its reply; a refusal becomes the future's exception."""

        def resubmit() -> None:
            self._producer.submit(job, self, again=True)

        future = self._replies.expect(job.id, timeout, resubmit)
        self._producer.submit(job, self)
        return future

    async def submit(self, job: NewJob) -> None:
        """Enqueue ``job`` and return once Redis has it. Raises QueueFullError, KeyTakenError or UnavailableError."""
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

    def accepted(self, job: NewJob) -> None:
        """Redis has the job."""
        future = self._accepting.get(job.id)
        if future is not None and not future.done():
            future.set_result(None)

    def refused(self, job: NewJob, refusal: Refusal) -> None:
        """Redis did not take the job."""
        if refusal.code == "full":
            message = f"The queue of {job.queue} is full: {refusal.detail} jobs wait (limits.max_queue_jobs)."
            self._fail(job, QueueFullError(message))
        else:
            self._fail(job, KeyTakenError(refusal.detail, same_body=refusal.code == "same"))

    def failed(self, job: NewJob, error: MuleteerError) -> None:
        """Redis could not be asked."""
        self._fail(job, error)

    def _fail(self, job: NewJob, error: Exception) -> None:
        future = self._accepting.get(job.id)
        if future is not None and not future.done():
            future.set_exception(error)
        self._replies.fail(job.id, error)
