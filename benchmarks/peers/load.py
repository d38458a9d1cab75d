"""The load of the other benchmarks, wrk with one thread, but with errors as figures instead of an end."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cases import BenchmarkError
from benchmarks.load import wrk_command


@dataclass(frozen=True, slots=True)
class PeerLoad:
    """What wrk saw."""

    requests: int
    """Answered with success."""
    seconds: float
    p50_milliseconds: float
    p99_milliseconds: float
    errors: int
    """Answered with an error, or not at all."""

    @property
    def rate(self) -> float:
        """Successful requests a second."""
        return self.requests / self.seconds


def run_load(url: str, bodies: Path, connections: int, seconds: float) -> PeerLoad:
    """Load ``url`` for a time. Raises BenchmarkError when wrk itself fails."""
    command = wrk_command(url, connections, seconds, bodies)
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise BenchmarkError(f"wrk failed: {(ended.stderr or ended.stdout).strip()[-500:]}")
    return parse_load(ended.stdout)


def parse_load(output: str) -> PeerLoad:
    """Return the figures of the line that ``load.lua`` prints. Raises BenchmarkError when there is none."""
    line = next((line for line in output.splitlines() if line.startswith("{")), None)
    if line is None:
        raise BenchmarkError(f"wrk printed no figures: {output.strip()[-500:]}")
    figures = json.loads(line)
    return PeerLoad(
        requests=figures["requests"] - figures["bad_statuses"],
        seconds=figures["microseconds"] / 1e6,
        p50_milliseconds=figures["p50"] / 1000,
        p99_milliseconds=figures["p99"] / 1000,
        errors=figures["bad_statuses"] + figures["broken"],
    )
