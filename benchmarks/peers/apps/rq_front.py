"""Stock RQ's front: a FastAPI endpoint that enqueues a job and waits for its result, a thread for each request."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
import redis
import uvicorn
from fastapi import FastAPI, HTTPException
from rq import Queue
from rq.serializers import JSONSerializer

from benchmarks.peers.apps import rq_job
from benchmarks.peers.apps.fastapi_app import BODIES
from benchmarks.peers.apps.served import port

QUEUE = "predictions"
WAIT_SECONDS = 30
RESULT_TTL = 60
THREADS = 512
"""The defaults (40 threads, 100 connections) would let requests wait before they are even enqueued."""


def make_app() -> FastAPI:
    """Return the application. Its endpoint is ``def``, because RQ blocks."""
    connection = redis.Redis.from_url(os.environ["BENCH_REDIS_URL"], socket_timeout=None, max_connections=2 * THREADS)
    queue = Queue(QUEUE, connection=connection, serializer=JSONSerializer)
    body_type = BODIES[os.environ["BENCH_MODEL"]]

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/predict", response_model=None)
    def predict(body: body_type) -> Any:  # type: ignore[valid-type]  # - the model decides which
        job = queue.enqueue(rq_job.predict, body.model_dump(), result_ttl=RESULT_TTL)  # type: ignore[attr-defined]  # - see above
        result = job.latest_result(timeout=WAIT_SECONDS)
        if result is None or result.type != result.Type.SUCCESSFUL:
            raise HTTPException(504, "no result")
        return result.return_value

    return app


def main() -> None:
    """Serve until SIGTERM."""
    uvicorn.run(
        make_app(),
        host="127.0.0.1",
        port=port(),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
