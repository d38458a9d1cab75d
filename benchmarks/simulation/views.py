"""What autoscalers get to see of the simulated pool: late, and in the units that the real ones see."""

import simpy

from benchmarks.simulation.autoscaler import Look
from benchmarks.simulation.pool import Process, SimulatedPool
from muleteer.queue.cost import Cost as LearntCost
from muleteer_gateway.traffic import Traffic


class BacklogView:
    """A gateway's ``/backlog/{pool}``: what waited and ran at its last look, and the seconds that the fit gives it."""

    def __init__(
        self, env: simpy.Environment, pool: SimulatedPool, observe_seconds: float, learnt: LearntCost, rows_a_job: int
    ) -> None:
        self._env, self._pool = env, pool
        self._observe_seconds = observe_seconds
        self._learnt, self._rows_a_job = learnt, rows_a_job
        self._jobs = 0
        self._traffic = Traffic()
        env.process(self._observe())

    def look(self) -> Look:
        """Return what the gateway would answer now."""
        seconds = self._learnt.seconds(self._jobs * self._rows_a_job, self._pool.max_rows)
        busy = self._traffic.rate * self._rows_a_job * self._learnt.full_row_seconds(self._pool.max_rows)
        return Look(jobs=self._jobs, seconds=seconds, busy=busy)

    def _observe(self) -> Process:
        while True:
            self._jobs = self._pool.queued + self._pool.running
            self._traffic.see(self._pool.arrived, float(self._env.now))
            yield self._env.timeout(self._observe_seconds)


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
