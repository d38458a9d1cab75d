"""What the claim loop counts, with the label lookups done once a version instead of once a job."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from muleteer.metrics import BATCH_DURATION, BATCH_ROWS, JOB_WAIT, JOBS, PREDICT_DURATION, REDELIVERED
from muleteer.queue.consumer import Claim, FinishReport, ReapReport
from muleteer.queue.names import split_queue_name
from muleteer_worker.sample import Sampler


class Tally:
    """The metrics of one queue."""

    def __init__(self, queue: str) -> None:
        model, version = split_queue_name(queue)
        self._wait = JOB_WAIT.labels(model, version)
        self._rows = BATCH_ROWS.labels(model, version)
        self._batch = BATCH_DURATION.labels(model, version)
        self._predict = PREDICT_DURATION.labels(model, version)
        self._redelivered = REDELIVERED.labels(model, version)
        self._sampler = Sampler(model, version)
        names = ("finished", "failed", "expired", "canceled", "stale", "dead")
        self._ended = {name: JOBS.labels(model, version, name) for name in names}

    def claimed(self, claim: Claim) -> None:
        """Count what a claim dropped, and how long its jobs have waited."""
        self._wait.observe_all([job.waited for job in claim.jobs])
        # A refused job is stored as failed: a stock RQ job that strayed onto a model's queue.
        self._add(expired=claim.expired, canceled=claim.canceled, failed=claim.refused)

    def predicted(self, calls: list[tuple[int, float]], sample: Sequence[Any]) -> None:
        """Count predict calls: (rows, seconds) of each, and a sample of what they predicted."""
        for rows, seconds in calls:
            self._rows.observe(rows)
            self._predict.observe(seconds)
        self._sampler.count(sample)

    def finished(self, report: FinishReport, seconds: float) -> None:
        """Count how the jobs of a batch ended, ``seconds`` after their claim."""
        self._batch.observe(seconds)
        self._add(finished=report.finished, failed=report.failed, stale=report.stale, canceled=report.canceled)

    def given_back(self, requeued: int, dead: int) -> None:
        """Count jobs of lost workers."""
        if requeued:
            self._redelivered.inc(requeued)
        self._add(dead=dead)

    def _add(self, **counts: int) -> None:
        for name, count in counts.items():
            if count:
                self._ended[name].inc(count)


@cache
def tally(queue: str) -> Tally:
    """Return the metrics of a queue, made once a process."""
    return Tally(queue)


def count_given_back(report: ReapReport) -> None:
    """Count what a reap or a release gave back."""
    for queue in report.requeued.keys() | report.dead.keys():
        tally(queue).given_back(report.requeued.get(queue, 0), report.dead.get(queue, 0))
