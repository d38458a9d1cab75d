"""Running the gateway: start, serve, drain."""

import asyncio
import contextlib
import gc
import logging
import socket
import sys
import time
from collections.abc import Iterator
from types import FrameType

import uvicorn

from muleteer.catalog import CatalogSource
from muleteer.errors import CatalogError, SettingsError
from muleteer.logs import configure_logging
from muleteer.settings import load_settings
from muleteer.startup import EXIT_WRONG_SETTING, RedisUnreachableError, wait_for_redis
from muleteer_gateway.app import build_app, build_metrics_app
from muleteer_gateway.core import Gateway
from muleteer_gateway.protocol import HttpProtocol, sweep
from muleteer_gateway.settings import GatewaySettings

logger = logging.getLogger(__name__)

EXIT_NOT_STARTED = 3
"""uvicorn's own: it could not listen, or the application did not start."""
METRICS_CLOSE_SECONDS = 2
"""How long a scrape in progress may take once everything else has ended."""


class SweepingServer(uvicorn.Server):
    """A uvicorn server that ends requests and connections which take too long."""

    def __init__(self, config: uvicorn.Config, settings: GatewaySettings) -> None:
        super().__init__(config)
        self._limits = settings.receive_seconds, settings.idle_seconds
        self._sweep: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and begin to sweep."""
        await super().startup(sockets)
        if self.started:
            self._sweep = asyncio.create_task(sweep(self.server_state.connections, *self._limits))


class MetricsServer(SweepingServer):
    """Serves the metrics port beside the API, in its event loop, until that one is done.

    So it goes on while the gateway drains: /readyz says so, and the last figures can still be scraped.
    """

    def __init__(self, gateway: Gateway, listening: socket.socket) -> None:
        config = uvicorn.Config(
            build_metrics_app(gateway),
            http=HttpProtocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=METRICS_CLOSE_SECONDS,
        )
        super().__init__(config, gateway.settings)
        self._gateway = gateway
        self._listening = listening
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the API's server."""
        yield

    def begin(self) -> None:
        """Serve from now on; a gateway whose metrics end by themselves is broken."""
        self._task = asyncio.create_task(self.serve([self._listening]), name="metrics")
        self._task.add_done_callback(self._gateway.note_end)
        port = self._listening.getsockname()[1]
        logger.info("Metrics on port %d", port, extra={"port": port})

    async def end(self) -> None:
        """Stop serving."""
        if self._task is not None:
            self._task.remove_done_callback(self._gateway.note_end)
            self.should_exit = True
            await asyncio.gather(self._task, return_exceptions=True)


class DrainingServer(SweepingServer):
    """A server that on SIGTERM first stops being ready, goes on serving, and only then closes.

    While it drains every answer says ``Connection: close``, so that callers come back to another gateway by themselves
    instead of writing into a connection that is about to be closed.
    """

    def __init__(self, config: uvicorn.Config, gateway: Gateway, metrics: MetricsServer | None = None) -> None:
        super().__init__(config, gateway.settings)
        self._gateway = gateway
        self._metrics = metrics
        self._drain: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say where."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.started:
            port = self.servers[0].sockets[0].getsockname()[1]
            logger.info("Gateway listens on port %d", port, extra={"port": port})
            if self._metrics is not None:
                self._metrics.begin()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the API, then the metrics."""
        await super().shutdown(sockets)
        if self._metrics is not None:
            await self._metrics.end()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        """Begin to drain; a second signal ends at once."""
        if self._gateway.draining or self._loop is None:
            self.should_exit = self.force_exit = True
            return
        self._gateway.draining = True
        self._loop.call_soon_threadsafe(self._begin_drain)

    def _begin_drain(self) -> None:
        self._drain = asyncio.create_task(self._wait_and_exit())

    async def _wait_and_exit(self) -> None:
        settings = self._gateway.settings
        logger.info("Draining: %d requests in progress", self._gateway.in_progress)
        await asyncio.sleep(settings.drain_delay_seconds)
        deadline = time.monotonic() + settings.drain_seconds
        while self._gateway.in_progress and time.monotonic() < deadline:  # noqa: ASYNC110 - a count, kept on the hot path
            await asyncio.sleep(0.05)
        self.should_exit = True


def main() -> int:
    """Run a gateway until it is told to end; returns the exit code."""
    try:
        settings = load_settings(GatewaySettings)
        source = CatalogSource(settings.catalog, settings.catalog_poll_seconds)
    except (SettingsError, CatalogError) as error:
        sys.stderr.write(f"muleteer-gateway: {error.message}\n")
        return EXIT_WRONG_SETTING
    configure_logging("gateway", settings.log_level, settings.log_format)
    try:
        wait_for_redis(settings.redis, settings.startup_seconds)
    except RedisUnreachableError as error:
        logger.error("%s", error.message)
        return error.exit_code
    gateway = Gateway(settings, source)
    metrics = None
    if settings.metrics_port:
        try:
            metrics = MetricsServer(gateway, _listen(settings.gateway_host, settings.metrics_port))
        except OSError as error:
            logger.error("MULETEER_METRICS_PORT=%d: cannot listen: %s", settings.metrics_port, error)
            return EXIT_NOT_STARTED
    config = uvicorn.Config(
        build_app(gateway),
        host=settings.gateway_host,
        port=settings.gateway_port,
        loop="uvloop",
        http=HttpProtocol,
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        backlog=2048,
        timeout_graceful_shutdown=int(settings.drain_seconds),
    )
    # What lives as long as the process need not be looked at again; and requests leave few cycles behind.
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    server = DrainingServer(config, gateway, metrics)
    server.run()
    return 0 if server.started else EXIT_NOT_STARTED


def _listen(host: str, port: int) -> socket.socket:
    return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
