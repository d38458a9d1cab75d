"""The worker's settings; every field is a variable ``MULETEER_<NAME>``."""

from pydantic import Field

from muleteer.catalog.model import ModelName
from muleteer.settings import Settings


class WorkerSettings(Settings):
    """What a worker pod's parent and children read from their environment."""

    pool: ModelName = Field("default", description="Worker pool this pod belongs to: it serves the models of that pool")
    processes: int = Field(1, ge=1, le=256, description="Processes that claim and predict, each with its own models")
    threads: int = Field(1, ge=1, le=1024, description="BLAS and OpenMP threads of each process")
    worker_host: str = Field("0.0.0.0", description="Address of the health and metrics port")  # noqa: S104 - a pod
    worker_port: int = Field(9090, ge=0, le=65_535, description="Health and metrics port; 0 takes a free one")
    lease_seconds: float = Field(15.0, ge=1, le=3600, description="Jobs of a worker that is silent so long are lost")
    drain_seconds: float = Field(30.0, ge=0, description="After SIGTERM: longest time for the batches in progress")
    startup_seconds: float = Field(60.0, gt=0, description="How long Redis is waited for at start, then exit 69")
    retire_seconds: float = Field(
        120.0,
        ge=0,
        description="How long a removed version is kept with an empty queue: longer than gateways need to see the edit",
    )
