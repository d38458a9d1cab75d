"""Redis that goes away and comes back: one log line for each, and a short growing pause in between."""

import logging
import time

from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 1.0


class Outage:
    """Whether Redis answers, as one thread sees it."""

    def __init__(self) -> None:
        self.since: float | None = None
        """When (monotonic seconds) it began; None while Redis answers."""
        self._pause = FIRST_PAUSE_SECONDS

    def suffer(self, error: RedisError) -> None:
        """Note a failed call and sleep a little."""
        if self.since is None:
            logger.warning("Redis does not answer, trying on: %s", error)
            self.since = time.monotonic()
        time.sleep(self._pause)
        self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)

    def over(self) -> None:
        """Note a call that went well."""
        if self.since is not None:
            logger.info("Redis answers again after %.1f s", time.monotonic() - self.since)
            self.since, self._pause = None, FIRST_PAUSE_SECONDS
