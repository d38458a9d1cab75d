"""Every error Muleteer raises on purpose; each carries the HTTP status it is answered with."""

from typing import Any


class MuleteerError(Exception):
    """Base of all errors that Muleteer raises on purpose.

    ``message`` is one sentence for a person; ``extra`` holds the members that a problem document (RFC 9457)
    shows beside it.
    """

    status: int = 500
    title: str = "Internal error"

    def __init__(self, message: str, *, retry_after: float | None = None, **extra: Any) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after
        self.extra = extra


class SettingsError(MuleteerError):
    """A setting is missing or has a value that cannot be used."""

    title = "Wrong setting"


class CatalogError(MuleteerError):
    """The catalog file cannot be read or says something impossible."""

    title = "Wrong catalog"


class RepositoryError(MuleteerError):
    """A model version cannot be fetched from its repository."""

    title = "Model repository error"


class ModelLoadError(MuleteerError):
    """A model version cannot be made ready; ``reason`` is a short label for metrics."""

    title = "Model version failed to load"

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message, reason=reason)
        self.reason = reason


class BadRequestError(MuleteerError):
    """The request cannot be understood at all."""

    status = 400
    title = "Bad request"


class UnauthorizedError(MuleteerError):
    """The request carries no valid API key."""

    status = 401
    title = "Unauthorized"


class NotFoundError(MuleteerError):
    """There is no such model, version, alias, job or page."""

    status = 404
    title = "Not found"


class MethodNotAllowedError(MuleteerError):
    """The path exists, but not for this method."""

    status = 405
    title = "Method not allowed"


class ConflictError(MuleteerError):
    """What was asked cannot be done in the state the thing is in."""

    status = 409
    title = "Conflict"


class PayloadTooLargeError(MuleteerError):
    """The body is longer than the limit, or unpacks to more than it."""

    status = 413
    title = "Payload too large"


class UnsupportedMediaTypeError(MuleteerError):
    """The body's content type or encoding is not one that is understood."""

    status = 415
    title = "Unsupported media type"


class ValidationFailedError(MuleteerError):
    """Instances do not fit the model's schema; ``errors`` names each wrong field by its path."""

    status = 422
    title = "Validation failed"


class IdempotencyConflictError(MuleteerError):
    """An Idempotency-Key was used again with another body."""

    status = 422
    title = "Idempotency key reused"


class TooManyRequestsError(MuleteerError):
    """The caller asks for more than it may; ``reason`` is rate or concurrency."""

    status = 429
    title = "Too many requests"


class PredictionFailedError(MuleteerError):
    """The model raised an exception or answered something that is not a prediction."""

    status = 500
    title = "Prediction failed"


class UnavailableError(MuleteerError):
    """The system cannot take or answer the request now; trying again later may help."""

    status = 503
    title = "Service unavailable"


class OverloadedError(UnavailableError):
    """More has come than can be served in time.

    ``reason`` is deadline, queue_seconds, queue_rows, queue_full or loading.
    """

    title = "Overloaded"


class JobTimeoutError(MuleteerError):
    """The answer did not come in time; the job goes on and can be fetched later."""

    status = 504
    title = "Prediction timed out"
