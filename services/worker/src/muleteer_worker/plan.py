"""What the catalog asks of a worker: a plan for each version of its pool."""

from collections.abc import Iterable
from dataclasses import dataclass

from muleteer.catalog.model import Catalog
from muleteer.queue.consumer import QueueSpec
from muleteer.queue.names import queue_name, split_queue_name


@dataclass(frozen=True, slots=True)
class Plan:
    """What the catalog says of one version, as far as a worker needs it."""

    model: str
    version: str
    uri: str
    allow_unsafe: frozenset[str]
    spec: QueueSpec
    predict_timeout: float
    pinned: bool

    @property
    def source(self) -> tuple[str, frozenset[str]]:
        """What decides the outcome of a load: another source is worth another load."""
        return self.uri, self.allow_unsafe


def read_plans(catalog: Catalog, pool: str) -> dict[str, Plan]:
    """Return what a pool is to serve, by queue name."""
    plans = {}
    for model, entry in catalog.models.items():
        if entry.pool == pool:
            for version in entry.versions:
                plans[queue_name(model, version)] = _plan(catalog, model, version)
    return plans


def read_left_behind(catalog: Catalog, pool: str, queues: Iterable[str]) -> list[Plan]:
    """Return plans for those of ``queues`` whose version has left the catalog, while its model is still the pool's.

    The version is looked for in its usual place, ``<repository>/<model>/<version>``.
    """
    plans = []
    for queue in queues:
        model, version = split_queue_name(queue)
        entry = catalog.models.get(model)
        if entry is not None and version and entry.pool == pool and version not in entry.versions:
            plans.append(_plan(catalog, model, version))
    return plans


def _plan(catalog: Catalog, model: str, version: str) -> Plan:
    entry = catalog.models[model]
    batching = entry.batching
    spec = QueueSpec(
        queue_name(model, version),
        batching.max_rows,
        entry.max_deliveries,
        batching.batch_share,
        batching.target_batch_seconds,
    )
    uri = catalog.version_uri(model, version)
    return Plan(model, version, uri, entry.allow_unsafe, spec, entry.predict_timeout, entry.pinned)
