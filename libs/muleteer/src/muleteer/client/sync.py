"""The sync client."""

import time
from typing import Self, TypeVar

import httpx

from muleteer.client.answers import Answer, Predictions
from muleteer.client.documents import Job, ModelDetails, ModelSummary
from muleteer.client.protocol import Failure, Flow, Instances, Outcome, Pause, Protocol, Send
from muleteer.client.transport import answer_of, client_options, failure_of, request_arguments

T = TypeVar("T")


class Client:
    """A Muleteer server, called from ordinary code. Threads may share one.

    ``timeout`` is how many seconds a call may take that is given no timeout of its own, retries included;
    ``api_key`` is sent as a bearer token; ``reconnect`` is how many seconds a server that refuses or drops
    connections (it restarts) is tried again before Unavailable is raised.

    What is retried, within the timeout: 429 and 503 with ``Retry-After``, refused connections, and dropped
    connections of calls that may be done twice, which all are but ``submit`` without an idempotency key.

    Every call may raise MuleteerAPIError or one of its subclasses.
    """

    def __init__(self, url: str, timeout: float = 60.0, api_key: str | None = None, reconnect: float = 5.0) -> None:
        self._protocol = Protocol(url, timeout, api_key, reconnect)
        self._http = httpx.Client(**client_options(self._protocol))

    def predict(
        self,
        model: str,
        instances: Instances,
        *,
        version: str | None = None,
        alias: str | None = None,
        timeout: float | None = None,
        idempotency_key: str | None = None,
    ) -> Predictions:
        """Return one prediction for each instance: a list for a list, an object with the same keys for an object.

        Predictions are idempotent, so the request is sent again where it may have been lost. If the server stops
        waiting first, the client goes on with the job; after ``timeout`` seconds (at least 1) it raises JobTimeout,
        whose ``job_id`` can still be given to ``result``.
        """
        return self._run(self._protocol.predict(model, instances, version, alias, timeout, idempotency_key))

    def submit(
        self,
        model: str,
        instances: Instances,
        *,
        version: str | None = None,
        alias: str | None = None,
        idempotency_key: str | None = None,
        callback: str | None = None,
    ) -> Job:
        """Hand instances in and return the job at once. The server posts the ended job to ``callback``, if given."""
        return self._run(self._protocol.submit(model, instances, version, alias, idempotency_key, callback))

    def job(self, job_id: str) -> Job:
        """Return a job as it is now. Raises NotFound if there is none, or none any more."""
        return self._run(self._protocol.job(job_id))

    def result(self, job: Job | str, timeout: float) -> Predictions:
        """Wait up to ``timeout`` seconds for a job and return its predictions.

        Raises JobTimeout, PredictionFailed if the job failed, JobCanceled if it was canceled.
        """
        return self._run(self._protocol.result(job, timeout))

    def cancel(self, job: Job | str) -> Job:
        """Cancel a job and return it as it is then."""
        return self._run(self._protocol.cancel(job))

    def models(self) -> list[ModelSummary]:
        """Return the models that the server serves."""
        return self._run(self._protocol.models())

    def model(self, name: str) -> ModelDetails:
        """Return one model: its versions and their states, schemas and examples."""
        return self._run(self._protocol.model(name))

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Return as soon as the server is ready. Raises Unavailable if it is not within ``timeout`` seconds."""
        self._run(self._protocol.wait_ready(timeout))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, flow: Flow[T]) -> T:
        outcome: Outcome = None
        while True:
            try:
                step = flow.send(outcome)
            except StopIteration as done:
                result: T = done.value
                return result
            outcome = self._carry_out(step)

    def _carry_out(self, step: Send | Pause) -> Answer | Failure | None:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        try:
            return answer_of(self._http.request(**request_arguments(step)))
        except httpx.RequestError as error:
            return failure_of(error)
