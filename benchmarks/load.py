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
    seconds: float
    p50_milliseconds: float
    p99_milliseconds: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


def require_wrk() -> None:
    """Raise BenchmarkError when wrk is not installed."""
    if shutil.which("wrk") is None:
        raise BenchmarkError("wrk, the load generator, is not installed: sudo apt-get install wrk")


def wrk_command(url: str, connections: int, seconds: float, *arguments: Path) -> list[str]:
    """Return the command that loads ``url``; ``arguments`` go to the script. wrk takes whole seconds."""
    options = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", f"--timeout={TIMEOUT_SECONDS}s"]
    return ["wrk", *options, "-s", str(SCRIPT), url, "--", *map(str, arguments)]


def run_wrk(url: str, bodies: Path, connections: int, seconds: float) -> LoadResult:
    """Load ``url`` for a time. Raises BenchmarkError when any request was not answered with success."""
    command = wrk_command(url, connections, seconds, bodies)
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    line = next((line for line in ended.stdout.splitlines() if line.startswith("{")), None)
    if ended.returncode != 0 or line is None:
        raise BenchmarkError(f"wrk failed: {(ended.stderr or ended.stdout).strip()[-500:]}")
    figures = json.loads(line)
    if figures["bad_statuses"] or figures["broken"] or not figures["requests"]:
        raise BenchmarkError(
            f"{url}: of {figures['requests']} requests {figures['bad_statuses']} were answered with an error and "
            f"{figures['broken']} not at all"
        )
    return LoadResult(figures["requests"], figures["microseconds"] / 1e6, figures["p50"] / 1000, figures["p99"] / 1000)
