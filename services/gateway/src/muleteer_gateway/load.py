"""What is known of the load: how deep queues are, how fast they are worked off, what a pool has before it."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from muleteer.queue.jobs import QueueState


@dataclass(slots=True)
class Pace:
    """How fast a queue has been worked off lately."""

    jobs: int
    seconds: float
    seconds_a_job: float | None = None


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a pool has before it, over all its versions."""

    pool: str
    queued: int
    running: int
    seconds: float
    """Expected seconds of worker time; a queue of which no pace is known counts as 0."""
    workers: int

    @property
    def jobs(self) -> int:
        """Jobs queued or running."""
        return self.queued + self.running

    @property
    def seconds_per_worker(self) -> float:
        """Expected seconds until the pool is through with it; without a worker, for the first one that comes."""
        return self.seconds / max(1, self.workers)


@dataclass(slots=True)
class Load:
    """What the last look at Redis saw."""

    queues: dict[str, QueueState] = field(default_factory=dict)
    workers: dict[str, list[str]] = field(default_factory=dict)
    paces: dict[str, Pace] = field(default_factory=dict)

    def seconds_for(self, queue: str, pool: str, jobs: int) -> float | None:
        """Predict how long ``jobs`` jobs of a queue take its pool; None while nothing is known."""
        pace = self.paces.get(queue)
        workers = len(self.workers.get(pool, ()))
        if pace is None or pace.seconds_a_job is None or not workers:
            return None
        return jobs * pace.seconds_a_job / workers

    def backlog(self, pool: str, queues: Iterable[str]) -> Backlog:
        """Return what a pool, to which these queues belong, has before it."""
        queued, running, seconds = 0, 0, 0.0
        for queue in queues:
            state, pace = self.queues.get(queue), self.paces.get(queue)
            if state is None:
                continue  # it was not there yet at the last look
            queued += state.queued
            running += state.running
            if pace is not None and pace.seconds_a_job is not None:
                seconds += (state.queued + state.running) * pace.seconds_a_job
        return Backlog(pool, queued, running, seconds, len(self.workers.get(pool, ())))

    def learn(self, queue: str, state: QueueState) -> None:
        """Take a look's totals into the queue's pace."""
        pace = self.paces.get(queue)
        if pace is None:
            first = state.predict_seconds / state.jobs if state.jobs else None
            self.paces[queue] = Pace(state.jobs, state.predict_seconds, first)
            return
        jobs, seconds = state.jobs - pace.jobs, state.predict_seconds - pace.seconds
        if jobs > 0 and seconds >= 0:
            now = seconds / jobs
            pace.seconds_a_job = now if pace.seconds_a_job is None else 0.7 * pace.seconds_a_job + 0.3 * now
        pace.jobs, pace.seconds = state.jobs, state.predict_seconds
