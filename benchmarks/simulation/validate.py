"""The simulation next to a real run: the same arrivals, the same autoscaler, and the queue seconds of both."""

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from operator import methodcaller
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
from rich.console import Console

from benchmarks.cases import STATE
from benchmarks.report import RESULTS, Grid, verdict, write_results
from benchmarks.simulation import report
from benchmarks.simulation.autoscaler import Autoscaler, BacklogTarget, Fixed, KedaAutoscaler
from benchmarks.simulation.behavior import Behavior, Direction, Policy
from benchmarks.simulation.pool import Cost, measured
from benchmarks.simulation.real import OBSERVE_SECONDS, Driver, RealPool, RealRun, Sleeper, StartUps, beside, driving
from benchmarks.simulation.run import Outcome, Plan, simulate
from benchmarks.simulation.traffic import Seconds, Trace

MOST_OFF = 0.2
"""Of mean and p95 queue seconds."""
SIMULATIONS = 20
"""Runs of the simulation on the same arrivals, with other durations each; their mean is what it predicts."""
FIT_ROUNDS = 8
FULL_BATCHES = 40
START_UP_RATE = 70.0
"""Jobs a second while the start-up of pods is measured: fewer than one pod can do."""
PERCENTILES = (50, 95, 99)

BEHAVIOR = Behavior(
    up=Direction(0.0, (Policy("Percent", 100, 3.0), Policy("Pods", 4, 3.0))),
    down=Direction(12.0, (Policy("Percent", 50, 6.0),)),
)
"""The chart's, with its times a fifth (up) and a tenth to a twenty-fifth (down), so that minutes show what hours do."""
TARGET = BacklogTarget(seconds=1.0, jobs=60.0, polling_seconds=2.0, cooldown_seconds=8.0, sync_seconds=3.0)
MOST_PODS = 4


@dataclass(frozen=True, slots=True)
class Part:
    """One trace and who decides about the pods."""

    name: str
    trace: Trace
    autoscaler: Callable[[], Autoscaler]
    """A new one for each run."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What was measured before, and is all that the simulation knows of the real pool."""

    batch_seconds: float
    row_seconds: float
    factors: list[float]
    """Predict calls, as parts of a + b * rows."""
    overheads: list[float]
    """Seconds between two predict calls of a worker that has a full queue."""
    start_ups: StartUps


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of both."""

    part: str
    figure: str
    real: float
    simulated: float
    deviation: float
    """Standard deviation of the simulation's runs."""
    informed: float
    """Simulated with the start-ups of the run itself: what is left is not for want of knowing them."""
    counts: bool

    @property
    def off(self) -> float:
        """How far the simulation is off, as a part of the real figure."""
        return self.simulated / self.real - 1.0

    @property
    def met(self) -> bool:
        """It is near enough."""
        return abs(self.off) <= MOST_OFF


def _keda() -> Autoscaler:
    autoscaler = KedaAutoscaler(TARGET, 0, MOST_PODS, BEHAVIOR)
    autoscaler.first_replicas = 1
    return autoscaler


PARTS = (
    Part("one pod, 50/s", Trace((0.0,), (50.0,), 30.0), lambda: Fixed(1)),
    Part(
        "KEDA, 0 to 4 pods",
        Trace((0.0, 10.0, 35.0, 60.0, 85.0, 102.0), (35.0, 200.0, 60.0, 160.0, 0.0, 24.0), 114.0),
        _keda,
    ),
)


def validate(console: Console, seed: int) -> bool:
    """Run both, show the tables, write ``results/simulation.md``; tell whether mean and p95 are near enough."""
    STATE.mkdir(exist_ok=True)
    sleeper = Sleeper()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=STATE) as folder, RealPool(Path(folder), sleeper) as pool:
        fit, runs = asyncio.run(_measure(console, pool, sleeper, seed))
    comparisons: list[Comparison] = []
    for part, (arrivals, real) in zip(PARTS, runs, strict=True):
        outcomes = _simulations(part, arrivals, fit, sleeper)
        own = replace(fit, start_ups=real.start_ups or fit.start_ups)
        comparisons += _compare(part, real, outcomes, _simulations(part, arrivals, own, sleeper))
        if part is PARTS[-1]:
            (RESULTS / "simulation.svg").write_text(_picture(arrivals, real, outcomes[0]))
    _write(console, fit, sleeper, comparisons, runs[-1][1].start_ups, seed)
    return all(one.met for one in comparisons if one.counts)


