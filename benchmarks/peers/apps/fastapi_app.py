"""The model in a FastAPI ``async def`` endpoint: one call a request. BENCH_PROCESSES says how many processes."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.peers.apps.served import Served, port
from benchmarks.settings import Ride, Text


class Number(BaseModel):
    """A request of the no-op."""

    id: int


BODIES: dict[str, type[BaseModel]] = {
    "noop": Number,
    "movie-sentiment": Text,
    "ride-duration": Ride,
    "fancy": Text,
}


def make_app() -> FastAPI:
    """Return the application; its process loads the model when it starts."""
    body_type = BODIES[os.environ["BENCH_MODEL"]]
    held: list[Served] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        held.append(Served())
        yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/predict", response_model=None)
    async def predict(body: body_type) -> Any:  # type: ignore[valid-type]  # - the model decides which
        return held[0].predict([body.model_dump()])[0]  # type: ignore[attr-defined]  # - see above

    return app


def main() -> None:
    """Serve until SIGTERM."""
    uvicorn.run(
        "benchmarks.peers.apps.fastapi_app:make_app",
        factory=True,
        host="127.0.0.1",
        port=port(),
        workers=int(os.environ["BENCH_PROCESSES"]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
