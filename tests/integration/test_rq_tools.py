"""RQ's own tools, unmodified, see the truth; a stock worker can run a job."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from muleteer.queue.connection import connect
from support.models import MOODY, SLOW, write_catalog, write_version
from support.services import System
from support.waiting import wait_until

PICKY = """
    from pathlib import Path

    class Model:
        def predict(self, instances):
            for i in instances:
                if Path(i["text"]).exists():
                    raise ValueError("the file is in the way")
            return [{"free": i["text"]} for i in instances]
"""
RQ = Path(sys.executable).with_name("rq")


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    write_version(tmp_path / "models", "moody", code=MOODY)
    write_version(tmp_path / "models", "slow", code=SLOW)
    write_version(tmp_path / "models", "picky", code=PICKY)
    models = {name: {"versions": {"1": {}}, "route": f"/{name}"} for name in ("moody", "slow", "picky")}
    with System(tmp_path, write_catalog(tmp_path / "catalog.yaml", models)) as running:
        running.add_gateway().wait_ready()
        yield running


@pytest.fixture
def connection(system: System) -> Iterator[redis.Redis]:
    with connect(system.valkey.url) as client:
        yield client


def submit(system: System, model: str, text: str) -> str:
    answer = httpx.post(f"{system.url}/{model}", json={"text": text}, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def rq(system: System, *words: str) -> str:
    command = [str(RQ), *words, "--url", system.valkey.url]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def status(connection: redis.Redis, job: str) -> JobStatus:
    return Job.fetch(job, connection, JSONSerializer).get_status()


def test_rq_info_and_fetch_see_each_state(system: System, connection: redis.Redis) -> None:
    good, bad = submit(system, "moody", "hello"), submit(system, "moody", "raise")
    running, waiting = submit(system, "slow", "3"), submit(system, "slow", "0")
    assert "moody.1:batch 2, 0 executing, 0 finished, 0 failed" in rq(system, "info", "--raw", "--only-queues")
    assert status(connection, good) is JobStatus.QUEUED
    catalog = {"slow": {"versions": {"1": {}}, "batching": {"max_rows": 1}, "route": "/slow"}}
    catalog["moody"] = {"versions": {"1": {}}, "route": "/moody"}
    write_catalog(system.catalog, catalog)
    system.add_worker().wait_ready()
    wait_until(lambda: status(connection, running) is JobStatus.STARTED, what="the slow job runs")
    info = rq(system, "info", "--raw", "--only-queues")
    assert "slow.1:batch 1, 0 executing, 0 finished, 0 failed" in info
    assert "slow.1 0, 1 executing, 0 finished, 0 failed" in info
    wait_until(lambda: status(connection, waiting) is JobStatus.FINISHED, what="all is done")
    info = rq(system, "info", "--raw", "--only-queues")
    assert "moody.1 0, 0 executing, 1 finished, 1 failed" in info
    assert "slow.1 0, 0 executing, 2 finished, 0 failed" in info
    fetched = Job.fetch(good, connection, JSONSerializer)
    assert fetched.return_value() == [{"echo": "hello"}]
    assert fetched.func_name == "muleteer_worker.stock.predict"
    failed = Job.fetch(bad, connection, JSONSerializer).latest_result()
    assert failed is not None
    assert failed.exc_string == "ValueError: this text is not to my taste"


def requeue(system: System, queue: str) -> None:
    rq(system, "requeue", "--queue", queue, "--all", "--serializer", "rq.serializers.JSONSerializer")


def test_rq_requeue_runs_a_failed_job_again_and_it_fails_again(system: System, connection: redis.Redis) -> None:
    system.add_worker().wait_ready()
    job = submit(system, "moody", "raise")
    wait_until(lambda: status(connection, job) is JobStatus.FAILED)
    requeue(system, "moody.1")
    wait_until(
        lambda: len(Job.fetch(job, connection, JSONSerializer).results()) == 2, what="it has failed a second time"
    )
    assert status(connection, job) is JobStatus.FAILED
    document = httpx.get(f"{system.url}/v1/jobs/{job}").json()
    assert document["error"] == {"type": "ValueError", "message": "this text is not to my taste"}


def test_rq_requeue_revives_a_failed_job_that_succeeds_once_its_cause_is_gone(
    system: System, connection: redis.Redis, tmp_path: Path
) -> None:
    system.add_worker().wait_ready()
    obstacle = tmp_path / "obstacle"
    obstacle.touch()
    job = submit(system, "picky", str(obstacle))
    wait_until(lambda: status(connection, job) is JobStatus.FAILED)
    document = httpx.get(f"{system.url}/v1/jobs/{job}").json()
    assert document["error"] == {"type": "ValueError", "message": "the file is in the way"}
    obstacle.unlink()
    requeue(system, "picky.1")
    wait_until(lambda: status(connection, job) is JobStatus.FINISHED, what="it has succeeded")
    assert Job.fetch(job, connection, JSONSerializer).return_value() == [{"free": str(obstacle)}]
    document = httpx.get(f"{system.url}/v1/jobs/{job}").json()
    assert (document["status"], document["result"]) == ("finished", {"predictions": [{"free": str(obstacle)}]})
    assert "error" not in document


def test_a_stock_simple_worker_runs_a_queued_job_and_its_caller_gets_the_answer(
    system: System, connection: redis.Redis
) -> None:
    job = submit(system, "moody", "from stock")
    run_stock_worker(system)
    assert status(connection, job) is JobStatus.FINISHED
    document = httpx.get(f"{system.url}/v1/jobs/{job}?wait=10").json()
    assert document["result"]["predictions"] == [{"echo": "from stock"}]


def test_a_stock_workers_failure_is_a_failed_job_with_its_reason(system: System, connection: redis.Redis) -> None:
    job = submit(system, "moody", "raise")
    run_stock_worker(system)
    assert status(connection, job) is JobStatus.FAILED
    document = httpx.get(f"{system.url}/v1/jobs/{job}").json()
    assert document["status"] == "failed"
    assert "this text is not to my taste" in document["error"]["message"]


def run_stock_worker(system: System) -> None:
    command = [str(RQ), "worker", "--burst", "--worker-class", "rq.worker.SimpleWorker"]
    command += ["--serializer", "rq.serializers.JSONSerializer", "--url", system.valkey.url, "moody.1", "moody.1:batch"]
    env = {"MULETEER_CATALOG": str(system.catalog), "MULETEER_REDIS_URL": system.valkey.url}
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=os.environ | env)
    assert finished.returncode == 0, finished.stderr
