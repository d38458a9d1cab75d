"""Parts die under load: nobody notices but the log."""

import asyncio
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import redis

from muleteer.queue.connection import connect
from support.load import Load, Report
from support.metrics import counted
from support.models import MOODY, write_catalog, write_version
from support.piling import piled_up
from support.services import Service, System
from support.waiting import wait_until

pytestmark = pytest.mark.timeout(240)

CHILD_SECONDS = 5.0
"""Every job of a killed worker child's batch is answered within this time of the kill."""
POD_SECONDS = 20.0
"""The same for a whole worker pod, which nobody sees die: its leases have to expire."""
RESTART_SECONDS = {"restart": 10.0, "kill": 10.0, "outage": 20.0}
"""No caller waits longer while Redis is away, however often it has to send its request again."""


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    # Batches that take so long that a kill hits one.
    write_version(tmp_path / "models", "moody", code=MOODY.replace("time.sleep(0.002)", "time.sleep(0.05)"))
    catalog = write_catalog(tmp_path / "catalog.yaml", {"moody": {"versions": {"1": {}}, "route": "/moody"}})
    with System(tmp_path, catalog) as running:
        yield running


def body(number: int) -> dict[str, Any]:
    return {"text": f"text {number}"}


def expected(number: int) -> dict[str, Any]:
    return {"echo": f"text {number}"}


def load_on(*gateways: Service, retry: frozenset[int] = frozenset(), connections: int = 64) -> Load:
    urls = [f"{gateway.url}/moody" for gateway in gateways]
    return Load(lambda: urls, body, expected, connections, retry)


def assert_no_request_failed(report: Report) -> None:
    assert report.failed == 0, report.wrong[:5]
    assert report.wrong == []
    assert report.answered > 0


def nothing_runs_or_waits(connection: redis.Redis, queue: str = "moody.1") -> bool:
    return not connection.zcard(f"rq:wip:{queue}") and not connection.llen(f"rq:queue:{queue}")


def redelivered(*pods: Service) -> float:
    """Return how many jobs these pods have put back into the queue."""
    return sum(counted(pod, "muleteer_jobs_redelivered_total") for pod in pods)


def name_of(child: psutil.Process) -> str:
    """Return the name under which a worker process leases jobs: ``... -m muleteer_worker.child SLOT NAME ...``."""
    words = child.cmdline()
    return words[words.index("muleteer_worker.child") + 2]


async def stopped_amid_a_batch(load: Load, connection: redis.Redis, *children: psutil.Process) -> int:
    """Stop (SIGSTOP) these processes at a moment when they hold leased jobs: a kill must hit these. Return how many."""
    held = 0
    names = {name_of(child) for child in children}

    def stopped() -> bool:
        nonlocal held
        for child in children:
            child.suspend()
        connection.ping()  # what they sent before they stopped is done before what we ask next
        members = [member.decode() for member in connection.zrange("rq:wip:moody.1", 0, -1)]
        held = sum(member.partition(":mt-")[2].rpartition(".")[0] in names for member in members)
        if held >= 2:
            return True
        for child in children:
            child.resume()
        return False

    await load.until(stopped)
    return held


async def test_a_worker_child_killed_five_times_under_load_fails_no_request(system: System) -> None:
    system.add_gateway()
    pod = system.add_worker(processes=2)
    system.wait_ready()
    with connect(system.valkey.url) as connection:
        async with load_on(system.gateways[0]) as load:
            await _kill_five_children(load, connection, pod)
        assert_no_request_failed(load.report)
        assert load.report.slowest < CHILD_SECONDS
        assert nothing_runs_or_waits(connection)


async def _kill_five_children(load: Load, connection: redis.Redis, pod: Service) -> None:
    for kills in range(5):
        await load.until_more(300)
        victim, before = pod.children()[kills % 2], redelivered(pod)
        held = await stopped_amid_a_batch(load, connection, victim)
        victim.kill()
        killed_at = time.monotonic()
        await load.until(lambda pid=victim.pid: pid not in [child.pid for child in pod.children()])
        await load.until(lambda since=killed_at: _has_recovered(load.report, since))
        await load.until(lambda: len(pod.children()) == 2)
        await load.until(lambda goal=before + held: redelivered(pod) >= goal)


def _has_recovered(report: Report, since: float) -> bool:
    return sum(1 for at in report.answered_at[-200:] if at > since + 0.5) > 0


async def test_a_killed_pod_is_made_up_for_by_another_within_its_lease(system: System) -> None:
    system.add_gateway()
    doomed, other = system.add_worker(processes=2), system.add_worker()
    system.wait_ready()
    with connect(system.valkey.url) as connection:
        async with load_on(system.gateways[0]) as load:
            await load.until_more(500)
            assert redelivered(doomed, other) == 0
            held = await stopped_amid_a_batch(load, connection, *doomed.children())
            doomed.kill_all()
            killed_at = time.monotonic()
            # Until everything that the pod held has been given back and answered.
            await load.until(lambda: not _older_than(connection, killed_at), POD_SECONDS + 10)
            await load.until_more(500)
    assert_no_request_failed(load.report)
    assert load.report.slowest < POD_SECONDS
    assert redelivered(other) >= held


