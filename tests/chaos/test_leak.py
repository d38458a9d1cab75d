"""Jobs leave nothing behind: the memory of Redis and of those who use it is the same after many as after some."""

import asyncio
import gc
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from muleteer.embedded import EmbeddedValkey
from muleteer.queue.connection import connect
from muleteer.queue.consumer import Claim, ClaimedJob, Outcome
from muleteer.queue.producer import NewJob
from support.consuming import SPEC, consumer, timing
from support.pod import until
from support.producing import Side, gateway_side, new_job

WARM_SHARE = 0.25
"""Memory is compared after this share of the jobs and after all: 50,000 and 200,000."""
AT_ONCE = 1_000
KEYS_LEFT = 20
"""Queue, registries, totals, worker, ledger and the like: none of a job."""
REGISTRIES = ("rq:finished:m.1", "rq:failed:m.1", "rq:canceled:m.1")
REDIS_BYTES = 1024 * 1024
PROCESS_BYTES = 12 * 1024 * 1024
"""May come and go with buffers and the allocator; one leaked object of 100 bytes a job would be 15 MB."""


class NoOpWorker(threading.Thread):
    """Claims and finishes until stopped; a job whose input says so fails."""

    def __init__(self, valkey: EmbeddedValkey) -> None:
        super().__init__(daemon=True)
        self._consumer = consumer(valkey)
        self._stopped = threading.Event()
        self.problem: BaseException | None = None

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - raised again in the test
            self.problem = error

    def stop(self) -> None:
        self._stopped.set()
        self.join()
        if self.problem is not None:
            raise self.problem

    def _work(self) -> None:
        claim: Claim | None = None
        tidy_at = 0.0
        while not self._stopped.is_set():
            if time.monotonic() >= tidy_at:
                tidy_at = time.monotonic() + 1
                self._consumer.heartbeat()
                self._consumer.reap(SPEC)
            if claim is None or not claim.jobs:
                claim = self._consumer.wait_and_claim(SPEC, 0.2)
                continue
            self._consumer.finish_and_ask(claim, [_outcome(job) for job in claim.jobs], timing(), SPEC, 0.2)
            claim = self._consumer.take()


def _outcome(job: ClaimedJob) -> Outcome:
    return Outcome(job.id, None, "ValueError", "no") if b"fail" in job.input else Outcome(job.id, job.input)


def _job(number: int) -> NewJob:
    """Return a job of one of the kinds there are: most are answered and gone, some are kept, fail or expire."""
    soon: dict[str, Any] = {"result_ttl": 1, "failure_ttl": 1}
    match number % 10:
        case 0 | 1:
            return new_job(kept=True, **soon)
        case 2:
            return new_job(kept=True, input=b'["fail"]', **soon)
        case 3:
            return new_job(input=b'["fail"]', **soon)
        case 4:
            return new_job(wait_limit=-6.0, **soon)
        case 5:
            return new_job(kept=True, idempotency_key=f"key-{number}", digest="d", **soon)
    return new_job(**soon)


async def _run(side: Side, numbers: range) -> Counter[str]:
    """Put jobs through and return how many ended how."""
    ends: Counter[str] = Counter()
    for first in range(numbers.start, numbers.stop, AT_ONCE):
        jobs = [_job(number) for number in range(first, min(first + AT_ONCE, numbers.stop))]
        futures = [side.replies.expect(job.id, 60) for job in jobs]
        for job in jobs:
            side.producer.submit(job, side.recorder)
        await side.recorder.outcome(jobs[-1])
        await side.jobs.cancel(jobs[-1].id)  # of the last in the line: most often before it runs
        ends.update([reply.status for reply in await asyncio.gather(*futures)])
        side.recorder.outcomes.clear()
    return ends


async def _memory(connection: redis.Redis) -> tuple[int, int]:
    """Return the bytes that Redis and this process use, once kept results have run out."""
    connection.execute_command("MEMORY", "PURGE")
    await until(lambda: connection.dbsize() <= KEYS_LEFT, 30, "every job's keys are gone")
    await until(lambda: not connection.exists(*REGISTRIES), 30, "the registries are swept")
    gc.collect()
    return int(connection.info("memory")["used_memory"]), int(psutil.Process().memory_info().rss)


@pytest.mark.timeout(600)
async def test_200_000_jobs_leave_no_memory_behind(tmp_path: Path, leak_jobs: int) -> None:
    warm = int(leak_jobs * WARM_SHARE)
    with EmbeddedValkey(tmp_path / "valkey") as valkey, connect(valkey.url) as connection:
        worker = NoOpWorker(valkey)
        worker.start()
        async with gateway_side(valkey.url) as side:
            ends = await _run(side, range(warm))
            redis_before, process_before = await _memory(connection)
            ends += await _run(side, range(warm, leak_jobs))
            redis_after, process_after = await _memory(connection)
        worker.stop()
    assert sum(ends.values()) == leak_jobs
    assert {"finished", "failed", "expired", "canceled"} <= set(ends), ends
    assert redis_after - redis_before < REDIS_BYTES, f"{redis_before} bytes of Redis became {redis_after}"
    assert process_after - process_before < PROCESS_BYTES, f"{process_before} bytes became {process_after}"
