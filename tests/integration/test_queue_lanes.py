"""Priorities and fairness: lanes of classes and clients, and how a claim shares its rows among them."""

from collections import Counter
from typing import Any

import pytest
import redis
from rq.job import Job
from rq.queue import Queue
from rq.serializers import JSONSerializer

from muleteer.embedded import EmbeddedValkey
from muleteer.queue.consumer import Claim, Consumer, QueueSpec
from muleteer.queue.cost import Cost
from muleteer.queue.producer import NewJob
from support.consuming import SPEC, claimed, consumer, echo, timing
from support.producing import QUEUE, Side, gateway_side, new_job


def batch_job(**changes: Any) -> NewJob:
    return new_job(job_class="batch", kept=True, reply_to="", **changes)


def clients_of(claim: Claim, jobs: list[NewJob]) -> Counter[str]:
    """Return how many jobs of a claim are whose: the class of a nameless client's, else its name."""
    whose = {job.id: job.client or job.job_class for job in jobs}
    return Counter(whose[job.id] for job in claim.jobs)


def work_off(worker: Consumer, spec: list[QueueSpec] = SPEC) -> list[Claim]:
    """Claim and finish until nothing is left; return the claims."""
    claims = []
    while claim := worker.claim(spec):
        claims.append(claim)
        if claim.jobs:
            worker.finish(claim, echo(claim), timing())
    return claims


async def piled(side: Side, *jobs: NewJob) -> list[NewJob]:
    assert set(await side.enqueue(*jobs)) == {"accepted"}
    return list(jobs)


def lanes_left(connection: redis.Redis) -> list[bytes]:
    return sorted(connection.keys("muleteer:lanes:*") + connection.keys(f"rq:queue:{QUEUE}*"))


