"""One system and one model, started once and loaded at each number of connections."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.cases import BenchmarkError
from benchmarks.load import run_load
from benchmarks.peers.environments import PeerUnavailableError
from benchmarks.peers.models_served import Exchange, PeerModel
from benchmarks.peers.running import Running, running
from benchmarks.peers.subjects import Subject

WARM_UP_SECONDS = 2.0
WARM_UP_CONNECTIONS = 64
TOLD_SECONDS = 0.3
"""How long a system's count of calls may lag behind."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured at one number of connections in one round."""

    model: str
    subject: str
    round: int
    connections: int
    rate: float
    """Successful requests a second."""
    p50: float
    """Milliseconds."""
    p99: float
    """Milliseconds."""
    errors: int
    cpu: float
    """CPU seconds of the whole process tree for 1,000 requests."""
    rows_a_call: float
    """Instances in one call of the model, on average: what batching made of the load."""
    memory: float
    """MiB (proportional set size) of the whole process tree after the last load of this start; the same in each."""


def measure(
    subject: Subject, model: PeerModel, exchange: Exchange, number: int, connections: Sequence[int], seconds: float
) -> list[Figures]:
    """Measure a system with a model. Raises PeerUnavailableError with the reason when it cannot be."""
    taken: list[dict[str, float]] = []
    with running(subject, model, exchange) as system:
        run_load(system.url, system.bodies, WARM_UP_CONNECTIONS, WARM_UP_SECONDS)
        try:
            taken = [_load(system, count, seconds) for count in connections]
        except BenchmarkError as error:
            raise PeerUnavailableError(str(error)) from error
        memory = system.tree.memory_mib()
    return [
        Figures(
            model.name,
            subject.name,
            number,
            connections=count,
            rate=one["rate"],
            p50=one["p50"],
            p99=one["p99"],
            errors=int(one["errors"]),
            cpu=one["cpu"],
            rows_a_call=one["rows_a_call"],
            memory=memory,
        )
        for count, one in zip(connections, taken, strict=True)
    ]


def _load(system: Running, connections: int, seconds: float) -> dict[str, float]:
    system.settle()
    time.sleep(TOLD_SECONDS)
    calls, rows = system.calls_and_rows()
    cpu = system.tree.cpu_seconds()
    seen = run_load(system.url, system.bodies, connections, seconds)
    cpu = system.tree.cpu_seconds() - cpu
    time.sleep(TOLD_SECONDS)
    calls_now, rows_now = system.calls_and_rows()
    if not seen.requests:
        raise BenchmarkError(f"answered none of the requests at {connections} connections")
    return {
        "rate": seen.rate,
        "p50": seen.p50_milliseconds,
        "p99": seen.p99_milliseconds,
        "errors": seen.errors,
        "cpu": 1000 * cpu / seen.requests,
        "rows_a_call": (rows_now - rows) / (calls_now - calls) if calls_now > calls else 0.0,
    }
