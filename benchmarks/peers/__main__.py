"""``python -m benchmarks.peers``: measure Muleteer beside its peers and write ``benchmarks/results/peers.*``."""

import argparse
import random
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.cases import BenchmarkError
from benchmarks.load import require_wrk
from benchmarks.peers import results as store
from benchmarks.peers.models_served import PEER_MODELS, Exchange, make_exchange
from benchmarks.peers.plot import svg
from benchmarks.peers.run import Orders, run_kill, run_memory, run_speed
from benchmarks.peers.subjects import SUBJECTS, find_subject
from benchmarks.peers.tables import ALL_CONNECTIONS, markdown
from benchmarks.report import RESULTS
from benchmarks.workload import ensure_models
from muleteer.errors import MuleteerError


def main() -> int:
    """Run what the command line asks for; returns the exit code. A missed target is a figure, not an error."""
    arguments = _parser().parse_args()
    path = RESULTS / f"{arguments.name}.json"
    results = store.load(path)
    try:
        if not arguments.report:
            _measure(arguments, results, path)
    except (BenchmarkError, MuleteerError) as error:
        print(f"The benchmark failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        if results.about:
            path.with_suffix(".md").write_text(markdown(results))
            path.with_suffix(".svg").write_text(svg(results))
            print(f"written to benchmarks/results/{arguments.name}.md, .json and .svg")
    return 0


def _measure(arguments: argparse.Namespace, results: store.Results, path: Path) -> None:
    require_wrk()
    ensure_models()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1_000_000)
    offered = [replace(model, own_forests=arguments.own_forests) for model in PEER_MODELS]
    models = [model for model in offered if model.name in arguments.models]
    with tempfile.TemporaryDirectory(prefix="mb-") as folder:
        exchanges: dict[str, Exchange] = {
            model.name: make_exchange(model, Path(folder), seed)
            for model in offered
            if model in models or model.name == arguments.kill_model
        }
    orders = Orders(
        subjects=[find_subject(name) for name in arguments.subjects],
        models=models,
        kill_model=next(model for model in offered if model.name == arguments.kill_model),
        connections=sorted(arguments.connections),
        rounds=arguments.rounds,
        seconds=arguments.seconds,
        minutes=arguments.minutes,
        seed=seed,
        exchanges=exchanges,
        path=path,
    )
    if arguments.minutes:
        run_memory(orders, results)
        return
    if "speed" in arguments.what:
        run_speed(orders, results)
    if "kill" in arguments.what:
        run_kill(orders, results)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    names, models = [subject.name for subject in SUBJECTS], [model.name for model in PEER_MODELS]
    parser.add_argument("--what", nargs="+", choices=("speed", "kill"), default=["speed", "kill"])
    parser.add_argument("--rounds", type=int, default=2, help="times everything is measured (%(default)s)")
    parser.add_argument("--seconds", type=int, default=3, help="length of a load (%(default)s)")
    parser.add_argument("--subjects", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--models", nargs="+", choices=models, default=models, metavar="NAME", help=", ".join(models))
    parser.add_argument("--connections", nargs="+", type=int, default=list(ALL_CONNECTIONS), metavar="N")
    parser.add_argument("--kill-model", choices=models, default="text", help="model of the kill row (%(default)s)")
    parser.add_argument(
        "--minutes", type=int, default=0, help="only this: memory of Muleteer and Ray over N minutes each"
    )
    parser.add_argument(
        "--own-forests", action="store_true", help="the others call scikit-learn's own random forest (decision 0008)"
    )
    parser.add_argument("--seed", type=int, help="of the order and the requests; by default a new one")
    parser.add_argument("--name", default="peers", help="of the files in benchmarks/results (%(default)s)")
    parser.add_argument("--report", action="store_true", help="measure nothing: write table and plot from the figures")
    return parser


if __name__ == "__main__":
    sys.exit(main())
