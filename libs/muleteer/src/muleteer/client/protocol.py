"""The client's side of the protocol without any input or output: which requests, when to retry, what answers mean.

Every operation is a generator (a *flow*): it yields what is to be done, a request to send or a pause to make, gets
the outcome sent in, and returns the operation's result. ``sync`` and ``aio`` only carry the steps out.
"""

import json
import math
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar
from urllib.parse import quote, urlsplit

from muleteer.client.answers import Answer, Predictions, error_of, job_id_of, read_predictions, read_result, retry_after
from muleteer.client.documents import Job, ModelDetails, ModelSummary
from muleteer.client.errors import JobTimeout, MuleteerAPIError, Unavailable
from muleteer.errors import JobTimeoutError, SettingsError

T = TypeVar("T")
Instances = list[Any] | dict[str, Any]

LONG_POLL_SECONDS = 20
"""Longest wait asked of one GET of a job: proxies often cut a connection that is silent for a minute."""
GRACE_SECONDS = 2.0
"""How long past its own wait the server's answer may take on the way."""


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request. ``repeatable``: doing it twice is as good as once, so a broken connection may be retried."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    repeatable: bool = True


@dataclass(frozen=True, slots=True)
class Send:
    """Step: send ``request``; the outcome is an Answer, or a Failure. The answer may take ``seconds``."""

    request: Request
    seconds: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Step: do nothing for some seconds; the outcome is None."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Failure:
    """No answer came: no connection (the server did not get the request), a broken one, or none in time."""

    kind: Literal["refused", "broken", "timeout"]
    message: str


Outcome = Answer | Failure | None
Flow = Generator[Send | Pause, Outcome, T]


class Deadline:
    """A point in time that several requests and pauses share."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds left, never below 0."""
        return max(0.0, self._end - time.monotonic())

    def whole_seconds_left(self, most: float = math.inf) -> int:
        """Return the seconds left as servers take them: whole, at least 1, at most ``most``."""
        return max(1, math.floor(min(self.left(), most)))


