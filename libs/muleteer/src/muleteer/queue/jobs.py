"""Jobs as a gateway shows them: look, keep, watch and cancel; and what there is to see of queues and pools."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from redis.asyncio import Redis

from muleteer.queue import rqformat
from muleteer.queue.cost import Cost
from muleteer.queue.names import queue_name
from muleteer.queue.replies import Reply
from muleteer.queue.scripts import script

EVENTS = ("accepted", "finished", "failed", "canceled", "expired")
"""What a queue's ledger counts, in the order of ``observe.lua``."""
ENDED = frozenset({"finished", "failed", "canceled", "stopped"})


@dataclass(frozen=True, slots=True)
class JobView:
    """One job as Redis knows it now."""

    id: str
    status: str
    model: str
    version: str
    created_at: str
    started_at: str
    ended_at: str
    rows: int
    deliveries: int
    kept: bool
    position: int | None
    """Jobs before it in the queue; None when it is not queued (or deeper than is looked)."""
    extra: dict[str, Any]
    timing: tuple[float, ...]
    """Seconds waited, of the batch and of its predict, and the batch's rows; empty while they are not known."""
    predictions: bytes | None
    """JSON array, once finished."""
    error: dict[str, str] | None

    @property
    def ended(self) -> bool:
        """Nothing will change any more."""
        return self.status in ENDED

    def as_reply(self) -> Reply | None:
        """Return how the job ended, as its worker would have told; None while it has not."""
        if not self.ended:
            return None
        waited, batch_seconds, predict_seconds, rows = self.timing or (0.0, 0.0, 0.0, 0)
        payload = self.predictions if self.status == "finished" else orjson.dumps(self.error or {})
        status = "failed" if self.status == "stopped" else self.status  # RQ's word for a job that was told to stop
        return Reply(status, payload or b"null", waited, batch_seconds, predict_seconds, int(rows))


@dataclass(frozen=True, slots=True)
class QueueState:
    """One queue's depth, what has become of its jobs, and what its batches cost."""

    queued: int = 0
    running: int = 0
    oldest_seconds: float = 0.0
    rows: int = 0
    """Instances queued in the interactive class."""
    batch_rows: int = 0
    """Instances queued in the batch class."""
    accounted: dict[str, int] = field(default_factory=dict)
    """Jobs accepted, finished, failed, canceled and expired since the queue began."""
    cost: Cost | None = None
    """None while no worker has run a batch."""
    load_seconds: float | None = None
    """How long the version took to load; None while that is not known."""
    resident_bytes: int | None = None
    """What the version takes of a worker's memory; None while that is not known."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What one look at the whole system saw."""

    queues: dict[str, QueueState]
    workers: dict[str, list[str]]
    """Live workers by pool."""
    versions: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)
    """Reports of live workers, by model and version."""


