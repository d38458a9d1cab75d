"""Gateways and workers as real processes, with their logs."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import httpx
import psutil

from muleteer.children import start_child
from muleteer.embedded import EmbeddedValkey, free_port
from support.waiting import wait_until


class Service:
    """One service process: ``python -m <module>``, configured by environment only."""

    def __init__(self, module: str, port: int, log: Path, env: dict[str, str]) -> None:
        self.module, self.port, self.log = module, port, log
        self.url = f"http://127.0.0.1:{port}"
        outside = {k: v for k, v in os.environ.items() if not k.startswith("MULETEER_")}
        # What a killed process leaves behind goes with the test.
        self._env = outside | {"TMPDIR": str(log.parent)} | env
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> Self:
        with self.log.open("ab") as output:
            self.process = start_child([sys.executable, "-m", self.module], env=self._env, output=output)
        return self

    def ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"{self.module} ended with {self.process.returncode}:\n{self.log.read_text()[-3000:]}")
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def wait_ready(self, timeout: float = 60) -> Self:
        try:
            wait_until(self.ready, timeout, f"{self.module} ready")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log.read_text()[-3000:]}") from None
        return self

    def children(self) -> list[psutil.Process]:
        """Return the worker processes of a pod: those that run the child module."""
        out = []
        for process in psutil.Process(self.pid).children(recursive=True):
            try:
                if any("muleteer_worker.child" in word for word in process.cmdline()):
                    out.append(process)
            except psutil.NoSuchProcess:
                continue
        return out

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill_all(self) -> None:
        """SIGKILL the process and its children at once, as a lost node would."""
        family = [psutil.Process(self.pid), *psutil.Process(self.pid).children(recursive=True)]
        for process in family:
            process.suspend()  # so that the parent cannot react to a child's death
        for process in family:
            process.kill()
        assert self.process is not None
        self.process.wait(10)

    def stop(self, timeout: float = 60) -> int:
        """End the process with SIGTERM and return its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill_all()
                raise AssertionError(f"{self.module} did not end:\n{self.log.read_text()[-3000:]}") from None
        return self.process.returncode

    def log_lines(self) -> list[dict[str, Any]]:
        """Return the log's JSON lines."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def metrics(self) -> str:
        return httpx.get(f"{self.url}/metrics", timeout=5).text


class System:
    """A Valkey, gateways and worker pods around one catalog in one folder."""

    def __init__(self, folder: Path, catalog: Path, **env: str) -> None:
        self.folder, self.catalog, self.env = folder, catalog, env
        self.valkey = EmbeddedValkey(folder / "valkey")
        self.gateways: list[Service] = []
        self.workers: list[Service] = []

    def __enter__(self) -> Self:
        self.valkey.start()
        return self

    def __exit__(self, *_: object) -> None:
        for service in [*self.gateways, *self.workers]:
            if service.process is not None and service.process.poll() is None:
                try:
                    service.kill_all()
                except psutil.NoSuchProcess:
                    continue
        self.valkey.stop()

    @property
    def url(self) -> str:
        return self.gateways[0].url

    def add_gateway(self, **env: str) -> Service:
        port = free_port()
        settings = {"MULETEER_GATEWAY_PORT": str(port), "MULETEER_GATEWAY_HOST": "127.0.0.1"}
        return self._add(self.gateways, "muleteer_gateway", port, settings | env)

    def add_worker(self, processes: int = 1, **env: str) -> Service:
        port = free_port()
        settings = {"MULETEER_WORKER_PORT": str(port), "MULETEER_WORKER_HOST": "127.0.0.1"}
        return self._add(self.workers, "muleteer_worker", port, settings | {"MULETEER_PROCESSES": str(processes)} | env)

    def wait_ready(self, but: frozenset[str] = frozenset()) -> Self:
        """Return once every service is ready and the gateways know every version's state, of models not in ``but``."""
        for service in [*self.gateways, *self.workers]:
            service.wait_ready()
        for gateway in self.gateways:
            wait_until(lambda g=gateway: _no_version_pending(g, but), 60, "every version ready or failed")
        return self

    def _add(self, group: list[Service], module: str, port: int, env: dict[str, str]) -> Service:
        shared = {
            "MULETEER_REDIS_URL": self.valkey.url,
            "MULETEER_CATALOG": str(self.catalog),
            "MULETEER_CACHE_DIR": str(self.folder / "cache"),
            "MULETEER_CATALOG_POLL_SECONDS": "0.2",
            "MULETEER_OBSERVE_SECONDS": "0.2",
            "MULETEER_DRAIN_DELAY_SECONDS": "0.5",
        }
        log = self.folder / f"{module}-{len(group)}.log"
        service = Service(module, port, log, shared | self.env | env)
        group.append(service)
        return service.start()


def _no_version_pending(gateway: Service, but: frozenset[str]) -> bool:
    for model in httpx.get(f"{gateway.url}/v1/models", timeout=5).json()["models"]:
        if model["name"] in but:
            continue
        described = httpx.get(f"{gateway.url}/v1/models/{model['name']}", timeout=5).json()
        states = [status["state"] for status in described["model_version_status"]]
        if any(state in ("UNKNOWN", "LOADING") for state in states):
            return False
    return True
