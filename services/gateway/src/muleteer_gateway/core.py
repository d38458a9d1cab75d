"""The gateway's parts, put together once a process: queue, replies, models and what is known of their load."""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

from redis.asyncio import Redis
from redis.exceptions import RedisError

from muleteer.catalog import CatalogSource
from muleteer.errors import NotFoundError
from muleteer.metrics import CATALOG_RELOADS, REDIS_SERVER, REDIS_UP
from muleteer.queue.connection import connect_async
from muleteer.queue.jobs import Jobs, QueueState
from muleteer.queue.producer import Producer
from muleteer.queue.replies import Replies, Reply
from muleteer.queue.server import read_figures
from muleteer_gateway.admission import Admission
from muleteer_gateway.clients import Clients
from muleteer_gateway.gauges import SystemGauges
from muleteer_gateway.load import Backlog, Load, Service
from muleteer_gateway.served import ServedModels, ServedVersion
from muleteer_gateway.settings import GatewaySettings
from muleteer_gateway.submission import Submissions

logger = logging.getLogger(__name__)

SERVER_SECONDS = 5.0
"""How often Redis is asked for its own figures."""


class Gateway:
    """One gateway process: what its routes share, and the tasks that run beside them."""

    def __init__(self, settings: GatewaySettings, source: CatalogSource) -> None:
        self.settings = settings
        self.source = source
        self.id = secrets.token_hex(8)
        self._redis: Redis = connect_async(settings.redis)
        self._looking: Redis = connect_async(settings.redis, answer_seconds=settings.redis_answer_seconds)
        self.jobs = Jobs(self._looking, self.id)
        self.replies = Replies(self._redis, self.id, self._read_result)
        self.producer = Producer(self._redis, settings.redis_retry_seconds)
        self.submissions = Submissions(
            self.producer, self.replies, self.jobs, settings.redis_retry_seconds + settings.redis_answer_seconds
        )
        self.models = ServedModels(source.current, settings.cache_dir)
        self.load = Load()
        self._wishes: set[tuple[str, str]] = set()
        self.admission = Admission(self.load, lambda pool, queue: self._wishes.add((pool, queue)))
        self.clients = Clients(settings.keys, settings.default_limits, settings.special_limits)
        self._gauges = SystemGauges()
        self._server_due = 0.0
        self._server_silent = False
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
        await self._look()
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
        return self.redis_silence()

    def redis_silence(self) -> str:
        """Return what is wrong with Redis once it has not answered for a while; empty while it does."""
        if time.monotonic() - self.redis_seen > 3 * self.settings.observe_seconds + 2:
            return self.redis_problem
        return ""

    def backlog(self, pool: str) -> Backlog:
        """Return what a pool had before it at the last look. Raises NotFoundError for a pool without a model."""
        pools = queues_by_pool(self.models.all_versions())
        if pool not in pools:
            known = ", ".join(sorted(pools)) or "none"
            raise NotFoundError(f"No model of the catalog is in a pool {pool[:100]!r}. Pools: {known}.")
        return self.load.backlog(pool, pools[pool])

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
            await self._look()

    async def _poll_catalog(self) -> None:
        problem = self.source.problem
        if await asyncio.to_thread(self.source.poll):
            await asyncio.to_thread(self.models.adopt, self.source.current)
            CATALOG_RELOADS.labels("ok").inc()
            logger.info("Catalog reloaded: %s", ", ".join(self.models.models) or "no models")
        elif self.source.problem and self.source.problem != problem:
            CATALOG_RELOADS.labels("refused").inc()

    async def _look(self) -> None:
        if await self._observe():
            await self._look_at_server()
        else:
            REDIS_SERVER.show({})

    async def _observe(self) -> bool:
        """Look at queues, pools and versions; tell whether Redis answered."""
        served = list(self.models.all_versions())
        versions, pools = [(one.model, one.version) for one in served], queues_by_pool(served)
        try:
            for pool, queue in list(self._wishes):
                await self.jobs.wish(pool, queue)
                self._wishes.discard((pool, queue))
            seen = await self.jobs.observe(versions, sorted(pools), list(self.models.models))
        except (RedisError, OSError) as error:
            self.redis_problem = f"Redis does not answer: {error}"
            REDIS_UP.set(0)
            return False
        self.redis_seen = time.monotonic()
        REDIS_UP.set(1)
        self.models.take_reports(seen.versions)
        self.load.see(
            [self._service(one, seen.queues.get(one.queue), seen.workers) for one in served], seen.queues, seen.workers
        )
        self._gauges.show_queues({(one.model, one.version): self.load.queues[one.queue] for one in served})
        self._gauges.show_pools(seen.workers, [self.load.backlog(*pool) for pool in pools.items()])
        self._gauges.show_versions(self.models.models.values())
        return True

    def _service(
        self, served: ServedVersion, state: QueueState | None, workers: Mapping[str, Sequence[str]]
    ) -> Service:
        model, entry = self.models.models[served.model], served.entry
        load_seconds = state.load_seconds if state is not None else None
        return Service(
            served.queue,
            entry.pool,
            model.ready_workers(served.version) or len(workers.get(entry.pool, ())),
            entry.batching.max_rows,
            entry.batching.target_batch_seconds,
            entry.batching.batch_share,
            model.seconds_to_load(served.version, load_seconds) if load_seconds is not None else 0.0,
        )

    async def _look_at_server(self) -> None:
        """Take the server's own figures now and then. Not to get them is no reason to get no traffic."""
        if time.monotonic() < self._server_due:
            return
        self._server_due = time.monotonic() + SERVER_SECONDS
        try:
            REDIS_SERVER.show(await read_figures(self._looking))
        except (RedisError, OSError) as error:
            REDIS_SERVER.show({})
            if not self._server_silent:
                logger.warning("Redis does not tell its own figures, their metrics are left away: %s", error)
            self._server_silent = True
        else:
            self._server_silent = False


def queues_by_pool(versions: Iterable[ServedVersion]) -> dict[str, list[str]]:
    """Return the queues of each pool: those of versions that retire belong to it until they are gone."""
    pools: dict[str, list[str]] = {}
    for served in versions:
        pools.setdefault(served.entry.pool, []).append(served.queue)
    return pools
