"""A worker pod while its catalog is edited, and with versions that cannot be loaded."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis

from muleteer.queue.connection import connect
from support.models import ECHO, SLOW, write_catalog, write_version
from support.pod import ask, is_live, readiness, reports, sample, serve, submit, text_job, until
from support.producing import gateway_side
from support.services import System
from support.waiting import wait_until

BROKEN = """
    class Model:
        def load(self, context):
            raise RuntimeError("weights are missing")

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


async def test_a_version_added_to_the_catalog_is_served_without_a_restart(
    system: System, connection: redis.Redis
) -> None:
    serve(system)
    worker = system.add_worker().wait_ready()
    write_version(system.folder / "models", "m", "2", ECHO.replace("echo", "two"))
    write_catalog(system.catalog, {"m": {"versions": {"1": {}, "2": {}}, "default": "1"}})
    await until(lambda: reports(connection) == {"1": "ready", "2": "ready"})
    async with gateway_side(system.valkey.url) as side:
        answers = await ask(side, text_job("a"), text_job("b", version="2"))
    assert answers == [("finished", [{"echo": "a"}]), ("finished", [{"two": "b"}])]
    assert sample(worker, "muleteer_model_ready") == 2


async def test_a_removed_version_goes_when_its_successor_is_ready_and_its_queue_empty(
    system: System, connection: redis.Redis
) -> None:
    serve(system, SLOW)
    worker = system.add_worker().wait_ready()
    # No worker has the successor yet: the old version must stay.
    write_version(system.folder / "models", "m", "2", BROKEN)
    write_catalog(system.catalog, {"m": {"versions": {"2": {}}}})
    await until(lambda: reports(connection) == {"1": "ready", "2": "failed"})
    async with gateway_side(system.valkey.url) as side:
        assert await ask(side, text_job("1")) == [("finished", [{"slept": "1"}])]
        assert reports(connection) == {"1": "ready", "2": "failed"}
        write_version(system.folder / "models", "m", "3", ECHO)
        futures = await submit(side, text_job("1.5"))
        write_catalog(system.catalog, {"m": {"versions": {"3": {}}}})
        await until(lambda: reports(connection).get("3") == "ready")
        assert (await futures[0]).status == "finished"
        await until(lambda: reports(connection) == {"1": "retired", "3": "ready"})
        assert await ask(side, text_job("a", version="3")) == [("finished", [{"echo": "a"}])]
    assert sample(worker, "muleteer_model_ready") == 1
    assert sum(line["message"] == "Version retired" for line in worker.log_lines()) == 1


async def test_a_version_that_cannot_be_loaded_is_told_and_the_others_serve(
    system: System, connection: redis.Redis
) -> None:
    serve(system)
    folder = write_version(system.folder / "models", "m", "2")
    (folder / "model.py").write_text("tampered with")
    write_catalog(system.catalog, {"m": {"versions": {"1": {}, "2": {}}, "default": "1"}})
    worker = system.add_worker().wait_ready()
    await until(lambda: reports(connection) == {"1": "ready", "2": "failed"})
    async with gateway_side(system.valkey.url) as side:
        assert await ask(side, text_job("a")) == [("finished", [{"echo": "a"}])]
    assert sample(worker, 'muleteer_model_load_failures_total{model="m",reason="checksum",version="2"}') == 1
    lines = [line for line in worker.log_lines() if line.get("reason") == "checksum"]
    assert [(line["level"], line["model"], line["version"]) for line in lines] == [("ERROR", "m", "2")]


async def test_jobs_of_a_version_that_has_left_the_catalog_are_served_whenever_they_come(
    system: System, connection: redis.Redis
) -> None:
    serve(system)
    write_version(system.folder / "models", "m", "2")
    write_catalog(system.catalog, {"m": {"versions": {"2": {}}}})
    system.add_worker().wait_ready()
    assert reports(connection) == {"2": "ready"}
    async with gateway_side(system.valkey.url) as side:
        for text in ("late", "later"):
            # As a gateway does that was stopped across the edit: no worker has known of the version since it started.
            assert await ask(side, text_job(text)) == [("finished", [{"echo": text}])]
            await until(lambda: reports(connection).get("1") in (None, "retired"))
    assert reports(connection)["2"] == "ready"


def test_a_pod_whose_only_version_fails_is_alive_but_not_ready(system: System) -> None:
    serve(system, BROKEN)
    worker = system.add_worker()
    wait_until(lambda: is_live(worker), 30)
    status, document = wait_until(
        lambda: (found := readiness(worker)) and "could be loaded" in str(found[1]["reasons"]) and found, 30
    )
    assert status == 503
    assert document["processes"][0]["ready"] is False
    assert httpx.get(f"{worker.url}/livez").status_code == 200
    missing = httpx.get(f"{worker.url}/")
    assert missing.status_code == 404
    assert "/readyz" in missing.json()["error"]


def test_a_pool_without_models_is_ready(system: System) -> None:
    serve(system)
    system.add_worker(MULETEER_POOL="gpu").wait_ready()
