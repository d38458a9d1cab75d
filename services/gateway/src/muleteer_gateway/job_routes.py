"""/v1/jobs: look at a job, wait for it, watch it, cancel it."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from redis.exceptions import RedisError

from muleteer.errors import ConflictError, NotFoundError, UnavailableError
from muleteer.queue.jobs import JobView
from muleteer.queue.names import queue_name
from muleteer_gateway.core import Gateway
from muleteer_gateway.documents import job_document
from muleteer_gateway.openapi import JOB_RESPONSES

LOOK_UP_SECONDS = 1.0
"""How often a long poll looks up from its waiting, to see whether the gateway drains."""
_JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def job_routes(gateway: Gateway) -> APIRouter:
    """Return the routes of single jobs."""
    router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

    @router.get("/{job_id}", responses=JOB_RESPONSES, summary="A job's state, and its result once there is one")
    async def get_job(
        job_id: str,
        wait: Annotated[float, Query(ge=0, description="Wait up to so many seconds for the job to end")] = 0,
    ) -> Response:
        view = await _look(gateway, job_id)
        if wait > 0 and not view.ended:
            view = await _wait(gateway, view, min(wait, gateway.settings.max_wait_seconds))
        return _answer(gateway, view)

    @router.delete("/{job_id}", responses=JOB_RESPONSES, summary="Cancel a job that has not ended")
    async def cancel_job(job_id: str) -> Response:
        _check_id(job_id)
        try:
            status = await gateway.jobs.cancel(job_id)
        except (RedisError, OSError) as error:
            raise _unreachable() from error
        if status is None:
            raise _no_job(job_id)
        if status not in ("queued", "started", "canceled"):
            raise ConflictError(f"Job {job_id} has ended already: it is {status}.", job=f"/v1/jobs/{job_id}")
        return _answer(gateway, await _look(gateway, job_id))

    @router.get(
        "/{job_id}/events",
        responses=JOB_RESPONSES | {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
        summary="A job's progress as server-sent events, until it ends",
        response_class=StreamingResponse,
    )
    async def job_events(job_id: str, request: Request) -> StreamingResponse:
        view = await _look(gateway, job_id)
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(_events(gateway, view, request), media_type="text/event-stream", headers=headers)

    return router


async def _look(gateway: Gateway, job_id: str, *, watch: bool = False) -> JobView:
    _check_id(job_id)
    try:
        view = await gateway.jobs.look(job_id, watch=watch)
    except (RedisError, OSError) as error:
        raise _unreachable() from error
    if view is None:
        raise _no_job(job_id)
    return view


async def _wait(gateway: Gateway, view: JobView, seconds: float) -> JobView:
    """Return the job once it has ended, or as it is after some seconds; Redis is not polled meanwhile."""
    future = gateway.replies.expect(view.id, seconds)
    try:
        view = await _look(gateway, view.id, watch=True)
        while not view.ended and not future.done() and not gateway.draining:
            await asyncio.wait([future], timeout=LOOK_UP_SECONDS)
    finally:
        gateway.replies.forget(view.id, future)
        if future.done():
            future.exception()  # that the time is up is no error here
    return view if view.ended else await _look(gateway, view.id)


async def _events(gateway: Gateway, view: JobView, request: Request) -> AsyncIterator[bytes]:
    last = b""
    while True:
        body = orjson.dumps(job_document(view, _eta(gateway, view)))
        if body != last:
            event = b"end" if view.ended else b"progress"
            yield b"event: " + event + b"\ndata: " + body + b"\n\n"
            last = body
        else:
            yield b": still here\n\n"
        if view.ended or gateway.draining or await request.is_disconnected():
            return
        try:
            view = await _wait(gateway, view, gateway.settings.events_seconds)
        except (UnavailableError, NotFoundError) as error:
            yield b"event: error\ndata: " + orjson.dumps({"error": error.message}) + b"\n\n"
            if isinstance(error, NotFoundError):
                return
            await asyncio.sleep(gateway.settings.events_seconds)


def _answer(gateway: Gateway, view: JobView) -> Response:
    headers = {"Muleteer-Job-Id": view.id, "Muleteer-Model-Version": view.version, "Cache-Control": "no-store"}
    body = orjson.dumps(job_document(view, _eta(gateway, view)))
    return Response(body, media_type="application/json", headers=headers)


def _eta(gateway: Gateway, view: JobView) -> float | None:
    model = gateway.models.models.get(view.model)
    if model is None or view.ended:
        return None
    load = gateway.load.queues.get(queue_name(view.model, view.version))
    return load.seconds_ahead(view.position or 0) if load is not None else None


def _check_id(job_id: str) -> None:
    if not _JOB_ID.fullmatch(job_id):
        raise _no_job(job_id)


def _no_job(job_id: str) -> NotFoundError:
    return NotFoundError(f"There is no job {job_id[:100]!r}: it never was, or its result's time is over.")


def _unreachable() -> UnavailableError:
    return UnavailableError("The queue cannot be reached now.", retry_after=1)
