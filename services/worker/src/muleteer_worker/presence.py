"""What the pool and the gateways see of a child: that it lives, and the state of each of its model versions."""

import logging
import threading
from collections.abc import Callable, Sequence

from redis.exceptions import RedisError

from muleteer.queue.consumer import Consumer
from muleteer_worker.version import VersionReport

logger = logging.getLogger(__name__)

BEAT_SECONDS = 3.0
HEARTBEAT_TTL_SECONDS = 10.0


class Presence(threading.Thread):
    """Heartbeat and version reports, every few seconds and at once after a change.

    A thread of its own, so that a long predict does not make the worker look dead. ``consumer`` is this thread's own.
    """

    def __init__(self, consumer: Consumer, reports: Callable[[], Sequence[VersionReport]]) -> None:
        super().__init__(name="presence", daemon=True)
        self._consumer = consumer
        self._reports = reports
        self._shown: set[tuple[str, str]] = set()
        self._news = threading.Event()
        self._stopping = False

    def nudge(self) -> None:
        """Report at once: something changed."""
        self._news.set()

    def run(self) -> None:
        """Report until stopped."""
        while not self._stopping:
            self._news.clear()
            try:
                self._beat()
            except RedisError as error:
                # The loop logs that Redis is away; what is missed here is said again at the next beat.
                logger.debug("Heartbeat failed: %s", error)
            self._news.wait(BEAT_SECONDS)

    def leave(self, timeout: float) -> None:
        """Stop, take the reports back and leave the pool; gives up after ``timeout`` seconds without Redis."""
        self._stopping = True
        self._news.set()
        self.join(timeout)
        if self.is_alive():
            return
        try:
            for model, version in self._shown:
                self._consumer.report_version(model, version, None)
            self._consumer.leave()
        except RedisError as error:
            logger.debug("Could not leave the pool, the heartbeat will run out: %s", error)

    def _beat(self) -> None:
        self._consumer.heartbeat(HEARTBEAT_TTL_SECONDS)
        reports = self._reports()
        for report in reports:
            self._consumer.report_version(
                report.model,
                report.version,
                {"state": report.state, "reason": report.reason, "message": report.message, "at": report.at},
            )
        names = {(report.model, report.version) for report in reports}
        for model, version in self._shown - names:
            self._consumer.report_version(model, version, None)
        self._shown = names
