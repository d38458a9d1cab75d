"""The real pool that the simulation is held against: Valkey, a gateway, worker pods with a model that sleeps.

Everything is real but Kubernetes: a controller of a few lines starts and stops pods as the autoscaler decides, by what
the gateway's /backlog says.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import numpy as np

from benchmarks.cases import BenchmarkError
from benchmarks.simulation.autoscaler import Autoscaler, Look, Round
from benchmarks.simulation.traffic import Seconds
from muleteer.catalog.model import Batching, Catalog, ModelEntry, VersionEntry
from muleteer.cli.folder_catalog import write_catalog
from muleteer.cli.part import Part
from muleteer.embedded import EmbeddedValkey, free_port
from muleteer.errors import MuleteerError
from muleteer.queue.connection import connect_async
from muleteer.queue.ids import Ids
from muleteer.queue.jobs import Jobs
from muleteer.queue.names import queue_name
from muleteer.queue.producer import NewJob, Producer, Refusal
from muleteer.queue.replies import Replies, Reply
from muleteer.repository.write import write_manifest

MODEL, VERSION, POOL = "sleeper", "1", "default"
LOADED_AT = "BENCH_LOADED_AT"
SOURCE = """
import os
import time

class Model:
    def __init__(self):
        time.sleep(max(0.0, float(os.environ["{loaded_at}"]) - time.time()))

    def predict(self, instances):
        time.sleep({batch} + {row} * len(instances))
        return [0] * len(instances)
"""
OBSERVE_SECONDS = 0.25
START_SECONDS = 90.0
ANSWER_SECONDS = 180.0
STOP_SECONDS = 30.0
LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Sleeper:
    """A model whose times are known, in seconds: sleeping costs no CPU, so that a noisy machine disturbs it little."""

    batch: float = 0.08
    row: float = 0.006
    start_up: float = 15.0
    """From a pod's creation until its model is loaded, by the clock: the CPU that a process takes to start, which other
    processes of the machine can stretch several times, is hidden behind it."""
    max_rows: int = 16


class Pod:
    """A worker pod of one process. Its log tells when its model was ready."""

    def __init__(self, settings: dict[str, str], starting: int) -> None:
        self.starting = starting
        """Pods that were starting when it was created, itself included."""
        self.created_at = time.monotonic()
        self.ready_at: float | None = None
        self.part = Part("worker", "muleteer_worker", settings, self._hear)

    @property
    def start_up_seconds(self) -> float | None:
        """Seconds from its creation until it could claim; None while it cannot."""
        return self.ready_at - self.created_at if self.ready_at is not None else None

    def _hear(self, line: str) -> None:
        if "Version ready" in line and self.ready_at is None:
            self.ready_at = time.monotonic()


StartUps = dict[int, list[float]]
"""Seconds that pods took until they could claim, by how many were starting at that time."""


@dataclass(frozen=True, slots=True)
class RealRun:
    """What a real run showed."""

    waits: Seconds
    """Seconds each job was in the queue, by the server's clock."""
    replicas: list[tuple[float, int, int]]
    """(second, pods wanted, pods ready) at each change of either."""
    start_ups: StartUps
    """Of the pods that began in the run."""
    ended_at: float


