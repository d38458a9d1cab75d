"""``python -m benchmarks.simulate``: what an autoscaled worker pool makes of a traffic trace, without a cluster.

Give it what a batch costs (or the URL of a gateway that has learnt it), a trace and the chart's autoscaling values; it
tells the queue seconds, the pods over time and what they cost. ``--validate`` holds it against a real run here.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console

from benchmarks.cases import ROOT, BenchmarkError
from benchmarks.simulation import report
from benchmarks.simulation.autoscaler import (
    SYNC_SECONDS,
    Autoscaler,
    BacklogTarget,
    CpuAutoscaler,
    CpuTarget,
    Fixed,
    KedaAutoscaler,
)
from benchmarks.simulation.behavior import read_behavior
from benchmarks.simulation.learned import read_cost
from benchmarks.simulation.pool import Cost, varying
from benchmarks.simulation.run import Plan, simulate
from benchmarks.simulation.traffic import SHAPES, Trace, make_trace, read_trace
from benchmarks.simulation.validate import validate
from muleteer.errors import MuleteerError

VALUES = ROOT / "charts" / "muleteer" / "values.yaml"


def main() -> int:
    """Run what the command line asks for; returns the exit code."""
    arguments = _parser().parse_args()
    console = Console(soft_wrap=True)
    try:
        if arguments.validate:
            return 0 if validate(console, arguments.seed) else 1
        _simulate(console, arguments)
    except (BenchmarkError, MuleteerError) as error:
        console.print(f"[bold red]The simulation failed:[/] {error}", highlight=False)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _simulate(console: Console, arguments: argparse.Namespace) -> None:
    trace = _trace(arguments)
    values = _values(arguments.values)
    seeds = np.random.SeedSequence(arguments.seed)
    arrivals = trace.arrivals(np.random.default_rng(seeds), even=arguments.even)
    outcome = simulate(_plan(arguments), arrivals, _autoscaler(arguments, values), arguments.seed)
    report.show(console, outcome)
    if arguments.csv:
        arguments.csv.write_text(report.csv_text(outcome))
    if arguments.svg:
        arguments.svg.write_text(report.svg(outcome))


def _trace(arguments: argparse.Namespace) -> Trace:
    if arguments.trace:
        return read_trace(arguments.trace)
    return make_trace(arguments.shape, arguments.rate, arguments.peak, arguments.seconds)


def _plan(arguments: argparse.Namespace) -> Plan:
    batch, row = arguments.batch_seconds, arguments.row_seconds
    if arguments.url:
        if not arguments.model:
            raise BenchmarkError("--url needs --model: whose cost is to be asked for")
        batch, row = read_cost(arguments.url, arguments.model, arguments.version)
    return Plan(
        Cost(batch, row, arguments.spread, arguments.overhead),
        varying(arguments.startup, arguments.startup_spread),
        max_rows=arguments.max_rows,
        target_seconds=arguments.target_batch_seconds,
        rows=arguments.rows,
        processes=arguments.processes,
        metrics_seconds=arguments.metrics_seconds,
        cores_when_busy=arguments.cores,
    )


def _values(path: Path) -> dict[str, Any]:
    """Return a pool's ``autoscaling`` values, with its CPU request beside them."""
    try:
        worker = yaml.safe_load(path.read_text())["worker"]
        return {**worker["autoscaling"], "cpu": worker["resources"]["requests"]["cpu"]}
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise BenchmarkError(f"{path} does not hold the chart's values for worker.autoscaling: {error}") from error


def _autoscaler(arguments: argparse.Namespace, values: dict[str, Any]) -> Autoscaler:
    def value(name: str, default: Any) -> Any:
        given = getattr(arguments, name)
        return default if given is None else given

    kind = value("scaling", values["type"])
    least, most = value("min", values["minReplicas"]), value("max", values["maxReplicas"])
    if kind == "none":
        return Fixed(arguments.replicas)
    behavior = read_behavior(values["behavior"])
    if kind == "cpu":
        if least < 1:
            raise BenchmarkError("--min 0 needs --scaling keda: an autoscaler on CPU never starts the first pod")
        percent = value("target_cpu", values["targetCPUUtilization"])
        request = value("cpu_request", _cores(values["cpu"]))
        return CpuAutoscaler(CpuTarget(percent, request, arguments.sync_seconds), least, most, behavior)
    keda = values["keda"]
    target = BacklogTarget(
        value("target_seconds", keda["targetSeconds"]),
        value("target_jobs", keda["targetJobs"]),
        arguments.processes * value("target_utilization", keda["targetUtilization"]) / 100,
        value("polling_seconds", keda["pollingInterval"]),
        value("cooldown_seconds", keda["cooldownPeriod"]),
        arguments.sync_seconds,
    )
    return KedaAutoscaler(target, least, most, behavior)