async def test_sync_jobs_go_before_async_ones_which_get_their_share(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        jobs = await piled(side, *(batch_job() for _ in range(200)))
        jobs += await piled(side, *(new_job() for _ in range(103)))
        first, second, third = (claimed(consumer(valkey).claim(SPEC)) for _ in range(3))
    assert clients_of(first, jobs) == {"interactive": 52, "batch": 12}
    assert clients_of(second, jobs) == {"interactive": 51, "batch": 13}  # a fifth is 12.8: what was left over counts
    assert clients_of(third, jobs) == {"batch": 64}  # all sync ones are through: no room stays empty


async def test_neither_class_starves_with_batches_of_one(valkey: EmbeddedValkey) -> None:
    alone = [QueueSpec(QUEUE, 1, 3, batch_share=0.25)]
    async with gateway_side(valkey.url) as side:
        jobs = await piled(side, *(batch_job() for _ in range(10)), *(new_job() for _ in range(30)))
        worker = consumer(valkey)
        order = [next(iter(clients_of(claimed(worker.claim(alone)), jobs))) for _ in range(16)]
    assert Counter(order) == {"interactive": 12, "batch": 4}
    assert "batch" in order[:4]


async def test_a_quiet_time_of_one_class_earns_it_no_credit(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        jobs = await piled(side, *(new_job() for _ in range(640)))
        worker = consumer(valkey)
        for _ in range(9):
            worker.claim(SPEC)
        jobs += await piled(side, *(batch_job() for _ in range(64)))
        assert clients_of(claimed(worker.claim(SPEC)), jobs) == {"interactive": 52, "batch": 12}


async def test_one_clients_many_jobs_do_not_delay_anothers_single_one(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        jobs = await piled(side, *(new_job(client="heavy") for _ in range(2000)))
        consumer(valkey).claim(SPEC)
        jobs += await piled(side, new_job(client="light"), new_job())
        after = clients_of(claimed(consumer(valkey).claim(SPEC)), jobs)
    assert after == {"heavy": 62, "light": 1, "interactive": 1}


async def test_the_same_holds_for_async_jobs(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        jobs = await piled(side, *(batch_job(client="heavy") for _ in range(2000)))
        jobs += await piled(side, *(batch_job(client="light") for _ in range(3)))
        assert clients_of(claimed(consumer(valkey).claim(SPEC)), jobs)["light"] == 3


async def test_clients_share_by_rows_not_by_jobs(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        jobs = await piled(side, *(new_job(client="big", rows=8) for _ in range(40)))
        jobs += await piled(side, *(new_job(client="small") for _ in range(320)))
        rows: Counter[str] = Counter()
        for _ in range(4):
            claim = claimed(consumer(valkey).claim(SPEC))
            whose = {job.id: job.client for job in jobs}
            for job in claim.jobs:
                rows[whose[job.id]] += job.rows
    assert rows["big"] == pytest.approx(rows["small"], abs=16)


async def test_more_clients_than_a_batch_has_rows_are_served_in_turn(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        jobs = await piled(side, *(new_job(client=f"c{n % 150}") for n in range(600)))
        served: Counter[str] = Counter()
        for _ in range(3):
            served += clients_of(claimed(consumer(valkey).claim(SPEC)), jobs)
    assert len(served) == 150
    assert max(served.values()) <= 2


async def test_a_lane_keeps_its_order(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        jobs = await piled(side, *(new_job(client="a") for _ in range(150)))
        taken = [job.id for claim in work_off(consumer(valkey)) for job in claim.jobs]
    assert taken == [job.id for job in jobs]


async def test_nothing_is_left_of_lanes_that_were_worked_off(valkey: EmbeddedValkey, connection: redis.Redis) -> None:
    async with gateway_side(valkey.url) as side:
        await piled(side, *(new_job(client=f"c{n % 5}") for n in range(100)), *(batch_job() for _ in range(100)))
        await piled(side, *(new_job() for _ in range(100)), *(batch_job(client="c1") for _ in range(100)))
        assert sum(len(claim.jobs) for claim in work_off(consumer(valkey))) == 400
    assert lanes_left(connection) == []
    assert connection.hmget(f"muleteer:ledger:{QUEUE}", "rows", "batch_rows", "laned") == [b"0", b"0", b"0"]
    assert [name for name in connection.smembers("rq:queues") if b"@" in name] == []


async def test_a_cancelled_job_leaves_its_lane(valkey: EmbeddedValkey, connection: redis.Redis) -> None:
    async with gateway_side(valkey.url) as side:
        (job,) = await piled(side, batch_job(client="a"))
        assert await side.jobs.cancel(job.id) == "queued"
        assert lanes_left(connection) == []
        assert connection.hmget(f"muleteer:ledger:{QUEUE}", "batch_rows", "laned") == [b"0", b"0"]
        assert consumer(valkey).claim(SPEC) is None


async def test_a_job_shows_its_place_in_its_lane(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        jobs = await piled(side, *(batch_job(client="a") for _ in range(3)))
        view = await side.jobs.look(jobs[2].id)
    assert view is not None
    assert view.position == 2


async def test_a_lost_workers_jobs_come_back_before_all_others(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        lost = await piled(side, batch_job(client="a"))
        consumer(valkey, "dies").claim(SPEC)
        await piled(side, *(new_job() for _ in range(100)))
        worker = consumer(valkey)
        worker.release(["dies"], SPEC)
        assert [job.id for job in claimed(worker.claim(SPEC)).jobs] == [lost[0].id]


async def test_every_lane_is_a_queue_to_rqs_own_tools(valkey: EmbeddedValkey, connection: redis.Redis) -> None:
    async with gateway_side(valkey.url) as side:
        jobs = await piled(side, batch_job(client="a"), batch_job(), new_job())
    queues = {queue.name: queue.job_ids for queue in Queue.all(connection, serializer=JSONSerializer)}
    assert queues == {QUEUE: [jobs[2].id], f"{QUEUE}:batch": [jobs[1].id], f"{QUEUE}:batch:@a": [jobs[0].id]}
    assert Job.fetch(jobs[0].id, connection, JSONSerializer).get_status() == "queued"


async def test_a_job_that_rq_cancels_in_its_lane_is_dropped_and_accounted_for(
    valkey: EmbeddedValkey, connection: redis.Redis
) -> None:
    async with gateway_side(valkey.url) as side:
        (job,) = await piled(side, batch_job(client="a"))
    Job.fetch(job.id, connection, JSONSerializer).cancel()
    assert claimed(consumer(valkey).claim(SPEC)).canceled == 1
    assert connection.hget(f"muleteer:ledger:{QUEUE}", "canceled") == b"1"


async def test_a_batch_takes_no_more_rows_than_its_target_has_time_for(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        await piled(side, *(new_job() for _ in range(100)))
        worker = consumer(valkey)
        worker.costs[QUEUE] = Cost(0.0, 0.1)
        assert len(claimed(worker.claim(SPEC)).jobs) == 10


async def test_a_batch_ends_before_the_tightest_deadline_in_it(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        await piled(side, *(new_job(wait_limit=60.0) for _ in range(20)), new_job(wait_limit=2.5))
        await piled(side, *(new_job(wait_limit=60.0) for _ in range(20)))
        worker = consumer(valkey)
        worker.costs[QUEUE] = Cost(0.0, 0.1)
        spec = [QueueSpec(QUEUE, 64, 3, target_seconds=100.0)]
        assert len(claimed(worker.claim(spec)).jobs) == 24


async def test_a_deadline_that_cannot_be_met_binds_nobody(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        await piled(side, *(new_job(wait_limit=0.05) for _ in range(30)))
        worker = consumer(valkey)
        worker.costs[QUEUE] = Cost(0.0, 0.1)
        spec = [QueueSpec(QUEUE, 64, 3, target_seconds=100.0)]
        assert len(claimed(worker.claim(spec)).jobs) == 30
