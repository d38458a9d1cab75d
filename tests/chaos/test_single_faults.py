"""Faults that a random schedule may not hit squarely, one at a time."""

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from muleteer.queue.connection import connect
from support.chaos.clock import Clock
from support.link import Link
from support.metrics import counted
from support.models import ECHO, write_catalog, write_version
from support.problems import problem
from support.services import System
from support.waiting import wait_until

TIMEOUT_SECONDS = 2.0
ANSWER_SECONDS = 1.0
STOPPED_SLACK_SECONDS = 8.0
"""What an answer may take beyond the model's timeout while Valkey stands still: looks at it, and retries."""
LEASE_SECONDS = 2


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    write_version(tmp_path / "models", "echo", code=ECHO)
    entry = {"versions": {"1": {}}, "timeout": TIMEOUT_SECONDS}
    catalog = write_catalog(tmp_path / "catalog.yaml", {"echo": entry})
    with System(tmp_path, catalog, MULETEER_REDIS_ANSWER_SECONDS=str(ANSWER_SECONDS)) as running:
        yield running


async def ask(client: httpx.AsyncClient, url: str, text: str, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.post(f"{url}/v1/models/echo:predict", json={"instances": [{"text": text}]}, headers=named)


async def test_idle_connections_to_valkey_that_are_reset_cost_no_request(system: System) -> None:
    async with Link(system.valkey.port) as link, httpx.AsyncClient(timeout=60) as client:
        gateway = system.add_gateway(MULETEER_REDIS_URL=link.redis_url)
        pod = system.add_worker(MULETEER_REDIS_URL=link.redis_url)
        for service in (gateway, pod):
            await asyncio.to_thread(service.wait_ready)
        for n in range(20):
            link.cut()
            await asyncio.sleep(0.05)  # the gateway hears of it while it has nothing to send
            answers = await asyncio.gather(
                ask(client, gateway.url, f"sync {n}"), ask(client, gateway.url, f"async {n}", Prefer="respond-async")
            )
            assert [answer.status_code for answer in answers] == [200, 202], [answer.text for answer in answers]
        assert await asyncio.to_thread(gateway.ready)


async def test_while_valkey_stands_still_longer_than_an_answer_may_take_nobody_hangs(system: System) -> None:
    gateway = system.add_gateway()
    system.add_worker(MULETEER_LEASE_SECONDS=str(LEASE_SECONDS))
    system.wait_ready()
    process = system.valkey.process
    assert process is not None
    async with httpx.AsyncClient(timeout=60) as client:
        assert (await ask(client, gateway.url, "before")).status_code == 200
        process.send_signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            waiting = [ask(client, gateway.url, f"sync {n}") for n in range(20)]
            leaving = [ask(client, gateway.url, f"async {n}", Prefer="respond-async") for n in range(20)]
            answers = await asyncio.gather(*waiting, *leaving)
            lasted = time.monotonic() - began
            await asyncio.to_thread(wait_until, lambda: not gateway.ready(), 20, "the gateway is not ready")
            assert gateway.process is not None
            assert gateway.process.poll() is None
        finally:
            process.send_signal(signal.SIGCONT)
        assert {problem(answer, answer.status_code)["status"] for answer in answers} <= {503, 504}
        assert lasted < TIMEOUT_SECONDS + STOPPED_SLACK_SECONDS
        await asyncio.to_thread(gateway.wait_ready)
        again = await asyncio.gather(*(ask(client, gateway.url, f"after {n}") for n in range(20)))
    assert [answer.json()["predictions"] for answer in again] == [[{"echo": f"after {n}"}] for n in range(20)]
    with connect(system.valkey.url) as connection:
        # What was in the line when Valkey stood still has been enqueued and done: nobody waits for it any more.
        empty = lambda: not connection.exists("rq:queue:echo.1", "rq:wip:echo.1")  # noqa: E731 - read in place
        wait_until(empty, 20, "nothing waits or runs")


async def test_a_key_sent_to_another_gateway_after_its_own_was_killed_gives_the_same_job(system: System) -> None:
    doomed, other = system.add_gateway(), system.add_gateway()
    for gateway in (doomed, other):
        gateway.wait_ready()
    async with httpx.AsyncClient(timeout=60) as client:
        sent = [ask(client, doomed.url, f"{n}", Prefer="respond-async", Idempotency_Key=f"key-{n}") for n in range(50)]
        accepted = await asyncio.gather(*sent)
        doomed.kill_all()
        assert {answer.status_code for answer in accepted} == {202}
        system.add_worker()
        system.workers[0].wait_ready()
        # Some ask anew under their key, others for the job's URL.
        again = await asyncio.gather(*(ask(client, other.url, f"{n}", Idempotency_Key=f"key-{n}") for n in range(50)))
        urls = [f"{other.url}{answer.headers['location']}?wait=20" for answer in accepted]
        documents = [answer.json() for answer in await asyncio.gather(*(client.get(url) for url in urls))]
    ids = [answer.json()["id"] for answer in accepted]
    assert len(set(ids)) == 50
    assert [answer.headers["muleteer-job-id"] for answer in again] == ids
    assert [answer.json()["predictions"] for answer in again] == [[{"echo": f"{n}"}] for n in range(50)]
    assert [document["result"]["predictions"] for document in documents] == [[{"echo": f"{n}"}] for n in range(50)]


@pytest.mark.parametrize("step", [-400 * 86_400.0, 400 * 86_400.0])
async def test_a_worker_whose_clock_steps_by_a_year_neither_loses_nor_repeats_a_job(
    system: System, tmp_path: Path, step: float
) -> None:
    clock = Clock(tmp_path / "clock")
    gateway = system.add_gateway()
    stepped = system.add_worker(MULETEER_LEASE_SECONDS="1", **clock.env)
    steady = system.add_worker(MULETEER_LEASE_SECONDS="1")
    write_version(tmp_path / "models", "echo", "2", ECHO.replace("return", "import time; time.sleep(1.5); return"))
    versions: dict[str, Any] = {"versions": {"1": {}, "2": {}}, "default": "2", "timeout": 30}
    write_catalog(system.catalog, {"echo": versions})
    system.wait_ready()
    wait_until(lambda: len(httpx.get(f"{gateway.url}/v1/models/echo").json()["model_version_status"]) == 2, 20)
    system.wait_ready()
    async with httpx.AsyncClient(timeout=60) as client:
        # Several batches of 64 for each worker, each longer than a lease: all are renewed by a clock that is off.
        sent = [asyncio.create_task(ask(client, gateway.url, f"{n}", Prefer="respond-async")) for n in range(300)]
        accepted = await asyncio.gather(*sent)
        clock.step(step)
        urls = [f"{gateway.url}{answer.headers['location']}?wait=40" for answer in accepted]
        documents = [answer.json() for answer in await asyncio.gather(*(client.get(url) for url in urls))]
    assert [document["result"]["predictions"] for document in documents] == [[{"echo": f"{n}"}] for n in range(300)]
    assert all("deliveries" not in document for document in documents)
    for pod in (stepped, steady):
        assert counted(pod, "muleteer_jobs_redelivered_total") == 0
        assert counted(pod, "muleteer_jobs_total", outcome="finished") > 0, "both workers took part"
    years = {document["ended_at"][:4] for document in documents}
    assert len(years) == 2, "the step was seen by the stepped worker alone"