class Jobs:
    """Reads and changes single jobs for one gateway."""

    def __init__(self, connection: Redis, gateway: str) -> None:
        self._connection = connection
        self._gateway = gateway

    async def look(self, job_id: str, *, watch: bool = False, keep: bool = False) -> JobView | None:
        """Return the job, or None when there is none.

        ``watch``: this gateway gets a reply when the job ends. ``keep``: its result is stored beyond its first waiter.
        Both happen in the same step as the look, so that an end cannot slip in between.
        """
        answer = await script("look").call_async(
            self._connection, job_id, self._gateway if watch else "", "1" if keep else ""
        )
        return _read_view(job_id, answer) if answer else None

    async def cancel(self, job_id: str) -> str | None:
        """Cancel a job that has not ended; returns the status it had, or None when there is none."""
        status = await script("cancel").call_async(self._connection, job_id, rqformat.timestamp())
        return status.decode() if status else None

    async def wish(self, pool: str, queue: str) -> None:
        """Have a version loaded by a worker of its pool though no job waits for it."""
        await script("wish").call_async(self._connection, pool, queue)

    async def abandon(self, job_ids: Sequence[str]) -> None:
        """Let jobs go whose callers went away: those that are queued and not kept are dropped instead of computed."""
        await script("abandon").call_async(self._connection, *job_ids)

    async def due_callbacks(self, most: int, take_seconds: float) -> list[str]:
        """Take ids of ended jobs whose webhook is due; each comes again after ``take_seconds`` unless it is settled."""
        return [item.decode() for item in await script("callbacks").call_async(self._connection, most, take_seconds)]

    async def callback_url(self, job_id: str) -> str:
        """Return the URL that a job's webhook goes to; empty when there is none."""
        value = await self._connection.hget(f"rq:job:{job_id}", "callback")
        return value.decode() if isinstance(value, bytes) else ""

    async def count_callback_attempt(self, job_id: str) -> int:
        """Count one more failed attempt of a job's webhook and return how many there were."""
        return int(await script("attempt").call_async(self._connection, job_id))

    async def postpone_callback(self, job_id: str, due_at: float) -> None:
        """Try a job's webhook again at ``due_at`` (Unix seconds)."""
        await self._connection.zadd("muleteer:callbacks", {job_id: due_at})

    async def settle_callback(self, job_id: str) -> None:
        """Attempt a job's webhook no more."""
        await self._connection.zrem("muleteer:callbacks", job_id)

    async def observe(
        self, versions: Sequence[tuple[str, str]], pools: Sequence[str], models: Sequence[str]
    ) -> Observation:
        """Look at the queues of these (model, version) pairs, at these pools and at these models' versions."""
        queues = [queue_name(model, version) for model, version in versions]
        answer = await script("observe").call_async(self._connection, len(queues), *queues, len(pools), *pools, *models)
        states = {queue: _read_state(values) for queue, values in zip(queues, answer[0], strict=True)}
        workers = {pool: [n.decode() for n in names] for pool, names in zip(pools, answer[1], strict=True)}
        reports = {model: _read_reports(flat) for model, flat in zip(models, answer[2], strict=True)}
        return Observation(states, workers, reports)


def _read_state(values: list[Any]) -> QueueState:
    queued, running, oldest, rows, batch_rows, *rest = values
    a, b, load_seconds, resident_bytes = rest[len(EVENTS) :]
    return QueueState(
        int(queued),
        int(running),
        float(oldest),
        max(0, int(rows)),
        max(0, int(batch_rows)),
        dict(zip(EVENTS, map(int, rest), strict=False)),
        Cost(float(a), float(b)) if a and b else None,
        float(load_seconds) if load_seconds else None,
        int(resident_bytes) if resident_bytes else None,
    )


def _read_reports(flat: list[bytes]) -> dict[str, list[dict[str, Any]]]:
    reports: dict[str, list[dict[str, Any]]] = {}
    for name, value in zip(flat[::2], flat[1::2], strict=True):
        version, pool, worker = name.decode().split("|", 2)
        reports.setdefault(version, []).append(orjson.loads(value) | {"pool": pool, "worker": worker})
    return reports


def _read_view(job_id: str, answer: list[Any]) -> JobView:
    position, raw, stored = answer
    values = [value.decode() if value is not None else "" for value in raw]
    status, model, version, created_at, started_at, ended_at, rows, deliveries, error, extra, timing, keep = values
    result = dict(zip(stored[::2], stored[1::2], strict=True))
    predictions = None
    problem: dict[str, str] | None = orjson.loads(error) if error else None
    if status == "finished" and b"return_value" in result:
        predictions = rqformat.read_return_value(result[b"return_value"])
    elif status in ("failed", "stopped") and problem is None:
        text = rqformat.read_exc_string(result[b"exc_string"]) if b"exc_string" in result else "no reason was stored"
        problem = {"type": "StockWorkerError", "message": (text.strip().splitlines() or ["no reason was stored"])[-1]}
    return JobView(
        id=job_id,
        status=status,
        model=model,
        version=version,
        created_at=created_at,
        started_at=started_at,
        ended_at=ended_at,
        rows=int(rows or 1),
        deliveries=int(deliveries or 0),
        kept=keep == "1",
        position=int(position) if int(position) >= 0 else None,
        extra=orjson.loads(extra) if extra else {},
        timing=tuple(float(part) for part in timing.split()) if timing else (),
        predictions=predictions,
        error=problem if status in ("failed", "stopped") else None,
    )
