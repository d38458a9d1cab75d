"""The Python client: ``Client("http://localhost:8080").predict("movie-sentiment", [...])``, sync and async."""

from muleteer.client.aio import AsyncClient
from muleteer.client.documents import (
    GoldenExample,
    Job,
    JobError,
    ModelDetails,
    ModelSummary,
    VersionError,
    VersionStatus,
)
from muleteer.client.errors import (
    JobCanceled,
    JobTimeout,
    MuleteerAPIError,
    NotFound,
    PredictionFailed,
    Unavailable,
    ValidationFailed,
)
from muleteer.client.sync import Client

__all__ = [
    "AsyncClient",
    "Client",
    "GoldenExample",
    "Job",
    "JobCanceled",
    "JobError",
    "JobTimeout",
    "ModelDetails",
    "ModelSummary",
    "MuleteerAPIError",
    "NotFound",
    "PredictionFailed",
    "Unavailable",
    "ValidationFailed",
    "VersionError",
    "VersionStatus",
]
