"""The usual way: the model inside a FastAPI application, called in an ``async def`` endpoint."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI

from benchmarks.cases import FOREST, TEXT
from benchmarks.resident import predict, resident, tell_ready
from benchmarks.settings import Ride, SubjectSettings, Text


def make_app() -> FastAPI:
    """Return the application; its process loads the model when it starts."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        resident()
        tell_ready(SubjectSettings())
        yield

    app = FastAPI(lifespan=lifespan)

    @app.post(TEXT.route, response_model=None)
    async def predict_text(body: Text) -> Any:
        return predict(body.model_dump())

    @app.post(FOREST.route, response_model=None)
    async def predict_ride(body: Ride) -> Any:
        return predict(body.model_dump())

    return app


def main() -> None:
    """Serve until SIGTERM."""
    settings = SubjectSettings()
    uvicorn.run(
        "benchmarks.in_process:make_app",
        factory=True,
        host="127.0.0.1",
        port=settings.port,
        workers=settings.processes,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
