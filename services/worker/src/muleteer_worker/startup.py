"""The worker pod from its settings to its end."""

import logging
import os
import select
import time
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from muleteer.catalog.source import CatalogSource
from muleteer.errors import SettingsError, UnavailableError
from muleteer.queue.connection import connect
from muleteer_worker.giveback import LeaseReturner
from muleteer_worker.health import Health, HealthServer
from muleteer_worker.parent import Supervisor
from muleteer_worker.settings import WorkerSettings
from muleteer_worker.signals import Signals

logger = logging.getLogger(__name__)

RETRY_SECONDS = 0.5


def run_pod(settings: WorkerSettings, metrics_dir: Path) -> int:
    """Run the pod until SIGTERM or SIGINT and return 0 after the drain.

    Raises SettingsError or CatalogError when it cannot run as it is told to, and UnavailableError when Redis does not
    answer within ``startup_seconds``.
    """
    signals = Signals()
    source = CatalogSource(settings.catalog, settings.catalog_poll_seconds)
    connection = _connection(settings.redis_url)
    returner = LeaseReturner(settings, source)
    supervisor = Supervisor(settings, signals, returner, metrics_dir)
    server = HealthServer(settings.worker_host, settings.worker_port, Health(supervisor, returner, metrics_dir))
    server.start()
    logger.info("Health and metrics on port %d", server.port, extra={"port": server.port, "host": settings.worker_host})
    try:
        if wait_for_redis(connection, settings.startup_seconds, signals):
            returner.start()
            supervisor.run()
    finally:
        server.stop()
    return os.EX_OK


def _connection(url: str) -> Redis:
    try:
        return connect(url)
    except ValueError as error:
        raise SettingsError(f"MULETEER_REDIS_URL cannot be used: {error}") from error


def wait_for_redis(connection: Redis, seconds: float, signals: Signals) -> bool:
    """Wait until Redis answers; False when a signal to stop came first.

    Raises UnavailableError when it does not answer within ``seconds``.
    """
    deadline = time.monotonic() + seconds
    told = False
    while not signals.stop:
        try:
            connection.ping()
        except RedisError as error:
            if time.monotonic() >= deadline:
                raise UnavailableError(
                    f"Redis at {_address(connection)} did not answer within {seconds:g} s: {error}"
                ) from error
            if not told:
                logger.warning("Redis at %s does not answer yet, trying on: %s", _address(connection), error)
            told = True
            select.select([signals.wakeup], [], [], min(RETRY_SECONDS, max(0.0, deadline - time.monotonic())))
        else:
            return True
    return False


def _address(connection: Redis) -> str:
    """Return where the connection goes, without its password."""
    options = connection.get_connection_kwargs()
    return str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")