async def _measure(
    console: Console, pool: RealPool, sleeper: Sleeper, seed: int
) -> tuple[Fit, list[tuple[Seconds, RealRun]]]:
    async with driving(pool) as driver:
        console.print("Measuring start-up and cost of the real pods", highlight=False)
        took = await driver.start_pods(1)
        costs = await _fit(driver, sleeper)
        # Under load, as pods start in the run.
        async with beside(driver.run_steadily(START_UP_RATE)):
            took |= await driver.start_pods(MOST_PODS - 1)
            await driver.stop_pods(1)
        fit = Fit(*costs, took)
        runs = []
        for part, child in zip(PARTS, np.random.SeedSequence(seed).spawn(len(PARTS)), strict=True):
            console.print(f"Real run: {part.name}, {part.trace.end:g} s", highlight=False)
            arrivals = part.trace.arrivals(np.random.default_rng(child))
            runs.append((arrivals, await driver.run(arrivals, part.autoscaler())))
        return fit, runs


async def _fit(driver: Driver, sleeper: Sleeper) -> tuple[float, float, list[float], list[float]]:
    """Return a, b, the calls as parts of a + b * rows, and the seconds between two calls."""
    sizes = [n for n in (1, 2, 4, 8, sleeper.max_rows) if n <= sleeper.max_rows]
    calls = []
    for size in sizes * FIT_ROUNDS:
        reply = (await driver.send(size))[0]
        calls.append((reply.rows, reply.predict_seconds))
    # All enqueued at once: from one batch's wait to the next one's is a whole round of the worker's loop.
    replies = await driver.send(FULL_BATCHES * sleeper.max_rows)
    claims = sorted({(reply.waited, reply.predict_seconds, reply.rows) for reply in replies})
    overheads = [later[0] - one[0] - one[1] for one, later in pairwise(claims)]
    calls += [(rows, predict) for _, predict, rows in claims]
    rows, seconds = np.array(calls).T
    matrix = np.column_stack([np.ones(len(rows)), rows])
    (batch, row), *_ = np.linalg.lstsq(matrix, seconds, rcond=None)
    factors = seconds / (matrix @ [batch, row])
    return float(batch), float(row), factors.tolist(), [max(0.0, one) for one in overheads]


def _simulations(part: Part, arrivals: Seconds, fit: Fit, sleeper: Sleeper) -> list[Outcome]:
    plan = Plan(
        Cost(fit.batch_seconds, fit.row_seconds, factors=tuple(fit.factors), overheads=tuple(fit.overheads)),
        measured(fit.start_ups),
        max_rows=sleeper.max_rows,
        observe_seconds=OBSERVE_SECONDS,
    )
    return [simulate(plan, arrivals, part.autoscaler(), seed) for seed in range(SIMULATIONS)]


def _compare(part: Part, real: RealRun, outcomes: Sequence[Outcome], informed: Sequence[Outcome]) -> list[Comparison]:
    def one(figure: str, real_value: float, value: Callable[[Outcome], float], *, counts: bool) -> Comparison:
        values = [value(outcome) for outcome in outcomes]
        knowing = fmean(value(outcome) for outcome in informed)
        return Comparison(part.name, figure, real_value, fmean(values), stdev(values), knowing, counts)

    found = [one("mean", float(real.waits.mean()), lambda outcome: outcome.mean, counts=True)]
    for percent in PERCENTILES:
        value = float(np.percentile(real.waits, percent))
        found.append(one(f"p{percent}", value, methodcaller("percentile", percent), counts=percent == 95))
    pods = _pod_seconds(real.replicas, real.ended_at)
    found.append(
        one("pod seconds", pods, lambda outcome: _pod_seconds(outcome.replicas, outcome.ended_at), counts=False)
    )
    return found


