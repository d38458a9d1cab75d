"""What a claim takes, and what may enter the queue: on a real Valkey."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import redis
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.serializers import JSONSerializer

from muleteer.embedded import EmbeddedValkey
from muleteer.queue.consumer import Consumer
from muleteer.queue.producer import NewJob, Refusal
from support.consuming import SPEC, claimed, consumer, reason
from support.producing import QUEUE, gateway_side, new_job
from support.waiting import wait_until


async def test_a_claim_takes_waiting_jobs_in_the_order_they_came(valkey: EmbeddedValkey) -> None:
    jobs = [new_job() for _ in range(5)]
    async with gateway_side(valkey.url) as side:
        await side.enqueue(*jobs)
        claim = claimed(consumer(valkey).claim(SPEC))
    assert [job.id for job in claim.jobs] == [job.id for job in jobs]


async def test_a_claim_counts_rows_not_jobs(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        await side.enqueue(*(new_job(rows=30) for _ in range(5)))
        worker = consumer(valkey)
        sizes = [sum(job.rows for job in claimed(worker.claim(SPEC)).jobs) for _ in range(3)]
    assert sizes == [60, 60, 30]


async def test_a_job_larger_than_a_batch_is_taken_alone(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        await side.enqueue(new_job(rows=1000), new_job())
        assert [job.rows for job in claimed(consumer(valkey).claim(SPEC)).jobs] == [1000]


async def test_a_claim_of_an_empty_queue_is_none(valkey: EmbeddedValkey) -> None:
    assert consumer(valkey).claim(SPEC) is None


async def test_a_job_enqueued_twice_is_claimed_once(valkey: EmbeddedValkey, connection: redis.Redis) -> None:
    async with gateway_side(valkey.url) as side:
        job = new_job()
        await side.enqueue(job)
        connection.rpush(f"rq:queue:{QUEUE}", job.id)
        worker = consumer(valkey)
        assert len(claimed(worker.claim(SPEC)).jobs) == 1
        assert worker.depth(QUEUE) == 1


async def test_a_repeated_enqueue_of_the_same_job_adds_nothing(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        job = new_job()
        await side.enqueue(job)
        side.recorder.outcomes.clear()
        side.producer.submit(job, side.recorder, again=True)
        assert await side.recorder.outcome(job) == "accepted"
        assert consumer(valkey).depth(QUEUE) == 1


async def test_jobs_of_one_call_keep_what_is_their_own(valkey: EmbeddedValkey, connection: redis.Redis) -> None:
    async with gateway_side(valkey.url) as side:
        alike = [new_job(input=b'["%d"]' % n, extra=b'{"request_id":"%d"}' % n) for n in range(3)]
        other = new_job(queue="other.2", model="other", version="2", reply_to="", kept=True, timeout=7, result_ttl=8)
        told = new_job(callback="http://there/", kept=True)
        batch = new_job(client="etl", job_class="batch", wait_limit=None)
        assert await side.enqueue(*alike[:2], other, told, batch, alike[2]) == ["accepted"] * 6

    def stored(job: NewJob, *names: str) -> list[str | None]:
        found = connection.hmget(f"rq:job:{job.id}", list(names))
        return [value.decode() if value is not None else None for value in found]

    for n, job in enumerate(alike):
        assert stored(job, "origin", "input", "extra", "reply_to", "keep", "callback", "lane") == [
            QUEUE, f'["{n}"]', f'{{"request_id":"{n}"}}', "gateway", "", None, None,
        ]  # fmt: skip
    names = ("origin", "model", "version", "reply_to", "keep", "timeout", "result_ttl", "expires_at")
    assert stored(other, *names) == ["other.2", "other", "2", "", "1", "7", "8", ""]
    assert stored(told, "origin", "callback", "keep") == [QUEUE, "http://there/", "1"]
    assert stored(batch, "lane", "expires_at") == [f"{QUEUE}:batch:@etl", ""]
    assert float(stored(alike[0], "expires_at")[0] or 0) > 0


async def test_an_idempotency_key_gives_the_same_job_and_refuses_another_body(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        first = new_job(idempotency_key="k", digest="body", kept=True)
        same = new_job(idempotency_key="k", digest="body", kept=True)
        other = new_job(idempotency_key="k", digest="other", kept=True)
        outcomes = await side.enqueue(first, same, other)
    assert outcomes == ["accepted", Refusal("same", first.id), Refusal("conflict", first.id)]


async def test_a_full_queue_refuses_and_says_how_full_it_is(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        outcomes = await side.enqueue(*(new_job(max_queue_jobs=2) for _ in range(3)))
    assert outcomes == ["accepted", "accepted", Refusal("full", "2")]


async def test_a_job_nobody_waits_for_any_more_is_dropped_unclaimed(
    valkey: EmbeddedValkey, connection: redis.Redis
) -> None:
    async with gateway_side(valkey.url) as side:
        job = new_job(wait_limit=-6.0)  # past the grace that a gateway has to keep it
        answer = side.replies.expect(job.id, 5)
        await side.enqueue(job)
        claim = claimed(consumer(valkey).claim(SPEC))
        assert (claim.jobs, claim.expired) == ((), 1)
        assert (await answer).status == "expired"
    assert not connection.exists(f"rq:job:{job.id}")


async def test_the_bell_holds_no_more_tokens_than_there_are_workers(
    valkey: EmbeddedValkey, connection: redis.Redis
) -> None:
    async with gateway_side(valkey.url) as side:
        workers: Sequence[Consumer] = [consumer(valkey, name) for name in ("a", "b")]
        for _ in range(5):
            await side.enqueue(new_job(), new_job(), new_job())
        assert connection.llen("muleteer:bell:default") == len(workers)


async def test_a_sleeping_worker_is_woken_with_the_claim_in_hand(
    valkey: EmbeddedValkey, connection: redis.Redis
) -> None:
    async with gateway_side(valkey.url) as side:
        worker = consumer(valkey)
        waiting = asyncio.create_task(asyncio.to_thread(worker.wait_and_claim, SPEC, 20))
        await asyncio.to_thread(wait_until, lambda: connection.info("clients")["blocked_clients"] == 2)
        job = new_job(kept=True)
        before = datetime.now(UTC)
        await side.enqueue(job)
        assert [j.id for j in claimed(await waiting).jobs] == [job.id]
        view = await side.jobs.look(job.id)
    assert view is not None
    assert abs(datetime.fromisoformat(view.started_at) - before) < timedelta(seconds=5)


async def test_a_job_that_is_no_prediction_is_refused_with_a_reason(
    valkey: EmbeddedValkey, connection: redis.Redis
) -> None:
    job = Queue(QUEUE, connection=connection, serializer=JSONSerializer).enqueue("math.sqrt", 4)
    claim = claimed(consumer(valkey).claim(SPEC))
    assert (claim.jobs, claim.refused) == ((), 1)
    fetched = Job.fetch(job.id, connection, JSONSerializer)
    assert fetched.get_status() is JobStatus.FAILED
    assert "Muleteer predictions only" in reason(fetched)
