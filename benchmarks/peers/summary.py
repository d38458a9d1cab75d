"""Medians over the rounds, the targets of this benchmark, and where Muleteer is not the fastest."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.peers.measure import Figures
from benchmarks.peers.memory import FLAT
from benchmarks.peers.results import Results
from benchmarks.peers.subjects import MULETEER, RAY, SUBJECTS

LEAST_RATE = 1.6
"""Of the best peer's requests/s."""
MOST_CPU = 0.55
"""Of the best peer's CPU a request."""
MOST_MEMORY = 1 / 3
"""Of Ray's."""
FLAT_MINUTES = 10
TARGET_MODELS = ("text", "forest")
TARGET_CONNECTIONS = (64, 256)
TITLES = {subject.name: subject.title for subject in SUBJECTS}
Key = tuple[str, str, int]
"""Model, subject, connections."""


@dataclass(frozen=True, slots=True)
class Row:
    """The medians of one system, one model and one number of connections."""

    rate: float
    p50: float
    p99: float
    errors: int
    """Of all rounds together."""
    cpu: float
    rows_a_call: float
    memory: float
    rounds: int


@dataclass(frozen=True, slots=True)
class Target:
    """One line of what was wanted."""

    what: str
    wanted: str
    measured: str
    held: bool | None
    """None: not measured."""


def medians(figures: Iterable[Figures]) -> dict[Key, Row]:
    """Return the rows of all that was measured."""
    groups: dict[Key, list[Figures]] = {}
    for one in figures:
        groups.setdefault((one.model, one.subject, one.connections), []).append(one)
    return {key: _row(rounds) for key, rounds in groups.items()}


def _row(rounds: Sequence[Figures]) -> Row:
    return Row(
        rate=median(one.rate for one in rounds),
        p50=median(one.p50 for one in rounds),
        p99=median(one.p99 for one in rounds),
        errors=sum(one.errors for one in rounds),
        cpu=median(one.cpu for one in rounds),
        rows_a_call=median(one.rows_a_call for one in rounds),
        memory=median(one.memory for one in rounds),
        rounds=len(rounds),
    )


def best_peer(rows: dict[Key, Row], model: str, connections: int) -> str | None:
    """Return the system other than Muleteer with the most requests/s; None when none was measured."""
    peers = {
        subject: row.rate
        for (row_model, subject, count), row in rows.items()
        if (row_model, count) == (model, connections) and subject != MULETEER
    }
    return max(peers, key=lambda subject: peers[subject]) if peers else None


def targets(results: Results) -> list[Target]:
    """Hold the results against what is wanted of them."""
    rows = medians(results.figures)
    found = [_rate_target(rows, model, count) for model in TARGET_MODELS for count in TARGET_CONNECTIONS]
    found += [_cpu_target(rows, model, count) for model in TARGET_MODELS for count in TARGET_CONNECTIONS]
    return [*found, *(_memory_target(rows, model) for model in TARGET_MODELS), _flat(results), _no_failure(results)]


def _rate_target(rows: dict[Key, Row], model: str, count: int) -> Target:
    what, wanted = f"requests/s, {model}, {count} connections", f"at least {LEAST_RATE:g}x the best peer"
    peer, ours = best_peer(rows, model, count), rows.get((model, MULETEER, count))
    if peer is None or ours is None:
        return Target(what, wanted, "not measured", None)
    ratio = ours.rate / rows[model, peer, count].rate
    return Target(what, wanted, f"{ratio:.2f}x {TITLES[peer]}", ratio >= LEAST_RATE)


def _cpu_target(rows: dict[Key, Row], model: str, count: int) -> Target:
    what, wanted = f"CPU a request, {model}, {count} connections", f"at most {MOST_CPU:g}x the best peer's"
    peer, ours = best_peer(rows, model, count), rows.get((model, MULETEER, count))
    if peer is None or ours is None:
        return Target(what, wanted, "not measured", None)
    ratio = ours.cpu / rows[model, peer, count].cpu
    return Target(what, wanted, f"{ratio:.2f}x {TITLES[peer]}", ratio <= MOST_CPU)


def _memory_target(rows: dict[Key, Row], model: str) -> Target:
    what, wanted = f"memory, {model}", "at most a third of Ray Serve's"
    ours = [row.memory for (name, subject, _), row in rows.items() if (name, subject) == (model, MULETEER)]
    rays = [row.memory for (name, subject, _), row in rows.items() if (name, subject) == (model, RAY)]
    if not ours or not rays:
        return Target(what, wanted, "not measured", None)
    ratio = ours[0] / rays[0]
    measured = f"{ours[0]:,.0f} MiB of {rays[0]:,.0f}: {ratio:.2f}x"
    return Target(what, wanted, measured, ratio <= MOST_MEMORY)


def _flat(results: Results) -> Target:
    what, wanted = "memory over time", f"flat (at most {FLAT:g}x) over {FLAT_MINUTES} minutes of load"
    ours = next((one for one in results.memory if one.subject == MULETEER), None)
    if ours is None:
        return Target(what, wanted, "not measured", None)
    minutes = len(ours.mib) - 1
    measured = f"{ours.growth:.2f}x from minute 1 to minute {minutes}"
    return Target(what, wanted, measured, ours.growth <= FLAT if minutes >= FLAT_MINUTES else None)


def _no_failure(results: Results) -> Target:
    what, wanted = "kill -9 of a worker under load", "no failed request"
    ours = [one.failures for one in results.kills if one.subject == MULETEER]
    if not ours:
        return Target(what, wanted, "not measured", None)
    return Target(what, wanted, f"{sum(ours):,} failed", sum(ours) == 0)


def losses(rows: dict[Key, Row]) -> list[str]:
    """Return a line for each model and number of connections at which a peer is faster."""
    lines = []
    for (model, subject, count), ours in sorted(rows.items(), key=lambda item: (item[0][2], item[0][0])):
        peer = best_peer(rows, model, count)
        if subject != MULETEER or peer is None:
            continue
        best = rows[model, peer, count]
        if best.rate > ours.rate:
            lines.append(
                f"{model}, {count} connection{'s' * (count > 1)}: {TITLES[peer]} answers {best.rate:,.0f} requests/s, "
                f"Muleteer {ours.rate:,.0f} ({ours.rate / best.rate:.2f}x)"
            )
    return lines
