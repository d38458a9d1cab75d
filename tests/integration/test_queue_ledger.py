"""The ledger adds up: accepted = finished + failed + canceled + expired + queued + running, whatever happens."""

import random

import pytest
import redis
from rq.job import Job
from rq.registry import FailedJobRegistry
from rq.serializers import JSONSerializer

from muleteer.embedded import EmbeddedValkey
from muleteer.queue.consumer import Claim, Outcome
from muleteer.queue.cost import Cost
from support.consuming import SPEC, claimed, consumer, timing
from support.producing import QUEUE, gateway_side, new_job


def ledger(connection: redis.Redis) -> dict[str, int]:
    return {
        name.decode(): int(value)
        for name, value in connection.hgetall(f"muleteer:ledger:{QUEUE}").items()
        if name != b"credit"
    }


def open_jobs(connection: redis.Redis) -> int:
    return len(
        [key for key in connection.scan_iter("rq:job:*") if connection.hget(key, "status") in (b"queued", b"started")]
    )


def assert_adds_up(connection: redis.Redis) -> None:
    book = ledger(connection)
    ended = sum(book.get(event, 0) for event in ("finished", "failed", "canceled", "expired"))
    assert book.get("accepted", 0) == ended + open_jobs(connection)


@pytest.mark.parametrize("seed", range(3))
async def test_it_adds_up_after_every_step_of_a_random_history(
    valkey: EmbeddedValkey, connection: redis.Redis, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - a history that can be repeated
    held: list[Claim] = []
    ids: list[str] = []
    async with gateway_side(valkey.url) as side:
        worker = consumer(valkey)
        for _ in range(150):
            step = chance.choice(["enqueue", "enqueue", "claim", "claim", "finish", "cancel", "lose", "expire"])
            if step in ("enqueue", "expire"):
                jobs = [
                    new_job(
                        client=chance.choice(["", "", "a", "b"]),
                        job_class=chance.choice(["interactive", "batch"]),
                        kept=step == "enqueue" and chance.random() < 0.5,
                        rows=chance.randint(1, 20),
                        wait_limit=-60.0 if step == "expire" else 60.0,
                    )
                    for _ in range(chance.randint(1, 10))
                ]
                ids += [job.id for job in jobs]
                await side.enqueue(*jobs)
            elif step == "claim" and (claim := worker.claim(SPEC)):
                held.append(claim)
            elif step == "finish" and held:
                claim = held.pop(chance.randrange(len(held)))
                right = chance.random() < 0.7
                worker.finish(
                    claim, [Outcome(job.id, b"[1]" if right else None, "E", "m") for job in claim.jobs], timing()
                )
            elif step == "cancel" and ids:
                await side.jobs.cancel(chance.choice(ids))
            elif step == "lose":
                worker.release([worker.worker], SPEC)
                held.clear()
            assert_adds_up(connection)
        worker.release([worker.worker], SPEC)
        while claim := worker.claim(SPEC):
            worker.finish(claim, [Outcome(job.id, b"[1]") for job in claim.jobs], timing())
    assert_adds_up(connection)
    assert open_jobs(connection) == 0
    book = ledger(connection)
    assert (book["rows"], book.get("batch_rows", 0), book.get("laned", 0)) == (0, 0, 0)


async def test_a_revived_dead_letter_is_accepted_anew(valkey: EmbeddedValkey, connection: redis.Redis) -> None:
    async with gateway_side(valkey.url) as side:
        job = new_job(kept=True)
        await side.enqueue(job)
        worker = consumer(valkey)
        claim = claimed(worker.claim(SPEC))
        worker.finish(claim, [Outcome(job.id, None, "E", "m")], timing())
        FailedJobRegistry(QUEUE, connection, serializer=JSONSerializer).requeue(job.id)
        claim = claimed(worker.claim(SPEC))
        worker.finish(claim, [Outcome(job.id, b"[1]")], timing())
    assert Job.fetch(job.id, connection, JSONSerializer).get_status() == "finished"
    book = ledger(connection)
    assert (book["accepted"], book["failed"], book["finished"]) == (2, 1, 1)


async def test_a_caller_that_went_away_has_its_job_dropped_unless_it_is_kept(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        gone, kept = new_job(), new_job(kept=True)
        await side.enqueue(gone, kept)
        await side.jobs.abandon([gone.id, kept.id, "never-was"])
        claim = claimed(consumer(valkey).claim(SPEC))
    assert [job.id for job in claim.jobs] == [kept.id]
    assert claim.expired == 1


async def test_a_job_that_runs_already_is_finished_though_its_caller_went_away(valkey: EmbeddedValkey) -> None:
    async with gateway_side(valkey.url) as side:
        job = new_job()
        await side.enqueue(job)
        worker = consumer(valkey)
        claim = claimed(worker.claim(SPEC))
        await side.jobs.abandon([job.id])
        assert worker.finish(claim, [Outcome(job.id, b"[1]")], timing()).finished == 1


async def test_what_batches_cost_is_shared_and_outlives_the_workers(valkey: EmbeddedValkey) -> None:
    one, two = consumer(valkey, "one"), consumer(valkey, "two")
    assert one.read_cost(QUEUE) is None
    assert one.share_costs({QUEUE: Cost(0.1, 0.01)}) == {QUEUE: Cost(0.1, 0.01)}
    blended = two.share_costs({QUEUE: Cost(0.2, 0.02)})[QUEUE]
    assert 0.1 < blended.batch_seconds < 0.2
    assert 0.01 < blended.row_seconds < 0.02
    assert consumer(valkey, "new").read_cost(QUEUE) == blended
    async with gateway_side(valkey.url) as side:
        seen = await side.jobs.observe([("m", "1")], [], [])
    assert seen.queues[QUEUE].cost == blended
