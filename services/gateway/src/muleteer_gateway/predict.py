"""The hot route: a prediction request becomes a job, and the job's end becomes the answer."""

import asyncio
import hashlib
import logging
import time
from dataclasses import dataclass
from typing import Any

import orjson
from redis.exceptions import RedisError
from starlette.types import Receive, Scope, Send

from muleteer.errors import (
    BadRequestError,
    ConflictError,
    IdempotencyConflictError,
    JobTimeoutError,
    MuleteerError,
    PredictionFailedError,
    UnavailableError,
    ValidationFailedError,
)
from muleteer.metrics import REJECTED
from muleteer.queue import rqformat
from muleteer.queue.ids import Ids
from muleteer.queue.jobs import JobView
from muleteer.queue.producer import NewJob
from muleteer.queue.replies import Reply, WaitTimeout
from muleteer_gateway.core import Gateway
from muleteer_gateway.documents import job_document, new_job_document
from muleteer_gateway.http import (
    ClientDisconnectedError,
    RequestHeaders,
    parse_json,
    read_body,
    read_headers,
    send_answer,
)
from muleteer_gateway.instances import Instances, encode_rows, read_plain, read_v1, render
from muleteer_gateway.observe import count_request
from muleteer_gateway.prefer import Preference, read_prefer
from muleteer_gateway.problems import Headers
from muleteer_gateway.request_id import request_id_of
from muleteer_gateway.security import authorize
from muleteer_gateway.served import ServedVersion
from muleteer_gateway.submission import KeyTakenError, QueueFullError
from muleteer_gateway.webhook_url import webhook_host

logger = logging.getLogger(__name__)

CLIENT_GONE = 499
"""What a request counts as whose caller went away before it was complete."""
MAX_KEY_LENGTH = 255
LATE_REPLY_SECONDS = 2.0
"""How long a reply is waited for that must be on its way: its job ended in the moment its time was up."""
DROP_AFTER_SECONDS = 5.0
"""A sync job that nobody can still be waiting for by this much is dropped unclaimed."""


@dataclass(slots=True)
class Target:
    """What a prediction request's path names."""

    model: str
    version: str | None = None
    alias: str | None = None
    plain: bool = False


@dataclass(slots=True)
class Answer:
    """An answer, ready to be sent."""

    status: int
    headers: Headers
    body: bytes


