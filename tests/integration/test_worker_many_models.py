"""Many models on few workers: real worker processes under a memory budget."""

import hashlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil
import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

from muleteer.queue.connection import connect
from muleteer.queue.producer import NewJob
from support.metrics import counted
from support.models import write_catalog, write_version
from support.pod import ask, readiness, submit, until
from support.producing import gateway_side, new_job
from support.services import Service, System
from support.waiting import wait_until

MB = 1024 * 1024
SIZE = 6 * MB
BUDGET = 8 * SIZE + SIZE // 2
NAMES = [f"m{n:02}" for n in range(45)]
HOT, PINNED = NAMES[3], NAMES[7]

HEAVY = """
    import time

    class Model:
        def load(self, context):
            time.sleep(context.manifest.parameters.get("load_seconds", 0))
            self.name = context.manifest.name
            self.weights = (context.folder / "weights.bin").read_bytes()
            self.more = bytearray(b"w") * context.manifest.parameters.get("more_bytes", 0)

        def predict(self, instances):
            time.sleep(max(float(i.get("seconds", 0)) for i in instances))
            return [{"model": self.name, "echo": i["text"]} for i in instances]
"""


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    settings = {"MULETEER_RETIRE_SECONDS": "0.5", "MULETEER_MAX_RESIDENT_BYTES": str(BUDGET)}
    with System(tmp_path, tmp_path / "catalog.yaml", **settings) as made:
        yield made


@pytest.fixture
def connection(system: System) -> Iterator[redis.Redis]:
    with connect(system.valkey.url) as client:
        yield client


def write(system: System, name: str, version: str = "1", size: int = SIZE, **parameters: Any) -> None:
    """Write a version whose weights are a file of ``size`` bytes: a sparse one, which costs no disk."""
    repository = system.folder / "models"
    folder = repository / name / version
    folder.mkdir(parents=True)
    with (folder / "weights.bin").open("wb") as file:
        file.truncate(size)
    examples = [{"instance": {"text": "a"}, "prediction": {"model": name, "echo": "a"}}]
    files = {"weights.bin": zeros_sha256(size)}
    write_version(repository, name, version, HEAVY, schema={}, examples=examples, files=files, parameters=parameters)


@cache
def zeros_sha256(size: int) -> str:
    return hashlib.sha256(bytes(size)).hexdigest()


def serve(system: System, *names: str, **entries: dict[str, Any]) -> None:
    """Put these models into the catalog, each with one version."""
    for name in names:
        write(system, name)
    write_catalog(system.catalog, {name: {"versions": {"1": {}}} | entries.get(name, {}) for name in names})


def job(model: str, text: str = "x", seconds: float = 0, **changes: Any) -> NewJob:
    content = orjson.dumps([{"text": text, "seconds": seconds}])
    return new_job(input=content, model=model, queue=f"{model}.1", wait_limit=60.0, **changes)


def answer(model: str, text: str = "x") -> tuple[str, Any]:
    return "finished", [{"model": model, "echo": text}]


def loads(worker: Service, model: str) -> float:
    return counted(worker, "muleteer_model_load_seconds_count", model=model)


def evictions(worker: Service, **labels: str) -> float:
    return counted(worker, "muleteer_model_evictions_total", **labels)


def resident(worker: Service) -> set[str]:
    """Return the models that take memory in a pod, by its metrics."""
    families = text_string_to_metric_families(worker.metrics())
    samples = [sample for family in families for sample in family.samples]
    return {s.labels["model"] for s in samples if s.name == "muleteer_model_resident_bytes" and s.value > 0}


@contextmanager
def watched(worker: Service) -> Iterator[list[tuple[int, float]]]:
    """Collect again and again how much a pod's child takes, as the system sees it and as it says itself."""
    (child,) = worker.children()
    seen: list[tuple[int, float]] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            seen.append((child.memory_info().rss, counted(worker, "muleteer_resident_bytes")))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


async def test_many_models_share_a_worker_that_has_room_for_few(system: System) -> None:
    serve(system, *NAMES, **{PINNED: {"pinned": True}})
    worker = system.add_worker().wait_ready()
    assert resident(worker) == {PINNED}
    assert counted(worker, "muleteer_resident_bytes_limit") == BUDGET
    assert evictions(worker) == 0
    (child,) = worker.children()
    before = child.memory_info().rss
    async with gateway_side(system.valkey.url) as side:
        with watched(worker) as seen:
            # Round by round, one after the other: the pool's usual day.
            for name in NAMES:
                assert await ask(side, job(name), job(HOT, name)) == [answer(name), answer(HOT, name)]
            # All at once.
            assert await ask(side, *(job(name) for name in NAMES[:20])) == [answer(name) for name in NAMES[:20]]
    grown = max(rss for rss, _ in seen) - before + SIZE  # the pinned one was there before
    assert grown < BUDGET + SIZE, f"{grown / MB:.0f} MB"
    assert 4 * SIZE < max(said for _, said in seen) <= BUDGET
    assert len(resident(worker)) <= 8
    # 8 places: most went again, and came back for the second round.
    assert evictions(worker) >= len(NAMES) - 8 + 10
    assert loads(worker, PINNED) == 1
    assert evictions(worker, model=PINNED) == 0
    assert all(loads(worker, name) <= 2 for name in NAMES)
    assert loads(worker, HOT) == 1, "asked between all others, it was never the least recently used"


