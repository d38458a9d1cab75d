"""The parent's thread at Redis: gives back the leases of children that died, and knows whether Redis answers."""

import logging
import threading
import time

from redis.exceptions import RedisError

from muleteer.catalog.source import CatalogSource
from muleteer.queue.connection import connect
from muleteer.queue.consumer import Consumer, QueueSpec
from muleteer_worker.plan import read_plans
from muleteer_worker.settings import WorkerSettings
from muleteer_worker.tally import count_given_back

logger = logging.getLogger(__name__)

TURN_SECONDS = 1.0


class LeaseReturner(threading.Thread):
    """Gives back at once what a dead child held; while Redis is away it keeps trying.

    The parent's main thread only hands over names, so that a Redis which hangs cannot keep it from its children.
    """

    def __init__(self, settings: WorkerSettings, source: CatalogSource) -> None:
        super().__init__(name="lease-returner", daemon=True)
        self.longest_predict = 0.0
        """The longest predict_timeout of the pool's models, in seconds."""
        self._settings = settings
        self._source = source
        self._connection = connect(settings.redis)
        self._consumer = Consumer(self._connection, settings.pool, "parent", settings.lease_seconds)
        self._specs: dict[str, QueueSpec] = {}
        self._names: set[str] = set()
        self._news = threading.Event()
        self._closing = False
        self._answered_at = time.monotonic()
        self._failing = False
        self._read_catalog()

    @property
    def silent_seconds(self) -> float:
        """Seconds since Redis last answered."""
        return time.monotonic() - self._answered_at

    def give_back(self, name: str) -> None:
        """Give back all leases of a worker that is dead."""
        self._names.add(name)
        self._news.set()

    def run(self) -> None:
        """Work until closed and everything is given back."""
        while not (self._closing and not self._names):
            self._news.clear()
            if self._source.poll():
                self._read_catalog()
            try:
                self._turn()
            except RedisError as error:
                if not self._failing:
                    logger.warning("Redis does not answer the parent, trying on: %s", error)
                self._failing = True
            else:
                self._failing, self._answered_at = False, time.monotonic()
            if not (self._closing and not self._names):
                self._news.wait(TURN_SECONDS)

    def close(self, timeout: float) -> None:
        """End the thread once all is given back, at the latest after ``timeout`` seconds."""
        self._closing = True
        self._news.set()
        self.join(timeout)

    def _turn(self) -> None:
        names = sorted(self._names)
        if not names:
            self._connection.ping()
            return
        report = self._consumer.release(names, list(self._specs.values()))
        count_given_back(report)
        self._consumer.leave(*names)
        self._names.difference_update(names)
        if report.requeued or report.dead:
            logger.info(
                "Jobs of a lost worker process given back",
                extra={"requeued": sum(report.requeued.values()), "dead": sum(report.dead.values())},
            )

    def _read_catalog(self) -> None:
        plans = read_plans(self._source.current, self._settings.pool)
        # Versions that have left the catalog are kept: a child that still served one may have died with its jobs.
        self._specs |= {queue: plan.spec for queue, plan in plans.items()}
        self.longest_predict = max((plan.predict_timeout for plan in plans.values()), default=0.0)
