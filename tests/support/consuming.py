"""A worker's side of the queue, without its model: what queue tests claim and finish with."""

import time

from rq.job import Job

from muleteer.embedded import EmbeddedValkey
from muleteer.queue.connection import connect
from muleteer.queue.consumer import BatchTiming, Claim, Consumer, Outcome, QueueSpec
from support.producing import QUEUE

SPEC = [QueueSpec(QUEUE, 64, 3)]


def consumer(valkey: EmbeddedValkey, worker: str = "w1", lease_seconds: float = 15.0) -> Consumer:
    made = Consumer(connect(valkey.url), "default", worker, lease_seconds)
    made.heartbeat()
    return made


def timing() -> BatchTiming:
    return BatchTiming(time.time() - 0.01, time.time(), 0.005)


def echo(claim: Claim) -> list[Outcome]:
    return [Outcome(job.id, job.input) for job in claim.jobs]


def claimed(claim: Claim | None) -> Claim:
    assert claim is not None
    return claim


def reason(job: Job) -> str:
    result = job.latest_result()
    assert result is not None
    return result.exc_string or ""
