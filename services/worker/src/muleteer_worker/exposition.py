"""Metrics of several processes in one place: prometheus-client's files, one set for each slot of the pod."""

import os
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, values
from prometheus_client.multiprocess import MultiProcessCollector

PARENT = "parent"
"""The identifier under which the parent itself writes; children write under their slot's number."""


def share_metrics(directory: Path, identifier: str) -> None:
    """Make this process keep its metrics in files of ``directory``, under ``identifier``.

    A process that is started again in the same slot goes on with the counters of the one before it, so that files do
    not pile up and no count is lost. Must be called before ``muleteer.metrics`` is imported, because metrics choose
    where they live when they are made.
    """
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    # The library reads this switch for every metric it makes.
    values.ValueClass = values.MultiProcessValue(lambda: identifier)  # type: ignore[no-untyped-call]  # - not typed


class SharedMetrics:
    """A collector of what all processes wrote into ``directory``: the families of ``registry``, and no others."""

    def __init__(self, directory: Path, registry: CollectorRegistry) -> None:
        self._collector = MultiProcessCollector(None, str(directory))  # type: ignore[no-untyped-call]  # - not typed
        self._names = {family.name for family in registry.collect()}

    def collect(self) -> Iterable[Metric]:
        """Return the families, summed over the processes."""
        families: Iterable[Metric] = self._collector.collect()  # type: ignore[no-untyped-call]  # - not typed
        return [family for family in families if family.name in self._names]
