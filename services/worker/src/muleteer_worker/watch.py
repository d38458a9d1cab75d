"""The child's watch over itself: tells the parent how it is, and ends the process when a predict call hangs."""

import logging
import os
import threading
import time
from collections.abc import Callable

from muleteer.queue.names import split_queue_name
from muleteer_worker.status import ChildStatus

logger = logging.getLogger(__name__)

TURN_SECONDS = 0.5
WORD_SECONDS = 1.0


class Pulse:
    """When the claim loop last came round, and since when a predict call runs: for the watch to read."""

    __slots__ = ("predict_limit", "predict_since", "queue", "turned_at")

    def __init__(self) -> None:
        self.turned_at = time.monotonic()
        self.queue = ""
        self.predict_limit = 0.0
        self.predict_since: float | None = None

    def begin(self) -> None:
        """Note that a predict call begins."""
        self.predict_since = time.monotonic()

    def end(self) -> None:
        """Note that it has returned or raised."""
        self.predict_since = None

    def loop_seconds(self) -> float:
        """Return the seconds since the loop came round; 0 while a predict call runs."""
        return 0.0 if self.predict_since is not None else time.monotonic() - self.turned_at


class Watch(threading.Thread):
    """A thread that asks nothing of Redis, so that only a stuck interpreter can hold it up.

    ``missing`` returns why the process is not ready, or an empty text; ``status_fd`` is the pipe to the parent.
    """

    def __init__(self, pulse: Pulse, missing: Callable[[], str], status_fd: int) -> None:
        super().__init__(name="watch", daemon=True)
        self._pulse = pulse
        self._missing = missing
        self._fd = status_fd
        self._news = threading.Event()
        self._told = ""
        self._told_at = -WORD_SECONDS
        os.set_blocking(status_fd, False)

    def nudge(self) -> None:
        """Look at once: something changed."""
        self._news.set()

    def run(self) -> None:
        """Watch until the process ends."""
        while True:
            self._news.clear()
            self._end_hung_predict()
            self._tell()
            self._news.wait(TURN_SECONDS)

    def _end_hung_predict(self) -> None:
        since = self._pulse.predict_since
        if since is None or time.monotonic() - since < self._pulse.predict_limit:
            return
        model, version = split_queue_name(self._pulse.queue)
        logger.error(
            "Predict hangs: a call runs longer than the model's predict_timeout of %g s; this process ends",
            self._pulse.predict_limit,
            extra={"model": model, "version": version},
        )
        # A thread cannot be stopped from outside. The parent gives the leases back and starts another process.
        os._exit(os.EX_SOFTWARE)

    def _tell(self) -> None:
        missing = self._missing()
        now = time.monotonic()
        if missing == self._told and now - self._told_at < WORD_SECONDS:
            return
        status = ChildStatus(not missing, missing, self._pulse.loop_seconds())
        try:
            os.write(self._fd, status.line())
        except BlockingIOError:
            return  # the parent is behind with reading: it gets the next line
        except BrokenPipeError:
            # Linux kills a child with its parent; elsewhere this is how it notices.
            os._exit(os.EX_UNAVAILABLE)
        self._told, self._told_at = missing, now
