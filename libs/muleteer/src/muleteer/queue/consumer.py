"""The worker's side of the queue: claim a batch, renew its leases, finish it, give back what was lost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

import orjson
from redis import Redis

from muleteer.queue import rqformat
from muleteer.queue.cost import Cost
from muleteer.queue.line import Call, Line
from muleteer.queue.names import (
    EXECUTION_PREFIX,
    WIP_GUARD_SECONDS,
    bell_key,
    cost_key,
    ring_key,
    versions_key,
    workers_key,
)
from muleteer.queue.scripts import Argument, script

FINISH_COUNTS = 4
"""Numbers that a finish answers before the ids it wants again."""
REFUSAL = (
    "NotAPrediction: this queue takes Muleteer predictions only; enqueue through the gateway, or use another queue."
)


@dataclass(frozen=True, slots=True)
class QueueSpec:
    """A queue to claim from, and how its batches are put together."""

    name: str
    max_rows: int
    """Most rows of one batch."""
    max_deliveries: int
    """Most deliveries of one job."""
    batch_share: float = 0.2
    """Share of the rows that the batch class gets while both classes wait."""
    target_seconds: float = 1.0
    """A batch takes fewer rows than ``max_rows`` when more are predicted to take longer."""


class ClaimedJob(NamedTuple):
    """A job in this worker's hands."""

    id: str
    input: bytes
    """JSON array of instances."""
    rows: int
    deliveries: int
    """Deliveries that were lost before this one."""
    waited: float
    """Seconds in the queue, by the server's clock."""
    kept: bool
    """Its result is to be stored for later, not only replied."""
    extra: bytes

    @property
    def request_id(self) -> str:
        """Id of the HTTP request that made the job, for logs."""
        return str(orjson.loads(self.extra).get("request_id", "")) if self.extra else ""


@dataclass(frozen=True, slots=True)
class Claim:
    """Jobs of one queue held under one execution's leases, and what was dropped on the way."""

    queue: str
    execution_id: str
    jobs: tuple[ClaimedJob, ...]
    expired: int
    canceled: int
    refused: int
    more: bool
    """Some of the queues that were asked for still hold jobs."""


class Outcome(NamedTuple):
    """How one job ended: with ``predictions`` (JSON array), or with an error."""

    job_id: str
    predictions: bytes | None
    error_type: str = ""
    error_message: str = ""


@dataclass(frozen=True, slots=True)
class FinishReport:
    """How many jobs a finish ended, found no longer ours (stale) or canceled meanwhile."""

    finished: int
    failed: int
    stale: int
    canceled: int


@dataclass(frozen=True, slots=True)
class ReapReport:
    """Jobs given back, by queue: put into the queue again, or failed for good after their last delivery."""

    requeued: dict[str, int]
    dead: dict[str, int]


@dataclass(frozen=True, slots=True)
class BatchTiming:
    """When a batch began and ended (Unix seconds) and how long it and its predict took (seconds)."""

    began: float
    ended: float
    predict_seconds: float

    @property
    def batch_seconds(self) -> float:
        """Seconds from claim to finish."""
        return self.ended - self.began


