"""What tests of a worker pod do: fill a catalog, enqueue jobs, look at the pod from outside."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import orjson
import redis

from muleteer.queue.producer import NewJob
from muleteer.queue.replies import Reply
from support.models import ECHO, write_catalog, write_version
from support.producing import Side, new_job
from support.services import Service, System
from support.waiting import wait_until


def serve(system: System, code: str = ECHO, **entry: Any) -> None:
    """Put one model ``m`` with version ``1`` into the catalog."""
    write_version(system.folder / "models", "m", "1", code)
    write_catalog(system.catalog, {"m": {"versions": {"1": {}}} | entry})


def text_job(*texts: str, version: str = "1", **changes: Any) -> NewJob:
    """Return a job of model ``m`` with these texts as instances."""
    content = orjson.dumps([{"text": text} for text in texts])
    return new_job(input=content, rows=len(texts), queue=f"m.{version}", version=version, **changes)


async def submit(side: Side, *jobs: NewJob) -> list["asyncio.Future[Reply]"]:
    """Enqueue jobs and return a future of each reply."""
    futures = [side.replies.expect(job.id, 60) for job in jobs]
    assert set(await side.enqueue(*jobs)) <= {"accepted"}
    return futures


async def ask(side: Side, *jobs: NewJob) -> list[tuple[str, Any]]:
    """Enqueue jobs and return how each ended: its status, and its predictions or error."""
    replies = await asyncio.gather(*await submit(side, *jobs))
    return [(reply.status, orjson.loads(reply.payload)) for reply in replies]


async def until(condition: Callable[[], Any], timeout: float = 20, what: str = "") -> Any:
    """Wait for a condition while the event loop goes on."""
    return await asyncio.to_thread(wait_until, condition, timeout, what)


def running(connection: redis.Redis, queue: str = "m.1") -> int:
    """Return how many jobs of a queue are leased."""
    return int(connection.zcard(f"rq:wip:{queue}"))


def reports(connection: redis.Redis) -> dict[str, str]:
    """Return what workers say: the state by version."""
    return {
        name.decode().split("|")[0]: orjson.loads(value)["state"]
        for name, value in connection.hgetall("muleteer:versions:m").items()
    }


def sample(worker: Service, start: str) -> float:
    """Return the sum of the samples of a pod's metrics whose line begins so."""
    lines = [line for line in worker.metrics().splitlines() if line.startswith(start)]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def readiness(worker: Service) -> tuple[int, dict[str, Any]]:
    """Return what a pod says on /readyz."""
    response = httpx.get(f"{worker.url}/readyz")
    return response.status_code, response.json()


def is_live(worker: Service) -> bool:
    """Tell whether a pod answers /livez with 200."""
    try:
        return httpx.get(f"{worker.url}/livez").status_code == 200
    except httpx.TransportError:
        return False
