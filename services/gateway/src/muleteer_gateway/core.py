"""The gateway's parts, put together once a process: queue, replies, models and what is known of their load."""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from redis.asyncio import Redis
from redis.exceptions import RedisError

from muleteer.catalog import CatalogSource
from muleteer.metrics import CATALOG_RELOADS, QUEUE_JOBS, QUEUE_OLDEST, REDIS_UP, WORKERS
from muleteer.queue.connection import connect_async
from muleteer.queue.jobs import Jobs, QueueState
from muleteer.queue.producer import Producer
from muleteer.queue.replies import Replies, Reply
from muleteer_gateway.served import ServedModels
from muleteer_gateway.settings import GatewaySettings
from muleteer_gateway.submission import Submissions

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Pace:
    """How fast a queue has been worked off lately."""

    jobs: int
    seconds: float
    seconds_a_job: float | None = None


@dataclass(slots=True)
class Load:
    """What the last look at Redis saw."""

    queues: dict[str, QueueState] = field(default_factory=dict)
    workers: dict[str, list[str]] = field(default_factory=dict)
    paces: dict[str, Pace] = field(default_factory=dict)

    def seconds_for(self, queue: str, pool: str, jobs: int) -> float | None:
        """Predict how long ``jobs`` jobs of a queue take its pool; None while nothing is known."""
        pace = self.paces.get(queue)
        workers = len(self.workers.get(pool, ()))
        if pace is None or pace.seconds_a_job is None or not workers:
            return None
        return jobs * pace.seconds_a_job / workers

    def learn(self, queue: str, state: QueueState) -> None:
        """Take a look's totals into the queue's pace."""
        pace = self.paces.get(queue)
        if pace is None:
            first = state.predict_seconds / state.jobs if state.jobs else None
            self.paces[queue] = Pace(state.jobs, state.predict_seconds, first)
            return
        jobs, seconds = state.jobs - pace.jobs, state.predict_seconds - pace.seconds
        if jobs > 0 and seconds >= 0:
            now = seconds / jobs
            pace.seconds_a_job = now if pace.seconds_a_job is None else 0.7 * pace.seconds_a_job + 0.3 * now
        pace.jobs, pace.seconds = state.jobs, state.predict_seconds


class Gateway:
    """One gateway process: what its routes share, and the tasks that run beside them."""

    def __init__(self, settings: GatewaySettings, source: CatalogSource) -> None:
        self.settings = settings
        self.source = source
        self.id = secrets.token_hex(8)
        self._redis: Redis = connect_async(settings.redis_url)
        self._looking: Redis = connect_async(settings.redis_url, answer_seconds=settings.redis_answer_seconds)
        self.jobs = Jobs(self._looking, self.id)
        self.replies = Replies(self._redis, self.id, self._read_result)
        self.producer = Producer(self._redis, settings.redis_retry_seconds)
        self.submissions = Submissions(
            self.producer, self.replies, settings.redis_retry_seconds + settings.redis_answer_seconds
        )
        self.models = ServedModels(source.current, settings.cache_dir)
        self.load = Load()
        self.in_progress = 0
        self.draining = False
        self.redis_seen = 0.0
        """When Redis last answered (monotonic seconds)."""
        self.redis_problem = "Redis has not answered yet"
        self.broken = ""
        """Why this process cannot go on; empty while it can."""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the tasks beside the routes: enqueue, read replies, watch the system."""
        await asyncio.to_thread(self.models.adopt, self.source.current)
        await self._observe()
        jobs = {
            "enqueue": self.producer.run(),
            "replies": self.replies.run(),
            "lost replies": self.replies.run_look(),
            "deadlines": self.replies.run_deadlines(),
            "catalog": self._watch_catalog(),
            "load": self._watch_load(),
        }
        tasks = [asyncio.create_task(job, name=name) for name, job in jobs.items()]
        for task in tasks:
            task.add_done_callback(self.note_end)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._redis.aclose()
            await self._looking.aclose()

    def ready_problem(self) -> str:
        """Return why this gateway should get no traffic; empty when it should."""
        if self.draining or self.broken:
            return self.broken or "draining"
        if time.monotonic() - self.redis_seen > 3 * self.settings.observe_seconds + 2:
            return self.redis_problem
        return ""

    async def _read_result(self, job_id: str) -> Reply | None:
        view = await self.jobs.look(job_id)
        return view.as_reply() if view is not None else None

    def note_end(self, task: asyncio.Task[None]) -> None:
        """Notice a task that ended by itself: without it this process only pretends to serve."""
        if task.cancelled():
            return
        error = task.exception()
        self.broken = f"the task {task.get_name()!r} ended: {error!r}"
        logger.critical("This gateway is broken, it must be started again: %s", self.broken, exc_info=error)

    async def _watch_catalog(self) -> None:
        while True:
            await asyncio.sleep(self.settings.catalog_poll_seconds)
            await self._poll_catalog()

    async def _watch_load(self) -> None:
        while True:
            await asyncio.sleep(self.settings.observe_seconds)
            await self._observe()

    async def _poll_catalog(self) -> None:
        problem = self.source.problem
        if await asyncio.to_thread(self.source.poll):
            await asyncio.to_thread(self.models.adopt, self.source.current)
            CATALOG_RELOADS.labels("ok").inc()
            logger.info("Catalog reloaded: %s", ", ".join(self.models.models) or "no models")
        elif self.source.problem and self.source.problem != problem:
            CATALOG_RELOADS.labels("refused").inc()

    async def _observe(self) -> None:
        versions = [(served.model, served.version) for served in self.models.all_versions()]
        pools = sorted({served.entry.pool for served in self.models.all_versions()})
        try:
            seen = await self.jobs.observe(versions, pools, list(self.models.models))
        except (RedisError, OSError) as error:
            self.redis_problem = f"Redis does not answer: {error}"
            REDIS_UP.set(0)
            return
        self.redis_seen = time.monotonic()
        REDIS_UP.set(1)
        self.load.queues, self.load.workers = seen.queues, seen.workers
        self.models.take_reports(seen.versions)
        QUEUE_JOBS.clear()
        QUEUE_OLDEST.clear()
        for (model, version), (queue, state) in zip(versions, seen.queues.items(), strict=True):
            self.load.learn(queue, state)
            QUEUE_JOBS.labels(model, version, "queued").set(state.queued)
            QUEUE_JOBS.labels(model, version, "running").set(state.running)
            QUEUE_OLDEST.labels(model, version).set(state.oldest_seconds)
        for pool, names in seen.workers.items():
            WORKERS.labels(pool).set(len(names))
