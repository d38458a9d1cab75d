"""Many versions under a memory budget: loaded when they are asked for, unloaded when others need the room.

What is decided is in ``budget``, what the pool shares in ``muleteer.queue.residency``; this is what connects both with
the versions of this process.
"""

import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol

from muleteer.errors import MuleteerError
from muleteer.metrics import MODEL_EVICTIONS, MODEL_RESIDENT_BYTES, RESIDENT_BYTES, RESIDENT_BYTES_LIMIT
from muleteer.queue.residency import Demand, LoadNote, Look, PoolResidency
from muleteer.repository.location import local_folder
from muleteer.repository.store import fetch_version
from muleteer_worker.budget import Account, Choice, Held, Wish, decide, is_ours, patience
from muleteer_worker.memory import anonymous_bytes, give_back
from muleteer_worker.plan import Plan
from muleteer_worker.readiness import LoadedVersion
from muleteer_worker.version import Resident

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.02
"""Shortest pause between two looks for which the bell rang in vain: a token that is for a busy worker comes back."""


class Versions(Protocol):
    """The versions of a process, as far as the budget has to do with them."""

    in_hand: str

    @property
    def residents(self) -> Mapping[str, Resident]:
        """All of them, by queue."""

    def load(self, queue: str) -> None:
        """Begin to load a version."""

    def evict(self, queue: str) -> None:
        """Unload a version that may be loaded again."""

    def refuse(self, queue: str, message: str) -> None:
        """Let a version be failed, for want of room."""

    def allow(self, queue: str) -> None:
        """Let a version that was refused be cold again."""

    def aside(self, uri: str) -> "Future[int]":
        """Fetch a version on the loader's thread; the future has the size of its files."""

    def successors(self) -> list[str]:
        """Return the queues of absent versions that others wait for, to be let go."""