def _pod_seconds(changes: Sequence[tuple[float, int, int]], end: float) -> float:
    """Return the seconds of pods that were wanted."""
    times = [at for at, _, _ in changes[1:]] + [end]
    return sum(wanted * (until - at) for (at, wanted, _), until in zip(changes, times, strict=True))


def _picture(arrivals: Seconds, real: RealRun, simulated: Outcome) -> str:
    seen = Outcome(arrivals, real.waits, real.replicas, 0.0, 0.0, 0, 0, real.ended_at)
    ours, theirs = report.slices(simulated, 120), report.slices(seen, 120)
    grey, orange, blue = report.COLOURS
    panels = [
        ("requests/s", [([one.rate for one in theirs], grey)]),
        (
            "mean queue seconds: real (orange), simulated (blue)",
            [([one.mean for one in theirs], orange), ([one.mean for one in ours], blue)],
        ),
        (
            "pods ready: real (orange), simulated (blue)",
            [([one.ready for one in theirs], orange), ([one.ready for one in ours], blue)],
        ),
    ]
    return report.draw(panels, real.ended_at)


def _write(
    console: Console,
    fit: Fit,
    sleeper: Sleeper,
    comparisons: Sequence[Comparison],
    start_ups: StartUps,
    seed: int,
) -> None:
    rows = [
        (
            f"{one.part}: {one.figure}",
            f"{one.real:.3f}",
            f"{one.simulated:.3f}",
            f"{one.deviation:.3f}",
            f"{one.off:+.0%}",
            verdict(met=one.met) if one.counts else "",
            f"{one.informed / one.real - 1:+.0%}",
        )
        for one in comparisons
    ]
    table = Grid(
        "Queue seconds, real and simulated",
        ("", "real", "simulated", "deviation", "off", f"within {MOST_OFF:.0%}", "off, start-ups known"),
        rows,
    )
    known = Grid(
        "What the simulation was told",
        ("", "measured before", "set in the model"),
        [
            ("a: seconds a batch", f"{fit.batch_seconds:.4f}", f"{sleeper.batch:g}"),
            ("b: seconds a row", f"{fit.row_seconds:.5f}", f"{sleeper.row:g}"),
            ("spread of predict calls", f"{stdev(fit.factors):.1%}", ""),
            ("seconds between two predict calls", f"{fmean(fit.overheads):.5f}", ""),
            *(
                (f"start-up seconds, {pods} starting", _listed(seconds), f"{sleeper.start_up:g} by the clock")
                for pods, seconds in sorted(fit.start_ups.items())
            ),
            *(
                (f"for comparison, in the run: {pods} starting", _listed(seconds), "")
                for pods, seconds in sorted(start_ups.items())
            ),
        ],
    )
    intro = (
        "A real Valkey, gateway and worker pods (a model that sleeps a + b*rows) and the simulation get the same "
        f"arrivals (seed {seed}) and the same scaling rules; the real pods follow the gateway's /backlog. Simulated: "
        f"mean and standard deviation of {SIMULATIONS} runs. KEDA's and the autoscaler's times are shortened: polling "
        f"{TARGET.polling_seconds:g} s, sync {TARGET.sync_seconds:g} s, cooldown {TARGET.cooldown_seconds:g} s, down "
        f"after {BEHAVIOR.down.stabilization_seconds:g} s."
    )
    raw = {
        "fit": asdict(fit) | {"start_ups": _by_text(fit.start_ups)},
        "sleeper": asdict(sleeper),
        "start_ups_in_the_run": _by_text(start_ups),
        "comparisons": [asdict(one) for one in comparisons],
    }
    write_results(console, "simulation", "Simulation", intro, [table, known], raw)


def _listed(seconds: Sequence[float]) -> str:
    return ", ".join(f"{one:.1f}" for one in seconds)


def _by_text(start_ups: StartUps) -> dict[str, list[float]]:
    return {str(pods): seconds for pods, seconds in start_ups.items()}
