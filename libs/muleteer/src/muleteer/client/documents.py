"""The documents that the server answers with, typed. Members that a newer server adds are ignored."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

ENDED = frozenset({"finished", "failed", "canceled"})
"""Statuses that a job does not leave any more."""


class Document(BaseModel):
    """A JSON object of the server."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class JobError(Document):
    """Why a job failed: the exception's type and its message."""

    type: str = ""
    message: str = ""


class Job(Document):
    """A request's instances on their way, as the server last told it."""

    id: str
    status: str = Field(description="queued, started, finished, failed or canceled")
    model: str = ""
    version: str = ""
    created_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    position: int | None = Field(None, description="Jobs before this one in the queue")
    eta_seconds: float | None = Field(None, description="Seconds until the result is expected")
    deliveries: int = Field(0, description="Times the job was handed to a worker that did not finish it")
    result: dict[str, Any] | None = None
    error: JobError | None = None

    @property
    def ended(self) -> bool:
        """Tell whether the job has a result, failed or was canceled."""
        return self.status in ENDED


class ModelSummary(Document):
    """A model in the list of models."""

    name: str
    description: str = ""
    versions: list[str] = []
    default: str | None = None
    route: str | None = None
    pool: str = ""
    ready: bool = False


class VersionError(Document):
    """Why a version is not available; empty when it is."""

    error_code: str = ""
    error_message: str = ""


class GoldenExample(Document):
    """An instance, and what a version must predict for it up to ``tolerance``, absolute or relative."""

    instance: Any
    prediction: Any
    tolerance: float = 1e-6


class VersionStatus(Document):
    """One version of a model: its state (AVAILABLE, LOADING, COLD, FAILED, RETIRED, UNKNOWN) and who serves it."""

    version: str
    state: str
    status: VersionError = VersionError()
    workers: int = 0
    examples: list[GoldenExample] = []


class ModelDetails(Document):
    """Everything the server tells about one model."""

    name: str
    description: str = ""
    route: str | None = None
    aliases: dict[str, str] = {}
    traffic: dict[str, float] = {}
    versions: list[VersionStatus] = Field([], alias="model_version_status")
    instance_schema: dict[str, Any] | None = None
    prediction_schema: dict[str, Any] | None = None
    examples: list[dict[str, Any]] = []
    metrics: dict[str, Any] = {}
