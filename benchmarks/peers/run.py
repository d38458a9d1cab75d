"""The run: everything in random order, round after round, kept in the file as it is measured."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.environments import PeerUnavailableError, ensure_environment
from benchmarks.peers.kill import KillResult, measure_kill
from benchmarks.peers.measure import Figures, measure
from benchmarks.peers.memory import measure_memory
from benchmarks.peers.models_served import Exchange, PeerModel
from benchmarks.peers.results import Results, save
from benchmarks.peers.subjects import MULETEER, RAY, Subject


@dataclass(frozen=True, slots=True)
class Orders:
    """What is to be measured."""

    subjects: Sequence[Subject]
    models: Sequence[PeerModel]
    kill_model: PeerModel
    connections: Sequence[int]
    rounds: int
    seconds: int
    minutes: int
    seed: int
    exchanges: dict[str, Exchange]
    path: Path

    def settings(self) -> dict[str, object]:
        """Return what a section of the results says of them."""
        return {
            "subjects": [subject.name for subject in self.subjects],
            "models": [model.name for model in self.models],
            "connections": list(self.connections),
            "rounds": self.rounds,
            "seconds": self.seconds,
            "minutes": self.minutes,
            "seed": self.seed,
            "own_forests": any(model.own_forests for model in self.models),
        }


def run_speed(orders: Orders, results: Results) -> None:
    """Measure requests/s, latency, CPU and memory of every system with every model in every round."""
    results.begin("speed", orders.settings())
    available = _prepared("speed", orders, results)
    cells = _shuffled(orders, available)
    progress = _Progress(len(cells), orders.seed)
    for number, subject, model in cells:
        key = f"speed {subject.name} {model.name}"
        try:
            taken = measure(subject, model, orders.exchanges[model.name], number, orders.connections, orders.seconds)
        except PeerUnavailableError as error:
            if not any((found.subject, found.model) == (subject.name, model.name) for found in results.figures):
                results.reasons[key] = str(error)
            progress.tell(f"{model.name:<7} {subject.title}: {error}")
        else:
            # A start can fail once: with figures from another round there is no reason to tell.
            results.reasons.pop(key, None)
            results.figures += taken
            progress.tell(f"{model.name:<7} {subject.title:<36} {_line(taken)}")
        save(results, orders.path)
    results.finish("speed")
    save(results, orders.path)


def run_kill(orders: Orders, results: Results) -> None:
    """Kill a worker of every system under load."""
    results.begin("kill", orders.settings())
    available = _prepared("kill", orders, results)
    progress = _Progress(len(available), orders.seed)
    model = orders.kill_model
    for subject in available:
        try:
            taken = measure_kill(subject, model, orders.exchanges[model.name])
        except PeerUnavailableError as error:
            results.reasons[f"kill {subject.name} {model.name}"] = str(error)
            progress.tell(f"kill {subject.title}: {error}")
        else:
            results.kills.append(taken)
            progress.tell(f"kill {subject.title:<36} {_kill_line(taken)}")
        save(results, orders.path)
    results.finish("kill")
    save(results, orders.path)


def run_memory(orders: Orders, results: Results) -> None:
    """Watch the memory of Muleteer and Ray over minutes of load."""
    results.begin("memory", orders.settings())
    subjects = [subject for subject in orders.subjects if subject.name in (MULETEER, RAY)]
    model = orders.kill_model
    for subject in subjects:

        def tell(found: Sequence[float], title: str = subject.title) -> None:
            print(f"memory {title}, minute {len(found) - 1} of {orders.minutes}: {found[-1]:,.0f} MiB", flush=True)

        try:
            results.memory.append(measure_memory(subject, model, orders.exchanges[model.name], orders.minutes, tell))
        except PeerUnavailableError as error:
            results.reasons[f"memory {subject.name} {model.name}"] = str(error)
            print(f"memory {subject.title}: {error}", flush=True)
        save(results, orders.path)
    results.finish("memory")
    save(results, orders.path)


def _prepared(section: str, orders: Orders, results: Results) -> list[Subject]:
    """Make the environments and return the subjects that have one; the others get their reason."""
    available, models = [], orders.models if section == "speed" else [orders.kill_model]
    for subject in orders.subjects:
        try:
            ensure_environment(subject.environment)
        except PeerUnavailableError as error:
            print(f"{subject.title}: {error}", flush=True)
            results.reasons |= {f"{section} {subject.name} {model.name}": str(error) for model in models}
        else:
            available.append(subject)
    return available


def _shuffled(orders: Orders, subjects: Sequence[Subject]) -> list[tuple[int, Subject, PeerModel]]:
    rng = random.Random(orders.seed)  # noqa: S311 - the order of measurements
    cells = []
    for number in range(1, orders.rounds + 1):
        pairs = [(number, one, model) for one in subjects for model in orders.models if number == 1 or not one.once]
        rng.shuffle(pairs)
        cells += pairs
    return cells


class _Progress:
    """Lines that say how far a run is."""

    def __init__(self, count: int, seed: int) -> None:
        self._count = count
        self._done = 0
        self._began = time.monotonic()
        self._print: Callable[[str], None] = lambda text: print(text, flush=True)
        self._print(f"{count} measurements, seed {seed}")

    def tell(self, text: str) -> None:
        """Say what was just measured, and how long the rest will take."""
        self._done += 1
        left = (time.monotonic() - self._began) / self._done * (self._count - self._done)
        self._print(f"[{self._done:>3}/{self._count}] {text}; about {left // 60:.0f}:{left % 60:02.0f} left")


def _line(taken: Sequence[Figures]) -> str:
    cells = [f"{one.connections}: {one.rate:,.0f}/s p50 {one.p50:.1f} ms, {one.rows_a_call:.1f} rows" for one in taken]
    errors = sum(one.errors for one in taken)
    return "; ".join([*cells, f"{taken[-1].memory:,.0f} MiB", *([f"{errors:,} ERRORS"] if errors else [])])


def _kill_line(taken: KillResult) -> str:
    back = "not back" if taken.recovered_seconds is None else f"back after {taken.recovered_seconds:.1f} s"
    return f"{taken.rate_before:,.0f}/s before, {taken.failures:,} failed, {back}"
