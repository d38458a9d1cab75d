"""The gateway's settings; every field is a variable ``MULETEER_<NAME>``."""

from functools import cached_property
from typing import Annotated, Any, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from muleteer.queue.producer import ClientLimits
from muleteer.settings import Settings
from muleteer_gateway.clients import read_keys


class LimitsOfClient(BaseModel):
    """What one client may have, instead of what each may."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rate: float = Field(0.0, ge=0)
    burst: float = Field(0.0, ge=0)
    concurrency: int = Field(0, ge=0)


class GatewaySettings(Settings):
    """What a gateway process reads from its environment."""

    gateway_host: str = Field("0.0.0.0", description="Address to listen on")  # noqa: S104 - a server in a pod
    gateway_port: int = Field(8080, ge=0, le=65_535, description="Port to listen on; 0 takes a free one")
    metrics_port: int = Field(
        0, ge=0, le=65_535, description="Port of its own for /metrics and /backlog; 0 has them on the API's port"
    )
    max_body_bytes: int = Field(10 * 1024 * 1024, ge=1024, description="Longest request body, also once unpacked")
    max_header_bytes: int = Field(32 * 1024, ge=1024, description="Most bytes of all request headers together")
    receive_seconds: float = Field(60.0, gt=0, description="Longest time for a request to arrive whole, then 408")
    idle_seconds: float = Field(75.0, gt=0, description="How long a connection is kept for its next request")
    max_in_progress: int = Field(10_000, ge=1, description="Prediction requests answered at once by this gateway")
    max_wait_seconds: float = Field(300.0, gt=0, description="Longest wait that a caller gets who names one")
    redis_retry_seconds: float = Field(2.0, ge=0, description="How long an enqueue is retried before 503")
    redis_answer_seconds: float = Field(5.0, gt=0, description="How long Redis may take to answer before 503")
    startup_seconds: float = Field(60.0, gt=0, description="How long Redis is waited for at start, then exit 69")
    drain_delay_seconds: float = Field(
        2.0, ge=0, description="After SIGTERM: not ready, yet still accepting, until load balancers have noticed"
    )
    drain_seconds: float = Field(30.0, gt=0, description="After that: longest time for requests in progress")
    idempotency_ttl: int = Field(86_400, ge=1, description="Seconds an Idempotency-Key and its result are remembered")
    observe_seconds: float = Field(1.0, gt=0, description="How often queues, workers and versions are looked at")
    events_seconds: float = Field(1.0, gt=0, description="How often an event stream shows a job's progress")
    api_keys: SecretStr = Field(
        SecretStr(""), description="Comma-separated keys that callers must send, each may be name=key; empty: none"
    )
    client_rate: float = Field(0.0, ge=0, description="Requests a second that each client may send; 0: any number")
    client_burst: float = Field(0.0, ge=0, description="Requests that it may send at once; 0: as many as a second's")
    client_concurrency: int = Field(
        0, ge=0, description="Jobs that each client may have queued or running; 0: any number"
    )
    client_limits: Annotated[dict[str, LimitsOfClient], NoDecode] = Field(
        {},
        description='Limits of single clients, as JSON: {"<name>": {"rate": 10, "burst": 20, "concurrency": 5}}',
    )
    callback_secret: SecretStr = Field(
        SecretStr(""), description="Key that signs webhooks; callbacks are refused while it is empty"
    )
    callback_hosts: str = Field("", description="Comma-separated host names that callbacks may go to; empty: any")
    callback_timeout: float = Field(10.0, gt=0, description="Seconds a webhook's receiver has to answer")
    callback_attempts: int = Field(8, ge=1, description="Times a webhook is tried, with growing pauses")
    access_log: bool = Field(default=False, description="Log every prediction request, not only failed ones")

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        if self.metrics_port and self.metrics_port == self.gateway_port:
            raise ValueError(
                f"MULETEER_METRICS_PORT and MULETEER_GATEWAY_PORT are both {self.gateway_port}: "
                "leave the first at 0 to have metrics on the API's port"
            )
        return self

    @field_validator("client_limits", mode="before")
    @classmethod
    def _read_limits(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return orjson.loads(value or "{}")
        except orjson.JSONDecodeError as error:
            raise ValueError(f"is not JSON: {error}") from error

    @cached_property
    def keys(self) -> dict[bytes, str]:
        """API keys that are accepted, with the names of their clients; empty when none is wanted."""
        return read_keys(self.api_keys.get_secret_value())

    @cached_property
    def default_limits(self) -> ClientLimits:
        """What a client may have that is not named in ``client_limits``."""
        return ClientLimits(self.client_rate, self.client_burst, self.client_concurrency)

    @cached_property
    def special_limits(self) -> dict[str, ClientLimits]:
        """What single clients may have, by name."""
        return {name: ClientLimits(**limits.model_dump()) for name, limits in self.client_limits.items()}

    @cached_property
    def callback_host_names(self) -> frozenset[str]:
        """Hosts that callbacks may go to; empty when any is fine."""
        return frozenset(h.strip().lower() for h in self.callback_hosts.split(",") if h.strip())