class Residency:
    """What versions take, and with a ``limit`` (bytes, 0 for none) which of them are resident.

    All of it runs on the claim loop's thread, but for ``unload``, which is the loader's.
    """

    def __init__(self, limit: int, pool: PoolResidency | None = None) -> None:
        self.limit = limit
        self._pool = pool
        self._account = Account()
        self._artifacts: dict[str, tuple[str, int]] = {}
        """Sizes of versions' files by queue, each with the URI it is of."""
        self._fetches: dict[str, Future[int]] = {}
        self._notes: list[LoadNote] = []
        self._gone: list[str] = []
        self._shrunk: deque[tuple[int, int | None, bool]] = deque()
        self._looked_at = 0.0
        RESIDENT_BYTES_LIMIT.set(limit)

    def is_lazy(self, plan: Plan) -> bool:
        """Tell whether a version is loaded only when it is asked for."""
        return self.limit > 0 and not plan.pinned

    def known(self, plan: Plan) -> None:
        """Show a version's metrics from the start."""
        MODEL_EVICTIONS.labels(plan.model, plan.version)
        MODEL_RESIDENT_BYTES.labels(plan.model, plan.version).set(0)

    def loaded(self, resident: Resident, loaded: LoadedVersion) -> None:
        """Take in what a version takes that was loaded just now."""
        queue, growth = resident.plan.spec.name, loaded.growth
        exact = growth is not None and growth.exact
        resident.bytes = self._account.loaded(
            queue,
            growth.bytes if growth else None,
            exact=exact,
            artifact_bytes=self._artifact_bytes(resident.plan) or 0,
        )
        resident.exact, resident.load_seconds = exact, loaded.load_seconds
        resident.loaded_at = resident.used_at = time.monotonic()
        resident.served = 0
        self._notes.append(LoadNote(queue, loaded.load_seconds, resident.bytes if growth else None, exact))

    def failed(self, resident: Resident) -> None:
        """Take in that a load failed: another worker may try."""
        self._notes.append(LoadNote(resident.plan.spec.name, None))

    def unload(self, loaded: LoadedVersion, size: int, *, exact: bool) -> None:
        """Unload a version and see what comes back. Raises whatever the model's own code raises."""
        if self.limit <= 0:
            loaded.unload()
            return
        before = anonymous_bytes()
        try:
            loaded.unload()
        finally:
            give_back()
            after = anonymous_bytes()
            self._shrunk.append((size, None if before is None or after is None else before - after, exact))

    def show(self, residents: Mapping[str, Resident]) -> None:
        """Show what is resident in the metrics."""
        total = 0
        for resident in residents.values():
            size = resident.bytes or 0 if resident.loaded is not None else 0
            total += size
            MODEL_RESIDENT_BYTES.labels(resident.plan.model, resident.plan.version).set(size)
        RESIDENT_BYTES.set(total)

    def turn(self, versions: Versions, *, woken: bool = False) -> None:
        """Look what is asked for; load one version and make room for it. ``woken``: the bell rang, for nothing here.

        Raises redis.RedisError, with nothing begun that would not be seen at the next turn.
        """
        if self._pool is None:
            return
        if woken and not versions.in_hand:
            time.sleep(max(0.0, self._looked_at + LOOK_SECONDS - time.monotonic()))
        now = self._looked_at = time.monotonic()
        self._tell(self._pool)
        if self.limit <= 0:
            return
        while self._shrunk:
            size, shrunk, exact = self._shrunk.popleft()
            self._account.unloaded(size, shrunk, exact=exact)
        residents = versions.residents
        look = self._look(self._pool, versions, woken=woken)
        held = self._held(versions, look, now)
        self._allow_again(versions, held)
        if any(resident.load is not None for resident in residents.values()):
            return
        choice = decide(self.limit, held, self._wishes(versions, look.demand))
        self._carry_out(self._pool, versions, choice, look.demand)

    def _tell(self, pool: PoolResidency) -> None:
        """Tell the pool what has happened since; again at the next turn if it could not be told."""
        if self._gone:
            pool.let_go(self._gone)
            self._gone.clear()
        if self._notes:
            pool.end_loads(self._notes, holds=self.limit > 0)
            self._notes.clear()

    def _look(self, pool: PoolResidency, versions: Versions, *, woken: bool) -> Look:
        residents = versions.residents
        held = [queue for queue, resident in residents.items() if resident.loaded is not None]
        loading = [queue for queue, resident in residents.items() if resident.load is not None]
        absent = [queue for queue, resident in residents.items() if resident.state == "cold"]
        sure = [queue for queue in versions.successors() if queue in absent]
        look = pool.look(held, absent, loading=loading, sure=sure, woken=woken)
        for queue, demand in look.demand.items():
            if demand.bytes is not None:
                self._account.sizes.setdefault(queue, demand.bytes)
        return look

    def _held(self, versions: Versions, look: Look, now: float) -> list[Held]:
        return [
            Held(
                queue,
                resident.bytes or 0,
                pinned=resident.plan.pinned,
                in_hand=queue == versions.in_hand,
                waiting=queue in look.waiting,
                served=resident.served,
                resident_seconds=now - resident.loaded_at,
                idle_seconds=now - resident.used_at,
                load_seconds=resident.load_seconds or 0.0,
            )
            for queue, resident in versions.residents.items()
            if resident.loaded is not None
        ]

    def _wishes(self, versions: Versions, demands: Mapping[str, Demand]) -> list[Wish]:
        """Return what this process is to load; of some the size is still to be found out."""
        wishes = []
        for queue, demand in demands.items():
            resident = versions.residents[queue]
            resident.load_seconds = resident.load_seconds or demand.load_seconds
            if not is_ours(demand, resident.plan.spec.max_rows):
                continue
            artifact = 0 if queue in self._account.sizes else self._artifact_bytes(resident.plan, versions)
            if artifact is not None:
                wishes.append(Wish(queue, self._account.expected(queue, artifact), demand.waited))
        return wishes

    def _expected(self, plan: Plan) -> int:
        """Return what a version takes, or what it is thought to take."""
        return self._account.expected(plan.spec.name, self._artifact_bytes(plan) or 0)

    def _artifact_bytes(self, plan: Plan, versions: Versions | None = None) -> int | None:
        """Return the size of a version's files: before its first load that is all there is to judge by.

        None while they are still to be fetched, which begins if there are ``versions`` to do it with.
        """
        queue = plan.spec.name
        known = self._artifacts.get(queue)
        if known is not None and known[0] == plan.uri:
            return known[1]
        folder = local_folder(plan.uri)
        if folder is not None:
            size = folder_bytes(folder)
        elif versions is None:
            return None
        else:
            if queue not in self._fetches:
                self._fetches[queue] = versions.aside(plan.uri)
            if not self._fetches[queue].done():
                return None
            fetch = self._fetches.pop(queue)
            error = fetch.exception()
            if error is not None and not isinstance(error, MuleteerError | OSError):
                raise error
            # What cannot be fetched takes nothing: its load says what is wrong with it.
            size = 0 if error is not None else fetch.result()
        self._artifacts[queue] = (plan.uri, size)
        return size

    def _allow_again(self, versions: Versions, held: Sequence[Held]) -> None:
        """Let versions be cold that were refused for pinned ones which have become fewer or smaller."""
        room = self.limit - sum(version.bytes for version in held if version.pinned)
        for queue, resident in list(versions.residents.items()):
            refused = resident.state == "failed" and resident.reason == "memory"
            if refused and (self._expected(resident.plan) <= room or not any(version.pinned for version in held)):
                versions.allow(queue)

    def _carry_out(
        self, pool: PoolResidency, versions: Versions, choice: Choice, demands: Mapping[str, Demand]
    ) -> None:
        for queue in choice.refused:
            versions.refuse(queue, self._refusal(versions, queue))
        if choice.load and not pool.begin_load(choice.load, patience(demands[choice.load])):
            return
        for queue in choice.evict:
            plan, size = versions.residents[queue].plan, versions.residents[queue].bytes
            versions.evict(queue)
            self._gone.append(queue)
            MODEL_EVICTIONS.labels(plan.model, plan.version).inc()
            logger.info(
                "Version unloaded to make room%s",
                f" for {choice.load}" if choice.load else "",
                extra={"model": plan.model, "version": plan.version, "bytes": size},
            )
        if choice.load:
            self._begin(versions, choice)
        self._tell(pool)

    def _begin(self, versions: Versions, choice: Choice) -> None:
        plan = versions.residents[choice.load].plan
        if choice.alone:
            logger.warning(
                "Version takes %d bytes, more than MULETEER_MAX_RESIDENT_BYTES=%d: loaded with no other beside it",
                self._expected(plan),
                self.limit,
                extra={"model": plan.model, "version": plan.version},
            )
        versions.load(choice.load)

    def _refusal(self, versions: Versions, queue: str) -> str:
        plan = versions.residents[queue].plan
        needed = self._expected(plan)
        pinned = sum(r.bytes or 0 for r in versions.residents.values() if r.plan.pinned and r.loaded is not None)
        return (
            f"it needs {needed} bytes, but pinned models take {pinned} of MULETEER_MAX_RESIDENT_BYTES={self.limit}: "
            f"raise that to at least {needed + pinned}, or pin fewer models"
        )


def fetched_bytes(uri: str, cache_dir: Path) -> int:
    """Fetch a version and return the size of its files. Raises RepositoryError or ModelLoadError."""
    return folder_bytes(fetch_version(uri, cache_dir))


def folder_bytes(folder: Path) -> int:
    """Return the size of all files in a folder; 0 when it cannot be read, which its load will say more about."""
    try:
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    except OSError:
        return 0
