"""What a child is made of, and the order in which its parts start and end."""

import logging
import os
import signal
from types import FrameType

from muleteer.catalog.source import CatalogSource
from muleteer.logs import configure_logging
from muleteer.queue.connection import connect
from muleteer.queue.consumer import Consumer
from muleteer.queue.residency import PoolResidency
from muleteer.settings import load_settings
from muleteer_worker.child import ChildOrders
from muleteer_worker.lease import LeaseKeeper
from muleteer_worker.left_behind import LeftBehind
from muleteer_worker.loop import ClaimLoop
from muleteer_worker.memory import settle
from muleteer_worker.presence import Presence
from muleteer_worker.residency import Residency
from muleteer_worker.resident import Residents
from muleteer_worker.settings import WorkerSettings
from muleteer_worker.watch import Pulse, Watch

logger = logging.getLogger(__name__)

LEAVE_SECONDS = 2.0


class StopFlag:
    """Turns true at the first SIGTERM. Nothing is interrupted: the loop looks at it between batches."""

    def __init__(self) -> None:
        self._raised = False
        signal.signal(signal.SIGTERM, self._raise)
        # Ctrl-C in a terminal goes to the parent, which drains in order.
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def raised(self) -> bool:
        """Tell whether the process is to end."""
        return self._raised

    def _raise(self, _signal: int, _frame: FrameType | None) -> None:
        self._raised = True


def run_process(orders: ChildOrders) -> int:
    """Serve until SIGTERM and return 0.

    Raises SettingsError or CatalogError when the process cannot start; Redis that is away is waited for.
    """
    flag = StopFlag()
    settings = load_settings(WorkerSettings)
    configure_logging("worker", settings.log_level, settings.log_format)

    def consumer() -> Consumer:
        # One for each thread: neither it nor its connection is made to be shared.
        return Consumer(connect(settings.redis), settings.pool, orders.name, settings.lease_seconds)

    own = consumer()
    source = CatalogSource(settings.catalog, settings.catalog_poll_seconds)
    if settings.max_resident_bytes > 0:
        settle()
    residency = Residency(settings.max_resident_bytes, PoolResidency(own.connection, settings.pool, orders.name))
    residents = Residents(
        source, settings.pool, settings.cache_dir, settings.threads, settings.retire_seconds, own.depth, residency
    )
    left_behind = LeftBehind(residents, own, settings.retire_seconds)
    pulse = Pulse()
    presence = Presence(consumer(), lambda: residents.reports)
    watch = Watch(pulse, residents.missing, orders.status_fd)
    keeper = LeaseKeeper(consumer())
    residents.on_change += [presence.nudge, watch.nudge]
    for thread in (presence, watch, keeper):
        thread.start()
    logger.info("Worker process %s started", orders.name, extra={"slot": orders.slot, "pid": os.getpid()})
    ClaimLoop(own, residents, left_behind, keeper, pulse, flag.raised).run()
    residents.close()
    keeper.stop()
    presence.leave(LEAVE_SECONDS)
    logger.info("Worker process %s left", orders.name, extra={"slot": orders.slot, "pid": os.getpid()})
    return 0
