"""The worker pod from its settings to its end."""

import logging
import os
import select
import time
from functools import partial
from pathlib import Path

from muleteer.catalog.source import CatalogSource
from muleteer.startup import wait_for_redis
from muleteer_worker.giveback import LeaseReturner
from muleteer_worker.health import Health, HealthServer
from muleteer_worker.parent import Supervisor
from muleteer_worker.settings import WorkerSettings
from muleteer_worker.signals import Signals

logger = logging.getLogger(__name__)


def run_pod(settings: WorkerSettings, metrics_dir: Path) -> int:
    """Run the pod until SIGTERM or SIGINT and return 0 after the drain.

    Raises SettingsError or CatalogError when it cannot run as it is told to, and RedisUnreachableError when Redis does
    not answer within ``startup_seconds``.
    """
    signals = Signals()
    source = CatalogSource(settings.catalog, settings.catalog_poll_seconds)
    returner = LeaseReturner(settings, source)
    supervisor = Supervisor(settings, signals, returner, metrics_dir)
    server = HealthServer(settings.worker_host, settings.worker_port, Health(supervisor, returner, metrics_dir))
    server.start()
    logger.info("Health and metrics on port %d", server.port, extra={"port": server.port, "host": settings.worker_host})
    try:
        if wait_for_redis(settings.redis, settings.startup_seconds, partial(_pause, signals, supervisor)):
            returner.start()
            supervisor.run()
    finally:
        server.stop()
    return os.EX_OK


def _pause(signals: Signals, supervisor: Supervisor, seconds: float) -> bool:
    """Sleep, at most until a signal comes; tell whether to go on."""
    select.select([signals.wakeup], [], [], seconds)
    # Waiting for Redis is no reason to be restarted: the pod is alive, and not ready.
    supervisor.turned_at = time.monotonic()
    return not signals.stop
