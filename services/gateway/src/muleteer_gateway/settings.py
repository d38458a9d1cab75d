"""The gateway's settings; every field is a variable ``MULETEER_<NAME>``."""

from functools import cached_property
from typing import Self

from pydantic import Field, SecretStr, model_validator

from muleteer.settings import Settings


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
    max_in_progress: int = Field(10_000, ge=1, description="Prediction requests answered at once by this gateway")
    max_wait_seconds: float = Field(300.0, gt=0, description="Longest wait that Prefer: wait=N or ?wait=N gets")
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
    api_keys: SecretStr = Field(SecretStr(""), description="Comma-separated keys that callers must send; empty: none")
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

    @cached_property
    def keys(self) -> tuple[bytes, ...]:
        """API keys that are accepted; empty when none is wanted."""
        return tuple(k.strip().encode() for k in self.api_keys.get_secret_value().split(",") if k.strip())

    @cached_property
    def callback_host_names(self) -> frozenset[str]:
        """Hosts that callbacks may go to; empty when any is fine."""
        return frozenset(h.strip().lower() for h in self.callback_hosts.split(",") if h.strip())
