"""A Redis that hangs (not one that is gone): nobody waits for ever, and everything recovers by itself."""

import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.models import ECHO, write_catalog, write_version
from support.services import System
from support.waiting import wait_until


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    write_version(tmp_path / "models", "echo", code=ECHO)
    entry = {"versions": {"1": {}}, "route": "/echo", "timeout": 1}
    catalog = write_catalog(tmp_path / "catalog.yaml", {"echo": entry})
    quick = {"MULETEER_REDIS_RETRY_SECONDS": "0.5", "MULETEER_REDIS_ANSWER_SECONDS": "1"}
    with System(tmp_path, catalog, **quick) as running:
        running.add_gateway()
        running.add_worker()
        yield running.wait_ready()


def post(system: System, **headers: str) -> httpx.Response:
    return httpx.post(f"{system.url}/echo", json={"text": "a"}, headers=headers, timeout=30)


def test_a_hanging_redis_gives_503_and_recovery_needs_no_restart(system: System) -> None:
    process = system.valkey.process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    try:
        answers = [post(system), post(system, Prefer="respond-async"), httpx.get(f"{system.url}/v1/jobs/0", timeout=30)]
        wait_until(lambda: not system.gateways[0].ready(), 20, "the gateway is not ready while Redis hangs")
    finally:
        process.send_signal(signal.SIGCONT)
    assert [answer.status_code for answer in answers] == [503, 503, 503]
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
    wait_until(lambda: post(system).status_code == 200, 30, "predictions are answered again")
    system.gateways[0].wait_ready()
    system.workers[0].wait_ready()
