"""The model versions of one process: follows the catalog, loads, swaps and lets go without a gap in serving."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from muleteer.catalog.model import Catalog
from muleteer.catalog.source import CatalogSource
from muleteer.errors import ModelLoadError
from muleteer.metrics import MODEL_INFO, MODEL_LOAD, MODEL_LOAD_FAILURES, MODEL_READY
from muleteer.queue.consumer import QueueSpec
from muleteer.queue.names import queue_name
from muleteer_worker.plan import Plan, read_plans
from muleteer_worker.readiness import LoadedVersion, prepare
from muleteer_worker.residency import Residency, fetched_bytes
from muleteer_worker.threads import cap_loaded_libraries
from muleteer_worker.version import Resident, VersionReport

logger = logging.getLogger(__name__)

HEALING = frozenset({"repository", "load"})
"""Reasons of a failed load that can go away by themselves; others wait for a change of the catalog entry."""
FIRST_RETRY_SECONDS = 5.0
LAST_RETRY_SECONDS = 300.0
RETIRED_SHOWN_SECONDS = 60.0
"""How long gateways are still told that a version was retired."""


class Residents:
    """The versions of this process. All but the loading itself happens in ``tick``, on the claim loop's thread.

    ``depth`` tells how many jobs a queue holds. ``serving`` and ``specs`` are what can be claimed now, ``reports`` is
    what gateways are to be told; after every change of them the functions in ``on_change`` are called. ``load_ended``
    is set when there is something for the next tick to take in. With a memory budget ``residency`` decides what is
    loaded, but for pinned versions; ``cold`` then tells whether there are versions that are loaded when asked for.
    """

    def __init__(
        self,
        source: CatalogSource,
        pool: str,
        cache_dir: Path,
        threads: int,
        retire_seconds: float,
        depth: Callable[[str], int],
        residency: Residency | None = None,
    ) -> None:
        self._source = source
        self.pool = pool
        self._cache_dir = cache_dir
        self._threads = threads
        self._retire_seconds = retire_seconds
        self._depth = depth
        self._residency = residency or Residency(0)
        self.residents: dict[str, Resident] = {}
        self.in_hand = ""
        """Queue of the claim in hand: its version stays."""
        # One at a time: two big models that load together need the memory of both, and each takes twice as long.
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self._settled = False
        self.on_change: list[Callable[[], None]] = []
        self.load_ended = threading.Event()
        self.serving: dict[str, Resident] = {}
        self.specs: tuple[QueueSpec, ...] = ()
        self.reports: tuple[VersionReport, ...] = ()
        self.known_specs: tuple[QueueSpec, ...] = ()
        """``specs``, and those of versions that may be loaded: who else would look after their lost jobs?"""
        self.cold = False
        self._awaited: tuple[str, ...] = ()
        """Versions that load and that this process is not ready without."""
        self._reconcile()
        self._publish()

    @property
    def catalog(self) -> Catalog:
        """The catalog as it was read last."""
        return self._source.current

    @property
    def loading(self) -> bool:
        """Tell whether a load is under way."""
        return any(resident.load for resident in self.residents.values())

    def tick(self) -> None:
        """Follow the catalog, take in what has loaded, try again what failed, and let go what nobody needs.

        Raises redis.RedisError when a queue's depth cannot be asked; everything else is done by then.
        """
        self.load_ended.clear()
        if self._source.poll():
            self._reconcile()
        now = time.monotonic()
        for resident in list(self.residents.values()):
            if resident.load is not None and resident.load.done():
                self._take(resident, resident.load)
            elif resident.wanted and resident.retry_at is not None and now >= resident.retry_at:
                self._begin(resident)
        self._publish()
        for queue, resident in list(self.residents.items()):
            if not resident.wanted and self._can_go(queue, resident, now):
                self._let_go(queue, resident)
        self.turn()

    def turn(self, *, woken: bool = False) -> None:
        """Load a cold version that is asked for, if there is one; see ``Residency.turn``. Raises redis.RedisError."""
        try:
            self._residency.turn(self, woken=woken)
        finally:
            self._publish()

    def touch(self, queue: str) -> None:
        """Note that a batch of a version begins."""
        resident = self.serving[queue]
        resident.used_at = time.monotonic()
        resident.served += 1

    def missing(self) -> str:
        """Return why this process is not ready: an empty text when it is.

        At first every version must have been loaded or have failed, but for those that load when they are asked for.
        Later versions that load do not make it unready.
        """
        states, loading, can_claim = {report.state for report in self.reports}, self._awaited, bool(self.specs)
        if loading and not (self._settled and can_claim):
            return "loading " + ", ".join(loading[:5])
        self._settled = True
        if not can_claim and "failed" in states and not states & {"cold", "loading"}:
            return "no model version could be loaded"
        return ""

    def is_gone(self, queue: str) -> bool:
        """Tell whether this process does not serve a queue, and is not about to."""
        known = self.residents.get(queue)
        return known is None or known.state == "retired"

    def take_up(self, plans: Iterable[Plan]) -> None:
        """Serve versions that are gone from the catalog and from here until their queues are empty."""
        for plan in plans:
            self.residents[plan.spec.name] = Resident(plan, left_behind=True)
            self._begin(self.residents[plan.spec.name])
        self._publish()

    def load(self, queue: str) -> None:
        """Begin to load a version."""
        self._start_load(self.residents[queue])

    def evict(self, queue: str) -> None:
        """Unload a version that may be loaded again."""
        resident = self.residents[queue]
        self._unload_of(resident)
        resident.set_state("cold")

    def refuse(self, queue: str, message: str) -> None:
        """Let a cold version be failed, for want of room."""
        self._note_failure(self.residents[queue], ModelLoadError(message, reason="memory"))

    def allow(self, queue: str) -> None:
        """Let a version that was refused be cold again."""
        self.residents[queue].set_state("cold")

    def aside(self, uri: str) -> Future[int]:
        """Fetch a version on the loader's thread; the future has the size of its files."""
        fetch = self._loader.submit(fetched_bytes, uri, self._cache_dir)
        fetch.add_done_callback(self._load_done)
        return fetch

    def successors(self) -> list[str]:
        """Return the queues of versions that others which have left the catalog wait for, to be let go."""
        models = {r.plan.model for r in self.residents.values() if not r.wanted and r.loaded is not None}
        entries = {model: self._source.current.models.get(model) for model in models}
        return [queue_name(model, version) for model, entry in entries.items() if entry for version in entry.targets()]

    def close(self) -> None:
        """Start no load any more."""
        self._loader.shutdown(wait=False, cancel_futures=True)

    def _reconcile(self) -> None:
        plans = read_plans(self._source.current, self.pool)
        for queue, resident in self.residents.items():
            resident.wanted = queue in plans
            # Cold: jobs that still wait for it are to be served all the same.
            resident.left_behind |= not resident.wanted and resident.state == "cold"
        for queue, plan in plans.items():
            known = self.residents.get(queue)
            if known is None or known.state == "retired":
                self.residents[queue] = Resident(plan)
                self._residency.known(plan)
                self._begin(self.residents[queue])
                continue
            known.plan, known.empty_since = plan, None
            changed, late = known.load_source != plan.source, known.state == "cold" and plan.pinned
            if known.load is None and (changed or late):
                known.failures = 0
                self._begin(known)

    def _begin(self, resident: Resident) -> None:
        """Load a version, now or when it is asked for. One that serves is replaced now."""
        if resident.loaded is None and self._residency.is_lazy(resident.plan):
            resident.load_source, resident.retry_at = resident.plan.source, None
            resident.set_state("cold")
        else:
            self._start_load(resident)

    def _start_load(self, resident: Resident) -> None:
        plan = resident.plan
        resident.load_source, resident.retry_at = plan.source, None
        if resident.loaded is None:
            resident.set_state("loading")
        tidy = self._residency.limit > 0
        resident.load = self._loader.submit(
            prepare, plan.model, plan.version, plan.uri, self._cache_dir, plan.allow_unsafe, tidy=tidy
        )
        resident.load.add_done_callback(self._load_done)

    def _load_done(self, _: Future[Any]) -> None:
        self.load_ended.set()

    def _take(self, resident: Resident, load: Future[LoadedVersion]) -> None:
        """Take in how a load ended."""
        resident.load = None
        error = load.exception()
        stale = resident.load_source != resident.plan.source
        if error is None and (stale or not (resident.wanted or resident.left_behind)):
            self._unload(load.result())
            self._residency.failed(resident)
        elif error is None:
            self._install(resident, load.result())
        elif not stale:
            self._note_failure(resident, error)
        if stale and resident.wanted:
            self._begin(resident)

    def _install(self, resident: Resident, loaded: LoadedVersion) -> None:
        if resident.loaded is not None:
            self._unload(resident.loaded, resident.bytes or 0, exact=resident.exact)
        resident.loaded = loaded
        resident.failures = 0
        resident.set_state("ready")
        self._residency.loaded(resident, loaded)
        cap_loaded_libraries(self._threads)
        plan, manifest = resident.plan, loaded.manifest
        MODEL_LOAD.labels(plan.model, plan.version).observe(loaded.load_seconds)
        MODEL_READY.labels(plan.model, plan.version).set(1)
        MODEL_INFO.labels(plan.model, plan.version, manifest.framework, manifest.sha256).set(1)
        logger.info(
            "Version ready after %.2f s", loaded.load_seconds, extra={"model": plan.model, "version": plan.version}
        )

    def _note_failure(self, resident: Resident, error: BaseException) -> None:
        plan = resident.plan
        reason = error.reason if isinstance(error, ModelLoadError) else "load"
        message = error.message if isinstance(error, ModelLoadError) else f"{type(error).__name__}: {error}"
        resident.failures += 1
        self._residency.failed(resident)
        if reason in HEALING:
            pause = min(FIRST_RETRY_SECONDS * 2 ** (resident.failures - 1), LAST_RETRY_SECONDS)
            resident.retry_at = time.monotonic() + pause
            what_next = f"tried again in {pause:g} s"
        else:
            what_next = (
                "tried again when there is room" if reason == "memory" else "tried again when its catalog entry changes"
            )
        if resident.loaded is None:
            resident.set_state("failed", reason, message)
        MODEL_LOAD_FAILURES.labels(plan.model, plan.version, reason).inc()
        logger.error(
            "Version failed to load (%s), %s: %s",
            reason,
            what_next,
            message,
            extra={"model": plan.model, "version": plan.version, "reason": reason},
        )

    def _can_go(self, queue: str, resident: Resident, now: float) -> bool:
        """Tell whether a version that left the catalog is needed no more."""
        if resident.state == "retired":
            return time.time() - resident.at >= RETIRED_SHOWN_SECONDS
        if resident.load is not None:
            return False
        if resident.loaded is None:
            return resident.state != "cold" or self._depth(queue) == 0
        if not self._successors_ready(resident.plan.model):
            return False
        if self._depth(queue) > 0:
            resident.empty_since = None
            return False
        if resident.empty_since is None:
            resident.empty_since = now
        return now - resident.empty_since >= self._retire_seconds

    def _successors_ready(self, model: str) -> bool:
        entry = self._source.current.models.get(model)
        if entry is None or entry.pool != self.pool:
            return True
        successors = (self.residents.get(queue_name(model, version)) for version in entry.targets())
        return all(successor is not None and successor.loaded is not None for successor in successors)

    def _let_go(self, queue: str, resident: Resident) -> None:
        resident.retry_at = None
        if resident.loaded is None:
            # It never served here, or was told about as retired for long enough.
            del self.residents[queue]
            return
        plan = resident.plan
        self._unload_of(resident)
        resident.set_state("retired")
        logger.info("Version retired", extra={"model": plan.model, "version": plan.version})

    def _unload_of(self, resident: Resident) -> None:
        """Serve a version no more."""
        loaded, resident.loaded = resident.loaded, None
        if loaded is None:
            return
        plan = resident.plan
        MODEL_READY.labels(plan.model, plan.version).set(0)
        MODEL_INFO.labels(plan.model, plan.version, loaded.manifest.framework, loaded.manifest.sha256).set(0)
        self._unload(loaded, resident.bytes or 0, exact=resident.exact)

    def _unload(self, loaded: LoadedVersion, size: int = 0, *, exact: bool = False) -> None:
        def unload() -> None:
            try:
                self._residency.unload(loaded, size, exact=exact)
            except Exception:  # a model's own unload can raise anything, and the version is gone either way
                logger.warning("Unload raised", exc_info=True, extra={"model": loaded.model, "version": loaded.version})

        self._loader.submit(unload)

    def _publish(self) -> None:
        """Make the present state visible to the loop and to other threads."""
        serving = {queue: resident for queue, resident in self.residents.items() if resident.loaded is not None}
        specs = tuple(resident.plan.spec for resident in serving.values())
        everything = self.residents.values()
        reports = tuple(resident.report() for resident in everything)
        self.known_specs = tuple(
            resident.plan.spec
            for resident in everything
            if resident.loaded is not None or self._residency.is_lazy(resident.plan)
        )
        self.cold = any(resident.state == "cold" for resident in everything)
        self._awaited = tuple(
            f"{resident.plan.model} {resident.plan.version}"
            for resident in everything
            if resident.state == "loading" and not self._residency.is_lazy(resident.plan)
        )
        if specs == self.specs and reports == self.reports:
            self.serving = serving
            return
        self.serving, self.specs, self.reports = serving, specs, reports
        self._residency.show(self.residents)
        for notify in self.on_change:
            notify()
