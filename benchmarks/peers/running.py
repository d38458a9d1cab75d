"""A system that serves: started in a folder of its own, checked, and gone without a trace at the end."""

import asyncio
import json
import math
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.cases import ROOT
from benchmarks.peers.environments import PeerUnavailableError, ensure_environment
from benchmarks.peers.models_served import Exchange, PeerModel
from benchmarks.peers.subjects import MULETEER, Start, Subject
from benchmarks.peers.tree import ProcessTree, command_line
from benchmarks.peers.wire import decode, encode, expected
from benchmarks.subjects import ONE_THREAD
from muleteer.embedded import free_port

START_SECONDS = 180.0
STOP_SECONDS = 30.0
CHECKED = 64
"""Answers compared with the model's own before the load, all asked for at the same time, so that batches form."""
LAUNCHER = Path(__file__).with_name("launcher.py")
SOURCES = (ROOT, ROOT / "libs" / "muleteer" / "src", ROOT / "services" / "worker" / "src")


@dataclass(frozen=True, slots=True)
class Running:
    """A system that serves one model."""

    subject: Subject
    model: PeerModel
    exchange: Exchange
    url: str
    bodies: Path
    """One request body a line, in the system's protocol."""
    tree: ProcessTree
    ready: Path
    worker_port: int
    started_seconds: float

    def worker_pids(self) -> list[int]:
        """Return the processes that hold the model."""
        living = self.tree.members()
        if self.subject.name == MULETEER:
            return [process.pid for process in living if "muleteer_worker.child" in command_line(process)]
        return [process.pid for process in living if (self.ready / str(process.pid)).exists()]

    def calls_and_rows(self) -> tuple[float, float]:
        """Return how often the model was called so far, and with how many instances in all."""
        if self.subject.name == MULETEER:
            return _batches(httpx.get(f"http://127.0.0.1:{self.worker_port}/metrics", timeout=10.0).text)
        told = [json.loads(path.read_text()) for path in self.ready.iterdir() if path.name.isdigit()]
        return sum(one["calls"] for one in told), sum(one["rows"] for one in told)

    def settle(self) -> None:
        """Wait until what a load left behind is worked off. Raises PeerUnavailableError when it never is."""
        asyncio.run(_check(self, 1))