def _older_than(connection: redis.Redis, moment: float) -> bool:
    """Tell whether some lease was taken or renewed before ``moment`` (monotonic seconds of this machine)."""
    now = time.time()
    for _, score in connection.zrange("rq:wip:moody.1", 0, -1, withscores=True):
        taken_at = score - 86_400 - 15
        if now - taken_at > time.monotonic() - moment:
            return True
    return False


async def test_jobs_of_a_killed_gateway_finish_and_are_fetched_from_another(system: System) -> None:
    system.add_gateway()
    system.add_gateway()
    system.add_worker()
    system.wait_ready()
    doomed, other = system.gateways
    async with httpx.AsyncClient(timeout=30) as client:
        answers = await asyncio.gather(
            *(client.post(f"{doomed.url}/moody", json=body(n), headers={"Prefer": "respond-async"}) for n in range(200))
        )
        doomed.kill_all()
        assert {answer.status_code for answer in answers} == {202}
        fetched = await asyncio.gather(
            *(client.get(f"{other.url}{answer.headers['location']}?wait=20") for answer in answers)
        )
    documents = [answer.json() for answer in fetched]
    assert [document["status"] for document in documents] == ["finished"] * 200
    assert [d["result"]["predictions"] for d in documents] == [[expected(n)] for n in range(200)]


async def test_an_input_that_kills_the_worker_fails_alone(system: System) -> None:
    gateway = system.add_gateway()
    pod = system.add_worker(processes=2)
    system.wait_ready()
    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=64)) as client:
        texts = ["abort" if n == 31 else f"text {n}" for n in range(64)]
        answers = await asyncio.gather(*(client.post(f"{gateway.url}/moody", json={"text": text}) for text in texts))
        document = (await client.get(f"{gateway.url}/v1/jobs/{answers[31].json()['job_id']}")).json()
    for n, answer in enumerate(answers):
        if n == 31:
            assert answer.status_code == 500
            assert answer.json()["error_type"] == "WorkerLost"
            assert "lost 3 times" in answer.json()["detail"]
        else:
            assert (answer.status_code, answer.json()) == (200, expected(n))
    assert (document["status"], document["deliveries"]) == ("failed", 3)
    wait_until(lambda: len(pod.children()) == 2 and pod.ready(), 30, "the pool is whole again")


async def test_an_input_that_makes_the_model_raise_fails_alone(system: System) -> None:
    gateway = system.add_gateway()
    pod = system.add_worker()
    system.wait_ready()
    calls = counted(pod, "muleteer_batch_rows_count")
    limits = httpx.Limits(max_connections=64)
    with connect(system.valkey.url) as connection:
        async with httpx.AsyncClient(timeout=60, limits=limits) as client, asyncio.TaskGroup() as group:
            texts = ["raise" if n == 31 else f"text {n}" for n in range(64)]
            url = f"{gateway.url}/moody"
            async with piled_up(pod, connection, "moody.1", len(texts)):
                posts = [group.create_task(client.post(url, json={"text": text})) for text in texts]
    answers = [post.result() for post in posts]
    bad = answers.pop(31)
    assert bad.status_code == 500
    assert bad.json()["detail"] == "ValueError: this text is not to my taste"
    assert bad.json()["error_type"] == "ValueError"
    assert "Traceback" not in bad.text
    good = [n for n in range(64) if n != 31]
    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, expected(n)) for n in good]
    # One batch, or two if the worker had gone to sleep at the bell, and the halving in search of the one that raises.
    assert 2 <= counted(pod, "muleteer_batch_rows_count") - calls <= 20


async def test_sigterm_to_a_worker_under_load_fails_no_request(system: System) -> None:
    system.add_gateway()
    leaving, _ = system.add_worker(processes=2), system.add_worker()
    system.wait_ready()
    async with load_on(system.gateways[0]) as load:
        await load.until_more(500)
        leaving.signal(signal.SIGTERM)
        await load.until(lambda: leaving.process is not None and leaving.process.poll() is not None)
        await load.until_more(300)
    assert leaving.process is not None
    assert leaving.process.returncode == 0
    assert_no_request_failed(load.report)
    assert load.report.slowest < CHILD_SECONDS


async def test_sigterm_to_a_gateway_under_load_fails_no_request(system: System) -> None:
    slowly = {"MULETEER_DRAIN_DELAY_SECONDS": "3"}  # this test's load balancer shares its event loop with the load
    leaving, staying = system.add_gateway(**slowly), system.add_gateway(**slowly)
    system.add_worker(processes=2)
    system.wait_ready()
    endpoints = _Endpoints([leaving, staying])
    load = Load(endpoints.urls, body, expected)
    async with load, endpoints.watched():
        await load.until_more(500)
        leaving.signal(signal.SIGTERM)
        await load.until(lambda: leaving.process is not None and leaving.process.poll() is not None)
        await load.until_more(300)
    assert leaving.process is not None
    assert leaving.process.returncode == 0
    assert_no_request_failed(load.report)


