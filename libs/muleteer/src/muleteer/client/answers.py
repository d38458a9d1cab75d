"""Reading what the server answered: documents, predictions, and every error as its exception."""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, TypeVar

import orjson
from pydantic import ValidationError

from muleteer.client.documents import Document, Job
from muleteer.client.errors import (
    JobCanceled,
    JobTimeout,
    MuleteerAPIError,
    NotFound,
    PredictionFailed,
    Unavailable,
    ValidationFailed,
)
from muleteer.errors import PredictionFailedError

Predictions = list[Any] | dict[str, Any]
D = TypeVar("D", bound=Document)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, whole. Names of headers are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        """Tell whether the server did what was asked."""
        return 200 <= self.status < 300

    @property
    def request_id(self) -> str:
        """The id under which the server logged the request."""
        return self.headers.get("x-request-id", "")

    def json(self) -> Any:
        """Return the body read as JSON. Raises MuleteerAPIError if it is not: something else answered."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise self.strange("an answer that is not JSON") from error

    def document(self, kind: type[D]) -> D:
        """Return the body as a document of ``kind``. Raises MuleteerAPIError if it is none."""
        try:
            return kind.model_validate(self.json())
        except ValidationError as error:
            raise self.strange(f"an answer that is no {kind.__name__}") from error

    def strange(self, what: str) -> MuleteerAPIError:
        """Return the error for an answer that no Muleteer server gives."""
        start = self.body[:200].decode(errors="replace").strip()
        return MuleteerAPIError(self.status, "Unexpected answer", f"the server gave {what}: {start!r}", self.request_id)


def read_predictions(answer: Answer) -> Predictions:
    """Return the predictions of a 200 answer."""
    document = answer.json()
    if isinstance(document, dict) and isinstance(document.get("predictions"), list | dict):
        predictions: Predictions = document["predictions"]
        return predictions
    raise answer.strange("an answer without predictions")


def read_result(job: Job, answer: Answer) -> Predictions:
    """Return the predictions of a job that has ended.

    Raises PredictionFailed if it failed, JobCanceled if it was canceled.
    """
    if job.status == "canceled":
        raise JobCanceled(409, "Job canceled", f"job {job.id} was canceled", answer.request_id)
    if job.status == "failed":
        reason = f"{job.error.type}: {job.error.message}" if job.error else "no reason given"
        raise PredictionFailed(500, PredictionFailedError.title, reason, answer.request_id, job.model_dump(mode="json"))
    predictions = (job.result or {}).get("predictions")
    if not isinstance(predictions, list | dict):
        raise answer.strange(f"job {job.id} without predictions")
    return predictions


def job_id_of(answer: Answer) -> str:
    """Return the id of the job that goes on behind a 202 or 504 answer, empty if it names none."""
    url = answer.headers.get("location", "") or str(read_problem(answer).get("job") or "")
    return url.partition("?")[0].rstrip("/").rpartition("/")[2] or answer.headers.get("muleteer-job-id", "")


def read_problem(answer: Answer) -> dict[str, Any]:
    """Return the problem document of an answer, empty if it holds none."""
    try:
        problem = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return {}
    return problem if isinstance(problem, dict) else {}


def retry_after(answer: Answer) -> float | None:
    """Return the seconds of ``Retry-After`` (a number or a date), None without a usable one."""
    value = answer.headers.get("retry-after", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def error_of(answer: Answer) -> MuleteerAPIError:
    """Return the exception for an answer that is an error."""
    problem = read_problem(answer)
    title = str(problem.get("title") or _phrase(answer.status))
    detail = str(problem.get("detail") or problem.get("error") or problem.get("reason") or "")
    if not problem:  # not ours: a proxy on the way, most likely
        detail = answer.body[:200].decode(errors="replace").strip()
    request_id = str(problem.get("request_id") or answer.request_id)
    error = _class_of(answer.status, title, problem)(answer.status, title, detail, request_id, problem)
    if isinstance(error, Unavailable):
        error.retry_after = retry_after(answer)
    if isinstance(error, JobTimeout):
        error.job_id = job_id_of(answer)
    return error


def _class_of(status: int, title: str, problem: dict[str, Any]) -> type[MuleteerAPIError]:
    if status == 422 and "errors" in problem:
        return ValidationFailed
    if status == 500 and title == PredictionFailedError.title:
        return PredictionFailed
    return {404: NotFound, 429: Unavailable, 503: Unavailable, 504: JobTimeout}.get(status, MuleteerAPIError)


def _phrase(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"HTTP status {status}"