@contextmanager
def running(subject: Subject, model: PeerModel, exchange: Exchange) -> Iterator[Running]:
    """Start a system and yield it once it answers right. Raises PeerUnavailableError with the reason if it does not."""
    programs = ensure_environment(subject.environment)
    # In /tmp: below the project's own folder the paths of Ray's Unix sockets would be too long.
    with tempfile.TemporaryDirectory(prefix="mb-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        ready = folder / "ready"
        ready.mkdir()
        port, worker_port = _free_ports(3), free_port()
        bodies = folder / "bodies.jsonl"
        lines = [encode(subject.protocol, model, instance) for instance in exchange.instances]
        bodies.write_bytes(b"\n".join(lines) + b"\n")
        command = subject.command(Start(model, programs, folder, port, worker_port))
        environment = _environment(subject, model, folder, port)
        began = time.monotonic()
        with (folder / "log").open("wb") as log:
            launcher = subprocess.Popen(
                [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *command],
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        url = f"http://127.0.0.1:{port}{subject.route.format(model=model.model)}"
        tree = ProcessTree(psutil.Process(launcher.pid))
        try:
            system = Running(subject, model, exchange, url, bodies, tree, ready, worker_port, 0.0)
            _wait_ready(system, folder / "log")
            asyncio.run(_check(system, CHECKED))
            seconds = time.monotonic() - began
            yield Running(subject, model, exchange, url, bodies, tree, ready, worker_port, seconds)
        finally:
            launcher.terminate()
            launcher.wait(STOP_SECONDS)


def _environment(subject: Subject, model: PeerModel, folder: Path, port: int) -> dict[str, str]:
    own = {
        "PYTHONPATH": os.pathsep.join([str(path) for path in SOURCES]),
        "PYTHONUNBUFFERED": "1",
        "BENCH_MODEL": model.model,
        "BENCH_FOLDER": str(model.folder),
        "BENCH_READY_DIR": str(folder / "ready"),
        "BENCH_STATE": str(folder),
        "BENCH_PORT": str(port),
        "BENCH_OUTPUTS": json.dumps(dict(model.outputs)),
        "BENCH_OWN_FORESTS": "1" if model.own_forests else "",
    }
    return {**os.environ, **ONE_THREAD, **QUIET, **_short_paths(folder), **own, **subject.variables}


QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "BENTOML_DO_NOT_TRACK": "true", "DO_NOT_TRACK": "1"}
"""Nobody phones home while being measured."""


def _short_paths(folder: Path) -> dict[str, str]:
    """Return what keeps the files of Ray's HAProxy in the run's own folder."""
    names = {
        "CONFIG_FILE_LOC": "h/haproxy.cfg",
        "SOCKET_PATH": "h/admin.sock",
        "METRICS_SOCKET_PATH": "h/metrics.sock",
        "SERVER_STATE_BASE": "h",
        "SERVER_STATE_FILE": "h/server-state",
    }
    ports = {"METRICS_PORT": str(free_port()), "STATS_PORT": str(free_port())}
    values = {name: str(folder / path) for name, path in names.items()} | ports
    return {f"RAY_SERVE_HAPROXY_{name}": value for name, value in values.items()}


def _free_ports(count: int) -> int:
    """Return the first of several free ports in a row."""
    while True:
        first = free_port()
        if all(_is_free(port) for port in range(first, first + count)):
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _wait_ready(system: Running, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    body = encode(system.subject.protocol, system.model, system.exchange.instances[0])
    while True:
        try:
            if _post(system.url, body).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        if time.monotonic() > deadline:
            raise PeerUnavailableError(f"does not answer within {START_SECONDS:g} s: {_last_line(log)}")
        time.sleep(0.1)


def _post(url: str, body: bytes) -> httpx.Response:
    return httpx.post(url, content=body, headers={"Content-Type": "application/json"}, timeout=30.0)


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][-300:] if lines else "it logged nothing"


async def _check(system: Running, count: int) -> None:
    """Ask for ``count`` answers at once and compare them. Raises PeerUnavailableError when one is wrong."""
    limits = httpx.Limits(max_connections=count)
    async with httpx.AsyncClient(timeout=60.0, limits=limits, headers={"Content-Type": "application/json"}) as client:
        asked = system.exchange.instances[:count]
        bodies = [encode(system.subject.protocol, system.model, instance) for instance in asked]
        try:
            answers = await asyncio.gather(*(client.post(system.url, content=body) for body in bodies))
        except httpx.TransportError as error:
            raise PeerUnavailableError(f"does not answer any more: {type(error).__name__} {error}") from error
    for answer, prediction in zip(answers, system.exchange.predictions, strict=False):
        right = expected(system.subject.protocol, system.model, prediction)
        if answer.status_code != httpx.codes.OK or not same(decode(system.subject.protocol, answer.content), right):
            raise PeerUnavailableError(f"answers {answer.status_code} {answer.text[:200]} instead of {right}")


def same(answer: Any, right: dict[str, Any]) -> bool:
    """Tell whether an answer is the right one; numbers may differ in their last digits."""
    if not isinstance(answer, dict) or answer.keys() != right.keys():
        return False
    return all(
        math.isclose(answer[name], value, rel_tol=1e-6) if isinstance(value, float) else answer[name] == value
        for name, value in right.items()
    )


def _batches(metrics: str) -> tuple[float, float]:
    """Return the count and the sum of Muleteer's histogram of rows a call."""
    totals = {"muleteer_batch_rows_count": 0.0, "muleteer_batch_rows_sum": 0.0}
    for line in metrics.splitlines():
        name = line.partition("{")[0]
        if name in totals:
            totals[name] += float(line.rpartition(" ")[2])
    return totals["muleteer_batch_rows_count"], totals["muleteer_batch_rows_sum"]
