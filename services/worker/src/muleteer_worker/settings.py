"""The worker's settings; every field is a variable ``MULETEER_<NAME>``."""

import re
from typing import Any

from pydantic import Field, field_validator

from muleteer.catalog.model import ModelName
from muleteer.settings import Settings

_BINARY = {f"{letter}i": 1024**n for n, letter in enumerate("KMGT", 1)}
_UNITS = {"": 1} | {letter: 1000**n for n, letter in enumerate("kMGT", 1)} | _BINARY


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
    max_resident_bytes: int = Field(
        0,
        ge=0,
        description="Memory that the model versions of one process may take together, such as 2Gi or 500Mi: those that "
        "are not pinned are then loaded when they are asked for. 0: all versions stay loaded",
    )

    @field_validator("max_resident_bytes", mode="before")
    @classmethod
    def _read_quantity(cls, value: Any) -> Any:
        """Take a number of bytes, or a quantity as Kubernetes writes it."""
        if not isinstance(value, str):
            return value
        found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(k|M|G|T|Ki|Mi|Gi|Ti|)", value.strip())
        if found is None:
            raise ValueError("must be bytes, or a quantity such as 2Gi or 500Mi")
        return int(float(found[1]) * _UNITS[found[2]])
