"""Jobs that wait for a version which has left the catalog: looked for now and then, and served."""

import logging
import time

from muleteer.queue.consumer import Consumer
from muleteer_worker.plan import read_left_behind
from muleteer_worker.resident import Residents

logger = logging.getLogger(__name__)

SHORTEST_PAUSE = 1.0
"""Seconds between two looks, however short a removed version is kept."""


class LeftBehind:
    """Takes up what was enqueued while nobody looked: the pool was away, or a gateway had not seen the edit yet."""

    def __init__(self, residents: Residents, consumer: Consumer, pause: float) -> None:
        """``pause``: seconds between two looks."""
        self._residents = residents
        self._consumer = consumer
        self._pause = max(SHORTEST_PAUSE, pause)
        self._look_at = 0.0

    def look(self) -> None:
        """Serve such versions until their queues are empty, if a look is due. Raises redis.RedisError."""
        now = time.monotonic()
        if now < self._look_at:
            return
        catalog, pool = self._residents.catalog, self._residents.pool
        plans = read_left_behind(catalog, pool, self._consumer.registered_queues())
        plans = [plan for plan in plans if self._residents.is_gone(plan.spec.name)]
        waiting = [plan for plan in plans if self._consumer.depth(plan.spec.name)]
        for plan in waiting:
            logger.info(
                "Jobs wait for a version that has left the catalog",
                extra={"model": plan.model, "version": plan.version},
            )
        if waiting:
            self._residents.take_up(waiting)
        self._look_at = now + self._pause
