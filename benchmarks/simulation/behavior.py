"""How fast a HorizontalPodAutoscaler may go: stabilisation windows and policies, as Kubernetes applies them.

The rules are those of the controller (pkg/controller/podautoscaler/horizontal.go), with times passed in, so that the
simulation and a controller of real processes run the same code.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Policy:
    """One limit: so many pods, or so many percent of them, in a period."""

    type: Literal["Pods", "Percent"]
    value: int
    period_seconds: float


@dataclass(frozen=True, slots=True)
class Direction:
    """The rules for one direction. Of several policies the one that allows most counts (``selectPolicy: Max``)."""

    stabilization_seconds: float
    policies: tuple[Policy, ...]

    def scaled(self, factor: float) -> "Direction":
        """Return the same rules with every time multiplied."""
        policies = tuple(replace(policy, period_seconds=policy.period_seconds * factor) for policy in self.policies)
        return Direction(self.stabilization_seconds * factor, policies)


@dataclass(frozen=True, slots=True)
class Behavior:
    """``spec.behavior`` of a HorizontalPodAutoscaler."""

    up: Direction
    down: Direction

    @property
    def longest_period(self) -> float:
        """The longest period of any policy, in seconds; 0 without a policy."""
        return max((policy.period_seconds for policy in (*self.up.policies, *self.down.policies)), default=0.0)

    @property
    def longest_window(self) -> float:
        """The longer stabilisation window, in seconds."""
        return max(self.up.stabilization_seconds, self.down.stabilization_seconds)

    def scaled(self, factor: float) -> "Behavior":
        """Return the same rules with every time multiplied."""
        return Behavior(self.up.scaled(factor), self.down.scaled(factor))


def read_behavior(document: Mapping[str, Any]) -> Behavior:
    """Return a behaviour as the chart's values (``autoscaling.behavior``) write it."""

    def direction(name: str, default_window: float) -> Direction:
        part = document[name]
        policies = tuple(
            Policy(one["type"], int(one["value"]), float(one["periodSeconds"])) for one in part["policies"]
        )
        return Direction(float(part.get("stabilizationWindowSeconds", default_window)), policies)

    return Behavior(direction("scaleUp", 0.0), direction("scaleDown", 300.0))


@dataclass(frozen=True, slots=True)
class _Event:
    at: float
    change: int


class Brakes:
    """What stands between the number of pods that a metric asks for and the number that is set.

    One object for one autoscaler: it remembers earlier recommendations and changes.
    """

    def __init__(self, least: int, most: int, behavior: Behavior) -> None:
        self.least, self.most, self.behavior = least, most, behavior
        self._recommended: list[tuple[float, int]] = []
        self._added: list[_Event] = []
        self._removed: list[_Event] = []

    def allow(self, now: float, current: int, wanted: int) -> int:
        """Return how many pods there are to be at ``now`` when the metric asks for ``wanted``."""
        if not self._recommended:
            self._recommended.append((now, current))
        stable = self._stabilized(now, current, wanted)
        allowed = self._limited(now, current, stable)
        if allowed > current:
            self._added.append(_Event(now, allowed - current))
        elif allowed < current:
            self._removed.append(_Event(now, current - allowed))
        self._forget(now)
        return allowed

    def _stabilized(self, now: float, current: int, wanted: int) -> int:
        up, down = wanted, wanted
        for at, recommendation in self._recommended:
            if at > now - self.behavior.up.stabilization_seconds:
                up = min(up, recommendation)
            if at > now - self.behavior.down.stabilization_seconds:
                down = max(down, recommendation)
        self._recommended.append((now, wanted))
        return min(max(current, up), down)

    def _limited(self, now: float, current: int, stable: int) -> int:
        if stable > current:
            limit = max(current, self._limit_up(now, current))
            return min(stable, limit, self.most)
        if stable < current:
            limit = min(current, self._limit_down(now, current))
            return max(stable, limit, self.least)
        return min(max(stable, self.least), self.most)

    def _limit_up(self, now: float, current: int) -> int:
        limits = []
        for policy in self.behavior.up.policies:
            base = self._base(now, current, policy)
            percent = math.ceil(base * (1 + policy.value / 100))
            limits.append(base + policy.value if policy.type == "Pods" else percent)
        return max(limits, default=self.most)

    def _limit_down(self, now: float, current: int) -> int:
        limits = []
        for policy in self.behavior.down.policies:
            base = self._base(now, current, policy)
            limits.append(base - policy.value if policy.type == "Pods" else int(base * (1 - policy.value / 100)))
        return min(limits, default=self.least)

    def _base(self, now: float, current: int, policy: Policy) -> int:
        """Return how many pods there were when the policy's period began."""
        since = now - policy.period_seconds
        return current - _sum(self._added, since) + _sum(self._removed, since)

    def _forget(self, now: float) -> None:
        window, period = now - self.behavior.longest_window, now - self.behavior.longest_period
        self._recommended = [one for one in self._recommended if one[0] > window] or self._recommended[-1:]
        self._added = [event for event in self._added if event.at > period]
        self._removed = [event for event in self._removed if event.at > period]


def _sum(events: Iterable[_Event], since: float) -> int:
    return sum(event.change for event in events if event.at > since)


def within_tolerance(ratio: float, tolerance: float) -> bool:
    """Tell whether a metric is so near its target that nothing is to change."""
    return abs(ratio - 1.0) <= tolerance


def wanted_by_cpu(usages: Sequence[float], starting: int, target_cores: float, current: int, tolerance: float) -> int:
    """Return how many pods a target of CPU asks for.

    ``usages`` has the cores that each ready pod uses, ``starting`` counts pods that are not ready, ``target_cores`` is
    the CPU request times the utilisation aimed at. Pods that start count as idle when more are asked for; if that
    leaves nothing to add, nothing changes. When fewer are asked for they do not count.
    """
    if not usages:
        return current
    ratio = sum(usages) / (target_cores * len(usages))
    if ratio <= 1.0 or not starting:
        return current if within_tolerance(ratio, tolerance) else _ceil(ratio * len(usages))
    counted = len(usages) + starting
    ratio = sum(usages) / (target_cores * counted)
    if within_tolerance(ratio, tolerance) or ratio < 1.0:
        return current
    return max(current, _ceil(ratio * counted))


def wanted_by_total(total: float, target: float, current: int, tolerance: float) -> int:
    """Return how many pods an external metric of type AverageValue asks for: KEDA's triggers are such."""
    if within_tolerance(total / (target * current), tolerance):
        return current
    return _ceil(total / target)


def _ceil(value: float) -> int:
    """Round up what is more than a rounding error above a whole number."""
    return math.ceil(round(value, 9))
