"""What one client may have: rates and jobs under way, counted in the enqueue call itself, on a real Valkey."""

import redis

from muleteer.embedded import EmbeddedValkey
from muleteer.queue.producer import ClientLimits, Refusal
from support.consuming import SPEC, claimed, consumer, echo, timing
from support.producing import gateway_side, new_job

SLOW = ClientLimits(rate=0.01, burst=3)
TWO = ClientLimits(concurrency=2)


async def test_a_client_over_its_rate_is_refused_and_told_for_how_long(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        outcomes = await side.enqueue(*(new_job(client="a", limits=SLOW) for _ in range(5)))
    assert outcomes[:3] == ["accepted"] * 3
    refused = outcomes[3]
    assert isinstance(refused, Refusal)
    assert refused.code == "rate"
    assert 90 < float(refused.detail) <= 100


async def test_the_rate_holds_over_calls_and_gateways_and_for_each_client_alone(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url, "g1") as one, gateway_side(valkey.url, "g2") as two:
        outcomes = []
        for side in (one, two, one, two):
            outcomes += await side.enqueue(new_job(client="a", limits=SLOW))
        assert outcomes[:3] == ["accepted"] * 3
        assert isinstance(outcomes[3], Refusal)
        assert await two.enqueue(new_job(client="b", limits=SLOW)) == ["accepted"]


async def test_tokens_come_back_with_time(valkey: EmbeddedValkey, connection: redis.Redis) -> None:
    async with gateway_side(valkey.url) as side:
        await side.enqueue(*(new_job(client="a", limits=SLOW) for _ in range(4)))
        # A hundred seconds pass: as if the bucket had been looked at so long ago.
        at = float(connection.hget("muleteer:rate:a", "at") or 0)
        connection.hset("muleteer:rate:a", "at", at - 100.5)
        assert await side.enqueue(new_job(client="a", limits=SLOW)) == ["accepted"]
        (again,) = await side.enqueue(new_job(client="a", limits=SLOW))
    assert isinstance(again, Refusal)


async def test_a_bucket_is_forgotten_once_it_is_full_again(valkey: EmbeddedValkey, connection: redis.Redis) -> None:
    async with gateway_side(valkey.url) as side:
        await side.enqueue(new_job(client="a", limits=ClientLimits(rate=2, burst=10)))
    assert 0 < connection.ttl("muleteer:rate:a") <= 6


async def test_a_client_has_no_more_jobs_under_way_than_it_may(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        outcomes = await side.enqueue(*(new_job(client="a", limits=TWO) for _ in range(3)))
        assert outcomes == ["accepted", "accepted", Refusal("busy", "2")]
        worker = consumer(valkey)
        claim = claimed(worker.claim(SPEC))
        assert await side.enqueue(new_job(client="a", limits=TWO)) == [Refusal("busy", "2")]  # running ones count
        worker.finish(claim, echo(claim), timing())
        assert await side.enqueue(new_job(client="a", limits=TWO)) == ["accepted"]


async def test_however_a_job_ends_it_is_no_longer_under_way(valkey: EmbeddedValkey, connection: redis.Redis) -> None:
    async with gateway_side(valkey.url) as side:
        canceled, expired = new_job(client="a", limits=TWO), new_job(client="a", limits=TWO, wait_limit=-60.0)
        await side.enqueue(canceled, expired)
        await side.jobs.cancel(canceled.id)
        worker = consumer(valkey)
        assert claimed(worker.claim(SPEC)).expired == 1
        await side.enqueue(new_job(client="a", limits=TWO, kept=True))
        for _ in range(3):  # lost three times, it fails for good
            worker.claim(SPEC)
            worker.release([worker.worker], SPEC)
    assert connection.zcard("muleteer:running:a") == 0


async def test_a_repeated_enqueue_costs_no_token(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        job = new_job(client="a", limits=ClientLimits(rate=0.01, burst=1))
        await side.enqueue(job)
        side.recorder.outcomes.clear()
        side.producer.submit(job, side.recorder, again=True)
        assert await side.recorder.outcome(job) == "accepted"


async def test_a_queue_with_its_most_rows_refuses_more(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        sizes = [60, 30, 20, 10]
        outcomes = await side.enqueue(*(new_job(rows=rows, max_queue_rows=100) for rows in sizes))
    assert outcomes == ["accepted", "accepted", Refusal("rows", "90"), "accepted"]


async def test_a_job_larger_than_the_limit_may_enter_an_empty_queue(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        assert await side.enqueue(new_job(rows=500, max_queue_rows=100)) == ["accepted"]


async def test_the_limit_on_jobs_counts_all_lanes(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        outcomes = []
        for lane in ({"client": "a"}, {"job_class": "batch"}, {}, {"client": "b"}):
            outcomes += await side.enqueue(new_job(max_queue_jobs=3, **lane))
    assert outcomes == ["accepted", "accepted", "accepted", Refusal("full", "3")]
