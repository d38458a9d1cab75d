"""The gauges that show the last look at the system: queues, pools, versions."""

from collections.abc import Iterable, Mapping, Sequence

from prometheus_client import Gauge

from muleteer.metrics import (
    BACKLOG_JOBS,
    BACKLOG_SECONDS,
    JOBS_ACCOUNTED,
    QUEUE_JOBS,
    QUEUE_OLDEST,
    QUEUE_WAIT,
    TRAFFIC_SHARE,
    VERSION_COLD,
    VERSION_FAILED,
    VERSION_READY_WORKERS,
    WORKERS,
)
from muleteer_gateway.load import Backlog, QueueLoad
from muleteer_gateway.served import ServedModel

Values = dict[tuple[str, ...], float]
"""A gauge's values by its labels."""


class SystemGauges:
    """Shows each look, and removes what belonged to versions and pools that are gone.

    Nothing is cleared before it is set, so that a scrape at any moment sees every version that there is.
    """

    def __init__(self) -> None:
        self._shown: dict[Gauge, frozenset[tuple[str, ...]]] = {}

    def show_queues(self, loads: Mapping[tuple[str, str], QueueLoad]) -> None:
        """Show the queues, by model and version."""
        jobs: Values = {}
        waits: Values = {}
        accounted: Values = {}
        for version, load in loads.items():
            state, wait = load.state, load.wait_seconds(1)
            jobs[*version, "queued"], jobs[*version, "running"] = state.queued, state.running
            if wait is not None:
                waits[version] = wait
            accounted |= {(*version, event): count for event, count in state.accounted.items()}
        self._show(QUEUE_JOBS, jobs)
        self._show(QUEUE_OLDEST, {version: load.state.oldest_seconds for version, load in loads.items()})
        self._show(QUEUE_WAIT, waits)
        JOBS_ACCOUNTED.show(accounted)

    def show_pools(self, workers: Mapping[str, list[str]], backlogs: Sequence[Backlog]) -> None:
        """Show the pools: who is alive, and what there is to do."""
        self._show(WORKERS, {(pool,): len(names) for pool, names in workers.items()})
        self._show(BACKLOG_JOBS, {(backlog.pool,): backlog.jobs for backlog in backlogs})
        self._show(BACKLOG_SECONDS, {(backlog.pool,): backlog.seconds for backlog in backlogs})

    def show_versions(self, models: Iterable[ServedModel]) -> None:
        """Show the state of each version, as its workers tell it, and its part of the traffic."""
        ready: Values = {}
        failed: Values = {}
        cold: Values = {}
        shares: Values = {}
        for model in models:
            targets = model.entry.targets()
            total = sum(targets.values())
            for version in [*model.versions, *model.retiring]:
                states = [report.get("state") for report in model.reports.get(version, ())]
                labels = (model.name, version)
                ready[labels] = model.ready_workers(version)
                served = model.versions.get(version)
                unread = served is not None and bool(served.problem)  # this gateway cannot ask it
                failed[labels] = float(unread or set(states) == {"failed"})
                cold[labels] = float(version in model.cold)
                shares[labels] = targets.get(version, 0.0) / total
        self._show(VERSION_READY_WORKERS, ready)
        self._show(VERSION_FAILED, failed)
        self._show(VERSION_COLD, cold)
        self._show(TRAFFIC_SHARE, shares)

    def _show(self, gauge: Gauge, values: Values) -> None:
        for labels, value in values.items():
            gauge.labels(*labels).set(value)
        for labels in self._shown.get(gauge, frozenset()) - values.keys():
            gauge.remove(*labels)
        self._shown[gauge] = frozenset(values)
