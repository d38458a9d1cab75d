"""The load generator: wrk with one thread, every request another body."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cases import BenchmarkError

SCRIPT = Path(__file__).with_name("load.lua")
TIMEOUT_SECONDS = 30


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What wrk saw."""

    requests: int
    """Answered with success."""
    seconds: float
    p50_milliseconds: float
    p99_milliseconds: float
    bad_statuses: int
    """Answered with an error."""
    broken: int
    """Not answered at all."""

    @property
    def errors(self) -> int:
        """Requests without a good answer."""
        return self.bad_statuses + self.broken

    @property
    def rate(self) -> float:
        """Successful requests a second."""
        return self.requests / self.seconds


def require_wrk() -> None:
    """Raise BenchmarkError when wrk is not installed."""
    if shutil.which("wrk") is None:
        raise BenchmarkError("wrk, the load generator, is not installed: sudo apt-get install wrk")


def wrk_command(url: str, connections: int, seconds: float, *arguments: Path) -> list[str]:
    """Return the command that loads ``url``; ``arguments`` go to the script. wrk takes whole seconds."""
    options = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", f"--timeout={TIMEOUT_SECONDS}s"]
    return ["wrk", *options, "-s", str(SCRIPT), url, "--", *map(str, arguments)]


def run_load(url: str, bodies: Path, connections: int, seconds: float) -> LoadResult:
    """Load ``url`` for a time; errors are figures. Raises BenchmarkError when wrk itself fails."""
    ended = subprocess.run(wrk_command(url, connections, seconds, bodies), capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise BenchmarkError(f"wrk failed: {(ended.stderr or ended.stdout).strip()[-500:]}")
    return parse_load(ended.stdout)


def run_wrk(url: str, bodies: Path, connections: int, seconds: float) -> LoadResult:
    """Load ``url`` for a time. Raises BenchmarkError when any request was not answered with success."""
    found = run_load(url, bodies, connections, seconds)
    if found.errors or not found.requests:
        raise BenchmarkError(
            f"{url}: of {found.requests + found.bad_statuses} requests {found.bad_statuses} were answered with an "
            f"error and {found.broken} not at all"
        )
    return found


def parse_load(output: str) -> LoadResult:
    """Return the figures of the line that ``load.lua`` prints. Raises BenchmarkError when there is none."""
    line = next((line for line in output.splitlines() if line.startswith("{")), None)
    if line is None:
        raise BenchmarkError(f"wrk printed no figures: {output.strip()[-500:]}")
    figures = json.loads(line)
    return LoadResult(
        requests=figures["requests"] - figures["bad_statuses"],
        seconds=figures["microseconds"] / 1e6,
        p50_milliseconds=figures["p50"] / 1000,
        p99_milliseconds=figures["p99"] / 1000,
        bad_statuses=figures["bad_statuses"],
        broken=figures["broken"],
    )