async def test_memory_of_a_version_that_goes_comes_back(system: System) -> None:
    large = 5 * SIZE
    for name in NAMES[:4]:
        write(system, name, size=large)
    write_catalog(system.catalog, {name: {"versions": {"1": {}}} for name in NAMES[:4]})
    worker = system.add_worker().wait_ready()
    (child,) = worker.children()
    before = child.memory_info().rss
    async with gateway_side(system.valkey.url) as side:
        for name in NAMES[:4]:
            assert await ask(side, job(name)) == [answer(name)]
            # The pod counts what was measured, and the system sees one of them, not two.
            assert large * 0.9 < counted(worker, "muleteer_resident_bytes") < large * 1.2
            assert child.memory_info().rss - before < large * 1.5
    assert evictions(worker) == 3


async def test_a_cold_version_is_loaded_by_one_of_two_workers(system: System, connection: redis.Redis) -> None:
    for name in NAMES[:6]:
        write(system, name, load_seconds=0.5)
    write_catalog(system.catalog, {name: {"versions": {"1": {}}} for name in NAMES[:6]})
    worker = system.add_worker(2).wait_ready()
    await until(lambda: connection.zcard("muleteer:workers:default") == 2)
    async with gateway_side(system.valkey.url) as side:
        for name in NAMES[:6]:
            assert await ask(side, job(name)) == [answer(name)]
        for _ in range(5):  # whoever wakes for them, they go to who has them
            assert await ask(side, *(job(name) for name in NAMES[:6])) == [answer(name) for name in NAMES[:6]]
    assert [loads(worker, name) for name in NAMES[:6]] == [1] * 6


async def test_a_worker_goes_on_serving_while_a_cold_version_loads(system: System) -> None:
    write(system, "slow", load_seconds=2.0)
    write(system, "fast")
    write_catalog(system.catalog, {name: {"versions": {"1": {}}} for name in ("slow", "fast")})
    system.add_worker().wait_ready()
    async with gateway_side(system.valkey.url) as side:
        assert await ask(side, job("fast")) == [answer("fast")]
        (waiting,) = await submit(side, job("slow"))
        for n in range(20):
            assert await ask(side, job("fast", f"{n}")) == [answer("fast", f"{n}")]
        assert not waiting.done()
        assert (await waiting).status == "finished"


async def test_another_worker_joins_when_the_first_one_is_busy(system: System, connection: redis.Redis) -> None:
    serve(system, "m00")
    worker = system.add_worker(2).wait_ready()
    async with gateway_side(system.valkey.url) as side:
        assert await ask(side, job("m00")) == [answer("m00")]
        (long,) = await submit(side, job("m00", seconds=20))
        await until(lambda: connection.zcard("rq:wip:m00.1") == 1)
        assert await ask(side, job("m00", "y")) == [answer("m00", "y")]
        assert not long.done()
    assert loads(worker, "m00") == 2


async def test_lost_jobs_of_a_cold_version_are_taken_up_by_another_worker(
    system: System, connection: redis.Redis
) -> None:
    serve(system, "m00")
    first = system.add_worker(MULETEER_LEASE_SECONDS="1").wait_ready()
    async with gateway_side(system.valkey.url) as side:
        (reply,) = await submit(side, job("m00", seconds=1))
        await until(lambda: connection.zcard("rq:wip:m00.1") == 1)
        first.kill_all()
        system.add_worker().wait_ready()
        assert (await reply).status == "finished"


async def test_a_version_larger_than_the_budget_is_served_alone(system: System) -> None:
    write(system, "large", more_bytes=BUDGET)
    write(system, "small")
    write_catalog(system.catalog, {name: {"versions": {"1": {}}} for name in ("large", "small")})
    worker = system.add_worker().wait_ready()
    async with gateway_side(system.valkey.url) as side:
        assert await ask(side, job("large")) == [answer("large")]  # its size shows only now
        assert await ask(side, job("small")) == [answer("small")]
        assert resident(worker) == {"small"}
        assert await ask(side, job("large")) == [answer("large")]
        assert resident(worker) == {"large"}
    lines = [line for line in worker.log_lines() if "more than MULETEER_MAX_RESIDENT_BYTES" in line["message"]]
    assert [(line["level"], line["model"]) for line in lines] == [("WARNING", "large")]


