"""What autoscalers get to see of the simulated pool: late, and in the units that the real ones see."""

import simpy

from benchmarks.simulation.autoscaler import Look
from benchmarks.simulation.pool import Process, SimulatedPool

TIDY_SECONDS = 1.0
"""How often a worker adds what it has finished to its queue's totals in Redis."""
PACE_WEIGHT = 0.3
"""Of the newest look in a gateway's pace."""


class BacklogView:
    """A gateway's ``/backlog/{pool}``: depth at its last look, times the pace that it has learnt from the totals."""

    def __init__(self, env: simpy.Environment, pool: SimulatedPool, observe_seconds: float) -> None:
        self._env, self._pool = env, pool
        self._observe_seconds = observe_seconds
        self._queued = 0
        self._running = 0
        self._jobs = 0
        self._predict_seconds = 0.0
        self._learnt_jobs = 0
        self._learnt_seconds = 0.0
        self._pace: float | None = None
        env.process(self._observe())

    def look(self) -> Look:
        """Return what the gateway would answer now."""
        jobs = self._queued + self._running
        return Look(jobs=jobs, seconds=jobs * (self._pace or 0.0))

    def _observe(self) -> Process:
        while True:
            self._collect()
            self._queued, self._running = self._pool.queued, self._pool.running
            jobs, seconds = self._jobs - self._learnt_jobs, self._predict_seconds - self._learnt_seconds
            if jobs:
                now = seconds / jobs
                self._pace = now if self._pace is None else (1 - PACE_WEIGHT) * self._pace + PACE_WEIGHT * now
                self._learnt_jobs, self._learnt_seconds = self._jobs, self._predict_seconds
            yield self._env.timeout(self._observe_seconds)

    def _collect(self) -> None:
        """Take in what workers have added up: each does so once a second, between two batches or when idle."""
        now = self._env.now
        for pod in self._pool.pods:
            for worker in pod.workers:
                if now >= worker.tidy_at and worker.jobs:
                    self._jobs += worker.jobs
                    self._predict_seconds += worker.predict_seconds
                    worker.jobs, worker.predict_seconds = 0, 0.0
                    worker.tidy_at = now + TIDY_SECONDS


class CpuView:
    """metrics-server: every pod's average use between its last two looks."""

    def __init__(
        self, env: simpy.Environment, pool: SimulatedPool, resolution_seconds: float, cores_when_busy: float
    ) -> None:
        self._env, self._pool = env, pool
        self._resolution, self._cores = resolution_seconds, cores_when_busy
        self._usages: list[float] = []
        self._starting = 0
        env.process(self._measure())

    def look(self) -> Look:
        """Return the usages of the last look. A pod counts as ready once it was so for a whole interval."""
        return Look(usages=self._usages, starting=self._starting)

    def _measure(self) -> Process:
        while True:
            now = self._env.now
            since = now - self._resolution
            usages = []
            pods = [pod for pod in self._pool.pods if not pod.stopping]
            for pod in pods:
                busy = pod.busy_until(now)
                if pod.ready_at is not None and pod.ready_at <= since:
                    usages.append(self._cores * (busy - pod.measured_busy) / self._resolution)
                pod.measured_busy = busy
            self._usages, self._starting = usages, len(pods) - len(usages)
            yield self._env.timeout(self._resolution)
