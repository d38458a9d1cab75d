"""kill -9 of one worker under load: requests that fail, and seconds until the throughput is back."""

import asyncio
import os
import random
import signal
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.cases import BenchmarkError
from benchmarks.load import run_load
from benchmarks.peers.environments import PeerUnavailableError
from benchmarks.peers.measure import WARM_UP_SECONDS
from benchmarks.peers.models_served import Exchange, PeerModel
from benchmarks.peers.running import Running, running
from benchmarks.peers.steady_load import Account, load_steadily
from benchmarks.peers.subjects import Subject

CONNECTIONS = 64
BEFORE_SECONDS = 4.0
BASE_SECONDS = 3.0
"""The part of the time before the kill that gives the throughput to come back to."""
AFTER_SECONDS = 12.0
GRACE_SECONDS = 20.0
BACK = 0.8
"""The share of the throughput before that counts as recovered."""
WINDOW_SECONDS = 1.0
STEP_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class KillResult:
    """What a kill -9 of one worker did."""

    model: str
    subject: str
    rate_before: float
    failed: dict[str, int]
    """Requests that were not answered with success, by how they ended."""
    recovered_seconds: float | None
    """From the kill until at least ``BACK`` of the throughput is there to stay; None: not within the time."""
    half_seconds: list[float]
    """Requests/s in each half second from the kill on."""

    @property
    def failures(self) -> int:
        """All failed requests."""
        return sum(self.failed.values())


def measure_kill(subject: Subject, model: PeerModel, exchange: Exchange) -> KillResult:
    """Load a system, kill one of its workers and watch. Raises PeerUnavailableError when it cannot be measured."""
    with running(subject, model, exchange) as system:
        try:
            run_load(system.url, system.bodies, CONNECTIONS, WARM_UP_SECONDS)
        except BenchmarkError as error:
            raise PeerUnavailableError(str(error)) from error
        system.settle()
        return asyncio.run(_kill_under_load(system))


async def _kill_under_load(system: Running) -> KillResult:
    account = Account()
    began = time.monotonic()
    kill_at = began + BEFORE_SECONDS
    bodies = system.bodies.read_bytes().splitlines()
    load = asyncio.create_task(
        load_steadily(system.url, bodies, CONNECTIONS, kill_at + AFTER_SECONDS, GRACE_SECONDS, account)
    )
    await asyncio.sleep(kill_at - 0.5 - time.monotonic())
    # Looked up before: walking the processes takes a while, and this process is the load generator.
    pids = system.worker_pids()
    if not pids:
        load.cancel()
        raise PeerUnavailableError("no worker process was found to kill")
    victim = random.choice(pids)  # noqa: S311 - which worker
    await asyncio.sleep(kill_at - time.monotonic())
    killed = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    await load
    return KillResult(
        system.model.name,
        system.subject.name,
        rate_before=_rate(account.answered, killed - BASE_SECONDS, killed),
        failed=account.failed,
        recovered_seconds=recovery(account.answered, killed, killed + AFTER_SECONDS),
        half_seconds=[
            _rate(account.answered, killed + step / 2, killed + (step + 1) / 2)
            for step in range(int(2 * AFTER_SECONDS))
        ],
    )


def recovery(answered: Sequence[float], killed: float, end: float) -> float | None:
    """Return the seconds from the kill until the throughput is back and stays: None when it does not before ``end``.

    It is back at the first moment from which both the next second and all the time that is left have at least
    ``BACK`` of the rate before.
    """
    wanted = BACK * _rate(answered, killed - BASE_SECONDS, killed)
    steps = int((end - killed - WINDOW_SECONDS) / STEP_SECONDS) + 1
    for step in range(steps):
        moment = killed + step * STEP_SECONDS
        if _rate(answered, moment, moment + WINDOW_SECONDS) >= wanted and _rate(answered, moment, end) >= wanted:
            return step * STEP_SECONDS
    return None


def _rate(answered: Sequence[float], first: float, last: float) -> float:
    return (bisect_left(answered, last) - bisect_left(answered, first)) / (last - first)
