"""The pool in simulated time: one queue, pods that start, workers that claim whatever waits, pods that drain.

As in the real one, a claim takes what waits up to the batch's limit, an idle worker claims in the moment a job arrives,
a worker has one claim in flight, and one that is told to stop finishes its batch first.
"""

from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import simpy

from benchmarks.simulation.traffic import Seconds

Process = Generator[simpy.Event, None, None]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a batch costs a worker, in seconds: ``batch + row * rows``, and what the system adds to each batch."""

    batch: float
    row: float
    spread: float = 0.0
    """Standard deviation of a predict call's duration, as a part of it."""
    overhead: float = 0.0005
    """From the end of predict to the next batch's predict: finish, claim, reading and writing."""
    factors: tuple[float, ...] = ()
    """Durations that were measured, as parts of ``batch + row * rows``: drawn from, instead of ``spread``."""
    overheads: tuple[float, ...] = ()
    """Overheads that were measured: drawn from, instead of ``overhead``."""

    def predict_seconds(self, rows: int, rng: np.random.Generator) -> float:
        """Draw how long one predict call of so many rows takes."""
        mean = self.batch + self.row * rows
        return mean * float(rng.choice(self.factors)) if self.factors else _lognormal(mean, self.spread, rng)

    @property
    def mean_overhead(self) -> float:
        """Seconds that the system adds to a batch, on average."""
        return sum(self.overheads) / len(self.overheads) if self.overheads else self.overhead

    def overhead_seconds(self, rng: np.random.Generator) -> float:
        """Draw what the system adds to one batch."""
        return float(rng.choice(self.overheads)) if self.overheads else self.overhead


StartUp = Callable[[np.random.Generator, int], float]
"""Draws how long pods that are created together take until they claim, in seconds; told how many start at that time."""


def varying(seconds: float, spread: float = 0.0) -> StartUp:
    """Return a start-up of ``seconds`` on average; ``spread`` is its standard deviation as a part of that."""
    return lambda rng, _: _lognormal(seconds, spread, rng)


def measured(samples: Mapping[int, Sequence[float]]) -> StartUp:
    """Return a start-up that takes as long as one of those measured with as many (or nearly as many) starting."""

    def draw(rng: np.random.Generator, starting: int) -> float:
        nearest = min(samples, key=lambda count: abs(count - starting))
        return float(rng.choice(samples[nearest]))

    return draw


def _lognormal(mean: float, spread: float, rng: np.random.Generator) -> float:
    if not spread:
        return mean
    variance = np.log1p(spread**2)
    return float(mean * rng.lognormal(-variance / 2, np.sqrt(variance)))


@dataclass(slots=True, eq=False)
class Worker:
    """One process: what it did, and whether it waits at the bell."""

    bell: simpy.Event | None = None
    in_hand: int = 0
    """Jobs of the batch that runs."""
    busy_seconds: float = 0.0
    busy_since: float | None = None

    def busy_until(self, now: float) -> float:
        """Return the busy seconds so far, with those of the batch that runs."""
        return self.busy_seconds + (now - self.busy_since if self.busy_since is not None else 0.0)


@dataclass(slots=True, eq=False)
class Pod:
    """One replica: its workers, and its life."""

    created_at: float
    workers: list[Worker]
    ready_at: float | None = None
    stopping: bool = False
    ended_at: float | None = None
    measured_busy: float = 0.0
    """Busy seconds at metrics-server's last look."""

    def busy_until(self, now: float) -> float:
        """Return the busy seconds of its workers so far."""
        return sum(worker.busy_until(now) for worker in self.workers)


@dataclass(slots=True)
class PoolLog:
    """What happened."""

    waits: Seconds
    """Seconds each job was in the queue, in the order of arrival; NaN for one that nobody claimed."""
    batches: int = 0
    rows: int = 0
    busy_seconds: float = 0.0
    replicas: list[tuple[float, int, int]] = field(default_factory=list)
    """(time, pods wanted, pods ready) at each change."""


