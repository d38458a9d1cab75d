"""The queue's promises, one a test, on a real Valkey."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import orjson
import pytest
import redis
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.registry import FailedJobRegistry, FinishedJobRegistry, StartedJobRegistry
from rq.serializers import JSONSerializer

from muleteer.embedded import EmbeddedValkey
from muleteer.queue.connection import connect
from muleteer.queue.consumer import BatchTiming, Claim, Consumer, Outcome, QueueSpec
from muleteer.queue.line import ForgottenScriptError
from muleteer.queue.producer import Refusal
from muleteer.queue.replies import WaitTimeout
from support.producing import QUEUE, gateway_side, new_job
from support.waiting import wait_until

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


def keys(connection: redis.Redis) -> list[str]:
    return sorted(key.decode() for key in connection.keys("*"))


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


async def test_an_answered_sync_job_leaves_nothing_in_redis(valkey: EmbeddedValkey, connection: redis.Redis) -> None:
    async with gateway_side(valkey.url) as side:
        job = new_job()
        answer = side.replies.expect(job.id, 5)
        await side.enqueue(job)
        worker = consumer(valkey)
        worker.finish(claimed(worker.claim(SPEC)), [Outcome(job.id, b"[1]")], timing())
        assert (await answer).payload == b"[1]"
    worker.wait_and_claim(SPEC, 0.1)
    assert keys(connection) == ["muleteer:workers:default", "rq:queues"]


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


async def test_what_a_worker_finished_is_added_up_at_its_next_reaping(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        await side.enqueue(new_job(rows=3), new_job(rows=4))
        worker = consumer(valkey)
        claim = claimed(worker.claim(SPEC))
        worker.finish(claim, echo(claim), timing())
        worker.reap(SPEC)
        worker.reap(SPEC)
        state = (await side.jobs.observe([("m", "1")], [], [])).queues[QUEUE]
    assert (state.jobs, state.rows, state.predict_seconds) == (2, 7, 0.005)


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
        job = new_job(wait_limit=-1.0)
        answer = side.replies.expect(job.id, 5)
        await side.enqueue(job)
        claim = claimed(consumer(valkey).claim(SPEC))
        assert (claim.jobs, claim.expired) == ((), 1)
        assert (await answer).status == "expired"
    assert not connection.exists(f"rq:job:{job.id}")


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


async def test_waiting_ends_when_its_time_is_up(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        answer = side.replies.expect("no-such-job", 0.05)
        with pytest.raises(WaitTimeout):
            await answer
        assert len(side.replies) == 0


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
