"""Durability: async jobs are acknowledged under load, Valkey is killed in the middle of it, and nothing may be lost."""

import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import redis
from rich.console import Console
from rq.job import Job

from benchmarks.cases import CONNECTIONS, STATE, TEXT, BenchmarkError
from benchmarks.load import wrk_command
from benchmarks.report import Grid, verdict, write_results
from benchmarks.subjects import catalog_file
from benchmarks.workload import make_workload
from muleteer.catalog.model import Limits
from muleteer.cli.part import Part
from muleteer.client import Client
from muleteer.embedded import EmbeddedValkey, free_port

Fsync = Literal["everysec", "always"]
LONGEST_SECONDS = 300
STUCK_SECONDS = 60.0
"""No job finishing for so long means that some never will."""
LOOK_AT_ONCE = 1000
FETCHED = 100
"""Jobs whose document is also fetched from the gateway."""


@dataclass(frozen=True, slots=True)
class DurabilityResult:
    """What became of the acknowledged jobs with one setting of ``appendfsync``."""

    appendfsync: str
    acknowledged: int
    """Jobs with a 202 when Valkey was killed."""
    rate: float
    """Acknowledged jobs a second."""
    found: int
    """Of them in Redis after the restart."""
    finished: int
    """Of them finished once a worker had run."""
    restart_seconds: float
    work_seconds: float
    """From the start of the worker process to the last job's end."""

    @property
    def lost(self) -> int:
        """Acknowledged jobs that did not finish."""
        return self.acknowledged - min(self.found, self.finished)


def run(console: Console, jobs: int, seed: int) -> None:
    """Run the trial with both settings, show the table and write the results. Raises BenchmarkError on a lost job."""
    results = []
    for appendfsync in ("everysec", "always"):
        console.print(
            f"Durability with appendfsync {appendfsync}: {jobs:,} jobs, then kill -9 of Valkey", highlight=False
        )
        results.append(_trial(console, appendfsync, jobs, seed))
    _write(console, results)
    lost = sum(result.lost for result in results)
    if lost:
        raise BenchmarkError(f"{lost} acknowledged jobs were lost")


def _trial(console: Console, appendfsync: Fsync, jobs: int, seed: int) -> DurabilityResult:
    STATE.mkdir(exist_ok=True)
    # Not below /tmp, which may be memory: there is no durability to see there.
    with tempfile.TemporaryDirectory(prefix="bench-", dir=STATE) as name:
        folder = Path(name)
        bodies = make_workload(TEXT, folder, seed).bodies
        catalog = catalog_file(TEXT, folder, Limits(max_queue_jobs=100 * jobs))
        with EmbeddedValkey(folder / "valkey", appendfsync=appendfsync) as valkey:
            settings = _settings(folder, catalog, valkey)
            with _service("gateway", settings) as gateway, Client(gateway) as client:
                client.wait_ready()
                ids, rate = _acknowledge(f"{gateway}{TEXT.route}", bodies, folder / "ids", jobs, valkey)
                console.print(f"  {len(ids):,} acknowledged, {rate:,.0f} a second; Valkey killed", highlight=False)
                began = time.monotonic()
                valkey.start()
                restarted = time.monotonic() - began
                with redis.Redis.from_url(valkey.url) as connection:
                    found = sum(status is not None for status in _statuses(connection, ids))
                    console.print(f"  {found:,} there after the restart; starting a worker", highlight=False)
                    began = time.monotonic()
                    with _service("worker", settings):
                        finished = _wait_finished(connection, ids)
                    worked = time.monotonic() - began
                for job_id in ids[:: max(1, len(ids) // FETCHED)]:
                    client.result(job_id, timeout=5.0)
    console.print(f"  {finished:,} finished", highlight=False)
    return DurabilityResult(appendfsync, len(ids), rate, found, finished, restarted, worked)


def _acknowledge(url: str, bodies: Path, path: Path, jobs: int, valkey: EmbeddedValkey) -> tuple[list[str], float]:
    """Submit until ``jobs`` are acknowledged, kill Valkey under full load; return all acknowledged ids and the rate."""
    command = wrk_command(url, CONNECTIONS, LONGEST_SECONDS, bodies, path)
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as wrk:
        try:
            count = _wait_lines(path, jobs, wrk)
            rate = count / (time.monotonic() - began)
            valkey.kill()
        finally:
            wrk.send_signal(signal.SIGINT)
    return path.read_text().split(), rate


def _wait_lines(path: Path, count: int, wrk: subprocess.Popen[bytes]) -> int:
    while True:
        lines = path.read_bytes().count(b"\n") if path.exists() else 0
        if lines >= count:
            return lines
        if wrk.poll() is not None:
            raise BenchmarkError(f"only {lines} of {count} jobs were acknowledged in {LONGEST_SECONDS} s")
        time.sleep(0.02)


def _statuses(connection: redis.Redis, ids: Sequence[str]) -> list[bytes | None]:
    statuses: list[bytes | None] = []
    for first in range(0, len(ids), LOOK_AT_ONCE):
        pipeline = connection.pipeline(transaction=False)
        for job_id in ids[first : first + LOOK_AT_ONCE]:
            pipeline.hget(Job.key_for(job_id), "status")
        statuses += pipeline.execute()
    return statuses


def _wait_finished(connection: redis.Redis, ids: Sequence[str]) -> int:
    """Return how many jobs have finished once all have, or once no more do."""
    finished, changed_at = 0, time.monotonic()
    while finished < len(ids) and time.monotonic() - changed_at < STUCK_SECONDS:
        time.sleep(0.25)
        now = _statuses(connection, ids).count(b"finished")
        if now != finished:
            finished, changed_at = now, time.monotonic()
    return finished


def _settings(folder: Path, catalog: Path, valkey: EmbeddedValkey) -> dict[str, str]:
    return {
        "MULETEER_REDIS_URL": valkey.url,
        "MULETEER_CATALOG": str(catalog),
        "MULETEER_CACHE_DIR": str(folder / "cache"),
        "MULETEER_LOG_LEVEL": "error",
        "MULETEER_DRAIN_DELAY_SECONDS": "0",
    }


@contextmanager
def _service(name: Literal["gateway", "worker"], settings: dict[str, str]) -> Iterator[str]:
    """Run one of the services and yield its URL."""
    port = free_port()
    prefix = f"MULETEER_{name.upper()}"
    own = {f"{prefix}_HOST": "127.0.0.1", f"{prefix}_PORT": str(port)}
    part = Part(name, f"muleteer_{name}", settings | own, lambda _: None)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        part.drain(40.0)


def _write(console: Console, results: Sequence[DurabilityResult]) -> None:
    head = ("appendfsync", "acknowledged", "a second", "found", "finished", "lost", "")
    rows = [
        (
            result.appendfsync,
            f"{result.acknowledged:,}",
            f"{result.rate:,.0f}",
            f"{result.found:,}",
            f"{result.finished:,}",
            f"{result.lost}",
            verdict(met=result.lost == 0),
        )
        for result in results
    ]
    intro = (
        f"Async jobs acknowledged (202) at {CONNECTIONS} connections with no worker running; kill -9 of Valkey under "
        "that load; restart; then one worker process."
    )
    grid = Grid("Acknowledged jobs through a kill -9 of Valkey", head, rows)
    write_results(console, "durability", "Durability", intro, [grid], {"trials": [asdict(one) for one in results]})
