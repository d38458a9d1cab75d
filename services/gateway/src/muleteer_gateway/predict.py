"""The hot route: a prediction request becomes a job, and the job's end becomes the answer."""

import asyncio
import logging
import time
from functools import partial
from typing import Any

from redis.exceptions import RedisError
from starlette.types import Receive, Scope, Send

from muleteer.errors import (
    IdempotencyConflictError,
    JobTimeoutError,
    MuleteerError,
    OverloadedError,
    UnavailableError,
)
from muleteer.metrics import REJECTED
from muleteer.queue.jobs import JobView
from muleteer.queue.producer import NewJob
from muleteer.queue.replies import Reply, WaitTimeout
from muleteer_gateway.answers import Answer, answer_job, answer_new_job, answer_reply
from muleteer_gateway.core import Gateway
from muleteer_gateway.http import GONE, ClientDisconnectedError, read_headers, send_answer
from muleteer_gateway.instances import Instances
from muleteer_gateway.intake import Intake, Target
from muleteer_gateway.observe import count_request
from muleteer_gateway.prefer import Preference, read_prefer
from muleteer_gateway.request_id import request_id_of
from muleteer_gateway.served import ServedVersion
from muleteer_gateway.submission import KeyTakenError, RefusedError

logger = logging.getLogger(__name__)

CLIENT_GONE = 499
"""What a request counts as whose caller went away before it was complete."""
LATE_REPLY_SECONDS = 2.0
"""How long a reply is waited for that must be on its way: its job ended in the moment its time was up."""


class Predict:
    """The ASGI endpoint of all prediction routes."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._intake = Intake(gateway.settings, gateway.id)

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
            client = gateway.clients.identify(headers)
            served = gateway.models.choose(target.model, target.version, target.alias)
            self._admit()
            instances, callback = await self._intake.read(receive, headers, target, served)
            if instances.inference is not None:
                prefer = instances.inference.bound(prefer, gateway.settings.max_wait_seconds)
            job = self._intake.make_job(served, target, instances, headers, request_id, prefer, callback, client)
            job_id = job.id
            refusal = gateway.admission.refusal(job, served, prefer)
            if refusal is not None:
                if not job.idempotency_key:
                    raise refusal
                # Who repeats a request gets its job all the same: Redis looks for that before it finds no room.
                job.max_queue_jobs = 0
            if not job.kept:
                scope[GONE] = partial(gateway.submissions.abandon, job_id)
            answer = await self._answer(job, served, instances, prefer, target, refusal)
            status = answer.status
            await send_answer(send, status, answer.headers, answer.body)
        except (ClientDisconnectedError, asyncio.CancelledError):
            status = CLIENT_GONE
            raise
        except MuleteerError as error:
            status, problem = error.status, error
            if status < 500 or isinstance(error, OverloadedError):
                REJECTED.labels(error.extra.get("reason") or type(error).__name__.removesuffix("Error")).inc()
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
            raise OverloadedError(
                f"This gateway answers {limit} requests at once already.", retry_after=1, reason="in_progress"
            )

    async def _answer(
        self,
        job: NewJob,
        served: ServedVersion,
        instances: Instances,
        prefer: Preference,
        target: Target,
        refusal: OverloadedError | None,
    ) -> Answer:
        try:
            if prefer.mode == "async":
                eta = self._gateway.admission.eta_seconds(job)
                with self._gateway.load.entering(job.queue, job.rows):
                    await self._gateway.submissions.submit(job)
                return answer_new_job(job, prefer, eta)
            timeout = prefer.wait if prefer.wait is not None else served.entry.timeout
            if job.idempotency_key:
                await self._gateway.submissions.submit(job)
                return await self._await_kept(job.id, timeout, instances, prefer, target)
            reply = await self._await_reply(job, timeout)
            if reply is None:
                return await self._out_of_time(job.id, served.version, instances, prefer, target, timeout)
            return answer_reply(job.id, served.version_header, reply, instances, target)
        except RefusedError as error:
            raise (refusal or self._gateway.admission.explain(job, error.refusal, served)) from None
        except KeyTakenError as taken:
            if not taken.same_body:
                raise IdempotencyConflictError(
                    "This Idempotency-Key was used with another body: use a new key for a new request.",
                    job=f"/v1/jobs/{taken.job_id}",
                ) from None
            return await self._join(taken.job_id, served, instances, prefer, target)

    async def _await_reply(self, job: NewJob, seconds: float) -> Reply | None:
        load = self._gateway.load.queues.get(job.queue)
        if load is not None:
            load.enter(job.client, job.rows)
        try:
            return await self._gateway.submissions.submit_and_expect(job, seconds)
        except WaitTimeout:
            return None
        finally:
            if load is not None:
                load.leave(job.client, job.rows)

    async def _join(
        self, job_id: str, served: ServedVersion, instances: Instances, prefer: Preference, target: Target
    ) -> Answer:
        """Answer with a job that an earlier request with the same key has made."""
        if prefer.mode == "async":
            view = await self._look(job_id)
            return answer_job(view, prefer)
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
            return await self._out_of_time(job_id, view.version, instances, prefer, target, seconds)
        finally:
            self._gateway.replies.forget(job_id, future)
        return answer_reply(job_id, view.version.encode(), reply, instances, target)

    async def _out_of_time(
        self, job_id: str, version: str, instances: Instances, prefer: Preference, target: Target, seconds: float
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
            return answer_reply(job_id, version.encode(), reply, instances, target)
        if prefer.mode == "wait" and view is not None:
            return answer_job(view, prefer)
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