class Protocol:
    """The flows of one server's API. ``timeout`` bounds a call that is given none, ``reconnect`` see Client."""

    def __init__(self, url: str, timeout: float, api_key: str | None, reconnect: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingsError(f"{url!r} is not the URL of a server: it must be like http://localhost:8080")
        self.url = url.rstrip("/")
        self.timeout = timeout
        self.reconnect = reconnect
        self.headers = {"Accept": "application/json, application/problem+json"}
        if api_key is not None:
            self.headers["Authorization"] = f"Bearer {api_key}"

    def predict(
        self,
        model: str,
        instances: Instances,
        version: str | None,
        alias: str | None,
        timeout: float | None,
        idempotency_key: str | None,
    ) -> Flow[Predictions]:
        """Ask for predictions, wait for them, and if the server's own wait ends first go on with the job."""
        path, body = predict_path(model, version, alias), encode({"instances": instances})
        headers = _post_headers(idempotency_key)
        deadline = Deadline(self.timeout if timeout is None else timeout)

        def request() -> Request:
            return Request("POST", path, headers | {"Prefer": f"wait={deadline.whole_seconds_left()}"}, body)

        answer = yield from self._exchange(request, deadline)
        if answer.status in (202, 504):
            job = job_id_of(answer)
            if job:
                return (yield from self._await_job(job, deadline))
        if not answer.ok:
            raise error_of(answer)
        return read_predictions(answer)

    def submit(
        self,
        model: str,
        instances: Instances,
        version: str | None,
        alias: str | None,
        idempotency_key: str | None,
        callback: str | None,
    ) -> Flow[Job]:
        """Hand instances in and return the job at once."""
        document: dict[str, Any] = {"instances": instances}
        if callback is not None:
            document["callback"] = callback
        request = Request(
            "POST",
            predict_path(model, version, alias),
            _post_headers(idempotency_key) | {"Prefer": "respond-async"},
            encode(document),
            # Without a key the second of two requests would be a second job.
            repeatable=idempotency_key is not None,
        )
        answer = yield from self._ask(request)
        if answer.status != 202:  # the key's job had ended already, and its answer came at once
            return (yield from self.job(job_id_of(answer)))
        return answer.document(Job)

    def job(self, job: Job | str) -> Flow[Job]:
        """Get a job."""
        answer = yield from self._ask(Request("GET", job_path(job)))
        return answer.document(Job)

    def cancel(self, job: Job | str) -> Flow[Job]:
        """Cancel a job."""
        answer = yield from self._ask(Request("DELETE", job_path(job)))
        if not answer.body:
            return (yield from self.job(job))
        return answer.document(Job)

    def result(self, job: Job | str, timeout: float) -> Flow[Predictions]:
        """Wait for a job's predictions."""
        return (yield from self._await_job(id_of(job), Deadline(timeout)))

    def models(self) -> Flow[list[ModelSummary]]:
        """List the models."""
        answer = yield from self._ask(Request("GET", "/v1/models"))
        document = answer.json()
        if not isinstance(document, dict) or not isinstance(document.get("models"), list):
            raise answer.strange("an answer without models")
        return [ModelSummary.model_validate(model) for model in document["models"]]

    def model(self, name: str) -> Flow[ModelDetails]:
        """Get one model."""
        answer = yield from self._ask(Request("GET", f"/v1/models/{quote(name, safe='')}"))
        return answer.document(ModelDetails)

    def wait_ready(self, timeout: float) -> Flow[None]:
        """Ask ``/readyz`` until it says 200."""
        deadline = Deadline(timeout)
        while True:
            outcome = yield Send(Request("GET", "/readyz"), min(5.0, deadline.left() + 0.1))
            if isinstance(outcome, Answer) and outcome.ok:
                return
            if deadline.left() <= 0:
                why = outcome.message if isinstance(outcome, Failure) else str(error_of(_answer(outcome)))
                raise Unavailable(0, "Server not ready", f"{self.url} was not ready within {timeout:g} s ({why})")
            yield Pause(min(0.2, deadline.left()))

    def _ask(self, request: Request) -> Flow[Answer]:
        answer = yield from self._exchange(lambda: request, Deadline(self.timeout))
        if not answer.ok:
            raise error_of(answer)
        return answer

    def _exchange(self, request: Callable[[], Request], deadline: Deadline, longest: float = math.inf) -> Flow[Answer]:
        """Send the request; retry where that is safe and there is time; raise if no answer can be had.

        One answer may take ``longest`` seconds. Each try calls ``request``, so that it can say how much time is left.
        """
        reconnect = Deadline(0)
        failures = 0
        while True:
            sent = request()
            outcome = yield Send(sent, min(deadline.left(), longest) + GRACE_SECONDS)
            if isinstance(outcome, Failure):
                failures += 1
                if failures == 1:
                    reconnect = Deadline(min(self.reconnect, deadline.left()))
                safe = outcome.kind == "refused" or sent.repeatable
                pause = min(1.0, 0.05 * 2**failures)
                if not safe or pause > reconnect.left():
                    raise self._no_answer(outcome, deadline)
            else:
                failures = 0
                answer = _answer(outcome)
                advised = retry_after(answer) if answer.status in (429, 503) else None
                if advised is None or advised >= deadline.left():
                    return answer
                pause = max(advised, 0.05)
            yield Pause(pause)

    def _await_job(self, job_id: str, deadline: Deadline) -> Flow[Predictions]:
        """Long-poll a job until it has ended. Whatever is raised names the job: it goes on."""

        def request() -> Request:
            return Request("GET", f"{job_path(job_id)}?wait={deadline.whole_seconds_left(LONG_POLL_SECONDS)}")

        try:
            while True:
                asked = time.monotonic()
                answer = yield from self._exchange(request, deadline, LONG_POLL_SECONDS)
                if not answer.ok:
                    raise error_of(answer)
                job = answer.document(Job)
                if job.ended:
                    return read_result(job, answer)
                if deadline.left() <= 0:
                    waited = f"job {job_id} is {job.status} after {deadline.seconds:g} s"
                    raise JobTimeout(504, JobTimeoutError.title, waited, answer.request_id)
                if time.monotonic() - asked < 0.5:  # the server did not hold the request: do not hammer it
                    yield Pause(min(0.25, deadline.left()))
        except MuleteerAPIError as error:
            error.job_id = job_id
            raise

    def _no_answer(self, failure: Failure, deadline: Deadline) -> Unavailable | JobTimeout:
        if failure.kind == "timeout":
            return JobTimeout(0, "No answer in time", f"{self.url} did not answer within {deadline.seconds:g} s")
        return Unavailable(0, "Server out of reach", f"{self.url}: {failure.message}")


def _answer(outcome: Outcome) -> Answer:
    if not isinstance(outcome, Answer):
        raise TypeError(f"a Send step must be answered with an Answer or a Failure, not {outcome!r}")
    return outcome


def encode(document: Any) -> bytes:
    """Return ``document`` as JSON. Raises ValueError for NaN and infinity, which JSON does not have."""
    return json.dumps(document, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()


def predict_path(model: str, version: str | None, alias: str | None) -> str:
    """Return the path that asks a model, one of its versions or one of its aliases to predict."""
    if version is not None and alias is not None:
        raise ValueError("give either a version or an alias, not both")
    path = f"/v1/models/{quote(model, safe='')}"
    if version is not None:
        path += f"/versions/{quote(version, safe='')}"
    if alias is not None:
        path += f"/labels/{quote(alias, safe='')}"
    return path + ":predict"


def id_of(job: Job | str) -> str:
    """Return the id of a job given as a document or by its id."""
    return job.id if isinstance(job, Job) else job


def job_path(job: Job | str) -> str:
    """Return the path of a job."""
    return f"/v1/jobs/{quote(id_of(job), safe='')}"


def _post_headers(idempotency_key: str | None) -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    if idempotency_key is not None:
        headers["Idempotency-Key"] = idempotency_key
    return headers