class Consumer:
    """One worker process at the queue. Not safe for threads: each thread takes its own, with its own connection.

    Errors of the connection (redis.RedisError) are the caller's to handle: every call can be repeated, since claims
    are leased and a finish is fenced by its execution id.
    """

    def __init__(self, connection: Redis, pool: str, worker: str, lease_seconds: float = 15.0) -> None:
        self.connection = connection
        self.pool = pool
        self.worker = worker
        self.lease_seconds = lease_seconds
        self._line = Line(connection)
        self._late_line = Line(connection)
        """For what must not wait behind the bell."""
        self._executions = count(1)
        self._execution_id = ""
        """Of the claim that was asked for last."""
        self._behind_bell = False
        self.costs: dict[str, Cost] = {}
        """What batches of each queue are known to cost: they bound the next claim."""
        self.rung = False
        """The claim that was taken last had waited for the bell, and the bell rang."""
        self._refusal = rqformat.exc_string(REFUSAL)

    def claim(self, queues: Sequence[QueueSpec]) -> Claim | None:
        """Take a batch from the first of ``queues`` that has one; None when all are empty."""
        execution_id, arguments = self._claim_arguments(queues)
        return _read_claim(self._line.run(script("claim"), *arguments), execution_id)

    def finish(self, claim: Claim, outcomes: Sequence[Outcome], timing: BatchTiming) -> FinishReport:
        """End the jobs of ``claim``.

        Jobs whose lease is no longer this execution's are left alone and counted as stale.
        """
        answer = self._line.run(script("finish"), *self._finish_arguments(claim, outcomes, timing))
        return self._settle(claim, outcomes, timing, answer)

    def finish_and_ask(
        self,
        claim: Claim,
        outcomes: Sequence[Outcome],
        timing: BatchTiming,
        queues: Sequence[QueueSpec],
        seconds: float,
    ) -> FinishReport:
        """End the jobs of ``claim`` and ask for the next batch in the same write; ``take`` then returns that.

        Unless a queue is known to hold more, the next claim waits behind the bell, at most ``seconds``: so the answers
        of this batch are not held up by it, and waking up costs no message of its own.
        """
        self._execution_id, claim_arguments = self._claim_arguments(queues)
        calls: list[Call] = [(script("finish"), *self._finish_arguments(claim, outcomes, timing))]
        if not claim.more:
            calls.append(("BLPOP", bell_key(self.pool), seconds))
        self._line.send(*calls, (script("claim"), *claim_arguments))
        self._behind_bell = not claim.more
        return self._settle(claim, outcomes, timing, self._line.read())

    def wait_and_claim(self, queues: Sequence[QueueSpec], seconds: float) -> Claim | None:
        """Sleep until work is enqueued for this pool, at most ``seconds``, then claim, all in one round trip."""
        self._execution_id, arguments = self._claim_arguments(queues)
        self._behind_bell = True
        self._line.send(("BLPOP", bell_key(self.pool), seconds), (script("claim"), *arguments))
        return self.take()

    def take(self) -> Claim | None:
        """Return the batch that ``finish_and_ask`` asked for; None when the queues are empty."""
        self.rung = self._behind_bell and self._line.read() is not None
        return _read_claim(self._line.read(), self._execution_id)

    def _settle(
        self, claim: Claim, outcomes: Sequence[Outcome], timing: BatchTiming, answer: Sequence[Any]
    ) -> FinishReport:
        """Read a finish's answer; store the results of jobs that became kept while they ran."""
        counts = [int(value) for value in answer[:FINISH_COUNTS]]
        late = {value.decode() for value in answer[FINISH_COUNTS:]}
        if late:
            again = [outcome for outcome in outcomes if outcome.job_id in late]
            more = self._late_line.run(script("finish"), *self._finish_arguments(claim, again, timing, store_all=True))
            counts = [a + int(b) for a, b in zip(counts, more[:FINISH_COUNTS], strict=True)]
        return FinishReport(*counts)

    def renew(self, claim: Claim) -> int:
        """Move the end of the claim's leases; returns how many of them are still held."""
        arguments: list[Argument] = [claim.queue, claim.execution_id, self.lease_seconds, WIP_GUARD_SECONDS]
        arguments += [job.id for job in claim.jobs]
        return int(self._line.run(script("renew"), *arguments))

    def reap(self, queues: Sequence[QueueSpec]) -> ReapReport:
        """Give back jobs whose lease has expired, of any worker, and sweep RQ's registries of what is past its time."""
        return self._reap((), queues)

    def release(self, workers: Sequence[str], queues: Sequence[QueueSpec]) -> ReapReport:
        """Give back at once every job that these workers hold: they are known to be dead."""
        return self._reap(workers, queues)

    def release_own(self, queues: Sequence[QueueSpec]) -> ReapReport:
        """Give back every job that this worker holds without having seen it; that counts as no delivery."""
        return self._reap([self.worker], queues, counted=False)

    def heartbeat(self, ttl: float = 10.0) -> int:
        """Count as a live worker of the pool for ``ttl`` more seconds; returns how many workers it has."""
        return int(self._line.run(script("heartbeat"), self.pool, self.worker, int(ttl)))

    def leave(self, *workers: str) -> None:
        """Let this worker, or those named, stop counting as live workers of the pool."""
        self.connection.zrem(workers_key(self.pool), *(workers or [self.worker]))

    def report_version(self, model: str, version: str, report: dict[str, Any] | None) -> None:
        """Publish what this worker says of a model version; None takes it back.

        ``report`` holds ``state`` (cold, loading, ready, failed or retired), ``reason``, ``message`` and ``at``. A
        report is believed while its worker is alive.
        """
        key, field = versions_key(model), f"{version}|{self.pool}|{self.worker}"
        if report is None:
            self.connection.hdel(key, field)
        else:
            self.connection.hset(key, field, orjson.dumps(report))

    def share_costs(self, costs: Mapping[str, Cost]) -> dict[str, Cost]:
        """Tell the other workers what batches of these queues cost; returns what all of them together know."""
        arguments: list[Argument] = []
        for queue, cost in costs.items():
            arguments += [queue, cost.batch_seconds, cost.row_seconds]
        found = [float(value) for value in self._line.run(script("cost"), *arguments)]
        return {queue: Cost(found[2 * n], found[2 * n + 1]) for n, queue in enumerate(costs)}

    def read_cost(self, queue: str) -> Cost | None:
        """Return what workers have learned of a queue's batches; None while that is nothing."""
        a, b = self.connection.hmget(cost_key(queue), "a", "b")
        return Cost(float(a), float(b)) if a is not None and b is not None else None

    def depth(self, queue: str) -> int:
        """Return how many jobs of ``queue`` wait or run, in all its lanes."""
        waiting = int(self.connection.llen(f"rq:queue:{queue}")) + int(self.connection.zcard(f"rq:wip:{queue}"))
        for ring in (ring_key(queue, "interactive"), ring_key(queue, "batch")):
            lanes = [lane for lane in self.connection.zrange(ring, 0, -1) if isinstance(lane, bytes)]
            waiting += sum(int(self.connection.llen(b"rq:queue:" + lane)) for lane in lanes if lane.decode() != queue)
        return waiting

    def registered_queues(self) -> list[str]:
        """Return the names of all queues known to RQ, empty or not; lanes count for their queue."""
        keys = self.connection.smembers("rq:queues")
        return sorted({_text(key).removeprefix("rq:queue:").partition(":")[0] for key in keys})

    def _claim_arguments(self, queues: Sequence[QueueSpec]) -> tuple[str, list[Argument]]:
        execution_id = f"{EXECUTION_PREFIX}{self.worker}.{next(self._executions)}"
        arguments: list[Argument] = [execution_id, self.worker, self.lease_seconds, WIP_GUARD_SECONDS]
        arguments += [self._refusal, self.pool, len(queues)]
        for queue in queues:
            rows, a, b = queue.max_rows, 0.0, 0.0
            cost = self.costs.get(queue.name)
            if cost is not None:
                rows, a, b = cost.rows_within(queue.target_seconds, rows), cost.batch_seconds, cost.row_seconds
            arguments += (queue.name, rows, queue.max_deliveries, a, b, queue.batch_share)
        return execution_id, arguments

    def _finish_arguments(
        self, claim: Claim, outcomes: Sequence[Outcome], timing: BatchTiming, *, store_all: bool = False
    ) -> list[Argument]:
        arguments: list[Argument] = [claim.queue, claim.execution_id, self.worker, rqformat.timestamp()]
        arguments += [timing.began, timing.ended]
        jobs = {job.id: job for job in claim.jobs}
        rows = sum(job.rows for job in claim.jobs)
        tail = f" {timing.batch_seconds:.6f} {timing.predict_seconds:.6f} {rows}"
        for outcome in outcomes:
            job = jobs[outcome.job_id]
            stored = store_all or job.kept
            if outcome.predictions is not None:
                status, payload = "finished", outcome.predictions
                rq_form: Argument = rqformat.return_value(payload) if stored else ""
            else:
                status = "failed"
                payload = orjson.dumps({"type": outcome.error_type, "message": outcome.error_message})
                rq_form = rqformat.exc_string(f"{outcome.error_type}: {outcome.error_message}") if stored else ""
            arguments += (outcome.job_id, status, f"{job.waited:.6f}{tail}", payload, rq_form)
        return arguments

    def _reap(self, workers: Sequence[str], queues: Sequence[QueueSpec], *, counted: bool = True) -> ReapReport:
        lost = 1 if counted else 0
        arguments: list[Argument] = [WIP_GUARD_SECONDS, rqformat.timestamp(), lost, len(workers), *workers]
        for queue in queues:
            message = (
                f"The worker process that held this job was lost {queue.max_deliveries} times; the input may be what "
                "kills it. `rq requeue` tries again."
            )
            error = orjson.dumps({"type": "WorkerLost", "message": message})
            arguments += (
                queue.name,
                self.pool,
                queue.max_deliveries,
                error,
                rqformat.exc_string(f"WorkerLost: {message}"),
            )
        answer = self._line.run(script("reap"), *arguments) if queues else []
        rows = [(_text(answer[n]), int(answer[n + 1]), int(answer[n + 2])) for n in range(0, len(answer), 3)]
        return ReapReport({q: n for q, n, _ in rows if n}, {q: n for q, _, n in rows if n})


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _read_claim(answer: Any, execution_id: str) -> Claim | None:
    if not answer:
        return None
    queue, expired, canceled, refused, more = answer[:5]
    jobs = tuple(
        ClaimedJob(
            answer[n].decode(),
            answer[n + 1],
            int(answer[n + 2]),
            int(answer[n + 3]),
            float(answer[n + 4]),
            answer[n + 5] == b"1",
            answer[n + 6],
        )
        for n in range(5, len(answer), 7)
    )
    return Claim(queue.decode(), execution_id, jobs, int(expired), int(canceled), int(refused), bool(more))