class _Endpoints:
    """What a Kubernetes Service does: new requests go to gateways that were ready a moment ago."""

    def __init__(self, gateways: list[Service]) -> None:
        self._gateways = gateways
        self._urls = [f"{gateway.url}/moody" for gateway in gateways]

    def urls(self) -> list[str]:
        return self._urls

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _watch(self) -> None:
        async with httpx.AsyncClient(timeout=5) as client:
            while True:
                await asyncio.sleep(0.1)
                self._urls = [f"{g.url}/moody" for g in self._gateways if await _is_ready(client, g)]


async def _is_ready(client: httpx.AsyncClient, gateway: Service) -> bool:
    try:
        return (await client.get(f"{gateway.url}/readyz")).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("stop", RESTART_SECONDS)
async def test_a_redis_restart_under_load_loses_no_accepted_job(system: System, stop: str) -> None:
    gateway = system.add_gateway()
    pod = system.add_worker(processes=2)
    system.wait_ready()
    accepted: dict[str, int] = {}
    refused: list[httpx.Response] = []
    done = asyncio.Event()
    load = load_on(gateway, retry=frozenset({503}), connections=32)
    async with load, httpx.AsyncClient(timeout=60) as client:
        submitting = asyncio.create_task(_submit_until(client, gateway.url, done, accepted, refused))
        await load.until_more(300)
        await asyncio.to_thread(_bounce, system, stop, load.report)
        await load.until_more(300)
        done.set()
        await submitting
        documents = [(await client.get(f"{gateway.url}/v1/jobs/{job}?wait=20")).json() for job in accepted]
    assert_no_request_failed(load.report)
    assert load.report.slowest < RESTART_SECONDS[stop]
    assert load.report.refused or stop != "outage"  # a restart that is soon over is waited out without a 503
    assert all(int(headers["retry-after"]) >= 1 for headers in load.report.refused)
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert len(accepted) > 50
    assert [d["status"] for d in documents] == ["finished"] * len(accepted)
    assert [d["result"]["predictions"] for d in documents] == [[expected(n)] for n in accepted.values()]
    assert gateway.process is not None
    assert gateway.process.poll() is None
    assert pod.process is not None
    assert pod.process.poll() is None
    with connect(system.valkey.url) as connection:
        wait_until(lambda: nothing_runs_or_waits(connection), 20, "no job is left running or waiting")


def _bounce(system: System, stop: str, report: Report) -> None:
    """Restart Redis in order, kill it and start it at once, or start it only when callers have been refused."""
    if stop == "restart":
        system.valkey.restart()
        return
    system.valkey.kill()
    if stop == "outage":
        wait_until(lambda: len(report.refused) >= 32, 30, "callers are refused")
    system.valkey.start()


async def _submit_until(
    client: httpx.AsyncClient,
    url: str,
    done: asyncio.Event,
    accepted: dict[str, int],
    refused: list[httpx.Response],
) -> None:
    number = 1_000_000
    while not done.is_set():
        number += 1
        answer = await client.post(f"{url}/moody", json=body(number), headers={"Prefer": "respond-async"})
        if answer.status_code == 202:
            accepted[answer.json()["id"]] = number
        else:
            assert answer.status_code == 503, answer.text
            refused.append(answer)


def test_a_stopped_redis_gives_503_with_retry_after_and_unready_gateways(system: System) -> None:
    gateway = system.add_gateway(MULETEER_REDIS_RETRY_SECONDS="0.2")
    system.add_worker()
    system.wait_ready()
    system.valkey.stop()
    answer = httpx.post(f"{gateway.url}/moody", json=body(1), timeout=30)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json()["detail"] == "The queue cannot be reached now."
    assert httpx.get(f"{gateway.url}/v1/jobs/0123").status_code == 503
    wait_until(lambda: not gateway.ready(), 20, "the gateway is not ready without Redis")
    system.valkey.start()
    wait_until(lambda: httpx.post(f"{gateway.url}/moody", json=body(2), timeout=30).status_code == 200, 30)
    gateway.wait_ready()


def test_a_service_that_cannot_reach_redis_says_so_and_ends(tmp_path: Path) -> None:
    catalog = write_catalog(tmp_path / "catalog.yaml", {})
    system = System(tmp_path, catalog, MULETEER_STARTUP_SECONDS="0.5")
    for service in (system.add_gateway(), system.add_worker()):
        assert service.process is not None
        try:
            assert service.process.wait(30) == 69
        except subprocess.TimeoutExpired:
            service.kill_all()
            raise
        assert "MULETEER_REDIS_URL" in service.log.read_text()
