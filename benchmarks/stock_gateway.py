"""Stock RQ's front: a FastAPI endpoint that enqueues a job and waits for its result, at its reasonable best."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
import redis
import uvicorn
from fastapi import FastAPI, HTTPException
from rq import Queue
from rq.serializers import JSONSerializer

from benchmarks.cases import CONNECTIONS, FOREST, TEXT
from benchmarks.resident import predict, tell_ready
from benchmarks.settings import Ride, SubjectSettings, Text

QUEUE = "predictions"
WAIT_SECONDS = 30
RESULT_TTL = 60


def make_app(settings: SubjectSettings) -> FastAPI:
    """Return the application. Its endpoints are ``def``, because RQ blocks: each waits in a thread of its own."""
    # Every waiting request holds a connection; the default of 100 is less than two loads in a row may need.
    connection = redis.Redis.from_url(settings.redis_url, socket_timeout=None, max_connections=4 * CONNECTIONS)
    queue = Queue(QUEUE, connection=connection, serializer=JSONSerializer)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # The default of 40 threads would let requests wait for a thread before they are even enqueued.
        anyio.to_thread.current_default_thread_limiter().total_tokens = 2 * CONNECTIONS
        tell_ready(settings)
        yield

    app = FastAPI(lifespan=lifespan)

    def ask(instance: dict[str, Any]) -> Any:
        job = queue.enqueue(predict, instance, result_ttl=RESULT_TTL)
        result = job.latest_result(timeout=WAIT_SECONDS)
        if result is None or result.type != result.Type.SUCCESSFUL:
            raise HTTPException(504, "no result")
        return result.return_value

    @app.post(TEXT.route, response_model=None)
    def predict_text(body: Text) -> Any:
        return ask(body.model_dump())

    @app.post(FOREST.route, response_model=None)
    def predict_ride(body: Ride) -> Any:
        return ask(body.model_dump())

    return app


def main() -> None:
    """Serve until SIGTERM."""
    settings = SubjectSettings()
    uvicorn.run(
        make_app(settings),
        host="127.0.0.1",
        port=settings.port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
