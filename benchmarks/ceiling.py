"""``python -m benchmarks.ceiling``: what one Redis carries, and what jobs, connections and idle processes cost it.

Gateways and workers share this machine's cores with the server, so that it cannot be driven to its limit here. What is
measured is the CPU that it uses for a job; its ceiling is one core of that (Redis runs commands on one thread).
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import psutil
import redis
from rich.console import Console

from benchmarks.cases import ROOT, STATE, BenchmarkError
from benchmarks.ceiling_parts import POOL, Counters, Orders, Setting, new_job
from benchmarks.report import Grid, write_results
from benchmarks.simulation.real import RealPool, Sleeper, driving
from muleteer.cli.part import Part
from muleteer.embedded import EmbeddedValkey
from muleteer.errors import MuleteerError
from muleteer.queue.connection import connect, connect_async
from muleteer.queue.consumer import Consumer
from muleteer.queue.ids import Ids
from muleteer.queue.producer import NewJob, Producer, Refusal

START_SECONDS = 120.0
WARM_UP_SECONDS = 0.7
STORED_JOBS = 5_000
IDLE_PODS = (0, 1, 3)
CONNECTIONS = 200

BASE = Setting(gateways=2, workers=2, in_flight=128)
SETTINGS = (
    *(replace(BASE, in_flight=in_flight) for in_flight in (1, 8, 32, 128, 512)),
    *(replace(BASE, max_rows=max_rows) for max_rows in (1, 8, 32)),
    *(replace(BASE, gateways=gateways, in_flight=256 // gateways) for gateways in (1, 4, 8)),
    *(replace(BASE, workers=workers) for workers in (1, 4, 8)),
    replace(BASE, queues=8),
    replace(BASE, input_bytes=2_000),
    replace(BASE, kept=True),
)


@dataclass(frozen=True, slots=True)
class Load:
    """What one setting cost the server."""

    setting: Setting
    rate: float
    """Jobs a second."""
    jobs_a_claim: float
    busy: float
    """Part of one core that the server used."""
    cpu_seconds: float
    """Of the server, for one job."""
    gateway_seconds: float
    """CPU of the gateways for one job: the queue's part of them, without HTTP."""
    worker_seconds: float
    """CPU of the workers for one job: the queue's part of them, without model and JSON."""
    commands: float
    """For one job, those inside Lua counted."""
    reads: float
    """Reads of the server from its connections, for one job."""

    @property
    def ceiling(self) -> float:
        """Jobs a second that would use up one core."""
        return 1.0 / self.cpu_seconds


@dataclass(frozen=True, slots=True)
class Stored:
    """Bytes of the server's memory for one thing."""

    what: str
    size: float


@dataclass(frozen=True, slots=True)
class Idle:
    """What a system without requests asks of the server."""

    pods: int
    commands: float
    """A second, those inside Lua counted."""
    busy: float
    connections: int


