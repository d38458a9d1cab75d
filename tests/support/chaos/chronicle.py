"""What was done to the system and when: to be printed with a failure, and to judge what callers saw."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from support.chaos.plan import LEASE_SECONDS

LOST_WRITE_SECONDS = 2.5
"""With appendfsync everysec Valkey may answer up to 2 s before it writes: a kill loses what it answered since."""


@dataclass
class Event:
    """One fault as it really was: ``ended`` is when it had been undone (monotonic seconds)."""

    kind: str
    target: str
    began: float
    ended: float | None = None

    def overlaps(self, since: float, until: float) -> bool:
        return self.began <= until and (self.ended is None or self.ended >= since)


@dataclass
class Chronicle:
    """All faults so far."""

    appendfsync: str
    events: list[Event] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    began_at: float = field(default_factory=time.monotonic)

    def note(self, text: str) -> None:
        self.lines.append(f"{time.monotonic() - self.began_at:7.2f} s  {text}")

    @contextmanager
    def lasting(self, kind: str, target: str, detail: str = "") -> Iterator[Event]:
        """Record a fault for the length of a block, in which it is done and undone."""
        event = Event(kind, target, time.monotonic())
        self.events.append(event)
        self.note(f"{kind} {target} {detail}".rstrip())
        try:
            yield event
        finally:
            event.ended = time.monotonic()
            self.note(f"  {kind} {target}: over")

    def may_have_lost(self, since: float, until: float) -> bool:
        """Tell whether Valkey was killed between two moments and may then have lost what it had answered."""
        kills = [event.began for event in self.events if event.kind == "kill valkey"]
        return self.appendfsync != "always" and any(since <= kill <= until for kill in kills)

    def losses(self, since: float, until: float, deliveries: int) -> int:
        """Return how many deliveries of one job the faults between two moments can have used up, at most."""
        count = 0
        for event in self.events:
            if not event.overlaps(since, until):
                continue
            if event.kind == "kill by input":
                count += deliveries
            elif event.kind in ("kill child", "kill pod"):
                count += 1
            elif "client" not in event.target and event.kind in LEASE_ENDERS:
                lasted = (event.ended or until) - event.began
                count += 1 if lasted > LEASE_SECONDS * 0.8 else 0
        # Faults together keep a worker from Redis for longer than any of them alone.
        away = [e for e in self.events if e.kind in LEASE_ENDERS | {"kill valkey"} and e.overlaps(since, until)]
        return count + (1 if len(away) > 1 else 0)

    def unreachable(self, gateway: int, since: float, until: float) -> bool:
        """Tell whether a request to a gateway between two moments may have lost its connection."""
        mine = {"kill gateway": f"gateway-{gateway}"} | dict.fromkeys(
            ("cut", "close", "lose answers"), f"client-gateway-{gateway}"
        )
        found = (event for event in self.events if mine.get(event.kind) == event.target)
        return any(event.overlaps(since - 0.2, until) for event in found)

    def held_up(self, gateway: int, since: float, until: float) -> float:
        """Return the seconds of which a request to a gateway may have been held up by what stood still around it."""
        names = {f"gateway-{gateway}", f"client-gateway-{gateway}"}
        total = 0.0
        for event in self.events:
            standing = event.target in names and event.kind in ("stop gateway", "stall", "delay")
            if standing and event.overlaps(since, until):
                total += min(until, event.ended or until) - max(since, event.began)
        return total


LEASE_ENDERS = {"stop child", "stop pod", "stop valkey", "close", "stall", "delay"}
