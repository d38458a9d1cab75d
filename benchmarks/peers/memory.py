"""Memory over time: a system under load for minutes, and what its processes hold at each of them."""

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.load import wrk_command
from benchmarks.peers.environments import PeerUnavailableError
from benchmarks.peers.models_served import Exchange, PeerModel
from benchmarks.peers.running import running
from benchmarks.peers.subjects import Subject

CONNECTIONS = 64
MINUTE = 60.0
FLAT = 1.05
"""Growth from the first minute to the last up to which memory counts as flat."""


@dataclass(frozen=True, slots=True)
class MemoryResult:
    """What a system held at the beginning of the load and at each minute of it."""

    model: str
    subject: str
    mib: list[float]

    @property
    def growth(self) -> float:
        """The last figure over that of the first minute: what is filled once, at the beginning, is not a leak."""
        return self.mib[-1] / self.mib[min(1, len(self.mib) - 1)]


def measure_memory(
    subject: Subject, model: PeerModel, exchange: Exchange, minutes: int, tell: Callable[[Sequence[float]], None]
) -> MemoryResult:
    """Load a system for minutes. Raises PeerUnavailableError when it cannot be measured or does not last."""
    with running(subject, model, exchange) as system:
        found = [system.tree.memory_mib()]
        command = wrk_command(system.url, CONNECTIONS, minutes * MINUTE + 5, system.bodies)
        began = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as wrk:
            try:
                for minute in range(1, minutes + 1):
                    time.sleep(max(0.0, began + minute * MINUTE - time.monotonic()))
                    if wrk.poll() is not None:
                        raise PeerUnavailableError(f"the load ended in minute {minute}")
                    found.append(system.tree.memory_mib())
                    tell(found)
            finally:
                wrk.kill()
    return MemoryResult(model.name, subject.name, found)
