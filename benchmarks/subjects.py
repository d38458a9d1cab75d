"""The ways to serve a model that are measured, each started fresh and ready when its context begins."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import psutil

from benchmarks.cases import IN_PROCESS, IN_PROCESS_2, MULETEER, ROOT, STOCK_RQ, BenchmarkError, Case
from muleteer.catalog.model import Catalog, Limits, ModelEntry, VersionEntry
from muleteer.cli.folder_catalog import write_catalog
from muleteer.cli.part import Part
from muleteer.cli.system import LocalSystem, SystemOptions
from muleteer.embedded import EmbeddedValkey, free_port

START_SECONDS = 60.0
STOP_SECONDS = 20.0
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""For every subject: what a Muleteer worker does by itself."""


PARTS = ("server", "gateway", "worker", "valkey")


@dataclass(frozen=True, slots=True)
class Running:
    """A subject that serves."""

    url: str
    parts: Mapping[str, psutil.Process]
    """Its processes, some of ``PARTS``; children count as their parent."""
    redis_url: str = ""


Subject = Callable[[Case, Path], AbstractContextManager[Running]]


@contextmanager
def in_process(case: Case, folder: Path, processes: int) -> Iterator[Running]:
    """FastAPI with the model inside, under uvicorn."""
    port = free_port()
    settings = _settings(case, folder, BENCH_PORT=str(port), BENCH_PROCESSES=str(processes))
    with _part("server", "benchmarks.in_process", settings) as server:
        _wait_ready([server], folder, processes, port)
        yield Running(f"http://127.0.0.1:{port}{case.route}", {"server": psutil.Process(server.process.pid)})


@contextmanager
def stock_rq(case: Case, folder: Path) -> Iterator[Running]:
    """RQ as it comes: a gateway that enqueues and waits, and one SimpleWorker."""
    port = free_port()
    with EmbeddedValkey(folder / "valkey") as valkey:
        settings = _settings(case, folder, BENCH_PORT=str(port), BENCH_REDIS_URL=valkey.url)
        with (
            _part("worker", "benchmarks.stock_worker", settings) as worker,
            _part("gateway", "benchmarks.stock_gateway", settings) as gateway,
        ):
            _wait_ready([worker, gateway], folder, 2, port)
            pids = {"gateway": gateway.process.pid, "worker": worker.process.pid}
            parts = {name: psutil.Process(pid) for name, pid in pids.items()} | {"valkey": _process(valkey)}
            yield Running(f"http://127.0.0.1:{port}{case.route}", parts, valkey.url)


@contextmanager
def muleteer(case: Case, folder: Path) -> Iterator[Running]:
    """Muleteer with its defaults and one worker process, as ``muleteer up --processes 1`` starts it."""
    options = SystemOptions(
        models=catalog_file(case, folder), gateway_port=0, worker_port=0, processes=1, state_dir=folder
    )
    with LocalSystem(options) as system:
        if system.gateway is None or system.valkey is None:
            raise BenchmarkError("Muleteer did not start its gateway and its Valkey")
        pids = {"gateway": system.gateway.process.pid, "worker": system.workers[0].process.pid}
        parts = {name: psutil.Process(pid) for name, pid in pids.items()} | {"valkey": _process(system.valkey)}
        yield Running(f"{system.url}{case.route}", parts, system.redis_url)


SUBJECTS: Mapping[str, Subject] = {
    IN_PROCESS: partial(in_process, processes=1),
    IN_PROCESS_2: partial(in_process, processes=2),
    STOCK_RQ: stock_rq,
    MULETEER: muleteer,
}


def catalog_file(case: Case, folder: Path, limits: Limits | None = None) -> Path:
    """Write the catalog that serves a case's model on its plain route."""
    entry = ModelEntry(versions={"1": VersionEntry()}, route=case.route, limits=limits or Limits())
    path = folder / "catalog.yaml"
    write_catalog(Catalog(repository=str(case.repository), models={case.model: entry}), path)
    return path


def _process(valkey: EmbeddedValkey) -> psutil.Process:
    if valkey.process is None:
        raise BenchmarkError("Valkey is not running")
    return psutil.Process(valkey.process.pid)


def _settings(case: Case, folder: Path, **more: str) -> dict[str, str]:
    ready = folder / "ready"
    ready.mkdir()
    common = {"BENCH_MODEL": case.model, "BENCH_FOLDER": str(case.folder), "BENCH_READY_DIR": str(ready)}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"PYTHONPATH": path} | ONE_THREAD | common | more


@contextmanager
def _part(name: str, module: str, settings: Mapping[str, str]) -> Iterator[Part]:
    part = Part(name, module, settings, lambda line: print(line, file=sys.stderr))
    try:
        yield part
    finally:
        part.drain(STOP_SECONDS)


def _wait_ready(parts: list[Part], folder: Path, processes: int, port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while len(list((folder / "ready").iterdir())) < processes or not _listens(port):
        for part in parts:
            part.check()
        if time.monotonic() > deadline:
            raise BenchmarkError(f"{', '.join(part.name for part in parts)}: not ready within {START_SECONDS:g} s")
        time.sleep(0.05)


def _listens(port: int) -> bool:
    try:
        httpx.get(f"http://127.0.0.1:{port}/openapi.json", timeout=5.0)
    except httpx.TransportError:
        return False
    return True
