"""What a call of the client can raise: one class for all, subclasses for what a caller may want to handle."""
# ruff: noqa: N818 - short names that read well in an except clause, as in ``except NotFound``

from typing import Any


class MuleteerAPIError(Exception):
    """The server refused a call, or could not be reached.

    ``status`` is the HTTP status (0: no answer came), ``title`` and ``detail`` say what is wrong in words,
    ``request_id`` finds the request in the server's log, ``problem`` is the whole problem document (RFC 9457).
    ``job_id`` is the job that the call is about, empty if none is known: while it has not failed, it goes on, and
    ``result(job_id, ...)`` fetches it later.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str = "",
        request_id: str = "",
        problem: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{title}: {detail}" if detail else title)
        self.status = status
        self.title = title
        self.detail = detail
        self.request_id = request_id
        self.problem = problem or {}
        self.job_id = ""


class NotFound(MuleteerAPIError):
    """There is no such model, version, alias or job (a kept result may have expired)."""


class ValidationFailed(MuleteerAPIError):
    """Instances do not fit the model's schema."""

    @property
    def errors(self) -> list[dict[str, str]]:
        """Every wrong field: ``{"path": ..., "message": ...}``."""
        return list(self.problem.get("errors", []))


class Unavailable(MuleteerAPIError):
    """The server is overloaded, not ready or out of reach; ``retry_after`` is its advice in seconds, if it gave one."""

    retry_after: float | None = None


class PredictionFailed(MuleteerAPIError):
    """The model raised an exception for these instances, or they used up their deliveries."""


class JobCanceled(MuleteerAPIError):
    """The job was canceled before it had a result."""


class JobTimeout(MuleteerAPIError):
    """The answer did not come in time. The job goes on: fetch it later with ``result(error.job_id, ...)``."""
