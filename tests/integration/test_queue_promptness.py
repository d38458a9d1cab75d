"""Nobody sleeps while work waits, and nothing innocent is held up: promises of the queue, one a test."""

import asyncio
import time

import redis

from muleteer.embedded import EmbeddedValkey
from muleteer.queue.consumer import Outcome, QueueSpec
from muleteer.queue.producer import Refusal
from support.consuming import SPEC, claimed, consumer, echo, timing
from support.producing import QUEUE, gateway_side, new_job

LONG = 20.0
"""Longer than any of these waits may last: whoever sleeps it out fails the test."""


async def test_a_worker_that_leaves_jobs_behind_wakes_another(valkey: EmbeddedValkey) -> None:
    one = [QueueSpec(QUEUE, 1, 3)]
    async with gateway_side(valkey.url) as side:
        first, second = consumer(valkey, "first"), consumer(valkey, "second")
        sleeping = asyncio.create_task(asyncio.to_thread(second.wait_and_claim, one, LONG))
        await side.enqueue(new_job(), new_job(), new_job())
        assert claimed(first.wait_and_claim(one, LONG)).more
        began = time.monotonic()
        assert len(claimed(await sleeping).jobs) == 1
        assert time.monotonic() - began < LONG / 2


async def test_a_job_kept_while_it_runs_is_stored_though_the_worker_sleeps(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        job = new_job()
        worker = consumer(valkey)
        await side.enqueue(job)
        claim = claimed(worker.wait_and_claim(SPEC, LONG))
        await side.jobs.look(job.id, keep=True)
        began = time.monotonic()
        worker.finish_and_ask(claim, [Outcome(job.id, b"[7]")], timing(), SPEC, LONG)
        view = await side.jobs.look(job.id)
        assert time.monotonic() - began < LONG / 2
        await side.enqueue(new_job())  # ends the sleep
        assert len(claimed(await asyncio.to_thread(worker.take)).jobs) == 1
    assert view is not None
    assert view.predictions == b"[7]"


async def test_a_known_key_gets_its_job_however_full_the_queue_is(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        first = new_job(idempotency_key="k", digest="body", kept=True, max_queue_jobs=1)
        again = new_job(idempotency_key="k", digest="body", kept=True, max_queue_jobs=1)
        other = new_job(idempotency_key="another", digest="body", kept=True, max_queue_jobs=1)
        assert await side.enqueue(first) == ["accepted"]
        assert await side.enqueue(again, other) == [Refusal("same", first.id), Refusal("full", "1")]


async def test_a_job_on_its_last_delivery_runs_alone(valkey: EmbeddedValkey) -> None:
    twice = [QueueSpec(QUEUE, 64, 2)]
    async with gateway_side(valkey.url) as side:
        await side.enqueue(*(new_job() for _ in range(10)))
        worker = consumer(valkey)
        assert len(claimed(worker.claim(twice)).jobs) == 10
        worker.release(["w1"], twice)
        assert len(claimed(worker.claim(twice)).jobs) == 1


async def test_jobs_nobody_has_seen_are_given_back_without_counting_a_delivery(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        await side.enqueue(new_job())
        worker = consumer(valkey)
        once = [QueueSpec(QUEUE, 64, 1)]
        claimed(worker.claim(once))
        assert worker.release_own(once).requeued == {QUEUE: 1}
        assert claimed(worker.claim(once)).jobs[0].deliveries == 0


async def test_a_resubmitted_job_that_still_waits_to_be_sent_is_enqueued_once(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        job = new_job()
        side.producer.submit(job, side.recorder)
        side.producer.submit(job, side.recorder, again=True)
        await side.recorder.outcome(job)
        await side.enqueue(new_job())
        assert consumer(valkey).depth(QUEUE) == 2


async def test_a_webhook_attempt_for_a_job_that_is_gone_leaves_nothing(
    valkey: EmbeddedValkey, connection: redis.Redis
) -> None:
    async with gateway_side(valkey.url) as side:
        assert await side.jobs.count_callback_attempt("gone") > 1000
    assert not connection.exists("rq:job:gone")


async def test_totals_survive_a_finish_of_nothing(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        await side.enqueue(new_job())
        worker = consumer(valkey)
        claim = claimed(worker.claim(SPEC))
        worker.finish(claim, echo(claim), timing())
        assert worker.reap(SPEC).requeued == {}
        assert worker.depth(QUEUE) == 0
