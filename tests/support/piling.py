"""Jobs that pile up: a pod's worker processes stand still until a queue holds enough for batches to form."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import redis

from support.services import Service
from support.waiting import wait_until


@asynccontextmanager
async def piled_up(pod: Service, connection: redis.Redis, queue: str, jobs: int) -> AsyncIterator[None]:
    """Stop (SIGSTOP) the processes, run the block, and let them go on once ``jobs`` jobs wait or are leased."""

    def held() -> bool:
        return int(connection.zcard(f"rq:wip:{queue}")) + int(connection.llen(f"rq:queue:{queue}")) >= jobs

    children = pod.children()
    for child in children:
        child.suspend()
    try:
        yield
        await asyncio.to_thread(wait_until, held, 30, f"{jobs} jobs in {queue}")
    finally:
        for child in children:
            child.resume()
