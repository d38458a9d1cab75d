"""What callers of the API can rely on: two real gateways, one worker pod."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from muleteer.queue.connection import connect
from support.models import MOODY, SLOW, write_catalog, write_version
from support.predict_api import MAX_PARKED
from support.services import System

VERSIONED = """
    class Model:
        def predict(self, instances):
            return [{{"version": "{version}"}} for _ in instances]
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("predict-api")
    for name, code in {"slow": SLOW, "moody": MOODY}.items():
        write_version(folder / "models", name, code=code)
    for name in ("echo", "parked"):
        write_version(folder / "models", name, description=f"Model {name}.", examples=[])
    for version in ("1", "2"):
        write_version(folder / "models", "split", version, VERSIONED.format(version=version))
    one = {"versions": {"1": {}}}
    two: dict[str, Any] = {"versions": {"1": {}, "2": {}}}
    catalog = write_catalog(
        folder / "catalog.yaml",
        {
            "echo": one | {"route": "/echo"},
            "moody": one | {"route": "/moods", "route_body": "instances"},
            "slow": one | {"timeout": 0.5, "batching": {"max_rows": 1}},
            "split": two | {"traffic": {"1": 8, "2": 2}, "aliases": {"champion": "1", "challenger": "2"}},
            "parked": one | {"pool": "nobody", "timeout": 0.3, "limits": {"max_queue_jobs": MAX_PARKED}},
        },
    )
    with System(folder, catalog) as made:
        made.add_gateway()
        made.add_gateway()
        made.add_worker(processes=2)
        yield made.wait_ready(but=frozenset({"parked"}))


@pytest.fixture(scope="module")
def client(system: System) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=system.url, timeout=30) as made:
        yield made


@pytest.fixture(scope="module")
def other(system: System) -> Iterator[httpx.Client]:
    """A client of the other gateway."""
    with httpx.Client(base_url=system.gateways[1].url, timeout=30) as made:
        yield made


@pytest.fixture(autouse=True)
def empty_park(system: System, client: httpx.Client) -> Iterator[None]:
    """Cancel after each test what it left in the queue that nobody works off."""
    yield
    with connect(system.valkey.url) as redis:
        for lane in redis.scan_iter("rq:queue:parked.1*"):
            for job in redis.lrange(lane, 0, -1):
                client.delete(f"/v1/jobs/{job.decode()}")
