"""The schedule of faults: drawn from one seed, the same every time, whatever the system does."""

import random
from collections.abc import Callable
from dataclasses import dataclass

GATEWAYS = 2
PODS = 2
LEASE_SECONDS = 4
"""Stops are drawn on both sides of it: some workers wake before their jobs were given to others, some after."""


@dataclass(frozen=True)
class Planned:
    """One fault: when it begins, on what, how long it lasts before it is undone, and by how much."""

    at: float
    """Seconds after the schedule's beginning."""
    kind: str
    target: str
    seconds: float = 0.0
    amount: float = 0.0

    def __str__(self) -> str:
        return f"{self.at:7.2f} s  {self.kind} {self.target} for {self.seconds:.2f} s ({self.amount:g})"


Draw = Callable[[random.Random], tuple[str, float, float]]
"""Draws a fault's target, seconds and amount."""


def _part(name: str, count: int, shortest: float, longest: float) -> Draw:
    return lambda rng: (f"{name}-{rng.randrange(count)}", rng.uniform(shortest, longest), rng.randrange(100))


def _line(shortest: float, longest: float, least: float = 0, most: float = 0) -> Draw:
    lines = [f"{a}-valkey-{n}" for a, count in (("gateway", GATEWAYS), ("pod", PODS)) for n in range(count)]
    lines += [f"client-gateway-{n}" for n in range(GATEWAYS)]
    return lambda rng: (rng.choice(lines), rng.uniform(shortest, longest), round(rng.uniform(least, most), 3))


def _one(target: str, shortest: float, longest: float, least: float = 0, most: float = 0) -> Draw:
    return lambda rng: (target, rng.uniform(shortest, longest), round(rng.uniform(least, most), 3))


def _clock(rng: random.Random) -> tuple[str, float, float]:
    return (
        f"pod-{rng.randrange(PODS)}",
        rng.uniform(2, 8),
        rng.choice([-1, 1]) * rng.choice([2, 30, 3600, 400 * 86_400]),
    )


KINDS: dict[str, tuple[int, Draw]] = {
    "kill child": (3, _part("pod", PODS, 0, 0)),
    "stop child": (3, _part("pod", PODS, 0.3, 1.7 * LEASE_SECONDS)),
    "kill pod": (1, _part("pod", PODS, 0, 2)),
    "stop pod": (1, _part("pod", PODS, 0.3, 1.7 * LEASE_SECONDS)),
    "kill gateway": (2, _part("gateway", GATEWAYS, 0, 1.5)),
    "stop gateway": (1, _part("gateway", GATEWAYS, 0.3, 4)),
    "kill valkey": (1, _one("valkey", 0, 2.5)),
    "stop valkey": (1, _one("valkey", 0.3, 1.2 * LEASE_SECONDS)),
    "cut": (3, _line(0, 0)),
    "lose answers": (3, _line(0.02, 0.3)),
    "lose acceptances": (3, _part("gateway-valkey", GATEWAYS, 0.05, 0.3)),
    "close": (2, _line(0.3, 3)),
    "stall": (2, _line(0.3, 3)),
    "delay": (2, _line(1, 5, 0.005, 0.15)),
    "slow model": (1, _one("model", 1, 4, 0.05, 0.4)),
    "raise": (2, _one("model", 0, 0)),
    "kill by input": (1, _one("model", 0, 0)),
    "add version": (1, _one("catalog", 0, 0)),
    "remove version": (1, _one("catalog", 0, 0)),
    "move traffic": (2, _one("catalog", 0, 0, 0, 1)),
    "break catalog": (1, _one("catalog", 0.5, 2, 0, 100)),
    "step clock": (2, _clock),
}
"""How often each kind is in the bag that faults are drawn from, and what else is drawn."""


def plan(seed: int, seconds: float) -> list[Planned]:
    """Return the faults of a schedule of this length.

    Kinds come out of a bag that is filled again when it is empty: a schedule of half a minute has nearly all of them.
    """
    rng = random.Random(seed)  # noqa: S311 - chaos, not a secret
    bag: list[str] = []
    faults = []
    at = rng.uniform(0.5, 1.5)
    while at < seconds:
        if not bag:
            bag = [kind for kind, (count, _) in KINDS.items() for _ in range(count)]
            rng.shuffle(bag)
        kind = bag.pop()
        target, lasting, amount = KINDS[kind][1](rng)
        faults.append(Planned(round(at, 2), kind, target, round(lasting, 2), amount))
        at += rng.uniform(0.2, 1.5)
    return faults
