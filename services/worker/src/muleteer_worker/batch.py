"""One vectorised predict for all jobs of a claim; when it raises, the search for the jobs that made it raise."""

import time
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Protocol

import orjson

from muleteer.errors import PredictionFailedError
from muleteer.queue.consumer import ClaimedJob, Outcome
from muleteer_worker.sample import take_sample

MODEL_ERRORS = (Exception, SystemExit)
"""What a model's own code may raise; KeyboardInterrupt is not its own."""
MESSAGE_LENGTH = 1000

Predict = Callable[[list[Any]], list[Any]]


class Stopwatch(Protocol):
    """Sees every predict call begin and end, to notice one that hangs."""

    def begin(self) -> None:
        """Note that a predict call begins."""

    def end(self) -> None:
        """Note that it has returned or raised."""


class Batch:
    """The jobs of one claim on their way through one model version.

    ``max_rows`` is the most instances of one predict call: a job with more goes through in several. After ``run``,
    ``outcomes`` has one outcome for each job, ``rows`` counts the instances, and ``calls`` holds the rows and seconds
    of every predict call. ``sample`` has a few of the predictions that were made, as the model gave them.
    """

    __slots__ = ("_failed", "_max_rows", "_predict", "_stopwatch", "calls", "outcomes", "rows", "sample")

    def __init__(self, predict: Predict, max_rows: int, stopwatch: Stopwatch) -> None:
        self._predict = predict
        self._max_rows = max_rows
        self._stopwatch = stopwatch
        self._failed = False
        self.outcomes: list[Outcome] = []
        self.calls: list[tuple[int, float]] = []
        self.sample: list[Any] = []
        self.rows = 0

    @property
    def whole(self) -> bool:
        """Tell whether all jobs went through at the first attempt: only then its time tells what batches cost."""
        return self.rows > 0 and sum(rows for rows, _ in self.calls) == self.rows and not self._failed

    @property
    def predict_seconds(self) -> float:
        """Seconds in all predict calls together."""
        return sum(seconds for _, seconds in self.calls)

    def run(self, jobs: Sequence[ClaimedJob]) -> None:
        """Predict all instances of ``jobs`` at once; if that raises, halve until the jobs that raise are found."""
        readable: list[ClaimedJob] = []
        parts: list[list[Any]] = []
        for job in jobs:
            try:
                parts.append(_instances(job))
            except ValueError as error:
                self.outcomes.append(_failure(job, "BadInput", str(error)))
            else:
                readable.append(job)
        self.rows = sum(map(len, parts))
        if readable:
            self._solve(readable, parts)

    def _solve(self, jobs: Sequence[ClaimedJob], parts: list[list[Any]]) -> None:
        try:
            outcomes = self._predict_jobs(jobs, parts)
        except MODEL_ERRORS as error:  # a model's code can raise anything, and it is told to the job's owner
            self._failed = True
            if len(jobs) == 1:
                self.outcomes.append(self._blame(jobs[0], error))
                return
            middle = len(jobs) // 2
            for half in (jobs[:middle], jobs[middle:]):
                # Read again: a model may have changed the instances it was given before it raised.
                self._solve(half, [_instances(job) for job in half])
        else:
            self.outcomes += outcomes

    def _predict_jobs(self, jobs: Sequence[ClaimedJob], parts: list[list[Any]]) -> list[Outcome]:
        # Sizes first: a model may change the list it is given.
        sizes = [len(part) for part in parts]
        predictions = self._predict_rows(parts[0] if len(parts) == 1 else list(chain.from_iterable(parts)))
        outcomes = self._outcomes_of(jobs, sizes, predictions)
        # Only now: what cannot be written as JSON is not for metrics either.
        self.sample += take_sample(predictions)
        return outcomes

    @staticmethod
    def _outcomes_of(jobs: Sequence[ClaimedJob], sizes: list[int], predictions: list[Any]) -> list[Outcome]:
        if len(jobs) == 1:
            return [Outcome(jobs[0].id, _encode(predictions))]
        if len(predictions) == len(jobs) and max(sizes) == 1:
            return [Outcome(job.id, _encode([prediction])) for job, prediction in zip(jobs, predictions, strict=True)]
        outcomes, start = [], 0
        for job, size in zip(jobs, sizes, strict=True):
            outcomes.append(Outcome(job.id, _encode(predictions[start : start + size])))
            start += size
        return outcomes

    def _predict_rows(self, instances: list[Any]) -> list[Any]:
        if len(instances) <= self._max_rows:
            return self._call(instances) if instances else []
        predictions: list[Any] = []
        for start in range(0, len(instances), self._max_rows):
            predictions += self._call(instances[start : start + self._max_rows])
        return predictions

    def _call(self, instances: list[Any]) -> list[Any]:
        count = len(instances)
        self._stopwatch.begin()
        began = time.perf_counter()
        try:
            predictions = self._predict(instances)
        finally:
            self.calls.append((count, time.perf_counter() - began))
            self._stopwatch.end()
        if len(predictions) != count:
            raise PredictionFailedError(f"The model answered {len(predictions)} predictions for {count} instances.")
        return predictions

    def _blame(self, job: ClaimedJob, error: BaseException) -> Outcome:
        """Return the failure of a job that raises alone, with the row that does it when there is one."""
        size = len(_instances(job))
        names_row_itself = isinstance(error, PredictionFailedError) and size <= self._max_rows
        if size > 1 and not names_row_itself:
            row, row_error = self._find_row(job, size)
            if row_error is not None:
                return _failure(job, _kind(row_error), f"instances/{row}: {row_error}")
        return _failure(job, _kind(error), str(error))

    def _find_row(self, job: ClaimedJob, size: int) -> tuple[int, BaseException | None]:
        """Return a row that raises by itself, and what it raises; None when only rows together do."""
        low, high = 0, size
        found: BaseException | None = None
        while found is None or high - low > 1:
            middle = (low + high + 1) // 2
            for start, end in ((low, middle), (middle, high)):
                error = self._error_of(job, start, end)
                if error is not None:
                    low, high, found = start, end, error
                    break
            else:
                return low, None
        return low, found

    def _error_of(self, job: ClaimedJob, start: int, end: int) -> BaseException | None:
        try:
            _encode(self._predict_rows(_instances(job)[start:end]))
        except MODEL_ERRORS as error:  # asking whether these rows raise is what this is for
            return error
        return None


def _instances(job: ClaimedJob) -> list[Any]:
    instances = orjson.loads(job.input)
    if not isinstance(instances, list):
        raise ValueError("the job's input is not a JSON array of instances")  # noqa: TRY004 - like text that is no JSON
    return instances


def _encode(predictions: list[Any]) -> bytes:
    try:
        return orjson.dumps(predictions)
    except TypeError as error:
        raise PredictionFailedError(f"The model's prediction cannot be written as JSON: {error}.") from error


def _kind(error: BaseException) -> str:
    return "PredictionError" if isinstance(error, PredictionFailedError) else type(error).__name__


def _failure(job: ClaimedJob, kind: str, message: str) -> Outcome:
    # What a model says may hold half characters (lone surrogates), which JSON cannot carry.
    text = message[:MESSAGE_LENGTH].encode("utf-8", "replace").decode()
    return Outcome(job.id, None, kind, text)
