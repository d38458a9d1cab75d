"""A parent that gives back for many dead children does not collect connections."""

from pathlib import Path

import redis

from muleteer.catalog import CatalogSource
from muleteer.embedded import EmbeddedValkey
from muleteer.queue.names import workers_key
from muleteer_worker.giveback import LeaseReturner
from muleteer_worker.settings import WorkerSettings
from support.models import write_catalog, write_version
from support.waiting import wait_until


def test_giving_back_for_many_children_keeps_the_number_of_connections(
    valkey: EmbeddedValkey, connection: redis.Redis, tmp_path: Path
) -> None:
    write_version(tmp_path / "models", "echo")
    catalog = write_catalog(tmp_path / "catalog.yaml", {"echo": {"versions": {"1": {}}}})
    settings = WorkerSettings(redis_url=valkey.url, catalog=catalog)
    returner = LeaseReturner(settings, CatalogSource(catalog, 1.0))
    returner.start()
    key = workers_key("default")
    counts = []
    for n in range(12):
        connection.zadd(key, {f"child-{n}": 4e9})
        returner.give_back(f"child-{n}")
        wait_until(lambda n=n: connection.zscore(key, f"child-{n}") is None)
        counts.append(int(connection.info("clients")["connected_clients"]))
    returner.close(10)
    assert counts[-1] == counts[1]
