"""The parent of a worker pod: starts its children, sees each one die at once, and drains them in the end."""

import logging
import selectors
import signal
import time
from pathlib import Path

from prometheus_client import multiprocess

from muleteer.metrics import WORKER_RESTARTS
from muleteer_worker.giveback import LeaseReturner
from muleteer_worker.settings import WorkerSettings
from muleteer_worker.signals import Signals
from muleteer_worker.spawn import Child, start_child

logger = logging.getLogger(__name__)

TURN_SECONDS = 1.0
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 10.0
SILENCE_SECONDS = 330.0
"""A child tells how it is each second. One whose interpreter is stuck for so long is killed; a model that takes the
interpreter for itself while it loads or predicts must not be."""
GIVE_BACK_SECONDS = 5.0


class Supervisor:
    """Keeps one child alive in each slot until SIGTERM. All of it runs on the main thread."""

    def __init__(self, settings: WorkerSettings, signals: Signals, returner: LeaseReturner, metrics_dir: Path) -> None:
        self.children: dict[int, Child] = {}
        """The running children, by slot."""
        self.turned_at = time.monotonic()
        self.draining = False
        self._settings = settings
        self._signals = signals
        self._returner = returner
        self._metrics_dir = metrics_dir
        self._due = dict.fromkeys(range(settings.processes), 0.0)
        self._early_deaths = dict.fromkeys(range(settings.processes), 0)
        self._selector = selectors.DefaultSelector()
        self._selector.register(signals.wakeup, selectors.EVENT_READ)

    def run(self) -> None:
        """Keep the children alive until SIGTERM or SIGINT, then let them finish what they have in hand."""
        while not self._signals.stop:
            self._start_due()
            self._turn()
        self._drain()

    def _turn(self) -> None:
        """Sleep until something happens, and see to it."""
        now = self.turned_at = time.monotonic()
        timeout = min([TURN_SECONDS, *(max(0.0, due - now) for due in self._due.values() if not self.draining)])
        for key, _ in self._selector.select(timeout):
            child = key.data
            if child is None:
                self._signals.clear()
            elif not child.listen():
                self._selector.unregister(child.pipe)
        for child in list(self.children.values()):
            if child.process.poll() is not None:
                self._bury(child)
            elif time.monotonic() - child.heard_at > max(SILENCE_SECONDS, self._returner.longest_predict + 30):
                logger.error("Worker process %s is stuck: killed", child.name, extra={"slot": child.slot})
                child.process.kill()

    def _start_due(self) -> None:
        now = time.monotonic()
        for slot in [slot for slot, due in self._due.items() if due <= now]:
            try:
                child = start_child(slot, self._settings.threads, self._metrics_dir)
            except OSError as error:
                # Out of memory or processes: that can pass.
                logger.error("Worker process cannot be started, trying on: %s", error, extra={"slot": slot})
                self._due[slot] = now + LONGEST_PAUSE_SECONDS
                continue
            del self._due[slot]
            self.children[slot] = child
            self._selector.register(child.pipe, selectors.EVENT_READ, child)

    def _bury(self, child: Child) -> None:
        """Give back what a dead child held, and have it replaced unless the pod ends."""
        del self.children[child.slot]
        self._returner.give_back(child.name)
        if child.pipe in self._selector.get_map():
            # Its last words may tell that it was ready, which decides how soon it is started again.
            child.listen()
            self._selector.unregister(child.pipe)
        child.close()
        multiprocess.mark_process_dead(child.slot, str(self._metrics_dir))  # type: ignore[no-untyped-call]  # - not typed
        if self.draining:
            return
        pause = self._pause(child)
        self._due[child.slot] = time.monotonic() + pause
        WORKER_RESTARTS.inc()
        logger.error(
            "Worker process %s ended (%s), started again %s",
            child.name,
            _how(child.process.returncode),
            f"in {pause:g} s" if pause else "at once",
            extra={"slot": child.slot, "pid": child.process.pid},
        )

    def _pause(self, child: Child) -> float:
        """Return the seconds until a dead child is replaced: none, unless children keep dying before they are ready."""
        if child.was_ready:
            self._early_deaths[child.slot] = 0
            return 0.0
        self._early_deaths[child.slot] += 1
        deaths = self._early_deaths[child.slot]
        return 0.0 if deaths == 1 else min(FIRST_PAUSE_SECONDS * 2 ** min(deaths - 2, 10), LONGEST_PAUSE_SECONDS)

    def _drain(self) -> None:
        self.draining = True
        logger.info("Draining: %d processes finish what they have in hand", len(self.children))
        for child in self.children.values():
            child.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self._settings.drain_seconds
        while self.children and time.monotonic() < deadline:
            self._turn()
        for child in list(self.children.values()):
            logger.warning("Worker process %s is not done in time: killed", child.name, extra={"slot": child.slot})
            child.process.kill()
            child.process.wait()
            self._bury(child)
        self._returner.close(GIVE_BACK_SECONDS)
        logger.info("Drained")


def _how(code: int) -> str:
    """Return in words how a process ended."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
