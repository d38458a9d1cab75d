"""What a subject has used up so far: CPU time of its parts, and what its Redis has done."""

from collections.abc import Mapping
from dataclasses import dataclass

import psutil
import redis

from benchmarks.subjects import Running


@dataclass(frozen=True, slots=True)
class Usage:
    """Totals since the start; the difference of two is what happened between them."""

    cpu_seconds: Mapping[str, float]
    commands: int
    reads: int

    def since(self, before: "Usage") -> "Usage":
        """Return what was used since ``before``."""
        cpu = {part: seconds - before.cpu_seconds[part] for part, seconds in self.cpu_seconds.items()}
        return Usage(cpu, self.commands - before.commands, self.reads - before.reads)


def read_usage(running: Running) -> Usage:
    """Return a subject's totals; counts of Redis are 0 where it has none."""
    cpu = {part: _cpu_seconds(process) for part, process in running.parts.items()}
    if not running.redis_url:
        return Usage(cpu, 0, 0)
    with redis.Redis.from_url(running.redis_url) as connection:
        stats = connection.info("stats")
    return Usage(cpu, int(stats["total_commands_processed"]), int(stats["total_reads_processed"]))


def _cpu_seconds(process: psutil.Process) -> float:
    family = [process, *process.children(recursive=True)]
    return sum(times.user + times.system for times in (member.cpu_times() for member in family))
