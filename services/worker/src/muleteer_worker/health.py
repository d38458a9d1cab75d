"""The parent's small HTTP server: /livez, /readyz and /metrics of the whole pod."""

import logging
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from muleteer.errors import SettingsError
from muleteer.metrics import WORKER
from muleteer_worker.exposition import SharedMetrics
from muleteer_worker.giveback import LeaseReturner
from muleteer_worker.parent import Supervisor

logger = logging.getLogger(__name__)

ALIVE_SECONDS = 10.0
"""The parent's loop comes round each second; silent for so long, it is stuck."""
LOOP_SECONDS = 5.0
"""A claim loop comes round each second, unless it predicts."""
REDIS_SECONDS = 5.0

Page = tuple[HTTPStatus, str, bytes]


class Health:
    """What the pod says of itself."""

    def __init__(self, supervisor: Supervisor, returner: LeaseReturner, metrics_dir: Path) -> None:
        self._supervisor = supervisor
        self._returner = returner
        self._registry = CollectorRegistry()
        self._registry.register(SharedMetrics(metrics_dir, WORKER))

    def livez(self) -> Page:
        """200 while the parent looks after its children."""
        silent = time.monotonic() - self._supervisor.turned_at
        alive = silent < ALIVE_SECONDS
        return _json(alive, {"alive": alive, "seconds_since_turn": round(silent, 1)})

    def readyz(self) -> Page:
        """200 while at least one child can claim: models loaded, loop alive, Redis within reach."""
        children, ready = [], False
        now = time.monotonic()
        for child in list(self._supervisor.children.values()):
            reason = child.status.reason
            if not reason and child.status.loop_seconds + now - child.heard_at > LOOP_SECONDS:
                reason = "its claim loop does not come round"
            ready = ready or not reason
            children.append({"slot": child.slot, "pid": child.process.pid, "ready": not reason, "reason": reason})
        reasons = [] if ready else [f"process {child['slot']}: {child['reason']}" for child in children]
        if not children:
            reasons.append("no worker process runs")
        if self._returner.silent_seconds > REDIS_SECONDS:
            reasons.append("Redis does not answer")
        if self._supervisor.draining:
            reasons.append("draining")
        return _json(not reasons, {"ready": not reasons, "reasons": reasons, "processes": children})

    def metrics(self, accept: str) -> Page:
        """Metrics of all processes of the pod, those that have died included."""
        for attempt in range(3):
            encode, content_type = choose_encoder(accept)
            try:
                return HTTPStatus.OK, content_type, encode(self._registry)
            except (struct.error, RuntimeError):
                # A file that a starting child is making just now: it is whole in a moment.
                if attempt == 2:
                    raise
                time.sleep(0.02)
        raise AssertionError("unreachable")


class HealthServer:
    """Serves a pod's health in a thread of its own."""

    def __init__(self, host: str, port: int, health: Health) -> None:
        self._server = _Server(host, port, health)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name="health", daemon=True)

    @property
    def port(self) -> int:
        """The port that is bound."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering and free the port."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host: str, port: int, health: Health) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.pages: dict[str, Callable[[str], Page]] = {
            "/livez": lambda _: health.livez(),
            "/readyz": lambda _: health.readyz(),
            "/metrics": health.metrics,
        }
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise SettingsError(
                f"MULETEER_WORKER_HOST and MULETEER_WORKER_PORT: cannot listen on {host}:{port}: {error}"
            ) from error

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base class's signature
        error = sys.exception()
        if isinstance(error, OSError):
            logger.debug("A caller of the health port went away: %s", client_address)
        else:
            logger.error("The health port could not answer %s", client_address, exc_info=error)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = 10.0

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path.partition("?")[0])
        if page is None:
            known = ", ".join(self.server.pages)
            status, content_type, body = _json(False, {"error": f"There is no such page. Pages: {known}."})
            status = HTTPStatus.NOT_FOUND
        else:
            status, content_type, body = page(self.headers.get("Accept", ""))
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        logger.debug(format, *args)


def _json(good: bool, document: dict[str, Any]) -> Page:
    status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
    return status, "application/json", orjson.dumps(document)
