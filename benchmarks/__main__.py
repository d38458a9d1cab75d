"""``python -m benchmarks``: measure speed and durability and write both into ``benchmarks/results/``."""

import argparse
import random
import sys

from rich.console import Console

from benchmarks import durability, speed
from benchmarks.cases import CASES, BenchmarkError
from benchmarks.load import require_wrk
from benchmarks.workload import ensure_models
from muleteer.errors import MuleteerError


def main() -> int:
    """Run what the command line asks for; returns the exit code. A missed target is a figure, not an error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("all", "speed", "durability"), default="all")
    parser.add_argument("--rounds", type=int, default=5, help="times everything is measured (%(default)s)")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of a measurement (%(default)s)")
    parser.add_argument("--seed", type=int, help="of the rounds' order and the requests; by default a new one")
    parser.add_argument("--only", choices=[case.name for case in CASES], help="measure the speed of one model only")
    parser.add_argument("--jobs", type=int, default=25_000, help="jobs acknowledged before the kill (%(default)s)")
    arguments = parser.parse_args()
    console = Console(soft_wrap=True)
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1_000_000)
    try:
        require_wrk()
        ensure_models()
        if arguments.what in ("all", "speed"):
            cases = [case for case in CASES if arguments.only in (None, case.name)]
            speed.run(console, cases, arguments.rounds, arguments.seconds, seed)
        if arguments.what in ("all", "durability"):
            durability.run(console, arguments.jobs, seed)
    except (BenchmarkError, MuleteerError) as error:
        console.print(f"[bold red]The benchmark failed:[/] {error}", highlight=False)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
