"""The speed of all subjects in one run: rounds in random order, so that no subject always has the quiet minute."""

import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.cases import STATE, BenchmarkError, Case
from benchmarks.measure import Measurement, measure
from benchmarks.report import write_speed
from benchmarks.workload import make_workload


def run(console: Console, cases: Sequence[Case], rounds: int, seconds: float, seed: int) -> None:
    """Measure every subject of ``cases`` in every round, show the tables and write the results."""
    rng = random.Random(seed)  # noqa: S311 - the order of measurements
    order = [(number, *pair) for number in range(1, rounds + 1) for pair in _shuffled(rng, cases)]
    console.print(f"{rounds} rounds of {len(order) // max(1, rounds)} measurements, {seconds:g} s each, seed {seed}")
    STATE.mkdir(exist_ok=True)
    measurements: list[Measurement] = []
    with tempfile.TemporaryDirectory(prefix="bench-", dir=STATE) as folder:
        workloads = {case.name: make_workload(case, Path(folder), seed) for case in cases}
        began = time.monotonic()
        for done, (number, case, subject) in enumerate(order, 1):
            try:
                taken = measure(case, subject, number, workloads[case.name], seconds)
            except BenchmarkError as error:
                raise BenchmarkError(f"{case.name}, {subject}: {error}") from error
            measurements.append(taken)
            left = (time.monotonic() - began) / done * (len(order) - done)
            console.print(
                f"[{done:>3}/{len(order)}] {case.name:<6} {subject:<23} {taken.rate:>7,.0f} requests/s, "
                f"p50 {taken.p50:6.1f} ms, at 1 connection {taken.single_p50:5.2f} ms; about {_minutes(left)} left",
                highlight=False,
                markup=False,
            )
    write_speed(console, cases, measurements, {"rounds": rounds, "seconds": seconds, "seed": seed})


def _shuffled(rng: random.Random, cases: Sequence[Case]) -> list[tuple[Case, str]]:
    pairs = [(case, subject) for case in cases for subject in case.ways]
    rng.shuffle(pairs)
    return pairs


def _minutes(seconds: float) -> str:
    return f"{seconds // 60:.0f}:{seconds % 60:02.0f}"
