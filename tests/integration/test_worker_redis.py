"""A worker pod whose Redis goes away, comes back, or loses an answer."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from muleteer.queue.connection import connect
from support.models import SLOW
from support.pod import ask, is_live, readiness, running, serve, submit, text_job, until
from support.producing import gateway_side
from support.proxy import Proxy
from support.services import System


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    with System(tmp_path, tmp_path / "catalog.yaml", MULETEER_RETIRE_SECONDS="0.5") as made:
        yield made


@pytest.fixture
def connection(system: System) -> Iterator[redis.Redis]:
    with connect(system.valkey.url) as client:
        yield client


async def test_redis_may_restart_under_a_worker(system: System) -> None:
    serve(system)
    worker = system.add_worker(2).wait_ready()
    children = {child.pid for child in worker.children()}
    system.valkey.kill()
    await until(lambda: readiness(worker)[0] == 503)
    assert "Redis does not answer" in readiness(worker)[1]["reasons"]
    assert is_live(worker)
    system.valkey.start()
    worker.wait_ready()
    async with gateway_side(system.valkey.url) as side:
        answers = await ask(side, *(text_job(f"{n}") for n in range(100)))
    assert answers == [("finished", [{"echo": f"{n}"}]) for n in range(100)]
    assert {child.pid for child in worker.children()} == children


async def test_a_batch_that_ends_while_redis_is_away_is_finished_when_it_is_back(
    system: System, connection: redis.Redis
) -> None:
    serve(system, SLOW)
    worker = system.add_worker().wait_ready()
    job = text_job("1", kept=True)
    async with gateway_side(system.valkey.url) as side:
        await side.enqueue(job)
        await until(lambda: running(connection) == 1)
    system.valkey.kill()
    await until(lambda: "Redis does not answer, trying on" in worker.log.read_text())
    system.valkey.start()
    with connect(system.valkey.url) as again:
        await until(lambda: again.hget(f"rq:job:{job.id}", "status") == b"finished")
        assert again.hget(f"rq:job:{job.id}", "deliveries") is None


@pytest.mark.parametrize("lost", [0, 1])
async def test_a_claim_whose_answer_is_lost_is_given_back_before_its_lease_ends(
    system: System, connection: redis.Redis, lost: int
) -> None:
    serve(system, SLOW, batching={"max_rows": 1})
    jobs = [text_job("0.3", kept=True), text_job("0.3", kept=True)]
    with Proxy(system.valkey.port, jobs[lost].id.encode()) as proxy:
        system.add_worker(MULETEER_REDIS_URL=f"redis://127.0.0.1:{proxy.port}/0").wait_ready()
        async with gateway_side(system.valkey.url) as side, asyncio.timeout(10):
            assert await ask(side, *jobs) == [("finished", [{"slept": "0.3"}])] * 2
        assert proxy.cut
    deliveries = [connection.hget(f"rq:job:{job.id}", "deliveries") for job in jobs]
    assert deliveries == [None, None]  # nobody has seen it, so that nothing counts against it


async def test_a_long_predict_keeps_its_lease(system: System, connection: redis.Redis) -> None:
    serve(system, SLOW)
    system.add_worker(2, MULETEER_LEASE_SECONDS="1").wait_ready()
    async with gateway_side(system.valkey.url) as side:
        job = text_job("3.5", kept=True)
        reply = await (await submit(side, job))[0]
    assert reply.status == "finished"
    assert connection.hget(f"rq:job:{job.id}", "deliveries") is None