class Predict:
    """The ASGI endpoint of all prediction routes."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._ids = Ids()

    async def __call__(self, scope: Scope, receive: Receive, send: Send, target: Target) -> None:
        """Answer one prediction request."""
        gateway, began = self._gateway, time.perf_counter()
        headers = read_headers(scope)
        request_id = request_id_of(scope, headers.request_id)
        prefer = read_prefer(headers.prefer, gateway.settings.max_wait_seconds)
        served: ServedVersion | None = None
        problem: MuleteerError | None = None
        status, job_id = 500, ""
        gateway.in_progress += 1
        try:
            authorize(headers, gateway.settings.keys)
            served = gateway.models.choose(target.model, target.version, target.alias)
            self._admit()
            instances, callback = await self._read(receive, headers, target, served)
            job = self._make_job(served, instances, headers, request_id, prefer, callback)
            job_id = job.id
            answer = await self._answer(job, served, instances, prefer, target)
            status = answer.status
            await send_answer(send, status, answer.headers, answer.body)
        except (ClientDisconnectedError, asyncio.CancelledError):
            status = CLIENT_GONE
            raise
        except MuleteerError as error:
            status, problem = error.status, error
            if status < 500 or isinstance(error, QueueFullError):
                REJECTED.labels(type(error).__name__.removesuffix("Error")).inc()
            raise
        finally:
            gateway.in_progress -= 1
            count_request(served, prefer.mode, status, time.perf_counter() - began)
            if gateway.settings.access_log or status >= 500:
                line = {"request_id": request_id, "job_id": job_id, "status": status}
                _log_request(scope, served, problem, line, time.perf_counter() - began)

    def _admit(self) -> None:
        limit = self._gateway.settings.max_in_progress
        if self._gateway.in_progress > limit:
            raise UnavailableError(f"This gateway answers {limit} requests at once already.", retry_after=1)

    async def _read(
        self, receive: Receive, headers: RequestHeaders, target: Target, served: ServedVersion
    ) -> tuple[Instances, str]:
        body = await read_body(receive, headers, self._gateway.settings.max_body_bytes)
        payload, callback = parse_json(body), ""
        limit = served.entry.limits.max_instances
        if target.plain:
            instances = read_plain(payload, several=served.entry.route_body == "instances", max_instances=limit)
        else:
            instances = read_v1(payload, limit)
            callback = self._read_callback(payload.get("callback"))
        if served.validator is not None:
            served.validator.check(instances, "" if target.plain else "instances")
        return instances, callback

    def _read_callback(self, value: object) -> str:
        if value is None:
            return ""
        settings = self._gateway.settings
        wrong, host = "", webhook_host(value)
        if not host:
            wrong = "must be an http:// or https:// URL"
        elif not settings.callback_secret.get_secret_value():
            wrong = "is not served here: webhooks need MULETEER_CALLBACK_SECRET to be signed with"
        elif settings.callback_host_names and host not in settings.callback_host_names:
            wrong = "names a host that is not among MULETEER_CALLBACK_HOSTS"
        if wrong:
            raise ValidationFailedError(f"callback: {wrong}.", errors=[{"path": "callback", "message": wrong}])
        return str(value)

    def _make_job(
        self,
        served: ServedVersion,
        instances: Instances,
        headers: RequestHeaders,
        request_id: str,
        prefer: Preference,
        callback: str,
    ) -> NewJob:
        entry, settings = served.entry, self._gateway.settings
        rows = encode_rows(instances)
        key, digest = "", ""
        if headers.idempotency_key is not None:
            key = _read_key(headers.idempotency_key, served.model)
            keys = orjson.dumps(instances.keys)
            digest = hashlib.sha256(rows + keys).hexdigest()
        extra: dict[str, object] = {"request_id": request_id}
        if instances.keys is not None:
            extra["keys"] = instances.keys
        wait = prefer.wait if prefer.wait is not None else entry.timeout
        return NewJob(
            id=self._ids.take(),
            queue=served.queue,
            model=served.model,
            version=served.version,
            pool=entry.pool,
            input=rows,
            rows=len(instances.rows),
            reply_to="" if prefer.mode == "async" else self._gateway.id,
            kept=prefer.mode == "async" or bool(key) or bool(callback),
            wait_limit=wait + DROP_AFTER_SECONDS,
            timeout=max(1, int(entry.predict_timeout)),
            result_ttl=max(entry.result_ttl, settings.idempotency_ttl) if key else entry.result_ttl,
            failure_ttl=entry.failure_ttl,
            max_queue_jobs=entry.limits.max_queue_jobs,
            idempotency_key=key,
            digest=digest,
            extra=orjson.dumps(extra),
            callback=callback,
        )

    async def _answer(
        self, job: NewJob, served: ServedVersion, instances: Instances, prefer: Preference, target: Target
    ) -> Answer:
        try:
            if prefer.mode == "async":
                await self._gateway.submissions.submit(job)
                return self._accepted(job, served, prefer)
            timeout = prefer.wait if prefer.wait is not None else served.entry.timeout
            if job.idempotency_key:
                await self._gateway.submissions.submit(job)
                return await self._await_kept(job.id, timeout, instances, prefer, target)
            reply = await self._await_reply(job, timeout)
            if reply is None:
                return await self._out_of_time(job.id, instances, prefer, target, timeout)
            return _finish(job.id, served.version_header, reply, instances, target)
        except QueueFullError as error:
            error.retry_after = self._seconds_until_room(served)
            raise
        except KeyTakenError as taken:
            if not taken.same_body:
                raise IdempotencyConflictError(
                    "This Idempotency-Key was used with another body: use a new key for a new request.",
                    job=f"/v1/jobs/{taken.job_id}",
                ) from None
            return await self._join(taken.job_id, served, instances, prefer, target)

    async def _await_reply(self, job: NewJob, seconds: float) -> Reply | None:
        try:
            return await self._gateway.submissions.submit_and_expect(job, seconds)
        except WaitTimeout:
            return None

    async def _join(
        self, job_id: str, served: ServedVersion, instances: Instances, prefer: Preference, target: Target
    ) -> Answer:
        """Answer with a job that an earlier request with the same key has made."""
        if prefer.mode == "async":
            view = await self._look(job_id)
            return _job_answer(202, view, prefer)
        timeout = prefer.wait if prefer.wait is not None else served.entry.timeout
        return await self._await_kept(job_id, timeout, instances, prefer, target)

    async def _await_kept(
        self, job_id: str, seconds: float, instances: Instances, prefer: Preference, target: Target
    ) -> Answer:
        future = self._gateway.replies.expect(job_id, seconds)
        try:
            view = await self._look(job_id, watch=True)
            reply = view.as_reply() or await future
        except WaitTimeout:
            return await self._out_of_time(job_id, instances, prefer, target, seconds)
        finally:
            self._gateway.replies.forget(job_id, future)
        return _finish(job_id, view.version.encode(), reply, instances, target)

    async def _out_of_time(
        self, job_id: str, instances: Instances, prefer: Preference, target: Target, seconds: float
    ) -> Answer:
        """Keep a job whose caller's time is up, and hand out its URL: 202 if the caller set the time, else 504."""
        gateway = self._gateway
        late = gateway.replies.expect(job_id, LATE_REPLY_SECONDS)
        try:
            view = await gateway.jobs.look(job_id, keep=True)
            # Without a record it ended in this very moment, and its reply is on the way.
            reply = view.as_reply() if view is not None else await late
        except WaitTimeout:
            raise JobTimeoutError(f"Model {target.model} did not answer in {seconds:g} s.", retry_after=1) from None
        except (RedisError, OSError) as error:
            raise UnavailableError("The queue cannot be reached now.", retry_after=1) from error
        finally:
            gateway.replies.forget(job_id, late)
        if reply is not None:
            return _finish(job_id, view.version.encode() if view else b"", reply, instances, target)
        if prefer.mode == "wait" and view is not None:
            return _job_answer(202, view, prefer)
        raise JobTimeoutError(
            f"Model {target.model} did not answer in {seconds:g} s; the job goes on, its answer will be at "
            f"/v1/jobs/{job_id}.",
            job=f"/v1/jobs/{job_id}",
        )

    async def _look(self, job_id: str, *, watch: bool = False) -> JobView:
        try:
            view = await self._gateway.jobs.look(job_id, watch=watch)
        except (RedisError, OSError) as error:
            raise UnavailableError("The queue cannot be reached now.", retry_after=1) from error
        if view is None:
            raise UnavailableError("The job of this Idempotency-Key is gone: send the request again.", retry_after=1)
        return view

    def _accepted(self, job: NewJob, served: ServedVersion, prefer: Preference) -> Answer:
        load = self._gateway.load
        state = load.queues.get(served.queue)
        ahead = state.queued + state.running if state is not None else 0
        eta = load.seconds_for(served.queue, served.entry.pool, ahead + 1)
        document = new_job_document(job.id, served.model, served.version, rqformat.timestamp(), eta)
        headers = [
            (b"content-type", b"application/json"),
            (b"location", f"/v1/jobs/{job.id}".encode()),
            (b"preference-applied", prefer.applied),
            (b"muleteer-job-id", job.id.encode()),
            (b"muleteer-model-version", served.version_header),
        ]
        return Answer(202, headers, orjson.dumps(document))

    def _seconds_until_room(self, served: ServedVersion) -> float:
        """Predict when a full queue has a tenth of its room again, between 1 s and 60 s."""
        room = max(1, served.entry.limits.max_queue_jobs // 10)
        seconds = self._gateway.load.seconds_for(served.queue, served.entry.pool, room)
        return min(60.0, max(1.0, seconds if seconds is not None else 5.0))


def _read_key(raw: bytes, model: str) -> str:
    key = raw.decode("latin-1").strip().strip('"')
    if not key or len(key) > MAX_KEY_LENGTH or not key.isprintable():
        raise BadRequestError(f"Idempotency-Key must be 1 to {MAX_KEY_LENGTH} printable characters.")
    return hashlib.sha256(f"{model}\n{key}".encode()).hexdigest()


def _finish(job_id: str, version: bytes, reply: Reply, instances: Instances, target: Target) -> Answer:
    if reply.status == "finished":
        queue = max(0.0, reply.waited) * 1000
        batch = max(0.0, reply.batch_seconds - reply.predict_seconds) * 1000
        timing = f"queue;dur={queue:.3f}, batch;dur={batch:.3f}, predict;dur={reply.predict_seconds * 1000:.3f}"
        headers = [
            (b"content-type", b"application/json"),
            (b"muleteer-model-version", version),
            (b"muleteer-job-id", job_id.encode()),
            (b"server-timing", timing.encode()),
        ]
        return Answer(200, headers, render(reply.payload, instances.shape, instances.keys, plain=target.plain))
    if reply.status == "failed":
        error = orjson.loads(reply.payload)
        kind, message = error.get("type", "Error"), error.get("message", "")
        raise PredictionFailedError(f"{kind}: {message}", error_type=kind, error_message=message, job_id=job_id)
    if reply.status == "canceled":
        raise ConflictError("The job was cancelled while this request waited for it.", job_id=job_id)
    raise JobTimeoutError(f"No worker took the job in the time that {target.model} has (timeout).", retry_after=1)


def _job_answer(status: int, view: JobView, prefer: Preference) -> Answer:
    headers = [
        (b"content-type", b"application/json"),
        (b"location", f"/v1/jobs/{view.id}".encode()),
        (b"preference-applied", prefer.applied),
        (b"muleteer-job-id", view.id.encode()),
        (b"muleteer-model-version", view.version.encode()),
    ]
    return Answer(status, headers, orjson.dumps(job_document(view)))


def _log_request(
    scope: Scope, served: ServedVersion | None, problem: MuleteerError | None, line: dict[str, Any], seconds: float
) -> None:
    extra = line | {
        "model": served.model if served else "",
        "version": served.version if served else "",
        "seconds": round(seconds, 6),
    }
    if problem is not None:
        extra |= {"error": problem.message, "job_id": problem.extra.get("job_id", line["job_id"])}
    level = logging.WARNING if line["status"] >= 500 else logging.INFO
    logger.log(level, "%s %s %d", scope["method"], str(scope["path"])[:200], line["status"], extra=extra)
