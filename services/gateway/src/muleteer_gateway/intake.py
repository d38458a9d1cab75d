"""From a request to a job: what its path names, its body read and validated, and the job that comes of it."""

import hashlib
from dataclasses import dataclass
from typing import Literal

import orjson
from starlette.types import Receive

from muleteer.errors import BadRequestError, ValidationFailedError
from muleteer.queue.ids import Ids
from muleteer.queue.producer import NewJob
from muleteer_gateway.clients import Client
from muleteer_gateway.http import RequestHeaders, parse_json, read_body
from muleteer_gateway.instances import Instances, encode_rows, read_plain, read_v1, read_v2
from muleteer_gateway.prefer import Preference
from muleteer_gateway.served import ServedVersion
from muleteer_gateway.settings import GatewaySettings
from muleteer_gateway.tensors import no_binary
from muleteer_gateway.webhook_url import webhook_host

MAX_KEY_LENGTH = 255
Protocol = Literal["v1", "v2", "plain"]
_PREFIX = {"v1": "instances", "v2": "inputs", "plain": ""}
"""Where a body holds its instances."""
OCTETS = b"application/octet-stream"
"""What clients call a body whose JSON is followed by binary tensors."""


@dataclass(slots=True)
class Target:
    """What a prediction request's path names."""

    model: str
    version: str | None = None
    alias: str | None = None
    protocol: Protocol = "v1"


class Intake:
    """Makes jobs of requests for one gateway process."""

    def __init__(self, settings: GatewaySettings, gateway_id: str) -> None:
        self._settings = settings
        self._gateway_id = gateway_id
        self._ids = Ids()

    async def read(
        self, receive: Receive, headers: RequestHeaders, target: Target, served: ServedVersion
    ) -> tuple[Instances, str]:
        """Return the request's instances, valid for the model version, and its callback URL (empty for none).

        Raises the 4xx error that says what is wrong with the body.
        """
        if headers.content_type == OCTETS and target.protocol == "v2":
            raise no_binary()
        body = await read_body(receive, headers, self._settings.max_body_bytes)
        if headers.inference_header_length and headers.inference_header_length != str(len(body)).encode():
            raise no_binary()
        payload, callback = parse_json(body), ""
        limit = served.entry.limits.max_instances
        if target.protocol == "plain":
            instances = read_plain(payload, several=served.entry.route_body == "instances", max_instances=limit)
        elif target.protocol == "v2":
            instances = read_v2(payload, served.model, served.signature, limit, self._settings.max_body_bytes)
        else:
            instances = read_v1(payload, limit)
            callback = self._read_callback(payload.get("callback"))
        if served.validator is not None:
            served.validator.check(instances, _PREFIX[target.protocol])
        return instances, callback

    def _read_callback(self, value: object) -> str:
        if value is None:
            return ""
        settings = self._settings
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

    def make_job(
        self,
        served: ServedVersion,
        target: Target,
        instances: Instances,
        headers: RequestHeaders,
        request_id: str,
        prefer: Preference,
        callback: str,
        client: Client,
    ) -> NewJob:
        """Return the job of a request that has been read. Raises BadRequestError for a bad Idempotency-Key."""
        entry, settings = served.entry, self._settings
        rows = encode_rows(instances)
        key, digest = "", ""
        if headers.idempotency_key is not None:
            key = _read_key(headers.idempotency_key, served.model)
            keys = orjson.dumps(instances.keys)
            named = f"\n{target.version or ''}\n{target.alias or ''}".encode()
            digest = hashlib.sha256(rows + keys + named).hexdigest()
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
            reply_to="" if prefer.mode == "async" else self._gateway_id,
            kept=prefer.mode == "async" or bool(key) or bool(callback),
            wait_limit=wait,
            timeout=max(1, int(entry.predict_timeout)),
            result_ttl=max(entry.result_ttl, settings.idempotency_ttl) if key else entry.result_ttl,
            failure_ttl=entry.failure_ttl,
            max_queue_jobs=entry.limits.max_queue_jobs,
            idempotency_key=key,
            digest=digest,
            extra=orjson.dumps(extra),
            callback=callback,
            client=client.id,
            job_class="batch" if prefer.mode == "async" else "interactive",
            limits=client.limits,
            max_queue_rows=entry.limits.max_queue_rows,
        )


def _read_key(raw: bytes, model: str) -> str:
    key = raw.decode("latin-1").strip().strip('"')
    if not key or len(key) > MAX_KEY_LENGTH or not key.isprintable():
        raise BadRequestError(f"Idempotency-Key must be 1 to {MAX_KEY_LENGTH} printable characters.")
    return hashlib.sha256(f"{model}\n{key}".encode()).hexdigest()
