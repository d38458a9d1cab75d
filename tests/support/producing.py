"""A gateway's side of the queue, without its HTTP: what queue tests enqueue with."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from muleteer.errors import MuleteerError
from muleteer.queue.connection import connect_async
from muleteer.queue.jobs import Jobs
from muleteer.queue.producer import NewJob, Producer, Refusal
from muleteer.queue.replies import Replies, Reply

QUEUE = "m.1"


def new_job(**changes: Any) -> NewJob:
    """Return a one-row job for model ``m`` version ``1``."""
    fields: dict[str, Any] = {
        "id": uuid.uuid4().hex,
        "queue": QUEUE,
        "model": "m",
        "version": "1",
        "pool": "default",
        "input": b'["a"]',
        "rows": 1,
        "reply_to": "gateway",
        "kept": False,
        "wait_limit": 30.0,
        "timeout": 30,
        "result_ttl": 60,
        "failure_ttl": 60,
        "max_queue_jobs": 100_000,
    }
    return NewJob(**(fields | changes))


class Recorder:
    """A listener that remembers what it heard, and lets a test wait for it."""

    def __init__(self) -> None:
        self.outcomes: dict[str, str | Refusal | MuleteerError] = {}
        self._heard = asyncio.Event()

    def accepted(self, job: NewJob) -> None:
        self._hear(job, "accepted")

    def refused(self, job: NewJob, refusal: Refusal) -> None:
        self._hear(job, refusal)

    def failed(self, job: NewJob, error: MuleteerError) -> None:
        self._hear(job, error)

    async def outcome(self, job: NewJob) -> str | Refusal | MuleteerError:
        async with asyncio.timeout(20):
            while job.id not in self.outcomes:
                self._heard.clear()
                await self._heard.wait()
        return self.outcomes[job.id]

    def _hear(self, job: NewJob, outcome: str | Refusal | MuleteerError) -> None:
        self.outcomes[job.id] = outcome
        self._heard.set()


@dataclass
class Side:
    """One gateway at the queue."""

    producer: Producer
    replies: Replies
    jobs: Jobs
    recorder: Recorder

    async def enqueue(self, *jobs: NewJob) -> list[str | Refusal | MuleteerError]:
        """Enqueue jobs in one go and return what became of each."""
        for job in jobs:
            self.producer.submit(job, self.recorder)
        return [await self.recorder.outcome(job) for job in jobs]


@asynccontextmanager
async def gateway_side(url: str, name: str = "gateway") -> AsyncIterator[Side]:
    """Run a gateway's queue tasks for the length of a block."""
    client = connect_async(url)
    jobs = Jobs(client, name)

    async def read(job_id: str) -> Reply | None:
        view = await jobs.look(job_id)
        return view.as_reply() if view else None

    replies = Replies(client, name, read)
    side = Side(Producer(client), replies, jobs, Recorder())
    running = (side.producer.run(), replies.run(), replies.run_look(), replies.run_deadlines())
    tasks = [asyncio.create_task(task) for task in running]
    try:
        yield side
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await client.aclose()
