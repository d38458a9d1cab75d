"""Admission: what cannot be answered in time is refused at the door, with the time after which it can be."""

from collections.abc import Callable

from muleteer.errors import MuleteerError, OverloadedError, TooManyRequestsError
from muleteer.queue.producer import NewJob, Refusal
from muleteer_gateway.load import Load, QueueLoad
from muleteer_gateway.prefer import Preference
from muleteer_gateway.served import ServedVersion

SHORTEST_RETRY = 1.0
LONGEST_RETRY = 300.0
ROOM = 0.1
"""Share of a full queue that is to be free again when a refused caller comes back."""


class Admission:
    """Decides on each job before it is enqueued, from what is known of the load: without a round trip."""

    def __init__(self, load: Load, wish: Callable[[str, str], None]) -> None:
        """``wish`` is told the pool and the queue of a version that should be loaded though no job waits for it."""
        self._load = load
        self._wish = wish

    def refusal(self, job: NewJob, served: ServedVersion, prefer: Preference) -> OverloadedError | None:
        """Return why a job is not to be enqueued; None when it may be, or when nothing is known of the load.

        A caller with a deadline (``Prefer: wait=N`` without ``respond-async``, V2's ``timeout`` parameter, or else the
        model's ``timeout``) is refused when the answer is predicted to come later. One that takes a job's URL instead
        has no deadline. A job with nothing before it is never refused: if what is known of the cost is wrong, only a
        job can tell.
        """
        load = self._load.queues.get(job.queue)
        if load is None:
            return None
        deadline, loading = deadline_of(prefer, served), load.service.load_seconds
        if deadline is not None and loading > deadline:
            self._wish(load.service.pool, job.queue)
            return _overloaded(
                f"Version {served.version} of model {served.model} is not loaded, that takes {loading:.1f} s and the "
                f"caller waits {deadline:g} s: it is loaded meanwhile, try later.",
                "loading",
                loading,
                loading,
            )
        interactive = job.job_class == "interactive"
        wait = load.wait_seconds(job.rows, job.client, interactive=interactive)
        if not wait:
            return None
        limit = served.entry.limits.max_queue_seconds
        if limit is not None and wait > limit:
            return _overloaded(
                f"The queue of {job.queue} is too long: a job would wait {wait:.1f} s (limits.max_queue_seconds: "
                f"{limit:g}).",
                "queue_seconds",
                wait - limit,
                wait,
            )
        total = load.seconds_to_end(job.rows, wait)
        if deadline is not None and total > deadline:
            return _overloaded(
                f"The answer would take {total:.1f} s and the caller waits {deadline:g} s: try later, or send "
                "`Prefer: respond-async` to get a job instead.",
                "deadline",
                total - deadline,
                wait,
            )
        return None

    def eta_seconds(self, job: NewJob) -> float | None:
        """Predict when a job that was enqueued just now ends, in seconds from now; None while nothing is known."""
        load = self._load.queues.get(job.queue)
        wait = load.wait_seconds(job.rows, job.client, interactive=False) if load is not None else None
        return None if load is None or wait is None else load.seconds_to_end(job.rows, wait)

    def explain(self, job: NewJob, refusal: Refusal, served: ServedVersion) -> MuleteerError:
        """Return the error that answers what the queue itself refused."""
        load, limits, detail = self._load.queues.get(job.queue), served.entry.limits, refusal.detail
        if refusal.code == "rate":
            rate = job.limits.rate if job.limits is not None else 0
            return TooManyRequestsError(
                f"This client is over its limit of {rate:g} requests a second.",
                retry_after=float(detail),
                reason="rate",
            )
        if refusal.code == "busy":
            return TooManyRequestsError(
                f"This client has {detail} jobs queued or running, which is its limit: let some end first.",
                retry_after=_seconds_until(load, 1),
                reason="concurrency",
            )
        if refusal.code == "rows":
            limit = limits.max_queue_rows or 0
            return OverloadedError(
                f"The queue of {job.queue} is full: {detail} instances wait (limits.max_queue_rows: {limit}).",
                retry_after=_seconds_until(load, int(detail) + job.rows - limit + limit * ROOM),
                reason="queue_rows",
            )
        room = limits.max_queue_jobs * ROOM * (load.rows_a_job if load is not None else 1.0)
        return OverloadedError(
            f"The queue of {job.queue} is full: {detail} jobs wait (limits.max_queue_jobs).",
            retry_after=_seconds_until(load, room),
            reason="queue_full",
        )


def deadline_of(prefer: Preference, served: ServedVersion) -> float | None:
    """Return the seconds after which the caller has no use for an answer; None when it takes a job's URL as well."""
    if prefer.mode == "sync":
        return prefer.wait if prefer.wait is not None else served.entry.timeout
    return prefer.wait if prefer.mode == "wait" and not prefer.respond_async else None


def _overloaded(message: str, reason: str, retry_after: float, wait: float) -> OverloadedError:
    bounded = min(LONGEST_RETRY, max(SHORTEST_RETRY, retry_after))
    return OverloadedError(message, retry_after=bounded, reason=reason, queue_seconds=round(wait, 3))


def _seconds_until(load: QueueLoad | None, rows: float) -> float:
    seconds = load.seconds_until(rows) if load is not None else None
    return min(LONGEST_RETRY, max(SHORTEST_RETRY, seconds if seconds is not None else 5.0))
