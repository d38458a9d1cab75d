"""The whole system on one machine: Valkey, a gateway and a worker for each pool, as child processes."""

import importlib.util
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx
import redis

from muleteer.catalog.model import Catalog
from muleteer.catalog.source import read_catalog
from muleteer.cli.folder_catalog import catalog_of_folder, write_catalog
from muleteer.cli.part import Part, PartFailedError
from muleteer.client import Client, ModelDetails, MuleteerAPIError
from muleteer.embedded import EmbeddedValkey, EmbeddedValkeyError, free_port
from muleteer.errors import SettingsError
from muleteer.redis_url import without_secrets
from muleteer.settings import RedisSettings, load_settings

DRAIN_SECONDS = 40.0
"""More than the drain times of gateway and worker, which end by themselves before it."""


@dataclass(frozen=True, slots=True)
class SystemOptions:
    """What to start and where. A port of 0 takes a free one."""

    models: Path
    gateway_port: int = 8080
    worker_port: int = 9090
    processes: int = 2
    redis_url: str | None = None
    state_dir: Path = Path(".muleteer")
    host: str = "127.0.0.1"
    log_level: str = "warning"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the model versions of the catalog are."""

    total: int
    ready: int
    failed: dict[str, str]
    """Why ``<model> <version>`` is not available."""

    @property
    def settled(self) -> bool:
        """Tell whether nothing is loading any more."""
        return self.ready + len(self.failed) >= self.total


class LocalSystem:
    """Valkey (unless a server is named), one gateway and one worker for each pool of the catalog.

    As a context manager it is ready on entry and stopped on exit. ``echo`` gets the log lines of the services.
    All processes die with this one, whatever it dies of.
    """

    def __init__(self, options: SystemOptions, echo: Callable[[str], None] = lambda _: None) -> None:
        self.options = options
        self.gateway_port = options.gateway_port or free_port()
        self.worker_port = options.worker_port or free_port()
        self.valkey: EmbeddedValkey | None = None
        self.gateway: Part | None = None
        self.workers: list[Part] = []
        self._echo = echo
        self._catalog_path = options.models
        self._pools: list[str] = []

    @property
    def url(self) -> str:
        """The gateway's URL."""
        return f"http://{self._reachable_host()}:{self.gateway_port}"

    @property
    def redis_url(self) -> str:
        """The URL of the Redis or Valkey server in use."""
        if self.options.redis_url is not None:
            return self.options.redis_url
        return self.valkey.url if self.valkey is not None else ""

    def worker_urls(self) -> dict[str, str]:
        """Return the URL of each pool's worker: health and metrics."""
        host = self._reachable_host()
        return {pool: f"http://{host}:{self.worker_port + index}" for index, pool in enumerate(self._pools)}

    def start(self) -> None:
        """Start everything; ``wait_ready`` waits until it serves.

        Raises SettingsError, CatalogError or EmbeddedValkeyError before any service is started if one could not work.
        """
        self._check_installed()
        catalog = self._take_catalog()
        self._pools = sorted({entry.pool for entry in catalog.models.values()}) or ["default"]
        self._check_ports()
        try:
            self._start_redis()
            self._start_services()
        except BaseException:
            self.stop()
            raise

    def wait_ready(
        self,
        timeout: float = 300.0,
        progress: Callable[[Progress], None] = lambda _: None,
        stop: threading.Event | None = None,
    ) -> Progress:
        """Wait until every model version is available or has failed, and the gateway is ready.

        Returns early once ``stop`` is set. Raises PartFailedError if a part ends, no version can be made ready, or it
        takes longer than ``timeout`` seconds.
        """
        stop = stop or threading.Event()
        end = time.monotonic() + timeout
        seen = Progress(0, 0, {})
        with Client(self.url, timeout=5.0, reconnect=0) as client:
            while not stop.is_set():
                self.check()
                now = self._look(client)
                if now is not None:
                    seen = now
                    progress(seen)
                    if seen.settled and seen.failed and not seen.ready:
                        raise PartFailedError("No model version is ready: " + _reasons(seen))
                    if seen.settled and self._services_ready():
                        break
                if time.monotonic() > end:
                    raise PartFailedError(f"{seen.ready} of {seen.total} versions were ready after {timeout:g} s.")
                stop.wait(0.1)
        return seen

    def check(self) -> None:
        """Raise PartFailedError or EmbeddedValkeyError if a part has ended."""
        for part in [*self.workers, *([self.gateway] if self.gateway else [])]:
            part.check()
        if self.valkey is not None and not self.valkey.running():
            raise EmbeddedValkeyError(f"Valkey ended without being asked to; see {self.valkey.log}.")

    def stop(self) -> None:
        """Drain and stop in order: the gateway answers what it took, workers finish, then Valkey goes."""
        gateway, self.gateway = self.gateway, None
        if gateway is not None:
            gateway.drain(DRAIN_SECONDS)
        workers, self.workers = self.workers, []
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.drain(DRAIN_SECONDS)
        if self.valkey is not None:
            self.valkey.stop()

    def kill(self) -> None:
        """End all processes at once."""
        for part in [*self.workers, *([self.gateway] if self.gateway else [])]:
            part.kill()
        if self.valkey is not None:
            self.valkey.kill()

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _reachable_host(self) -> str:
        every_address = self.options.host == "0.0.0.0"  # noqa: S104 - compared, not bound
        return "127.0.0.1" if every_address else self.options.host

    def _check_installed(self) -> None:
        for module in ("muleteer_gateway", "muleteer_worker"):
            if importlib.util.find_spec(module) is None:
                raise SettingsError(f"muleteer up runs the services itself: pip install {module.replace('_', '-')}")

    def _take_catalog(self) -> Catalog:
        models = self.options.models
        if models.is_dir():
            catalog = catalog_of_folder(models)
            self._catalog_path = self.options.state_dir / "catalog.yaml"
            write_catalog(catalog, self._catalog_path)
            return catalog
        if not models.exists():
            raise SettingsError(f"{models} does not exist: --models takes a catalog file or a folder of models.")
        return read_catalog(models)

    def _check_ports(self) -> None:
        ports = [(self.gateway_port, "--gateway-port")]
        ports += [(self.worker_port + index, "--worker-port") for index in range(len(self._pools))]
        if self.gateway_port in [port for port, _ in ports[1:]]:
            raise SettingsError(f"Gateway and worker cannot both have port {self.gateway_port}: change --worker-port.")
        for port, option in ports:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((self.options.host, port))
                except OSError as error:
                    raise SettingsError(
                        f"Port {port} cannot be used ({(error.strerror or str(error)).lower()}): "
                        f"choose another with {option}."
                    ) from error

    def _start_redis(self) -> None:
        if self.options.redis_url is None:
            self.valkey = EmbeddedValkey(self.options.state_dir / "valkey")
            self.valkey.start()
            return
        try:
            settings = load_settings(RedisSettings, redis_url=self.options.redis_url)
            with redis.Redis.from_url(settings.redis, socket_connect_timeout=5, socket_timeout=5) as client:
                client.ping()
        except (redis.RedisError, SettingsError) as error:
            shown = without_secrets(self.options.redis_url)
            raise SettingsError(f"The server at {shown} cannot be used: {error}") from error

    def _start_services(self) -> None:
        shared = {
            "MULETEER_REDIS_URL": self.redis_url,
            "MULETEER_CATALOG": str(self._catalog_path.resolve()),
            "MULETEER_CACHE_DIR": str((self.options.state_dir / "cache").resolve()),
            "MULETEER_LOG_LEVEL": self.options.log_level,
            "MULETEER_LOG_FORMAT": "text",
        }
        if self.options.redis_url is None:
            # What the environment says of another server is not for the embedded one.
            shared |= {f"MULETEER_REDIS_{name}": "" for name in ("USERNAME", "PASSWORD", "CA")}
        for index, pool in enumerate(self._pools):
            settings = {
                "MULETEER_POOL": pool,
                "MULETEER_PROCESSES": str(self.options.processes),
                "MULETEER_WORKER_HOST": self.options.host,
                "MULETEER_WORKER_PORT": str(self.worker_port + index),
            }
            name = "worker" if len(self._pools) == 1 else f"worker {pool}"
            self.workers.append(Part(name, "muleteer_worker", shared | settings, self._echo))
        settings = {
            "MULETEER_GATEWAY_HOST": self.options.host,
            "MULETEER_GATEWAY_PORT": str(self.gateway_port),
            "MULETEER_DRAIN_DELAY_SECONDS": "0",  # there is no load balancer that would have to notice first
        }
        self.gateway = Part("gateway", "muleteer_gateway", shared | settings, self._echo)

    def _look(self, client: Client) -> Progress | None:
        """Return how far the versions are, None while the gateway cannot tell."""
        try:
            models = [client.model(model.name) for model in client.models()]
        except MuleteerAPIError:
            return None
        return progress_of(models)

    def _services_ready(self) -> bool:
        try:
            for url in [self.url, *self.worker_urls().values()]:
                if not httpx.get(f"{url}/readyz", timeout=5.0).is_success:
                    return False
        except httpx.TransportError:
            return False
        return True


def progress_of(models: list[ModelDetails]) -> Progress:
    """Count the versions of all models by state; retired ones do not count."""
    versions = [(model.name, version) for model in models for version in model.versions if version.state != "RETIRED"]
    failed = {
        f"{name} {version.version}": version.status.error_message or version.status.error_code
        for name, version in versions
        if version.state == "FAILED"
    }
    ready = sum(version.state in ("AVAILABLE", "COLD") for _, version in versions)  # a cold one loads when it is asked
    return Progress(len(versions), ready, failed)


def _reasons(progress: Progress) -> str:
    return "; ".join(f"{name}: {reason}" for name, reason in progress.failed.items())