async def test_a_version_that_pinned_ones_leave_no_room_for_fails_and_says_so(
    system: System, connection: redis.Redis
) -> None:
    write(system, "pinned", size=5 * SIZE)
    write(system, "other", size=5 * SIZE)
    catalog: dict[str, dict[str, Any]] = {name: {"versions": {"1": {}}} for name in ("pinned", "other")}
    write_catalog(system.catalog, catalog | {"pinned": {"versions": {"1": {}}, "pinned": True}})
    connection.hset("muleteer:cost:other.1", "bytes", 5 * SIZE)
    system.add_worker().wait_ready()

    def report() -> dict[str, Any]:
        (value,) = connection.hgetall("muleteer:versions:other").values()
        return dict(orjson.loads(value))

    await until(lambda: report()["state"] == "cold")
    async with gateway_side(system.valkey.url) as side:
        assert await ask(side, job("pinned")) == [answer("pinned")]
        (waiting,) = await submit(side, job("other"))
        await until(lambda: report()["state"] == "failed")
        assert report()["reason"] == "memory"
        assert f"it needs {5 * SIZE} bytes" in report()["message"]
        assert f"MULETEER_MAX_RESIDENT_BYTES={BUDGET}" in report()["message"]
        write_catalog(system.catalog, catalog)  # nothing is pinned any more
        assert (await waiting).status == "finished"


async def test_a_gateways_wish_has_a_version_loaded(system: System, connection: redis.Redis) -> None:
    serve(system, "m00", "m01")
    worker = system.add_worker().wait_ready()
    assert resident(worker) == set()
    now, _ = connection.time()
    connection.hset("muleteer:wanted:default", "m01.1", now)
    await until(lambda: resident(worker) == {"m01"})
    await until(lambda: connection.hlen("muleteer:wanted:default") == 0)
    cost = connection.hgetall("muleteer:cost:m01.1")
    assert float(cost[b"load_seconds"]) > 0
    assert SIZE * 0.9 < int(cost[b"bytes"]) < SIZE * 1.5


async def test_a_new_version_proves_itself_before_the_old_one_goes(system: System, connection: redis.Redis) -> None:
    serve(system, "m00")
    worker = system.add_worker().wait_ready()
    async with gateway_side(system.valkey.url) as side:
        assert await ask(side, job("m00")) == [answer("m00")]
    write(system, "m00", "2")
    write_catalog(system.catalog, {"m00": {"versions": {"2": {}}}})

    def states() -> dict[str, str]:
        reports = connection.hgetall("muleteer:versions:m00").items()
        return {name.decode().split("|")[0]: orjson.loads(value)["state"] for name, value in reports}

    await until(lambda: states() == {"1": "retired", "2": "ready"})
    assert loads(worker, "m00") == 2


async def test_jobs_of_a_cold_version_that_leaves_the_catalog_are_still_served(system: System) -> None:
    serve(system, "m00", "m01")
    async with gateway_side(system.valkey.url) as side:
        (waiting,) = await submit(side, job("m00"))
        write_catalog(system.catalog, {"m01": {"versions": {"1": {}}}, "m00": {"versions": {"2": {}}}})
        write(system, "m00", "2")
        system.add_worker().wait_ready()
        assert (await waiting).status == "finished"


def test_a_cold_model_is_shown_as_such_answers_and_passes_the_smoke_test(system: System) -> None:
    serve(system, *NAMES[:12])
    worker = system.add_worker().wait_ready()
    gateway = system.add_gateway().wait_ready()

    def described(name: str) -> dict[str, Any]:
        document: dict[str, Any] = httpx.get(f"{gateway.url}/v1/models/{name}").json()
        return document

    def state(name: str) -> str:
        return str(described(name)["model_version_status"][0]["state"])

    wait_until(lambda: state("m05") == "COLD")
    assert described("m05")["ready"] is True
    assert readiness(worker)[0] == 200
    assert counted(gateway, "muleteer_version_cold", model="m05") == 1
    response = httpx.post(f"{gateway.url}/v1/models/m05:predict", json={"instances": [{"text": "x"}]}, timeout=30)
    assert response.json() == {"predictions": [{"model": "m05", "echo": "x"}]}
    wait_until(lambda: state("m05") == "AVAILABLE")
    wait_until(lambda: counted(gateway, "muleteer_version_cold", model="m05") == 0)
    smoke = psutil.Popen([Path(sys.executable).with_name("muleteer"), "smoke", "--url", gateway.url])
    assert smoke.wait(60) == 0
    assert all(loads(worker, name) >= 1 for name in NAMES[:12])


async def test_without_a_budget_everything_is_loaded_at_the_start(system: System, connection: redis.Redis) -> None:
    serve(system, *NAMES[:12])
    worker = system.add_worker(MULETEER_MAX_RESIDENT_BYTES="0").wait_ready()
    assert resident(worker) == set(NAMES[:12])
    assert counted(worker, "muleteer_resident_bytes_limit") == 0
    await until(lambda: len(connection.keys("muleteer:cost:*")) == 12)
    assert not connection.keys("muleteer:holders:*")