class RealPool:
    """Valkey and a gateway in ``folder``, and pods as they are asked for. Use as a context manager."""

    def __init__(self, folder: Path, sleeper: Sleeper, observe_seconds: float = OBSERVE_SECONDS) -> None:
        self._folder, self._sleeper, self._observe_seconds = folder, sleeper, observe_seconds
        self.valkey = EmbeddedValkey(folder / "valkey")
        self._gateway: Part | None = None
        self._leaving: list[Pod] = []
        self.pods: list[Pod] = []
        """Pods that are to stay, the oldest first."""
        self.url = ""

    @property
    def redis_url(self) -> str:
        """The Valkey's URL."""
        return self.valkey.url

    def __enter__(self) -> Self:
        write_version(self._folder / "models" / MODEL / VERSION, self._sleeper)
        entry = ModelEntry(versions={VERSION: VersionEntry()}, batching=Batching(max_rows=self._sleeper.max_rows))
        write_catalog(Catalog(repository=str(self._folder / "models"), models={MODEL: entry}), self._catalog)
        self.valkey.start()
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        own = {"MULETEER_GATEWAY_HOST": "127.0.0.1", "MULETEER_GATEWAY_PORT": str(port)}
        self._gateway = Part("gateway", "muleteer_gateway", self._settings | own, lambda _: None)
        deadline = time.monotonic() + START_SECONDS
        while not self._ready():
            self._gateway.check()
            if time.monotonic() > deadline:
                raise BenchmarkError(f"the gateway is not ready within {START_SECONDS:g} s")
            time.sleep(LOOK_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        parts = [pod.part for pod in [*self.pods, *self._leaving]] + ([self._gateway] if self._gateway else [])
        for part in parts:
            part.process.terminate()
        for part in parts:
            part.drain(STOP_SECONDS)
        self.valkey.stop()

    def scale(self, replicas: int) -> None:
        """Start pods, or have the newest drain, until there are so many."""
        starting = sum(pod.ready_at is None for pod in self.pods) + replicas - len(self.pods)
        while len(self.pods) < replicas:
            own = {"MULETEER_WORKER_HOST": "127.0.0.1", "MULETEER_WORKER_PORT": "0", "MULETEER_POOL": POOL}
            own[LOADED_AT] = str(time.time() + self._sleeper.start_up)
            # Its start is told at this level.
            self.pods.append(Pod(self._settings | own | {"MULETEER_LOG_LEVEL": "info"}, starting))
        while len(self.pods) > replicas:
            pod = self.pods.pop()
            pod.part.process.terminate()
            self._leaving.append(pod)

    def check(self) -> None:
        """Raise PartFailedError when a part that is to run has ended."""
        for part in [*(pod.part for pod in self.pods), *([self._gateway] if self._gateway else [])]:
            part.check()

    def start_ups_since(self, moment: float) -> StartUps:
        """Return the start-ups of the pods created after a moment (monotonic seconds)."""
        found: StartUps = {}
        for pod in [*self.pods, *self._leaving]:
            seconds = pod.start_up_seconds
            if pod.created_at >= moment and seconds is not None:
                found.setdefault(pod.starting, []).append(seconds)
        return found

    @property
    def _catalog(self) -> Path:
        return self._folder / "catalog.yaml"

    @property
    def _settings(self) -> dict[str, str]:
        return {
            "MULETEER_REDIS_URL": self.valkey.url,
            "MULETEER_CATALOG": str(self._catalog),
            "MULETEER_CACHE_DIR": str(self._folder / "cache"),
            "MULETEER_LOG_LEVEL": "error",
            "MULETEER_OBSERVE_SECONDS": str(self._observe_seconds),
            "MULETEER_DRAIN_DELAY_SECONDS": "0",
        }

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5.0).status_code == 200
        except httpx.TransportError:
            return False


def write_version(folder: Path, sleeper: Sleeper) -> None:
    """Write the sleeping model's version folder."""
    folder.mkdir(parents=True)
    code = SOURCE.format(loaded_at=LOADED_AT, batch=sleeper.batch, row=sleeper.row)
    (folder / "model.py").write_text(code)
    values = {"framework": "python", "artifact": "model.py", "entrypoint": "model.py:Model"}
    write_manifest(folder, {"name": MODEL, "version": VERSION, **values})


