"""Which versions a process holds under a memory budget: a policy without I/O.

Demand is served oldest first, one load at a time. Room is made by the least recently used versions that are idle.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from muleteer.queue.residency import Demand

MIN_RESIDENT_SECONDS = 1.0
"""A version stays at least this long, and at least as long as its load took: so that even a process that always has a
reason to load another version spends no more than about half of its time on loading."""
UNUSED_SECONDS = 30.0
"""A version that was loaded and has served nothing since stays this long for whoever it was loaded for: a client that
was refused comes back after the load time that it was told."""
STARVING_SECONDS = 5.0
"""A version with jobs waiting is unloaded only for one that has been waited for this long: they take turns."""
JOIN_FACTOR = 3.0
"""Another process loads a version as well once its jobs have waited this many times as long as its load takes."""
UNKNOWN_LOAD_SECONDS = 5.0
"""What a load is taken to last before anybody has seen one."""
BACKLOG_BATCHES = 8
"""Another process loads a version as well when so many full batches wait for each process that has it."""


@dataclass(frozen=True, slots=True)
class Held:
    """A version that is resident in this process."""

    queue: str
    bytes: int
    pinned: bool = False
    in_hand: bool = False
    """A batch of it is claimed."""
    waiting: bool = False
    """Jobs wait for it."""
    served: int = 0
    """Batches since it was loaded."""
    resident_seconds: float = 0.0
    idle_seconds: float = 0.0
    """Since its last batch; without one since it was loaded."""
    load_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Wish:
    """A version that is not resident here and that is asked for."""

    queue: str
    bytes: int
    """What it is expected to take."""
    waited: float
    """Seconds since it is asked for."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What is to be done now."""

    load: str = ""
    """Queue of the version to load; empty for none."""
    evict: tuple[str, ...] = ()
    """Queues of the versions to unload first."""
    alone: bool = False
    """The version to load takes more than the budget: it is to be loaded all the same, with no other beside it."""
    refused: tuple[str, ...] = ()
    """Queues of versions for which pinned ones leave no room."""


def decide(limit: int, held: Sequence[Held], wishes: Sequence[Wish]) -> Choice:
    """Choose what to load and to unload under a budget of ``limit`` bytes.

    The wish that waits longest is served, or waited for: a younger one never takes the room that it needs.
    """
    pinned = sum(version.bytes for version in held if version.pinned)
    room = limit - pinned
    refused = tuple(wish.queue for wish in wishes if pinned and wish.bytes > room)
    able = sorted((wish for wish in wishes if wish.queue not in refused), key=lambda wish: -wish.waited)
    if able:
        first = able[0]
        alone = first.bytes > room
        leavers = _leavers(limit, held, first.waited, 0 if alone else first.bytes, everything=alone)
        if leavers is not None:
            return Choice(first.queue, leavers, alone, refused)
    return Choice(evict=_surplus(limit, held), refused=refused)


def _leavers(
    limit: int, held: Sequence[Held], waited: float, needed: int, *, everything: bool
) -> tuple[str, ...] | None:
    """Return who must go so that ``needed`` bytes are free, or so that nothing unpinned is left; None: not yet."""
    free = limit - sum(version.bytes for version in held)
    if not everything and needed <= free:
        return ()
    leaving: list[Held] = []
    for version in _evictable(held, waited):
        if needed <= free and not everything:
            break
        leaving.append(version)
        free += version.bytes
    if everything:
        unpinned = sum(not version.pinned for version in held)
        return tuple(version.queue for version in leaving) if len(leaving) == unpinned else None
    if needed > free:
        return None
    # A large one at the end of the list may have made small ones before it unnecessary: the latest used stay first.
    for version in leaving[::-1]:
        if free - version.bytes >= needed:
            leaving.remove(version)
            free -= version.bytes
    return tuple(version.queue for version in leaving)


def _surplus(limit: int, held: Sequence[Held]) -> tuple[str, ...]:
    """Return who goes because more is resident than the budget allows: versions that turned out larger than thought."""
    over = sum(version.bytes for version in held) - limit
    stays_alone = not any(version.pinned for version in held)
    unpinned = sum(not version.pinned for version in held)
    leaving: list[str] = []
    for version in _evictable(held, 0.0):
        if over <= 0 or (stays_alone and len(leaving) == unpinned - 1):
            break
        leaving.append(version.queue)
        over -= version.bytes
    return tuple(leaving)


def _evictable(held: Iterable[Held], waited: float) -> list[Held]:
    """Return what may go for a wish that has waited so long, in the order of going."""
    found = [
        version
        for version in held
        if not version.pinned
        and not version.in_hand
        and _has_had_its_time(version)
        and (not version.waiting or waited >= STARVING_SECONDS)
    ]
    return sorted(found, key=lambda version: (version.waiting, -version.idle_seconds))


def _has_had_its_time(version: Held) -> bool:
    if version.resident_seconds < max(MIN_RESIDENT_SECONDS, version.load_seconds):
        return False
    return version.served > 0 or version.resident_seconds >= UNUSED_SECONDS


def patience(demand: Demand) -> float:
    """Return how long jobs wait for the processes that have a version or load it, before another one joins."""
    return JOIN_FACTOR * max(MIN_RESIDENT_SECONDS, demand.load_seconds or UNKNOWN_LOAD_SECONDS)


def is_ours(demand: Demand, max_rows: int) -> bool:
    """Tell whether this process is to load a version: one of the pool does at first, others when that is too slow."""
    if demand.loading_seconds is not None:
        return demand.loading_seconds > patience(demand)
    if demand.holders == 0:
        return True
    return demand.waited > patience(demand) or demand.rows > BACKLOG_BATCHES * max_rows * demand.holders


@dataclass(slots=True)
class Account:
    """What versions take, from how much the process grew when they were loaded and shrank when they went."""

    sizes: dict[str, int] = field(default_factory=dict)
    """Bytes of each version by queue, measured here or told by others; also of versions that are gone."""
    residue: int = 0
    """Bytes that unloaded versions left behind in the process: freed, but not given back to the system."""

    def expected(self, queue: str, artifact_bytes: int) -> int:
        """Return what a version will take, as far as is known."""
        return self.sizes.get(queue, artifact_bytes)

    def loaded(self, queue: str, grown: int | None, *, exact: bool, artifact_bytes: int) -> int:
        """Take in by how much a load has made the process grow; return what the version takes.

        A load that grew by less than expected has used what others left behind, as far as there is such. One that also
        imported libraries tells nothing new of a version that was measured before.
        """
        expected = self.expected(queue, artifact_bytes)
        if grown is None:
            size = expected
        elif not exact:
            size = min(grown, self.sizes.get(queue, grown))
        elif grown >= expected:
            size = grown
        else:
            size = min(expected, grown + self.residue)
            self.residue -= size - grown
        if grown is not None:
            self.sizes[queue] = size
        return size

    def unloaded(self, size: int, shrunk: int | None, *, exact: bool) -> None:
        """Take in by how much the process shrank when a version of ``size`` bytes went.

        What stays of one whose load imported libraries are the libraries: nobody can use that again.
        """
        if exact and shrunk is not None:
            self.residue += max(0, size - max(0, shrunk))
