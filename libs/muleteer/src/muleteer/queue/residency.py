"""Which worker holds which model version: what pools share of it, so that few workers can serve many versions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis

from muleteer.queue.line import Line
from muleteer.queue.names import holders_key
from muleteer.queue.scripts import Argument, script

NOTE_SECONDS = 600
"""How long it is believed that a live worker holds or loads a version without another word from it: longer than most
predict calls, while which it says nothing. What a dead worker has said counts no more once its heartbeat is over."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What a pool knows of a version that is asked for, and that the worker which looks does not hold."""

    jobs: int
    rows: int
    waited: float
    """Seconds since the oldest job waits, or since a gateway asked for the version."""
    holders: int
    """Other live workers that have it."""
    loading_seconds: float | None
    """Since when another live worker loads it; None when none does."""
    bytes: int | None
    """Memory it takes in a worker process; None before anybody has measured it."""
    load_seconds: float | None


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at the pool saw."""

    waiting: frozenset[str]
    """Queues of resident versions in which jobs wait."""
    demand: dict[str, Demand]
    """By queue: versions that are asked for."""


@dataclass(frozen=True, slots=True)
class LoadNote:
    """How a load ended."""

    queue: str
    load_seconds: float | None
    """None when it failed."""
    bytes: int | None = None
    exact: bool = False


class PoolResidency:
    """One worker's view of what its pool's workers hold. Not safe for threads; raises redis.RedisError.

    Every call can be repeated.
    """

    def __init__(self, connection: Redis, pool: str, worker: str) -> None:
        self._connection = connection
        self._line = Line(connection)
        self._pool = pool
        self._worker = worker

    def look(
        self,
        held: Sequence[str],
        absent: Sequence[str],
        *,
        loading: Sequence[str] = (),
        sure: Sequence[str] = (),
        woken: bool = False,
    ) -> Look:
        """Return what is asked for of ``absent`` queues, and which of the ``held`` ones have jobs waiting.

        ``sure`` are absent queues that are to be in the answer whether they are asked for or not. ``woken``: the bell
        has rung and this worker found nothing for it; it is rung again if that was for another worker.
        """
        arguments: list[Argument] = [self._pool, self._worker, "1" if woken else "", NOTE_SECONDS]
        arguments += [len(held), len(loading), len(sure), *held, *loading, *sure]
        arguments += [queue for queue in absent if queue not in sure]
        flags, rows = self._line.run(script("demand"), *arguments)
        waiting = frozenset(queue for queue, flag in zip(held, flags, strict=True) if flag)
        return Look(waiting, {row[0].decode(): _read(row) for row in rows})

    def begin_load(self, queue: str, join_after: float) -> bool:
        """Tell whether this worker is to load a version: not while another has loaded it for up to ``join_after`` s."""
        answer = self._line.run(script("begin_load"), queue, self._pool, self._worker, NOTE_SECONDS, join_after)
        return bool(answer)

    def end_loads(self, notes: Iterable[LoadNote], *, holds: bool) -> None:
        """Tell how loads ended. ``holds``: this worker may let versions go again, so that who holds what matters."""
        arguments: list[Argument] = [self._pool, self._worker, NOTE_SECONDS if holds else ""]
        for note in notes:
            seconds: Argument = "" if note.load_seconds is None else f"{note.load_seconds:.3f}"
            arguments += [note.queue, seconds, "" if note.bytes is None else note.bytes, "1" if note.exact else ""]
        if len(arguments) > 3:
            self._line.run(script("end_load"), *arguments)

    def let_go(self, queues: Iterable[str]) -> None:
        """Tell that this worker holds these versions no more."""
        for queue in queues:
            self._connection.srem(holders_key(queue), self._worker)


def _read(row: list[Any]) -> Demand:
    _, jobs, rows, waited, holders, loading, size, seconds = row
    return Demand(
        int(jobs),
        int(rows),
        float(waited),
        int(holders),
        float(loading) if loading else None,
        int(size) if size else None,
        float(seconds) if seconds else None,
    )
