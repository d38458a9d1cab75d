"""What is lost comes back: leases, replies, scripts and stray jobs, on a real Valkey."""

import asyncio
import time

import orjson
import pytest
import redis
from rq.registry import StartedJobRegistry

from muleteer.embedded import EmbeddedValkey
from muleteer.queue.connection import connect
from muleteer.queue.consumer import Consumer, Outcome, QueueSpec
from muleteer.queue.line import ForgottenScriptError
from support.consuming import SPEC, claimed, consumer, echo, timing
from support.producing import QUEUE, gateway_side, new_job


async def test_an_expired_lease_puts_the_job_back_at_the_head(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        first, second = new_job(), new_job()
        await side.enqueue(first)
        lost = consumer(valkey, "lost", lease_seconds=0)
        claimed(lost.claim(SPEC))
        await side.enqueue(second)
        other = consumer(valkey, "other")
        assert other.reap(SPEC).requeued == {QUEUE: 1}
        again = claimed(other.claim(SPEC))
        assert [(j.id, j.deliveries) for j in again.jobs] == [(first.id, 1)]


async def test_a_worker_that_lost_its_lease_cannot_overwrite_the_answer(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        job = new_job(kept=True)
        await side.enqueue(job)
        slow = consumer(valkey, "slow", lease_seconds=0)
        old = claimed(slow.claim(SPEC))
        fast = consumer(valkey, "fast")
        fast.reap(SPEC)
        new = claimed(fast.claim(SPEC))
        assert slow.finish(old, [Outcome(job.id, b'["old"]')], timing()).stale == 1
        assert fast.finish(new, [Outcome(job.id, b'["new"]')], timing()).finished == 1
        view = await side.jobs.look(job.id)
    assert view is not None
    assert view.predictions == b'["new"]'


async def test_a_renewed_lease_does_not_expire(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        await side.enqueue(new_job())
        worker = consumer(valkey, lease_seconds=0)
        claim = claimed(worker.claim(SPEC))
        worker.lease_seconds = 15
        assert worker.renew(claim) == 1
        assert worker.reap(SPEC).requeued == {}


async def test_redelivered_jobs_come_back_in_batches_of_eight_then_alone(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        await side.enqueue(*(new_job() for _ in range(20)))
        worker = consumer(valkey)
        sizes: list[int] = []
        for _ in range(3):
            sizes.append(len(claimed(worker.claim(SPEC)).jobs))
            worker.release(["w1"], [QueueSpec(QUEUE, 64, 9)])
    assert sizes == [20, 8, 1]


async def test_a_job_past_its_last_delivery_fails_with_the_reason(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        job = new_job()
        answer = side.replies.expect(job.id, 5)
        await side.enqueue(job)
        worker = consumer(valkey)
        for _ in range(3):
            claimed(worker.claim(SPEC))
            report = worker.release(["w1"], SPEC)
        assert report.dead == {QUEUE: 1}
        reply = await answer
        assert reply.status == "failed"
        assert orjson.loads(reply.payload)["type"] == "WorkerLost"
        view = await side.jobs.look(job.id)
    assert view is not None
    assert view.error is not None
    assert "lost 3 times" in view.error["message"]


async def test_release_gives_back_only_the_dead_workers_jobs(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        await side.enqueue(new_job(), new_job())
        one = [QueueSpec(QUEUE, 1, 3)]
        a, b = consumer(valkey, "pod-1.a"), consumer(valkey, "pod-1.b")
        claimed(a.claim(one))
        held = claimed(b.claim(one))
        assert a.release(["pod-1.a"], SPEC).requeued == {QUEUE: 1}
        assert b.finish(held, echo(held), timing()).finished == 1


async def test_rq_info_leaves_a_job_with_an_expired_lease_to_the_reaper(
    valkey: EmbeddedValkey, connection: redis.Redis
) -> None:
    async with gateway_side(valkey.url) as side:
        job = new_job()
        await side.enqueue(job)
        worker = consumer(valkey, lease_seconds=0)
        claimed(worker.claim(SPEC))
        assert StartedJobRegistry(QUEUE, connection).count == 1  # runs RQ's own clean-up
        assert worker.reap(SPEC).requeued == {QUEUE: 1}


async def test_a_lost_reply_makes_the_gateway_ask_again(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        job = new_job(reply_to="somebody-else")  # the reply will go astray
        answer = side.replies.expect(job.id, 20, lambda: side.producer.submit(job, side.recorder, again=True))
        worker = consumer(valkey)
        await side.enqueue(job)
        claim = claimed(worker.wait_and_claim(SPEC, 10))
        worker.finish(claim, echo(claim), timing())
        job.reply_to = "gateway"
        again = claimed(await asyncio.to_thread(worker.wait_and_claim, SPEC, 10))
        worker.finish(again, [Outcome(job.id, b'["again"]')], timing())
        assert (await answer).payload == b'["again"]'


async def test_a_result_whose_reply_was_lost_is_found_by_looking(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        job = new_job(reply_to="somebody-else", kept=True)
        answer = side.replies.expect(job.id, 20)
        await side.enqueue(job)
        worker = consumer(valkey)
        claim = claimed(worker.claim(SPEC))
        worker.finish(claim, echo(claim), timing())
        assert (await answer).payload == job.input


async def test_a_server_that_forgot_the_scripts_is_given_them_again(
    valkey: EmbeddedValkey, connection: redis.Redis
) -> None:
    async with gateway_side(valkey.url) as side:
        worker = consumer(valkey)
        await side.enqueue(new_job(), new_job())
        one = [QueueSpec(QUEUE, 1, 3)]
        claim = claimed(worker.claim(one))
        worker.finish_and_ask(claim, echo(claim), timing(), one, 1)
        second = claimed(worker.take())
        connection.script_flush()
        with pytest.raises(ForgottenScriptError):
            worker.finish_and_ask(second, echo(second), timing(), one, 1)
        assert worker.finish(second, echo(second), timing()).finished == 1
        assert await side.enqueue(new_job()) == ["accepted"]


async def test_a_stray_of_a_stock_worker_is_swept_back_into_the_queue(
    valkey: EmbeddedValkey, connection: redis.Redis
) -> None:
    async with gateway_side(valkey.url) as side:
        job = new_job()
        await side.enqueue(job)
        queue = f"rq:queue:{QUEUE}"
        connection.lmove(queue, f"{queue}:intermediate")
        connection.set(f"{queue}:intermediate:first_seen:{job.id}", time.time() - 61)
        worker = consumer(valkey)
        assert worker.reap(SPEC).requeued == {QUEUE: 1}
        assert [j.id for j in claimed(worker.claim(SPEC)).jobs] == [job.id]


async def test_reports_of_workers_without_a_heartbeat_are_not_believed(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        alive, dead = consumer(valkey, "alive"), Consumer(connect(valkey.url), "default", "dead")
        for worker in (alive, dead):
            worker.report_version("m", "1", {"state": "ready"})
        seen = await side.jobs.observe([("m", "1")], ["default"], ["m"])
    assert [report["worker"] for report in seen.versions["m"]["1"]] == ["alive"]
    assert seen.workers == {"default": ["alive"]}