def _cores(quantity: str | float) -> float:
    """Return the cores of a Kubernetes CPU quantity: ``250m`` or ``2``."""
    text = str(quantity)
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulate", description=__doc__)
    parser.add_argument("--validate", action="store_true", help="hold the simulation against a real run (3 minutes)")
    parser.add_argument("--seed", type=int, default=1, help="of the arrivals and durations (%(default)s)")

    traffic = parser.add_argument_group("traffic")
    traffic.add_argument("--trace", type=Path, help="CSV file of second,rate; else a shape:")
    traffic.add_argument("--shape", choices=SHAPES, default="spike", help="built-in trace (%(default)s)")
    traffic.add_argument("--rate", type=float, default=50.0, help="requests a second, the lowest (%(default)g)")
    traffic.add_argument("--peak", type=float, default=400.0, help="requests a second, the highest (%(default)g)")
    traffic.add_argument("--seconds", type=float, default=1200.0, help="length of the shape (%(default)g)")
    traffic.add_argument("--even", action="store_true", help="even distances instead of a Poisson process")
    traffic.add_argument("--rows", type=int, default=1, help="instances in each request (%(default)s)")

    cost = parser.add_argument_group("what a batch costs")
    cost.add_argument("--batch-seconds", type=float, default=0.005, metavar="A", help="of each batch (%(default)g)")
    cost.add_argument("--row-seconds", type=float, default=0.005, metavar="B", help="of each row (%(default)g)")
    cost.add_argument("--spread", type=float, default=0.1, help="standard deviation, as a part (%(default)g)")
    cost.add_argument("--overhead", type=float, default=0.001, help="seconds between two batches (%(default)g)")
    cost.add_argument("--url", help="gateway whose workers have learnt A and B, instead")
    cost.add_argument("--model", default="", help="with --url: the model")
    cost.add_argument("--version", default="", help="with --url: its version; the default one if left away")

    pool = parser.add_argument_group("the pool")
    pool.add_argument("--max-rows", type=int, default=64, help="batching.max_rows (%(default)s)")
    pool.add_argument(
        "--target-batch-seconds", type=float, default=1.0, help="batching.target_batch_seconds (%(default)g)"
    )
    pool.add_argument("--processes", type=int, default=1, help="of each pod (%(default)s)")
    pool.add_argument("--startup", type=float, default=20.0, help="seconds until a new pod claims (%(default)g)")
    pool.add_argument("--startup-spread", type=float, default=0.2, help="standard deviation, as a part (%(default)g)")
    pool.add_argument("--cores", type=float, default=1.0, help="cores a process uses while busy (%(default)g)")

    scaling = parser.add_argument_group("scaling", "Left away: what the chart's values say.")
    scaling.add_argument("--values", type=Path, default=VALUES, help="values file with worker.autoscaling")
    scaling.add_argument("--scaling", choices=("none", "cpu", "keda"), help="autoscaling.type")
    scaling.add_argument("--replicas", type=int, default=1, help="with none: the pods (%(default)s)")
    scaling.add_argument("--min", type=int, help="minReplicas; 0 only with keda")
    scaling.add_argument("--max", type=int, help="maxReplicas")
    scaling.add_argument("--target-cpu", type=float, help="targetCPUUtilization")
    scaling.add_argument("--cpu-request", type=float, help="cores that a pod requests")
    scaling.add_argument("--target-seconds", type=float, help="keda.targetSeconds")
    scaling.add_argument("--target-jobs", type=float, help="keda.targetJobs")
    scaling.add_argument("--target-utilization", type=float, help="keda.targetUtilization")
    scaling.add_argument("--polling-seconds", type=float, help="keda.pollingInterval")
    scaling.add_argument("--cooldown-seconds", type=float, help="keda.cooldownPeriod")
    scaling.add_argument(
        "--sync-seconds", type=float, default=SYNC_SECONDS, help="the autoscaler's sync period (%(default)g)"
    )
    scaling.add_argument(
        "--metrics-seconds", type=float, default=15.0, help="metrics-server's resolution (%(default)g)"
    )

    output = parser.add_argument_group("output")
    output.add_argument("--csv", type=Path, help="write the run over time")
    output.add_argument("--svg", type=Path, help="draw the run over time")
    return parser


if __name__ == "__main__":
    sys.exit(main())
