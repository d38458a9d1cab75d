"""RQ's own worker on a model's queue."""

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
import redis
from rq import Queue, SimpleWorker
from rq.job import Job
from rq.serializers import JSONSerializer

from muleteer.embedded import EmbeddedValkey
from muleteer_worker import stock
from support.models import MOODY, write_catalog, write_version
from support.producing import QUEUE, gateway_side, new_job


@pytest.fixture(autouse=True)
def catalog(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    write_version(repository, "m", "1", MOODY)
    path = write_catalog(tmp_path / "catalog.yaml", {"m": {"versions": {"1": {}}}})
    monkeypatch.setenv("MULETEER_CATALOG", str(path))
    yield
    stock._version.cache_clear()


def work(connection: redis.Redis) -> None:
    queue = Queue(QUEUE, connection=connection, serializer=JSONSerializer)
    SimpleWorker([queue], connection=connection, serializer=JSONSerializer).work(burst=True, logging_level="WARNING")


def fetch(job_id: str, connection: redis.Redis) -> Job:
    return Job.fetch(job_id, connection=connection, serializer=JSONSerializer)


async def test_a_stock_worker_runs_a_queued_job(valkey: EmbeddedValkey, connection: redis.Redis) -> None:
    job = new_job(input=orjson.dumps([{"text": "a"}, {"text": "b"}]), rows=2, kept=True)
    async with gateway_side(valkey.url) as side:
        await side.enqueue(job)
        work(connection)
        view = await side.jobs.look(job.id)
    assert fetch(job.id, connection).return_value() == [{"echo": "a"}, {"echo": "b"}]
    assert view is not None
    assert (view.status, view.predictions) == ("finished", b'[{"echo": "a"}, {"echo": "b"}]')


async def test_what_the_model_raises_is_the_stock_jobs_failure(valkey: EmbeddedValkey, connection: redis.Redis) -> None:
    job = new_job(input=orjson.dumps([{"text": "raise"}]), kept=True)
    async with gateway_side(valkey.url) as side:
        await side.enqueue(job)
        work(connection)
    failed = fetch(job.id, connection)
    assert failed.is_failed
    assert "ValueError: this text is not to my taste" in (failed.latest_result().exc_string or "")


async def test_a_version_that_is_not_in_the_catalog_fails_clearly(
    valkey: EmbeddedValkey, connection: redis.Redis
) -> None:
    job = new_job(version="9", kept=True)
    async with gateway_side(valkey.url) as side:
        await side.enqueue(job)
        work(connection)
    assert "has no version '9' of model 'm'" in (fetch(job.id, connection).latest_result().exc_string or "")