def main() -> int:
    """Measure, show and write ``results/ceiling.md``; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ceiling", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a measurement (%(default)s)")
    arguments = parser.parse_args()
    console = Console(soft_wrap=True)
    STATE.mkdir(exist_ok=True)
    try:
        loads = []
        for setting in SETTINGS:
            loads.append(_load(setting, arguments.seconds))
            console.print(f"{setting}: {loads[-1].rate:,.0f} jobs/s", highlight=False)
        _write(console, loads, _stored(), _idle(), arguments.seconds)
    except (BenchmarkError, MuleteerError) as error:
        console.print(f"[bold red]The benchmark failed:[/] {error}", highlight=False)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


@contextmanager
def _server() -> Iterator[EmbeddedValkey]:
    # Not below /tmp, which may be memory: the append-only file belongs on a disk.
    with tempfile.TemporaryDirectory(prefix="bench-", dir=STATE) as folder, EmbeddedValkey(Path(folder)) as valkey:
        yield valkey


class Crew:
    """The processes that load one server. Use as a context manager: all are killed at its end."""

    def __init__(self, url: str, folder: Path, setting: Setting) -> None:
        self._url, self._folder, self._setting = url, folder, setting
        self._parts: list[Part] = []
        self._gateways: list[Counters] = []
        self._workers: list[Counters] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for part in self._parts:
            part.kill()

    def start(self, gateways: int, workers: int) -> None:
        """Start so many processes and return once each has had a job."""
        self._gateways = [self._start("gateway", number) for number in range(gateways)]
        self._workers = [self._start("worker", number) for number in range(workers)]
        deadline = time.monotonic() + START_SECONDS
        while not all(one.jobs for one in self._gateways) or not all(one.claims for one in self._workers):
            for part in self._parts:
                part.check()
            if time.monotonic() > deadline:
                raise BenchmarkError(f"{self._setting}: a process has had no job within {START_SECONDS:g} s")
            time.sleep(0.05)

    @property
    def jobs(self) -> int:
        """Jobs answered so far."""
        return sum(one.jobs for one in self._gateways)

    @property
    def claims(self) -> int:
        """Batches claimed so far."""
        return sum(one.claims for one in self._workers)

    def cpu_seconds(self, role: str) -> float:
        """CPU seconds that the processes of a role have used so far."""
        return sum(_cpu_seconds(psutil.Process(part.process.pid)) for part in self._parts if part.name == role)

    def _start(self, role: str, number: int) -> Counters:
        path = self._folder / f"{role}-{number}"
        counters = Counters.make(path)
        orders = Orders(role, self._url, number, str(path), self._setting)
        settings = {"PYTHONPATH": str(ROOT)} | orders.environment()
        self._parts.append(Part(role, "benchmarks.ceiling_parts", settings, lambda _: None))
        return counters


def _load(setting: Setting, seconds: float) -> Load:
    with (
        _server() as valkey,
        Crew(valkey.url, valkey.directory, setting) as crew,
        connect(valkey.url) as connection,
    ):
        crew.start(setting.gateways, setting.workers)
        time.sleep(WARM_UP_SECONDS)
        process = _process(valkey)

        def totals() -> tuple[float, ...]:
            stats = connection.info("stats")
            commands, reads = int(stats["total_commands_processed"]), int(stats["total_reads_processed"])
            used = (_cpu_seconds(process), crew.cpu_seconds("gateway"), crew.cpu_seconds("worker"))
            return time.monotonic(), crew.jobs, crew.claims, commands, reads, *used

        before = totals()
        time.sleep(seconds)
        after = totals()
    elapsed, jobs, claims, commands, reads, *used = (b - a for a, b in zip(before, after, strict=True))
    if not jobs or not claims:
        raise BenchmarkError(f"{setting}: no job was done")
    server, gateways, workers = (seconds / jobs for seconds in used)
    return Load(
        setting,
        jobs / elapsed,
        jobs / claims,
        used[0] / elapsed,
        server,
        gateways,
        workers,
        commands / jobs,
        reads / jobs,
    )


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _process(valkey: EmbeddedValkey) -> psutil.Process:
    if valkey.process is None:
        raise BenchmarkError("Valkey is not running")
    return psutil.Process(valkey.process.pid)


class _Acceptance:
    """Counts what Redis takes."""

    def __init__(self, jobs: int) -> None:
        self._left, self.all = jobs, asyncio.Event()

    def accepted(self, job: NewJob) -> None:  # noqa: ARG002 - the protocol's signature
        self._left -= 1
        if not self._left:
            self.all.set()

    def refused(self, job: NewJob, refusal: Refusal) -> None:
        raise BenchmarkError(f"{job.queue} refused a job: {refusal}")

    def failed(self, job: NewJob, error: MuleteerError) -> None:
        raise BenchmarkError(f"{job.queue}: {error}")


async def _enqueue(url: str, setting: Setting, jobs: int) -> None:
    async with connect_async(url) as client:
        producer, ids, acceptance = Producer(client), Ids(), _Acceptance(jobs)
        task = asyncio.create_task(producer.run())
        ((version, queue),) = setting.names
        for _ in range(jobs):
            producer.submit(new_job(ids.take(), version, queue, "", setting), acceptance)
        await acceptance.all.wait()
        task.cancel()


def _stored() -> list[Stored]:
    found = []
    for size in (100, 2_000):
        setting = replace(BASE, input_bytes=size)
        found.append(Stored(f"a queued job, input of {size:,} bytes", _memory_of_jobs(setting, finish=False)))
    found.append(Stored("a kept result, input of 100 bytes", _memory_of_jobs(replace(BASE, kept=True), finish=True)))
    with _server() as valkey, connect(valkey.url) as connection, ExitStack() as stack:
        before = _used(connection)
        for _ in range(CONNECTIONS):
            stack.enter_context(redis.Redis.from_url(valkey.url)).ping()
        found.append(Stored("an idle connection", (_used(connection) - before) / CONNECTIONS))
    return found


def _memory_of_jobs(setting: Setting, *, finish: bool) -> float:
    with _server() as valkey, connect(valkey.url) as connection:
        asyncio.run(_enqueue(valkey.url, setting, 1))  # queues and scripts are there from now on
        before = _used(connection)
        asyncio.run(_enqueue(valkey.url, setting, STORED_JOBS))
        if finish:
            _finish(valkey, setting)
        return (_used(connection) - before) / STORED_JOBS


def _finish(valkey: EmbeddedValkey, setting: Setting) -> None:
    """Let a worker finish what is queued."""
    ((_, queue),) = setting.names
    with Crew(valkey.url, valkey.directory, setting) as crew, connect(valkey.url) as connection:
        crew.start(0, 1)
        consumer, deadline = Consumer(connection, POOL, "counter"), time.monotonic() + START_SECONDS
        while consumer.depth(queue):
            if time.monotonic() > deadline:
                raise BenchmarkError(f"the jobs of {queue} are not done within {START_SECONDS:g} s")
            time.sleep(0.05)


def _used(connection: redis.Redis) -> int:
    return int(connection.info("memory")["used_memory"])


def _idle() -> list[Idle]:
    """Measure a real gateway and real worker pods, of one process and one model, that have nothing to do."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=STATE) as folder,
        RealPool(Path(folder), Sleeper(start_up=0.0), observe_seconds=1.0) as pool,
    ):
        return [_idle_with(pool, pods) for pods in IDLE_PODS]


