"""Bad input, each a precise problem document and nothing lost: sent to a real gateway, with a real worker behind it."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from redis import Redis

from muleteer.queue.connection import connect
from support.bad_input import GOOD, MAX_BODY, MAX_INSTANCES, PREDICT
from support.models import SLOW, write_catalog, write_version
from support.services import System
from support.waiting import wait_until

TRIP_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "zone": {"type": "integer"},
        "distance": {"type": "number", "minimum": 0},
        "paid": {"type": "boolean"},
        "stops": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
    },
    "required": ["zone", "distance"],
    "additionalProperties": False,
}
ANY = """
    class Model:
        def predict(self, instances):
            return [type(i).__name__ for i in instances]
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("bad-input")
    write_version(folder / "models", "echo")
    write_version(folder / "models", "trip", code=ANY, schema=TRIP_SCHEMA)
    write_version(folder / "models", "slow", code=SLOW)
    write_version(folder / "models", "anything", code=ANY, schema={})
    limits = {"max_instances": MAX_INSTANCES}
    catalog = write_catalog(
        folder / "catalog.yaml",
        {
            "echo": {"versions": {"1": {}}, "aliases": {"champion": "1"}, "route": "/echo", "limits": limits},
            "trip": {"versions": {"1": {}}, "route": "/trips", "route_body": "instances", "limits": limits},
            "anything": {"versions": {"1": {}}, "route": "/anything"},
            "slow": {"versions": {"1": {}}, "route": "/slow"},
        },
    )
    settings = {
        "MULETEER_MAX_BODY_BYTES": str(MAX_BODY),
        "MULETEER_RECEIVE_SECONDS": "2",
        "MULETEER_CALLBACK_SECRET": "for-webhooks",
    }
    with System(folder, catalog, **settings) as made:
        made.add_gateway()
        made.add_worker()
        yield made.wait_ready()


@pytest.fixture(scope="module")
def client(system: System) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=system.url, timeout=30) as made:
        yield made


@pytest.fixture(scope="module")
def redis(system: System) -> Iterator[Redis]:
    with connect(system.valkey.url) as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_is_lost(client: httpx.Client, redis: Redis) -> Iterator[None]:
    """After every test the system still answers, and Redis holds no job."""
    yield
    answer = client.post(PREDICT, json=GOOD)
    assert (answer.status_code, answer.json()) == (200, {"predictions": [{"echo": "good"}]})
    wait_until(lambda: not redis.keys("rq:job:*"), 10, "no job keys are left")
    assert redis.keys("rq:results:*") == []
    assert redis.keys("rq:queue:*") == []
