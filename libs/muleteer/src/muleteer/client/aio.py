"""The async client, for asyncio."""

import asyncio
from typing import Self, TypeVar

import httpx

from muleteer.client.answers import Answer, Predictions
from muleteer.client.documents import Job, ModelDetails, ModelSummary
from muleteer.client.protocol import Failure, Flow, Instances, Outcome, Pause, Protocol, Send
from muleteer.client.transport import answer_of, client_options, failure_of, request_arguments

T = TypeVar("T")


class AsyncClient:
    """A Muleteer server, called from asyncio code. Arguments, retries and errors are those of ``Client``."""

    def __init__(self, url: str, timeout: float = 60.0, api_key: str | None = None, reconnect: float = 5.0) -> None:
        self._protocol = Protocol(url, timeout, api_key, reconnect)
        self._http = httpx.AsyncClient(**client_options(self._protocol))

    async def predict(
        self,
        model: str,
        instances: Instances,
        *,
        version: str | None = None,
        alias: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - past it the job goes on, and JobTimeout says which it is
        idempotency_key: str | None = None,
    ) -> Predictions:
        """Return one prediction for each instance: a list for a list, an object with the same keys for an object.

        Predictions are idempotent, so the request is sent again where it may have been lost. If the server stops
        waiting first, the client goes on with the job; after ``timeout`` seconds (at least 1) it raises JobTimeout,
        whose ``job_id`` can still be given to ``result``.
        """
        return await self._run(self._protocol.predict(model, instances, version, alias, timeout, idempotency_key))

    async def submit(
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
        return await self._run(self._protocol.submit(model, instances, version, alias, idempotency_key, callback))

    async def job(self, job_id: str) -> Job:
        """Return a job as it is now. Raises NotFound if there is none, or none any more."""
        return await self._run(self._protocol.job(job_id))

    async def result(self, job: Job | str, timeout: float) -> Predictions:  # noqa: ASYNC109 - the server waits
        """Wait up to ``timeout`` seconds for a job and return its predictions.

        Raises JobTimeout, PredictionFailed if the job failed, JobCanceled if it was canceled.
        """
        return await self._run(self._protocol.result(job, timeout))

    async def cancel(self, job: Job | str) -> Job:
        """Cancel a job and return it as it is then."""
        return await self._run(self._protocol.cancel(job))

    async def models(self) -> list[ModelSummary]:
        """Return the models that the server serves."""
        return await self._run(self._protocol.models())

    async def model(self, name: str) -> ModelDetails:
        """Return one model: its versions and their states, schemas and examples."""
        return await self._run(self._protocol.model(name))

    async def wait_ready(self, timeout: float = 60.0) -> None:  # noqa: ASYNC109 - its error says what was wrong
        """Return as soon as the server is ready. Raises Unavailable if it is not within ``timeout`` seconds."""
        await self._run(self._protocol.wait_ready(timeout))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _run(self, flow: Flow[T]) -> T:
        outcome: Outcome = None
        while True:
            try:
                step = flow.send(outcome)
            except StopIteration as done:
                result: T = done.value
                return result
            outcome = await self._carry_out(step)

    async def _carry_out(self, step: Send | Pause) -> Answer | Failure | None:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        try:
            return answer_of(await self._http.request(**request_arguments(step)))
        except httpx.RequestError as error:
            return failure_of(error)
