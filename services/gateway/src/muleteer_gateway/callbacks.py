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
SIGNATURE_HEADER = "Muleteer-Signature"


def sign(secret: str, timestamp: int, body: bytes) -> str:
    """Return a webhook's signature: ``t=<Unix seconds>,v1=<hex HMAC-SHA256 of "t.body">`` (Stripe's scheme)."""
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


async def run_callbacks(gateway: Gateway) -> None:
    """Deliver webhooks that are due until cancelled. Any gateway may deliver any job's."""
    settings = gateway.settings
    if not settings.callback_secret.get_secret_value():
        return
    async with httpx.AsyncClient(timeout=settings.callback_timeout, follow_redirects=False) as client:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                due = await gateway.jobs.due_callbacks(AT_ONCE, settings.callback_timeout + 30)
                await asyncio.gather(*(_deliver(gateway, client, job_id) for job_id in due))
            except (RedisError, OSError) as error:
                logger.debug("webhooks cannot be looked at, trying again: %s", error)


async def _deliver(gateway: Gateway, client: httpx.AsyncClient, job_id: str) -> None:
    url = await gateway.jobs.callback_url(job_id)
    view = await gateway.jobs.look(job_id)
    if not url or view is None:
        await gateway.jobs.settle_callback(job_id)
        return
    body = orjson.dumps(job_document(view))
    signature = sign(gateway.settings.callback_secret.get_secret_value(), int(time.time()), body)
    headers = {"content-type": "application/json", SIGNATURE_HEADER: signature, "muleteer-job-id": job_id}
    try:
        response = await client.post(url, content=body, headers=headers)
        problem = "" if response.is_success else f"status {response.status_code}"
    except httpx.HTTPError as error:
        problem = f"{type(error).__name__}: {error}"
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
