"""The autoscalers that the chart can ask for: none, CPU (HorizontalPodAutoscaler) and backlog (KEDA)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmarks.simulation.behavior import Behavior, Brakes, wanted_by_cpu, wanted_by_total

TOLERANCE = 0.1
"""--horizontal-pod-autoscaler-tolerance."""
SYNC_SECONDS = 15.0
"""--horizontal-pod-autoscaler-sync-period."""


@dataclass(frozen=True, slots=True)
class Look:
    """What an autoscaler sees when it looks."""

    jobs: int = 0
    """Jobs queued and running, as the gateway's /backlog says."""
    seconds: float = 0.0
    """Expected seconds of work, as /backlog says."""
    busy: float = 0.0
    """Worker processes that the traffic keeps busy, as /backlog says."""
    usages: Sequence[float] = ()
    """Cores used by each pod that metrics-server has measured."""
    starting: int = 0
    """Pods that it has not measured yet."""


@dataclass(frozen=True, slots=True)
class Round:
    """Something an autoscaler does at regular times: ``decide(now, replicas, look)`` returns the new replicas."""

    seconds: float
    decide: Callable[[float, int, Look], int]


class Autoscaler(Protocol):
    """Decides about the number of pods, in rounds."""

    first_replicas: int

    @property
    def rounds(self) -> Sequence[Round]:
        """What it does at regular times."""


class Fixed:
    """``autoscaling.type: none``."""

    def __init__(self, replicas: int) -> None:
        self.first_replicas = replicas

    @property
    def rounds(self) -> Sequence[Round]:
        """Nothing."""
        return ()


@dataclass(frozen=True, slots=True)
class CpuTarget:
    """``autoscaling.type: cpu``: the utilisation aimed at (percent) of the pod's CPU request (cores)."""

    percent: float = 80.0
    request_cores: float = 0.25
    sync_seconds: float = SYNC_SECONDS


class CpuAutoscaler:
    """A HorizontalPodAutoscaler on CPU."""

    def __init__(self, target: CpuTarget, least: int, most: int, behavior: Behavior) -> None:
        self.first_replicas = least
        self._target = target
        self._brakes = Brakes(least, most, behavior)

    @property
    def rounds(self) -> Sequence[Round]:
        """The controller's sync."""
        return (Round(self._target.sync_seconds, self._sync),)

    def _sync(self, now: float, replicas: int, look: Look) -> int:
        cores = self._target.request_cores * self._target.percent / 100
        wanted = wanted_by_cpu(look.usages, look.starting, cores, replicas, TOLERANCE)
        return self._brakes.allow(now, replicas, wanted)


@dataclass(frozen=True, slots=True)
class BacklogTarget:
    """``autoscaling.type: keda``: what one pod should have before it, and how often KEDA looks."""

    seconds: float = 5.0
    jobs: float = 500.0
    busy: float = 0.8
    """Worker processes of it that the traffic should keep busy."""
    polling_seconds: float = 10.0
    cooldown_seconds: float = 300.0
    sync_seconds: float = SYNC_SECONDS


class KedaAutoscaler:
    """A ScaledObject with the chart's three triggers.

    KEDA itself only starts the first pod and takes away the last; in between it is a HorizontalPodAutoscaler that asks
    KEDA for the metric at each of its own syncs.
    """

    def __init__(self, target: BacklogTarget, least: int, most: int, behavior: Behavior) -> None:
        self.first_replicas = least
        self._least = least
        self._target = target
        self._brakes = Brakes(max(1, least), most, behavior)
        self._active_at = -math.inf

    @property
    def rounds(self) -> Sequence[Round]:
        """KEDA's polling, and its autoscaler's sync."""
        return (Round(self._target.polling_seconds, self._poll), Round(self._target.sync_seconds, self._sync))

    def _poll(self, now: float, replicas: int, look: Look) -> int:
        if look.jobs > 0 or look.seconds > 0:
            self._active_at = now
            return replicas or max(1, self._least)
        if self._least == 0 and now - self._active_at >= self._target.cooldown_seconds:
            return 0
        return max(replicas, self._least)

    def _sync(self, now: float, replicas: int, look: Look) -> int:
        if replicas == 0:
            return 0  # an autoscaler leaves a deployment of none alone
        wanted = max(
            wanted_by_total(look.seconds, self._target.seconds, replicas, TOLERANCE),
            wanted_by_total(look.jobs, self._target.jobs, replicas, TOLERANCE),
            wanted_by_total(look.busy, self._target.busy, replicas, TOLERANCE),
        )
        return self._brakes.allow(now, replicas, wanted)