def _idle_with(pool: RealPool, pods: int, seconds: float = 9.0) -> Idle:
    asyncio.run(_start_pods(pool, pods))
    with connect(pool.redis_url) as connection:

        def totals() -> tuple[float, float, int]:
            commands = int(connection.info("stats")["total_commands_processed"])
            return time.monotonic(), _cpu_seconds(_process(pool.valkey)), commands

        before = totals()
        time.sleep(seconds)
        after = totals()
        clients = int(connection.info("clients")["connected_clients"]) - 1
    elapsed, cpu, commands = (b - a for a, b in zip(before, after, strict=True))
    return Idle(pods, commands / elapsed, cpu / elapsed, clients)


async def _start_pods(pool: RealPool, pods: int) -> None:
    if pods > len(pool.pods):
        async with driving(pool) as driver:
            await driver.start_pods(pods - len(pool.pods))


def _write(
    console: Console, loads: Sequence[Load], stored: Sequence[Stored], idle: Sequence[Idle], seconds: float
) -> None:
    head = ("", "gateways", "workers", "open each", "max_rows", "jobs/s", "jobs a claim", "server CPU")
    costs = ("server us", "gateway us", "worker us", "commands", "reads", "1 / server CPU")
    rows = [
        (
            _special(load.setting),
            f"{load.setting.gateways}",
            f"{load.setting.workers}",
            f"{load.setting.in_flight}",
            f"{load.setting.max_rows}",
            f"{load.rate:,.0f}",
            f"{load.jobs_a_claim:.1f}",
            f"{load.busy:.0%}",
            f"{load.cpu_seconds * 1e6:.1f}",
            f"{load.gateway_seconds * 1e6:.1f}",
            f"{load.worker_seconds * 1e6:.1f}",
            f"{load.commands:.1f}",
            f"{load.reads:.2f}",
            f"{load.ceiling:,.0f}",
        )
        for load in loads
    ]
    grids = [
        Grid("One Valkey under gateways and workers without a model", (*head, *costs), rows),
        Grid("Memory of the server", ("", "bytes"), [(one.what, f"{one.size:,.0f}") for one in stored]),
        Grid(
            "Idle: a gateway and worker pods, one process and one model each",
            ("pods", "commands/s", "server CPU", "connections"),
            [(f"{one.pods}", f"{one.commands:,.1f}", f"{one.busy:.2%}", f"{one.connections}") for one in idle],
        ),
    ]
    intro = (
        f"Simulated gateways (the real Producer and Replies) keep requests open, no-op workers (the real Consumer) "
        f"finish them; {seconds:g} s each; Valkey with its append-only file, appendfsync everysec. Clients and server "
        "share the cores, so that the server is not at its limit: 1 / server CPU is the jobs a second that one core of "
        "it would carry. Costs are CPU, commands and reads for one job."
    )
    raw = {
        "loads": [asdict(load) for load in loads],
        "stored": [asdict(one) for one in stored],
        "idle": [asdict(one) for one in idle],
    }
    write_results(console, "ceiling", "What one Redis carries", intro, grids, raw)


def _special(setting: Setting) -> str:
    words = [f"{setting.queues} queues"] if setting.queues > 1 else []
    words += ["results kept"] if setting.kept else []
    words += [f"input of {setting.input_bytes:,} bytes"] if setting.input_bytes != BASE.input_bytes else []
    return ", ".join(words)


if __name__ == "__main__":
    sys.exit(main())
