"""One model version in one process: its state, and what gateways are told of it."""

import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal

from muleteer_worker.plan import Plan
from muleteer_worker.readiness import LoadedVersion

State = Literal["cold", "loading", "ready", "failed", "retired"]
"""``cold``: not resident, and loaded when it is asked for (in a process with a memory budget)."""


@dataclass(frozen=True, slots=True)
class VersionReport:
    """What this process says of a version."""

    model: str
    version: str
    state: State
    reason: str
    message: str
    at: float
    """Unix time since which it is so."""


class Resident:
    """One version in this process, from its first load to its end."""

    def __init__(self, plan: Plan, *, left_behind: bool = False) -> None:
        self.plan = plan
        self.wanted = not left_behind
        self.left_behind = left_behind
        """It had left the catalog before this process began, but jobs still wait for it."""
        self.loaded: LoadedVersion | None = None
        self.load: Future[LoadedVersion] | None = None
        self.load_source = plan.source
        self.failures = 0
        self.retry_at: float | None = None
        self.empty_since: float | None = None
        self.bytes: int | None = None
        self.exact = False
        """Its load imported no libraries, so that ``bytes`` are its own."""
        self.load_seconds: float | None = None
        self.loaded_at = self.used_at = 0.0
        """When it was loaded and when its last batch began (monotonic seconds)."""
        self.served = 0
        """Batches since it was loaded."""
        self.set_state("loading")

    def set_state(self, state: State, reason: str = "", message: str = "") -> None:
        """Enter a state, from now on."""
        self.state: State = state
        self.reason, self.message, self.at = reason, message, time.time()

    def report(self) -> VersionReport:
        """Return what gateways are told."""
        plan = self.plan
        return VersionReport(plan.model, plan.version, self.state, self.reason, self.message, self.at)
