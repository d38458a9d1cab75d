"""What becomes of finished, failed and cancelled jobs: on a real Valkey."""

import asyncio

import pytest
import redis
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.registry import FailedJobRegistry, FinishedJobRegistry, StartedJobRegistry
from rq.serializers import JSONSerializer

from muleteer.embedded import EmbeddedValkey
from muleteer.queue.consumer import Outcome, QueueSpec
from muleteer.queue.replies import WaitTimeout
from support.consuming import SPEC, claimed, consumer, echo, reason, timing
from support.producing import QUEUE, gateway_side, new_job


def keys(connection: redis.Redis) -> list[str]:
    return sorted(key.decode() for key in connection.keys("*"))


async def test_an_answered_sync_job_leaves_nothing_in_redis(valkey: EmbeddedValkey, connection: redis.Redis) -> None:
    async with gateway_side(valkey.url) as side:
        job = new_job()
        answer = side.replies.expect(job.id, 5)
        await side.enqueue(job)
        worker = consumer(valkey)
        worker.finish(claimed(worker.claim(SPEC)), [Outcome(job.id, b"[1]")], timing())
        assert (await answer).payload == b"[1]"
    worker.wait_and_claim(SPEC, 0.1)
    assert keys(connection) == [f"muleteer:ledger:{QUEUE}", "muleteer:workers:default", "rq:queues"]


async def test_finish_and_the_next_claim_ride_in_one_round_trip(
    valkey: EmbeddedValkey, connection: redis.Redis
) -> None:
    async with gateway_side(valkey.url) as side:
        await side.enqueue(*(new_job(reply_to="") for _ in range(3)))
        one = [QueueSpec(QUEUE, 1, 3)]
        worker = consumer(valkey)
        first = claimed(worker.claim(one))
        assert first.more
        worker.finish_and_ask(first, echo(first), timing(), one, 1)
        second = claimed(worker.take())
        reads = connection.info("stats")["total_reads_processed"]
        worker.finish_and_ask(second, echo(second), timing(), one, 1)
        third = claimed(worker.take())
        assert connection.info("stats")["total_reads_processed"] - reads == 2  # this one, and the look itself
    assert not third.more


async def test_a_batchs_answers_do_not_wait_for_the_next_claim(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        job = new_job()
        answer = side.replies.expect(job.id, 5)
        worker = consumer(valkey)
        await side.enqueue(job)
        claim = claimed(worker.wait_and_claim(SPEC, 5))
        assert not claim.more
        worker.finish_and_ask(claim, [Outcome(job.id, b"[1]")], timing(), SPEC, 20)
        assert (await answer).payload == b"[1]"  # though the worker sleeps at the bell by now
        later = new_job()
        await side.enqueue(later)
        assert [j.id for j in claimed(await asyncio.to_thread(worker.take)).jobs] == [later.id]


async def test_a_kept_job_is_what_rq_calls_finished(valkey: EmbeddedValkey, connection: redis.Redis) -> None:
    async with gateway_side(valkey.url) as side:
        job = new_job(kept=True)
        await side.enqueue(job)
        queue = Queue(QUEUE, connection=connection, serializer=JSONSerializer)
        assert queue.job_ids == [job.id]
        assert Job.fetch(job.id, connection, JSONSerializer).get_status() is JobStatus.QUEUED
        worker = consumer(valkey)
        claim = claimed(worker.claim(SPEC))
        assert Job.fetch(job.id, connection, JSONSerializer).get_status() is JobStatus.STARTED
        assert StartedJobRegistry(QUEUE, connection).get_job_ids() == [job.id]
        worker.finish(claim, [Outcome(job.id, b'[{"x":1}]')], timing())
    fetched = Job.fetch(job.id, connection, JSONSerializer)
    assert fetched.get_status() is JobStatus.FINISHED
    assert fetched.return_value() == [{"x": 1}]
    assert FinishedJobRegistry(QUEUE, connection).get_job_ids() == [job.id]
    assert 0 < connection.ttl(f"rq:job:{job.id}") <= 60
    assert 0 < connection.ttl(f"rq:results:{job.id}") <= 60


async def test_a_job_that_becomes_kept_while_it_runs_stores_its_result(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        job = new_job()
        await side.enqueue(job)
        worker = consumer(valkey)
        claim = claimed(worker.claim(SPEC))
        await side.jobs.look(job.id, keep=True)
        report = worker.finish(claim, [Outcome(job.id, b"[7]")], timing())
        assert report.finished == 1
        view = await side.jobs.look(job.id)
    assert view is not None
    assert (view.status, view.predictions) == ("finished", b"[7]")


async def test_a_failed_job_keeps_its_reason_and_rq_requeue_revives_it(
    valkey: EmbeddedValkey, connection: redis.Redis
) -> None:
    async with gateway_side(valkey.url) as side:
        job = new_job(kept=True)
        await side.enqueue(job)
        worker = consumer(valkey)
        worker.finish(claimed(worker.claim(SPEC)), [Outcome(job.id, None, "ValueError", "bad")], timing())
        failed = FailedJobRegistry(QUEUE, connection, serializer=JSONSerializer)
        assert failed.get_job_ids() == [job.id]
        assert reason(Job.fetch(job.id, connection, JSONSerializer)) == "ValueError: bad"
        failed.requeue(job.id)
        again = claimed(worker.claim(SPEC))
        assert [j.id for j in again.jobs] == [job.id]
        assert again.jobs[0].deliveries == 0
        assert connection.ttl(f"rq:job:{job.id}") == -1
        worker.finish(again, [Outcome(job.id, b"[2]")], timing())
        view = await side.jobs.look(job.id)
    assert view is not None
    assert (view.status, view.predictions, view.error) == ("finished", b"[2]", None)


async def test_a_cancelled_job_leaves_the_queue_and_tells_its_waiter(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        job = new_job()
        answer = side.replies.expect(job.id, 5)
        await side.enqueue(job)
        assert await side.jobs.cancel(job.id) == "queued"
        assert (await answer).status == "canceled"
        assert consumer(valkey).claim(SPEC) is None


async def test_a_job_cancelled_while_it_runs_loses_its_result(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        job = new_job(kept=True)
        await side.enqueue(job)
        worker = consumer(valkey)
        claim = claimed(worker.claim(SPEC))
        assert await side.jobs.cancel(job.id) == "started"
        assert worker.finish(claim, echo(claim), timing()).canceled == 1
        view = await side.jobs.look(job.id)
    assert view is not None
    assert view.status == "canceled"


async def test_waiting_ends_when_its_time_is_up(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        answer = side.replies.expect("no-such-job", 0.05)
        with pytest.raises(WaitTimeout):
            await answer
        assert len(side.replies) == 0
