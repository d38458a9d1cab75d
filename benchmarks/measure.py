"""One measurement: a subject is started, checked, warmed up, loaded and stopped."""

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.cases import CONNECTIONS, STATE, BenchmarkError, Case
from benchmarks.load import run_wrk
from benchmarks.subjects import SUBJECTS
from benchmarks.usage import read_usage
from benchmarks.workload import Workload

WARM_UP_SECONDS = 2.0
CHECKED = 20
"""Answers compared with the model's own before the load."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """The figures of one subject in one round."""

    case: str
    subject: str
    round: int
    rate: float
    """Requests a second at 64 connections."""
    p50: float
    """Milliseconds, at 64 connections."""
    p99: float
    """Milliseconds, at 64 connections."""
    single_p50: float
    """Milliseconds, at one connection."""
    single_p99: float
    """Milliseconds, at one connection."""
    commands: float
    """Redis commands a request at 64 connections; 0 without Redis."""
    reads: float
    """The Redis server's reads a request at 64 connections; 0 without Redis."""
    cpu: dict[str, float]
    """CPU seconds of each part for 1,000 requests at 64 connections, which is milliseconds a request."""


def measure(case: Case, subject: str, number: int, workload: Workload, seconds: float) -> Measurement:
    """Measure one subject. Raises BenchmarkError when it answers anything but what the model says."""
    STATE.mkdir(exist_ok=True)
    with (
        # Not below /tmp, which may be memory: the append-only file belongs on a disk.
        tempfile.TemporaryDirectory(prefix="bench-", dir=STATE) as folder,
        SUBJECTS[subject](case, Path(folder)) as running,
    ):
        check_answers(running.url, workload, CHECKED)
        run_wrk(running.url, workload.bodies, CONNECTIONS, WARM_UP_SECONDS)
        settle(running.url, workload)
        before = read_usage(running)
        many = run_wrk(running.url, workload.bodies, CONNECTIONS, seconds)
        used = read_usage(running).since(before)
        settle(running.url, workload)
        run_wrk(running.url, workload.bodies, 1, 1.0)
        single = run_wrk(running.url, workload.bodies, 1, max(2.0, seconds / 2))
    return Measurement(
        case.name,
        subject,
        number,
        rate=many.rate,
        p50=many.p50_milliseconds,
        p99=many.p99_milliseconds,
        single_p50=single.p50_milliseconds,
        single_p99=single.p99_milliseconds,
        commands=used.commands / many.requests,
        reads=used.reads / many.requests,
        cpu={part: 1000 * cpu / many.requests for part, cpu in used.cpu_seconds.items()},
    )


def settle(url: str, workload: Workload) -> None:
    """Wait until what a load left behind is worked off: wrk goes away with requests unanswered, and queues are fair."""
    check_answers(url, workload, 1)


def check_answers(url: str, workload: Workload, count: int) -> None:
    """Raise BenchmarkError unless the first ``count`` answers are 200 and the model's own."""
    with httpx.Client(timeout=30.0) as client:
        for instance, prediction in list(zip(workload.instances, workload.predictions, strict=True))[:count]:
            response = client.post(url, json=instance)
            if response.status_code != 200 or not _equal(response.json(), prediction):
                raise BenchmarkError(
                    f"{url} answered {response.status_code} {response.text[:200]} instead of {prediction}"
                )


def _equal(answer: Any, prediction: dict[str, Any]) -> bool:
    if not isinstance(answer, dict) or answer.keys() != prediction.keys():
        return False
    return all(
        math.isclose(answer[name], value, rel_tol=1e-6) if isinstance(value, float) else answer[name] == value
        for name, value in prediction.items()
    )
