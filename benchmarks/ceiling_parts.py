"""The processes that load one Redis in ``benchmarks.ceiling``: gateways without HTTP, workers without a model.

Both use the queue as the services do: a gateway enqueues all jobs of an event-loop tick in one call and reads its
replies, a worker finishes a batch and claims the next one in the same write.
"""

import asyncio
import mmap
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import orjson

from muleteer.errors import MuleteerError
from muleteer.queue.connection import connect, connect_async
from muleteer.queue.consumer import BatchTiming, Claim, Consumer, Outcome, QueueSpec
from muleteer.queue.ids import Ids
from muleteer.queue.jobs import Jobs
from muleteer.queue.names import queue_name
from muleteer.queue.producer import NewJob, Producer, Refusal
from muleteer.queue.replies import Replies, Reply

MODEL, POOL = "noop", "default"
ANSWER = b"[0]"
TIDY_SECONDS = 1.0
BEAT_SECONDS = 3.0
BELL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to load Redis."""

    gateways: int
    workers: int
    in_flight: int
    """Requests that each gateway has open all the time."""
    max_rows: int = 256
    queues: int = 1
    kept: bool = False
    """Results are stored, as those of async jobs and of idempotency keys are."""
    input_bytes: int = 100

    @property
    def names(self) -> list[tuple[str, str]]:
        """Return (version, queue) of each queue."""
        return [(str(n), queue_name(MODEL, str(n))) for n in range(1, self.queues + 1)]


class Counters:
    """What a process has done so far, in a file that the one that started it reads."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._values = memoryview(mmap.mmap(file.fileno(), 16)).cast("q")

    @classmethod
    def make(cls, path: Path) -> Self:
        """Return new counters in a new file."""
        path.write_bytes(bytes(16))
        return cls(path)

    @property
    def jobs(self) -> int:
        """Jobs that a gateway has had answered."""
        return self._values[0]

    @property
    def claims(self) -> int:
        """Batches that a worker has claimed."""
        return self._values[1]

    def count_job(self) -> None:
        """Count one more. Only the process that does the work calls this."""
        self._values[0] += 1

    def count_claim(self) -> None:
        """Count one more. Only the process that does the work calls this."""
        self._values[1] += 1


ORDERS = "BENCH_ORDERS"


@dataclass(frozen=True, slots=True)
class Orders:
    """What a process is told, in one variable of its environment."""

    role: str
    """gateway or worker."""
    url: str
    number: int
    counters: str
    setting: Setting

    def environment(self) -> dict[str, str]:
        """Return the variable."""
        return {ORDERS: orjson.dumps(asdict(self)).decode()}


def read_orders() -> Orders:
    """Return what this process is told."""
    document = orjson.loads(os.environ[ORDERS])
    return Orders(**document | {"setting": Setting(**document["setting"])})


def new_job(job_id: str, version: str, queue: str, reply_to: str, setting: Setting) -> NewJob:
    """Return a job of one row."""
    return NewJob(
        id=job_id,
        queue=queue,
        model=MODEL,
        version=version,
        pool=POOL,
        input=orjson.dumps(["x" * max(0, setting.input_bytes - 4)]),
        rows=1,
        reply_to=reply_to,
        kept=setting.kept,
        wait_limit=None,
        timeout=300,
        result_ttl=3600,
        failure_ttl=3600,
        max_queue_jobs=1_000_000,
    )


class _Listener:
    def accepted(self, job: NewJob) -> None:
        """Redis has the job."""

    def refused(self, job: NewJob, refusal: Refusal) -> None:
        raise RuntimeError(f"{job.queue} refused a job: {refusal}")

    def failed(self, job: NewJob, error: MuleteerError) -> None:
        raise RuntimeError(f"{job.queue}: {error}")


def run_gateway(url: str, number: int, setting: Setting, counters: Counters) -> None:
    """Keep ``setting.in_flight`` requests open until killed."""
    asyncio.run(_gateway(url, f"gateway-{number}", setting, counters))


async def _gateway(url: str, name: str, setting: Setting, counters: Counters) -> None:
    client = connect_async(url)
    jobs, ids, listener = Jobs(client, name), Ids(), _Listener()

    async def read(job_id: str) -> Reply | None:
        view = await jobs.look(job_id)
        return view.as_reply() if view else None

    replies, producer = Replies(client, name, read), Producer(client)
    names = setting.names

    async def caller(number: int) -> None:
        version, queue = names[number % len(names)]
        while True:
            job = new_job(ids.take(), version, queue, name, setting)
            future = replies.expect(job.id, 60.0)
            producer.submit(job, listener)
            await future
            counters.count_job()

    async def observe() -> None:
        while True:
            await asyncio.sleep(1.0)
            await jobs.observe([(MODEL, version) for version, _ in names], [POOL], [MODEL])

    callers = (caller(number) for number in range(setting.in_flight))
    await asyncio.gather(
        producer.run(), replies.run(), replies.run_look(), replies.run_deadlines(), observe(), *callers
    )


def run_worker(url: str, number: int, setting: Setting, counters: Counters) -> None:
    """Claim and finish until killed."""
    consumer = Consumer(connect(url), POOL, f"worker-{number}")
    specs = [QueueSpec(queue, setting.max_rows, 3) for _, queue in setting.names]
    claim: Claim | None = None
    tidy_at = beat_at = 0.0
    while True:
        now = time.monotonic()
        if claim is None:
            # Calls of their own must not come between a finish and the claim that it asked for.
            if now >= beat_at:
                consumer.heartbeat()
                beat_at = now + BEAT_SECONDS
            specs = specs[1:] + specs[:1]
            claim = consumer.wait_and_claim(specs, BELL_SECONDS)
        if now >= tidy_at:
            consumer.reap(specs)
            tidy_at = now + TIDY_SECONDS
        if claim is not None:
            claim = _serve(consumer, claim, specs)
            counters.count_claim()
            specs = specs[1:] + specs[:1]


def _serve(consumer: Consumer, claim: Claim, specs: Sequence[QueueSpec]) -> Claim | None:
    began = time.time()
    outcomes = [Outcome(job.id, ANSWER) for job in claim.jobs]
    consumer.finish_and_ask(claim, outcomes, BatchTiming(began, time.time(), 0.0), specs, BELL_SECONDS)
    return consumer.take()


def main() -> None:
    """Run as one gateway or one worker until killed."""
    orders = read_orders()
    run = run_gateway if orders.role == "gateway" else run_worker
    run(orders.url, orders.number, orders.setting, Counters(Path(orders.counters)))


if __name__ == "__main__":
    main()
