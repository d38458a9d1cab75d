"""/metrics and /backlog/{pool}: for Prometheus and for autoscalers."""

from dataclasses import asdict

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field

from muleteer.errors import UnavailableError
from muleteer.metrics import GATEWAY, REQUESTS_IN_PROGRESS
from muleteer_gateway.core import Gateway
from muleteer_gateway.openapi import PROBLEM_RESPONSES


class BacklogDocument(BaseModel):
    """What a pool has before it. Every member is always there."""

    pool: str
    queued: int
    running: int
    jobs: int = Field(description="queued and running together")
    seconds: float = Field(description="Expected seconds of worker time; 0 while nothing is known of a queue's pace")
    workers: int = Field(description="Worker processes alive")
    busy_workers: float = Field(
        description="Worker processes that the traffic of the last half minute keeps busy, in full batches"
    )
    seconds_per_worker: float = Field(description="`seconds` over `workers`; without a worker, over one")


def metrics_routes(gateway: Gateway) -> APIRouter:
    """Return the routes that watch the system; they want no API key."""
    router = APIRouter(tags=["metrics"])

    @router.get(
        "/metrics",
        summary="Prometheus metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def metrics() -> Response:
        REQUESTS_IN_PROGRESS.set(gateway.in_progress)
        return Response(generate_latest(GATEWAY), headers={"content-type": CONTENT_TYPE_LATEST})

    @router.get(
        "/backlog/{pool}",
        summary="What a worker pool has before it: for autoscalers",
        responses=PROBLEM_RESPONSES(404, 503),
    )
    async def backlog(pool: str) -> BacklogDocument:
        problem = gateway.redis_silence()
        if problem:
            # Old figures would let an autoscaler act on what is no longer so.
            raise UnavailableError(f"The backlog is not known now: {problem.rstrip('.')}.", retry_after=1)
        found = gateway.backlog(pool)
        return BacklogDocument(**asdict(found), jobs=found.jobs, seconds_per_worker=found.seconds_per_worker)

    return router
