"""One simulated run: a pool, its traffic and its autoscaler, and the figures that come out."""

from dataclasses import dataclass

import numpy as np
import simpy

from benchmarks.cases import BenchmarkError
from benchmarks.simulation.autoscaler import Autoscaler, Look, Round
from benchmarks.simulation.pool import Cost, Process, SimulatedPool, StartUp
from benchmarks.simulation.traffic import Seconds
from benchmarks.simulation.views import BacklogView, CpuView
from muleteer.queue.cost import Cost as LearntCost

LONGEST_TAIL_SECONDS = 86_400.0
"""After the last arrival: a run whose jobs are not done by then is ended."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A pool, as the chart's values and the catalog describe it."""

    cost: Cost
    start_up: StartUp
    max_rows: int = 64
    target_seconds: float = 1.0
    """``batching.target_batch_seconds``: a batch gets fewer rows when more are predicted to take longer."""
    rows: int = 1
    """Instances in each request."""
    processes: int = 1
    observe_seconds: float = 1.0
    """How often a gateway looks at the queues."""
    metrics_seconds: float = 15.0
    """metrics-server's resolution."""
    cores_when_busy: float = 1.0
    """What a worker process uses while it predicts."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run showed."""

    arrivals: Seconds
    waits: Seconds
    """Seconds each job was in the queue; NaN where it was never claimed."""
    replicas: list[tuple[float, int, int]]
    """(second, pods wanted, pods ready) at each change."""
    pod_seconds: float
    busy_seconds: float
    batches: int
    rows: int
    ended_at: float

    @property
    def unclaimed(self) -> int:
        """Jobs that were never claimed."""
        return int(np.isnan(self.waits).sum())

    @property
    def mean(self) -> float:
        """Mean queue seconds."""
        return float(np.nanmean(self.waits)) if self.unclaimed < len(self.waits) else float("nan")

    def percentile(self, percent: float) -> float:
        """Return a percentile of the queue seconds."""
        return float(np.nanpercentile(self.waits, percent)) if self.unclaimed < len(self.waits) else float("nan")

    def most_replicas(self) -> int:
        """Return the most pods there were at once."""
        return max((wanted for _, wanted, _ in self.replicas), default=0)


def simulate(plan: Plan, arrivals: Seconds, autoscaler: Autoscaler, seed: int) -> Outcome:
    """Let a pool serve ``arrivals`` (sorted seconds from 0) and return what happened. Same seed, same outcome."""
    if plan.rows > plan.max_rows:
        raise BenchmarkError(f"a request of {plan.rows} rows does not fit a batch of {plan.max_rows}: raise --max-rows")
    # What workers learn is a batch from its claim to its finish.
    learnt = LearntCost(plan.cost.batch + plan.cost.mean_overhead, plan.cost.row)
    max_rows = max(plan.rows, learnt.rows_within(plan.target_seconds, plan.max_rows))
    env = simpy.Environment()
    pool = SimulatedPool(
        env,
        arrivals,
        plan.cost,
        np.random.default_rng(seed),
        max_rows=max_rows,
        rows=plan.rows,
        processes=plan.processes,
        start_up=plan.start_up,
    )
    pool.start_ready(autoscaler.first_replicas)
    if autoscaler.rounds:
        backlog = BacklogView(env, pool, plan.observe_seconds, learnt, plan.rows)
        cpu = CpuView(env, pool, plan.metrics_seconds, plan.cores_when_busy * plan.processes)
        for one in autoscaler.rounds:
            env.process(_control(env, pool, one, backlog, cpu))
    last = float(arrivals[-1]) if len(arrivals) else 0.0
    env.run(until=env.any_of([pool.done, env.timeout(last + LONGEST_TAIL_SECONDS)]))
    log = pool.log
    return Outcome(
        arrivals, log.waits, log.replicas, pool.pod_seconds, log.busy_seconds, log.batches, log.rows, float(env.now)
    )


def _control(env: simpy.Environment, pool: SimulatedPool, one: Round, backlog: BacklogView, cpu: CpuView) -> Process:
    while True:
        yield env.timeout(one.seconds)
        seen, used = backlog.look(), cpu.look()
        look = Look(seen.jobs, seen.seconds, seen.busy, used.usages, used.starting)
        wanted = one.decide(float(env.now), pool.replicas, look)
        if wanted != pool.replicas:
            pool.scale(wanted)