class Driver:
    """A gateway's side of the queue: sends jobs and hears how long they waited. Made by ``driving``."""

    def __init__(self, pool: RealPool, jobs: Jobs, replies: Replies, producer: Producer) -> None:
        self._pool, self._jobs, self._replies, self._producer = pool, jobs, replies, producer
        self._ids = Ids()

    def accepted(self, job: NewJob) -> None:
        """Redis has the job."""

    def refused(self, job: NewJob, refusal: Refusal) -> None:
        """Redis did not take the job."""
        self._replies.fail(job.id, BenchmarkError(f"a job was refused: {refusal.code} {refusal.detail}"))

    def failed(self, job: NewJob, error: MuleteerError) -> None:
        """Redis could not be asked."""
        self._replies.fail(job.id, error)

    async def send(self, jobs: int) -> list[Reply]:
        """Send jobs in one call and return their replies."""
        return await asyncio.gather(*(self._submit() for _ in range(jobs)))

    async def ready_pods(self) -> int:
        """Return how many pods have the model ready."""
        seen = await self._jobs.observe([(MODEL, VERSION)], [POOL], [MODEL])
        reports = seen.versions.get(MODEL, {}).get(VERSION, [])
        return sum(report.get("state") == "ready" for report in reports)

    async def start_pods(self, pods: int) -> StartUps:
        """Start so many more pods at once; return their start-ups once all are ready."""
        began = time.monotonic()
        self._pool.scale(len(self._pool.pods) + pods)
        while len((took := self._pool.start_ups_since(began)).get(pods, ())) < pods:
            await asyncio.sleep(LOOK_SECONDS)
            self._pool.check()
            if time.monotonic() - began > START_SECONDS:
                raise BenchmarkError(f"a worker pod is not ready within {START_SECONDS:g} s")
        return took

    async def stop_pods(self, replicas: int) -> None:
        """Let pods drain until so many are left, and return when the others have gone."""
        self._pool.scale(replicas)
        deadline = time.monotonic() + STOP_SECONDS
        while await self.ready_pods() != replicas:
            if time.monotonic() > deadline:
                raise BenchmarkError(f"worker pods do not end within {STOP_SECONDS:g} s")
            await asyncio.sleep(LOOK_SECONDS)

    async def run(self, arrivals: Seconds, autoscaler: Autoscaler) -> RealRun:
        """Send one job at each of ``arrivals`` (seconds from now) while the autoscaler decides about the pods."""
        began = time.monotonic()
        changes: list[tuple[float, int, int]] = []
        async with (
            httpx.AsyncClient(timeout=5.0) as client,
            beside(
                self._note(began, changes),
                *(self._control(began, one, client) for one in autoscaler.rounds),
            ),
        ):
            waiting: list[asyncio.Task[Reply]] = []
            for arrival in arrivals:
                delay = began + float(arrival) - time.monotonic()
                if delay > 0:
                    await asyncio.sleep(delay)
                waiting.append(asyncio.create_task(self._submit()))
            replies = await asyncio.gather(*waiting)
        waits = np.array([reply.waited for reply in replies])
        return RealRun(waits, changes, self._pool.start_ups_since(began), time.monotonic() - began)

    async def run_steadily(self, rate: float) -> None:
        """Send so many jobs a second until cancelled."""
        waiting: set[asyncio.Task[Reply]] = set()
        try:
            while True:
                await asyncio.sleep(1.0 / rate)
                task = asyncio.create_task(self._submit())
                waiting.add(task)
                task.add_done_callback(waiting.discard)
        finally:
            await asyncio.gather(*waiting)

    async def _submit(self) -> Reply:
        job = NewJob(
            id=self._ids.take(),
            queue=queue_name(MODEL, VERSION),
            model=MODEL,
            version=VERSION,
            pool=POOL,
            input=b"[0]",
            rows=1,
            reply_to=DRIVER,
            kept=False,
            wait_limit=None,
            timeout=300,
            result_ttl=60,
            failure_ttl=60,
            max_queue_jobs=1_000_000,
        )
        future = self._replies.expect(job.id, ANSWER_SECONDS)
        self._producer.submit(job, self)
        reply = await future
        if reply.status != "finished":
            raise BenchmarkError(f"a job ended as {reply.status}: {reply.payload[:200]!r}")
        return reply

    async def _note(self, began: float, changes: list[tuple[float, int, int]]) -> None:
        while True:
            now = (len(self._pool.pods), await self.ready_pods())
            if not changes or changes[-1][1:] != now:
                changes.append((time.monotonic() - began, *now))
            await asyncio.sleep(4 * LOOK_SECONDS)

    async def _control(self, began: float, one: Round, client: httpx.AsyncClient) -> None:
        due = began
        while True:
            due += one.seconds
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            response = await client.get(f"{self._pool.url}/backlog/{POOL}")
            if response.status_code != 200:
                raise BenchmarkError(f"/backlog answered {response.status_code}: {response.text[:200]}")
            seen = response.json()
            replicas = len(self._pool.pods)
            wanted = one.decide(due - began, replicas, Look(seen["jobs"], seen["seconds"], seen["busy_workers"]))
            if wanted != replicas:
                self._pool.scale(wanted)


DRIVER = "driver"
"""Where replies go."""


@contextlib.asynccontextmanager
async def driving(pool: RealPool) -> AsyncIterator[Driver]:
    """Run a gateway's queue tasks for the length of a block."""
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(connect_async(pool.redis_url))
        jobs = Jobs(client, DRIVER)

        async def read(job_id: str) -> Reply | None:
            view = await jobs.look(job_id)
            return view.as_reply() if view else None

        replies, producer = Replies(client, DRIVER, read), Producer(client)
        tasks = (producer.run(), replies.run(), replies.run_look(), replies.run_deadlines())
        await stack.enter_async_context(beside(*tasks))
        yield Driver(pool, jobs, replies, producer)


@contextlib.asynccontextmanager
async def beside(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run endless tasks beside a block. Raises what one of them raised, at the block's end."""
    tasks: Sequence[asyncio.Task[None]] = [asyncio.create_task(one) for one in work]
    try:
        yield
    finally:
        ended = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in ended:
        task.result()
