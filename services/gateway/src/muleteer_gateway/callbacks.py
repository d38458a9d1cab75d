"""Webhooks: the job's document is posted, signed, to the callback URL when it ends, and again until it is taken."""

import asyncio
import hashlib
import hmac
import logging
import time

import httpx
import orjson
from redis.exceptions import RedisError

from muleteer.metrics import CALLBACKS
from muleteer_gateway.core import Gateway
from muleteer_gateway.documents import job_document

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5
AT_ONCE = 16
FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 600.0
TAKEN_MARGIN_SECONDS = 5.0
"""A delivery is left to one gateway for its timeout and so much more; if that gateway dies, another takes it then."""
SIGNATURE_HEADER = "Muleteer-Signature"


def sign(secret: str, timestamp: int, body: bytes) -> str:
    """Return a webhook's signature: ``t=<Unix seconds>,v1=<hex HMAC-SHA256 of "t.body">`` (Stripe's scheme)."""
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


async def run_callbacks(gateway: Gateway) -> None:
    """Deliver webhooks that are due until cancelled. Any gateway may deliver any job's."""
    for outcome in ("delivered", "failed"):
        CALLBACKS.labels(outcome)  # there from the start: a rate does not see a counter that begins at 1
    settings = gateway.settings
    if not settings.callback_secret.get_secret_value():
        return
    running: set[asyncio.Task[None]] = set()
    async with httpx.AsyncClient(timeout=settings.callback_timeout, follow_redirects=False) as client:
        try:
            while True:
                await asyncio.sleep(POLL_SECONDS)
                for job_id in await _take_due(gateway, AT_ONCE - len(running)):
                    # A task each: one slow receiver must not hold up the others.
                    task = asyncio.create_task(_attempt(gateway, client, job_id))
                    running.add(task)
                    task.add_done_callback(running.discard)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


async def _take_due(gateway: Gateway, most: int) -> list[str]:
    if most <= 0:
        return []
    try:
        return await gateway.jobs.due_callbacks(most, gateway.settings.callback_timeout + TAKEN_MARGIN_SECONDS)
    except (RedisError, OSError) as error:
        logger.debug("webhooks cannot be looked at, trying again: %s", error)
        return []


async def _attempt(gateway: Gateway, client: httpx.AsyncClient, job_id: str) -> None:
    try:
        await _deliver(gateway, client, job_id)
    except (RedisError, OSError) as error:
        logger.debug("a webhook's outcome cannot be noted, it is tried again: %s", error, extra={"job_id": job_id})


async def _post(client: httpx.AsyncClient, url: str, body: bytes, headers: dict[str, str], seconds: float) -> str:
    """Post a webhook; return what went wrong, empty when its receiver took it. What it says is not read."""
    try:
        async with asyncio.timeout(seconds), client.stream("POST", url, content=body, headers=headers) as response:
            return "" if response.is_success else f"status {response.status_code}"
    except TimeoutError:
        return f"no answer in {seconds:g} s"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"{type(error).__name__}: {error}"


async def _deliver(gateway: Gateway, client: httpx.AsyncClient, job_id: str) -> None:
    url = await gateway.jobs.callback_url(job_id)
    view = await gateway.jobs.look(job_id)
    if not url or view is None:
        await gateway.jobs.settle_callback(job_id)
        return
    body = orjson.dumps(job_document(view))
    signature = sign(gateway.settings.callback_secret.get_secret_value(), int(time.time()), body)
    headers = {"content-type": "application/json", SIGNATURE_HEADER: signature, "muleteer-job-id": job_id}
    problem = await _post(client, url, body, headers, gateway.settings.callback_timeout)
    if not problem:
        CALLBACKS.labels("delivered").inc()
        await gateway.jobs.settle_callback(job_id)
        return
    attempts = await gateway.jobs.count_callback_attempt(job_id)
    if attempts >= gateway.settings.callback_attempts:
        CALLBACKS.labels("failed").inc()
        logger.warning("Webhook given up after %d attempts: %s", attempts, problem, extra={"job_id": job_id})
        await gateway.jobs.settle_callback(job_id)
        return
    pause = min(FIRST_PAUSE_SECONDS * 2 ** (attempts - 1), LONGEST_PAUSE_SECONDS)
    await gateway.jobs.postpone_callback(job_id, time.time() + pause)
