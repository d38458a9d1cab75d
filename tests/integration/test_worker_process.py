"""A worker pod as a real process: its parent, its children, and jobs that go wrong."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
import redis

from muleteer.queue.connection import connect
from support.models import MOODY, SLOW
from support.pod import ask, is_live, readiness, reports, running, sample, serve, submit, text_job, until
from support.producing import gateway_side
from support.services import System
from support.waiting import wait_until

ENVIRONMENT = """
    import os

    class Model:
        def predict(self, instances):
            return [os.environ.get(i["text"], "") for i in instances]
"""

NAN = """
    class Model:
        def predict(self, instances):
            return [float("nan") if i["text"] == "nan" else 1.0 for i in instances]
"""

ABORTS_AT_LOAD = """
    import os

    class Model:
        def load(self, context):
            os.abort()

        def predict(self, instances):
            return instances
"""


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    with System(tmp_path, tmp_path / "catalog.yaml", MULETEER_RETIRE_SECONDS="0.5") as made:
        yield made


@pytest.fixture
def connection(system: System) -> Iterator[redis.Redis]:
    with connect(system.valkey.url) as client:
        yield client


async def test_jobs_are_answered_and_counted(system: System, connection: redis.Redis) -> None:
    serve(system, batching={"max_rows": 32})
    worker = system.add_worker(2).wait_ready()
    async with gateway_side(system.valkey.url) as side:
        jobs = [text_job(f"{n}") for n in range(200)]
        answers = await ask(side, *jobs, text_job(*map(str, range(1000))))
    assert answers[:-1] == [("finished", [{"echo": f"{n}"}]) for n in range(200)]
    assert answers[-1] == ("finished", [{"echo": f"{n}"} for n in range(1000)])
    await until(lambda: sample(worker, 'muleteer_jobs_total{model="m",outcome="finished"') == 201)
    assert sample(worker, "muleteer_batch_rows_sum") == 1200
    assert sample(worker, 'muleteer_batch_rows_bucket{le="32.0"') == sample(worker, "muleteer_batch_rows_count")
    assert sample(worker, "muleteer_job_wait_seconds_count") == 201
    await until(lambda: sample(worker, "muleteer_model_ready") == 2)  # a pod is ready with its first process
    assert sample(worker, 'muleteer_model_info{framework="python"') == 1
    assert sample(worker, "muleteer_model_load_seconds_count") == 2
    assert "muleteer_requests" not in worker.metrics()
    assert reports(connection) == {"1": "ready"}


async def test_only_the_input_that_makes_the_model_raise_fails(system: System) -> None:
    serve(system, MOODY)
    worker = system.add_worker().wait_ready()
    async with gateway_side(system.valkey.url) as side:
        texts = [f"{n}" for n in range(63)]
        bad = text_job("raise", extra=b'{"request_id": "r-7"}')
        answers = await ask(side, *(text_job(text) for text in texts[:30]), bad, *(text_job(t) for t in texts[30:]))
        several = (await ask(side, text_job("a", "b", "raise")))[0]
    message = "this text is not to my taste"
    assert answers.pop(30) == ("failed", {"type": "ValueError", "message": message})
    assert answers == [("finished", [{"echo": text}]) for text in texts]
    assert several == ("failed", {"type": "ValueError", "message": f"instances/2: {message}"})
    line = next(line for line in worker.log_lines() if line.get("job_id") == bad.id)
    assert (line["level"], line["model"], line["version"], line["request_id"]) == ("WARNING", "m", "1", "r-7")
    assert message in line["message"]


async def test_a_prediction_that_is_not_a_number_is_a_prediction_error(system: System) -> None:
    serve(system, NAN)
    system.add_worker().wait_ready()
    async with gateway_side(system.valkey.url) as side:
        good, bad = await ask(side, text_job("a"), text_job("nan"))
    assert good == ("finished", [1.0])
    assert bad[0] == "failed"
    assert bad[1]["type"] == "PredictionError"
    assert "nan" in bad[1]["message"]


async def test_a_killed_child_is_replaced_and_its_jobs_are_given_back_at_once(
    system: System, connection: redis.Redis
) -> None:
    serve(system, SLOW)
    worker = system.add_worker().wait_ready()
    victim = worker.children()[0]
    async with gateway_side(system.valkey.url) as side:
        futures = await submit(side, text_job("1.5"))
        await until(lambda: running(connection) == 1)
        victim.kill()
        async with asyncio.timeout(10):  # far below the lease of 15 s
            reply = await futures[0]
    assert reply.status == "finished"
    assert [child.pid for child in worker.children()] != [victim.pid]
    assert sample(worker, "muleteer_worker_restarts_total") == 1
    assert sample(worker, "muleteer_jobs_redelivered_total") == 1
    await until(lambda: sample(worker, 'muleteer_jobs_total{model="m",outcome="finished"') == 1)
    assert sample(worker, "muleteer_model_ready") == 1
    assert any("SIGKILL" in line["message"] for line in worker.log_lines())
    await until(lambda: connection.zcard("muleteer:workers:default") == 1)


async def test_counts_of_a_child_outlive_it(system: System) -> None:
    serve(system)
    worker = system.add_worker().wait_ready()
    for expected in (10, 20):
        async with gateway_side(system.valkey.url) as side:
            await ask(side, *(text_job(f"{n}") for n in range(10)))
        await until(lambda n=expected: sample(worker, 'muleteer_jobs_total{model="m",outcome="finished"') == n)
        victim = worker.children()[0]
        victim.kill()
        await until(lambda v=victim: v.pid not in [child.pid for child in worker.children()])
        worker.wait_ready()


async def test_an_input_that_kills_its_process_fails_alone_in_the_end(system: System) -> None:
    serve(system, MOODY, max_deliveries=3)
    worker = system.add_worker(2).wait_ready()
    async with gateway_side(system.valkey.url) as side:
        good = [text_job(f"{n}") for n in range(63)]
        answers = await ask(side, *good[:30], text_job("abort"), *good[30:])
    kind = answers.pop(30)
    assert kind[0] == "failed"
    assert kind[1]["type"] == "WorkerLost"
    assert answers == [("finished", [{"echo": f"{n}"}]) for n in range(63)]
    worker.wait_ready()


async def test_sigterm_finishes_the_batch_in_hand(system: System, connection: redis.Redis) -> None:
    serve(system, SLOW)
    worker = system.add_worker().wait_ready()
    async with gateway_side(system.valkey.url) as side:
        futures = await submit(side, text_job("1.5"))
        await until(lambda: running(connection) == 1)
        worker.signal(signal.SIGTERM)
        await until(lambda: readiness(worker)[1]["reasons"] == ["draining"])
        reply = await futures[0]
        assert (reply.status, orjson.loads(reply.payload)) == ("finished", [{"slept": "1.5"}])
        assert await asyncio.to_thread(worker.stop) == 0
    assert connection.keys("muleteer:workers:*") == []
    assert connection.keys("muleteer:versions:*") == []


async def test_what_is_not_done_within_the_drain_time_is_given_back(system: System, connection: redis.Redis) -> None:
    serve(system, SLOW)
    worker = system.add_worker(MULETEER_DRAIN_SECONDS="0.5").wait_ready()
    async with gateway_side(system.valkey.url) as side:
        job = text_job("60")
        await side.enqueue(job)
        await until(lambda: running(connection) == 1)
        assert await asyncio.to_thread(worker.stop) == 0
    assert connection.hget(f"rq:job:{job.id}", "status") == b"queued"
    assert running(connection) == 0


async def test_ctrl_c_drains_like_sigterm(system: System, connection: redis.Redis) -> None:
    serve(system)
    worker = system.add_worker(2).wait_ready()
    worker.signal(signal.SIGINT)
    assert worker.process is not None
    assert await asyncio.to_thread(worker.process.wait, 20) == 0
    assert connection.zcard("muleteer:workers:default") == 0


async def test_children_die_with_their_parent_and_another_pod_takes_over(
    system: System, connection: redis.Redis
) -> None:
    serve(system, SLOW)
    first = system.add_worker(2, MULETEER_LEASE_SECONDS="2").wait_ready()
    children = first.children()
    async with gateway_side(system.valkey.url) as side:
        futures = await submit(side, text_job("3"))
        await until(lambda: running(connection) == 1)
        first.signal(signal.SIGKILL)
        await until(lambda: not any(child.is_running() for child in children), 5)
        system.add_worker(1, MULETEER_LEASE_SECONDS="2").wait_ready()
        reply = await futures[0]
    assert reply.status == "finished"


async def test_a_hung_predict_ends_the_process_and_the_job(system: System) -> None:
    serve(system, SLOW, predict_timeout=1, max_deliveries=2)
    worker = system.add_worker().wait_ready()
    async with gateway_side(system.valkey.url) as side:
        (answer,) = await ask(side, text_job("600"))
        assert answer[0] == "failed"
        assert answer[1]["type"] == "WorkerLost"
        await asyncio.to_thread(worker.wait_ready)
        assert await ask(side, text_job("0")) == [("finished", [{"slept": "0"}])]
    lines = [line for line in worker.log_lines() if "hangs" in line["message"]]
    assert [(line["model"], line["version"]) for line in lines] == [("m", "1")] * 2
    assert any("exit code 70" in line["message"] for line in worker.log_lines())


def test_a_child_that_dies_while_it_starts_is_started_with_growing_pauses(system: System) -> None:
    serve(system, ABORTS_AT_LOAD)
    worker = system.add_worker()
    wait_until(lambda: is_live(worker) and sample(worker, "muleteer_worker_restarts_total") >= 3, 30)
    messages = [line["message"] for line in worker.log_lines() if "SIGABRT" in line["message"]]
    assert [message.rpartition("started again ")[2] for message in messages[:3]] == ["at once", "in 0.5 s", "in 1 s"]
    assert readiness(worker)[0] == 503
    assert worker.stop() == 0


async def test_threads_of_numerical_libraries_are_capped(system: System) -> None:
    serve(system, ENVIRONMENT)
    system.add_worker(MULETEER_THREADS="3").wait_ready()
    async with gateway_side(system.valkey.url) as side:
        answer = await ask(side, text_job("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"))
    assert answer == [("finished", ["3", "3", "3"])]
