"""What tests of the prediction API send, and the gateways they add."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from support.services import Service, System

ECHO = "/v1/models/echo:predict"
SLOW_PATH = "/v1/models/slow:predict"
PARKED = "/v1/models/parked:predict"
"""Its pool has no worker: its jobs stay queued."""
MAX_PARKED = 5
TEXT = {"instances": [{"text": "hello"}]}
ASYNC = {"Prefer": "respond-async"}


@contextmanager
def extra_gateway(system: System, **settings: str) -> Iterator[Service]:
    """Run one more gateway for the length of a block."""
    gateway = system.add_gateway(**settings)
    try:
        yield gateway.wait_ready()
    finally:
        assert gateway.process is not None
        if gateway.process.poll() is None:
            gateway.kill_all()
        system.gateways.remove(gateway)


def slow(seconds: float) -> dict[str, Any]:
    return {"instances": [{"text": str(seconds)}]}


def submit(client: httpx.Client, path: str, body: object, **headers: str) -> str:
    """Enqueue without waiting and return the job's id."""
    response = client.post(path, json=body, headers=ASYNC | headers)
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def finished(client: httpx.Client, job: str) -> dict[str, Any]:
    document: dict[str, Any] = client.get(f"/v1/jobs/{job}", params={"wait": 20}).json()
    assert document["status"] == "finished", document
    return document


def keyed(key: str, **headers: str) -> dict[str, str]:
    return {"Idempotency-Key": key} | headers
