"""What is known of the load: what waits in each queue, how long it will take, and what a pool has before it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

from muleteer.queue.jobs import QueueState
from muleteer_gateway.traffic import Traffic


@dataclass(frozen=True, slots=True)
class Service:
    """How a version is served: what the prediction of a wait needs to know of it."""

    queue: str
    pool: str
    workers: int
    """Worker processes that can take its jobs now."""
    max_rows: int
    target_seconds: float
    batch_share: float
    load_seconds: float = 0.0
    """Seconds until a worker will have loaded it; 0 when one has, or when that is not known."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a pool has before it, over all its versions."""

    pool: str
    queued: int
    running: int
    seconds: float
    """Expected seconds of worker time; a queue of which no cost is known counts as 0."""
    workers: int
    busy_workers: float
    """Worker processes that the traffic of the last half minute keeps busy, in full batches."""

    @property
    def jobs(self) -> int:
        """Jobs queued or running."""
        return self.queued + self.running

    @property
    def seconds_per_worker(self) -> float:
        """Expected seconds until the pool is through with it; without a worker, for the first one that comes."""
        return self.seconds / max(1, self.workers)


class QueueLoad:
    """One queue between two looks: what was seen, what this gateway has added, and what must be through by now.

    Everything is constant work a request. What other gateways add is seen at the next look.
    """

    def __init__(self, service: Service, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self.service = service
        self.state = QueueState()
        self.rows_a_job = 1.0
        self.outstanding: dict[str, int] = {}
        """Instances that callers of this gateway wait for, by client."""
        self._outstanding = 0
        self._others = 0.0
        """Instances that other gateways' callers wait for, as far as is known."""
        self._batch = 0.0
        """Instances of the batch class."""
        self._at = 0.0
        self._batch_rows = 1
        self._batch_seconds = 0.0
        self._elsewhere = 0.0
        """Seconds of work that the pool has in its other queues."""
        self._elsewhere_batch = 0.0
        """Seconds of one batch of each of them."""
        self._traffic = Traffic()
        """Of accepted jobs."""

    def see(self, service: Service, state: QueueState, now: float) -> None:
        """Take a look's figures."""
        self.service, self.state = service, state
        queued_rows = state.rows + state.batch_rows
        if state.queued and queued_rows:
            self.rows_a_job = queued_rows / state.queued
        self._traffic.see(state.accounted.get("accepted", 0), now)
        self._batch, self._at = float(state.batch_rows), now
        self._others = max(0.0, state.rows + self.running_rows - self._outstanding)
        if state.cost is not None:
            self._batch_rows = state.cost.rows_within(service.target_seconds, service.max_rows)
            self._batch_seconds = state.cost.seconds(self._batch_rows, self._batch_rows)

    def see_others(self, seconds: float, one_batch_each: float) -> None:
        """Take what the pool's other queues hold."""
        self._elsewhere, self._elsewhere_batch = seconds, one_batch_each

    @property
    def running_rows(self) -> float:
        """About how many instances are in workers' hands."""
        return self.state.running * self.rows_a_job

    @property
    def batch_seconds(self) -> float:
        """Seconds of one batch of this queue as long as it holds jobs; 0 when it holds none or no cost is known."""
        return self._batch_seconds if self.state.queued else 0.0

    def work_seconds(self) -> float:
        """Return the seconds of worker time that all that was seen, queued and running, takes."""
        cost, state = self.state.cost, self.state
        if cost is None or not state.queued + state.running:
            return 0.0
        return cost.seconds(state.rows + state.batch_rows + self.running_rows, self._batch_rows)

    @property
    def busy_workers(self) -> float:
        """Seconds of worker time that come in a second, in full batches; 0 while no cost is known."""
        cost = self.state.cost
        if cost is None:
            return 0.0
        return self._traffic.rate * self.rows_a_job * cost.full_row_seconds(self._batch_rows)

    def enter(self, client: str, rows: int) -> None:
        """Note that instances were enqueued whose caller waits."""
        self._outstanding += rows
        self.outstanding[client] = self.outstanding.get(client, 0) + rows

    def leave(self, client: str, rows: int) -> None:
        """Note that their caller waits no more."""
        self._outstanding -= rows
        left = self.outstanding[client] - rows
        if left:
            self.outstanding[client] = left
        else:
            del self.outstanding[client]

    def enter_batch(self, rows: int) -> None:
        """Note that instances were enqueued that nobody waits for, or (below 0) that they were not after all."""
        self._drain()
        self._batch = max(0.0, self._batch + rows)

    def wait_seconds(self, rows: int, client: str = "", *, interactive: bool = True) -> float | None:
        """Predict how long instances that are enqueued now will wait; None while no cost or no worker is known."""
        cost, workers = self.state.cost, self.service.workers
        if cost is None or not workers:
            return None
        if self._others or self._batch:
            self._drain()
        ahead = self._others + self._outstanding
        if interactive:
            clients = len(self.outstanding) + (client not in self.outstanding)
            if clients > 1:
                # Lanes are served in turn: nobody waits for more than as much of each other client as of itself.
                ahead = min(ahead, (self.outstanding.get(client, 0) + rows) * clients + self._others)
            if self._batch > 0:
                ahead += min(self._batch, ahead * self.service.batch_share / (1 - self.service.batch_share))
        else:
            ahead += self._batch
        if not ahead and not self._elsewhere:
            return 0.0
        # What is in workers' hands is half done on average.
        ahead -= min(ahead, self.running_rows) / 2
        seconds = cost.seconds(ahead, self._batch_rows)
        if self._elsewhere:
            seconds += min(self._elsewhere, (ahead / self._batch_rows + 1) * self._elsewhere_batch)
        return seconds / workers

    def seconds_to_end(self, rows: int, wait: float) -> float:
        """Predict when instances are done that wait for so many seconds, in seconds from now."""
        cost = self.state.cost
        if cost is None:
            return wait
        # Where others wait too, its batch will be a full one.
        return wait + max(cost.seconds(rows, self._batch_rows), self._batch_seconds if wait else 0.0)

    def seconds_ahead(self, jobs: int) -> float | None:
        """Predict when a job is done that has ``jobs`` before it in its lane."""
        return self.seconds_until((jobs + 1) * self.rows_a_job)

    def seconds_until(self, rows: float) -> float | None:
        """Predict how long the pool takes to work off so many instances."""
        cost, workers = self.state.cost, self.service.workers
        return None if cost is None or not workers else cost.seconds(rows, self._batch_rows) / workers

    def _drain(self) -> None:
        """Let what must be through by now leave."""
        now = self._clock()
        passed, self._at = now - self._at, now
        if not self._batch_seconds:
            return
        drained = passed * self.service.workers * self._batch_rows / self._batch_seconds
        share = self.service.batch_share if self._batch > 0 else 0.0
        others = min(self._others, drained * (1 - share))
        self._others -= others
        self._batch = max(0.0, self._batch - (drained - others))


class Load:
    """The load of all queues, as of the last look at Redis and since."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self.queues: dict[str, QueueLoad] = {}
        self.workers: Mapping[str, list[str]] = {}

    def see(
        self, services: Sequence[Service], states: Mapping[str, QueueState], workers: Mapping[str, list[str]]
    ) -> None:
        """Take a look's figures; queues that are no longer looked at are forgotten."""
        now, before, self.workers = self._clock(), self.queues, workers
        queues = {service.queue: before.get(service.queue) or QueueLoad(service, self._clock) for service in services}
        pools: dict[str, list[QueueLoad]] = {}
        for service in services:
            queues[service.queue].see(service, states.get(service.queue, QueueState()), now)
            pools.setdefault(service.pool, []).append(queues[service.queue])
        for loads in pools.values():
            seconds = [load.work_seconds() for load in loads]
            batches = [load.batch_seconds for load in loads]
            for load, own, batch in zip(loads, seconds, batches, strict=True):
                load.see_others(sum(seconds) - own, sum(batches) - batch)
        self.queues = queues

    @contextmanager
    def entering(self, queue: str, rows: int) -> Iterator[None]:
        """Count instances that nobody waits for while they are enqueued, and from then on if that does not raise."""
        load = self.queues.get(queue)
        if load is not None:
            load.enter_batch(rows)
        try:
            yield
        except BaseException:
            if load is not None:
                load.enter_batch(-rows)
            raise

    def backlog(self, pool: str, queues: Iterable[str]) -> Backlog:
        """Return what a pool, to which these queues belong, has before it."""
        # A queue that was not there yet at the last look holds nothing.
        loads = [self.queues[queue] for queue in queues if queue in self.queues]
        return Backlog(
            pool,
            sum(load.state.queued for load in loads),
            sum(load.state.running for load in loads),
            sum(load.work_seconds() for load in loads),
            len(self.workers.get(pool, ())),
            sum(load.busy_workers for load in loads),
        )