class SimulatedPool:
    """Serves ``arrivals`` (sorted seconds, one job each of ``rows`` instances)."""

    def __init__(
        self,
        env: simpy.Environment,
        arrivals: Seconds,
        cost: Cost,
        rng: np.random.Generator,
        *,
        max_rows: int,
        rows: int = 1,
        processes: int = 1,
        start_up: StartUp,
    ) -> None:
        self.log = PoolLog(np.full(len(arrivals), np.nan))
        self.pods: list[Pod] = []
        """Pods that exist: those that drain too."""
        self.ended: list[Pod] = []
        self.max_rows = max_rows
        self.done = env.event()
        """All jobs have been finished."""
        self._env, self._arrivals, self._cost, self._rng = env, arrivals, cost, rng
        self._rows, self._jobs_a_claim = rows, max(1, max_rows // rows)
        self._processes, self._start_up = processes, start_up
        self._head = 0
        self._finished = 0
        self._idle: deque[Worker] = deque()
        self._somebody_idle: simpy.Event | None = None
        env.process(self._ring())
        if not len(arrivals):
            self.done.succeed()

    @property
    def replicas(self) -> int:
        """Pods that exist and are to stay."""
        return sum(not pod.stopping for pod in self.pods)

    @property
    def queued(self) -> int:
        """Jobs that wait."""
        return self.arrived - self._head

    @property
    def arrived(self) -> int:
        """Jobs that have come so far."""
        return int(np.searchsorted(self._arrivals, self._env.now, side="right"))

    @property
    def running(self) -> int:
        """Jobs in workers' hands."""
        return sum(worker.in_hand for pod in self.pods for worker in pod.workers)

    def scale(self, replicas: int) -> None:
        """Create pods, or have the newest drain, until there are so many. Pods that have not started go at once."""
        staying = [pod for pod in self.pods if not pod.stopping]
        self._create(replicas - len(staying), sum(pod.ready_at is None for pod in staying))
        for pod in staying[::-1][: max(0, len(staying) - replicas)]:
            self._stop(pod)
        self._note()

    def _create(self, pods: int, starting: int) -> None:
        if pods <= 0:
            return
        # One draw: what makes a start slow (a busy node, a slow registry) meets all that start together.
        seconds = self._start_up(self._rng, starting + pods)
        for _ in range(pods):
            pod = Pod(self._env.now, [Worker() for _ in range(self._processes)])
            self.pods.append(pod)
            self._env.process(self._live(pod, seconds))

    def start_ready(self, replicas: int) -> None:
        """Begin with pods that are ready."""
        for _ in range(replicas):
            pod = Pod(self._env.now, [Worker() for _ in range(self._processes)])
            self.pods.append(pod)
            self._serve(pod)
        self._note()

    def _live(self, pod: Pod, seconds: float) -> Process:
        yield self._env.timeout(seconds)
        if not pod.stopping:
            self._serve(pod)
            self._note()

    def _serve(self, pod: Pod) -> None:
        pod.ready_at = self._env.now
        workers = [self._env.process(self._work(pod, worker)) for worker in pod.workers]
        self._env.process(self._bury(pod, workers))

    def _bury(self, pod: Pod, workers: list[simpy.Process]) -> Process:
        yield self._env.all_of(workers)
        self._end(pod)

    def _stop(self, pod: Pod) -> None:
        pod.stopping = True
        if pod.ready_at is None:
            self._end(pod)
            return
        for worker in pod.workers:
            if worker.bell is not None:
                self._idle.remove(worker)
                self._wake(worker)

    def _end(self, pod: Pod) -> None:
        pod.ended_at = self._env.now
        self.pods.remove(pod)
        self.ended.append(pod)
        self._note()

    def _work(self, pod: Pod, worker: Worker) -> Process:
        env, log = self._env, self.log
        while not pod.stopping:
            jobs = self._claim()
            if not jobs:
                worker.bell = env.event()
                self._idle.append(worker)
                if self._somebody_idle is not None:
                    self._somebody_idle.succeed()
                    self._somebody_idle = None
                yield worker.bell
                continue
            rows = jobs * self._rows
            seconds = self._cost.predict_seconds(rows, self._rng) + self._cost.overhead_seconds(self._rng)
            worker.in_hand, worker.busy_since = jobs, env.now
            yield env.timeout(seconds)
            worker.busy_seconds, worker.busy_since = worker.busy_until(env.now), None
            worker.in_hand = 0
            log.batches += 1
            log.rows += rows
            log.busy_seconds += seconds
            self._finished += jobs
            if self._finished == len(self._arrivals):
                self.done.succeed()

    def _claim(self) -> int:
        """Take what waits, up to a batch; return how many jobs."""
        jobs = min(self._jobs_a_claim, self.queued)
        end = self._head + jobs
        self.log.waits[self._head : end] = self._env.now - self._arrivals[self._head : end]
        self._head = end
        return jobs

    def _ring(self) -> Process:
        """Wake one idle worker for each arrival: who has waited longest comes first."""
        env = self._env
        while self._head < len(self._arrivals):
            until = self._arrivals[self._head] - env.now
            if not self._idle:
                self._somebody_idle = env.event()
                yield self._somebody_idle
            elif until > 0:
                yield env.timeout(until)
            else:
                self._wake(self._idle.popleft())
                yield env.timeout(0)  # the woken worker claims first

    @staticmethod
    def _wake(worker: Worker) -> None:
        bell, worker.bell = worker.bell, None
        if bell is not None:
            bell.succeed()

    def _note(self) -> None:
        ready = sum(pod.ready_at is not None and not pod.stopping for pod in self.pods)
        entry = (float(self._env.now), self.replicas, ready)
        if self.log.replicas and self.log.replicas[-1][0] == entry[0]:
            self.log.replicas.pop()
        self.log.replicas.append(entry)

    @property
    def pod_seconds(self) -> float:
        """Seconds that pods have existed, together: what a cluster is paid for."""
        now = float(self._env.now)
        lives = (pod.ended_at if pod.ended_at is not None else now for pod in self.pods + self.ended)
        return float(sum(lives)) - sum(pod.created_at for pod in self.pods + self.ended)
