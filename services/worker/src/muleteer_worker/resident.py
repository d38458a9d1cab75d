"""The model versions of one process: follows the catalog, loads, swaps and lets go without a gap in serving."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from muleteer.catalog.model import Catalog
from muleteer.catalog.source import CatalogSource
from muleteer.errors import ModelLoadError
from muleteer.metrics import MODEL_INFO, MODEL_LOAD, MODEL_LOAD_FAILURES, MODEL_READY
from muleteer.queue.consumer import QueueSpec
from muleteer.queue.names import queue_name, split_queue_name
from muleteer_worker.readiness import LoadedVersion, prepare
from muleteer_worker.threads import cap_loaded_libraries

logger = logging.getLogger(__name__)

State = Literal["loading", "ready", "failed", "retired"]

HEALING = frozenset({"repository", "load"})
"""Reasons of a failed load that can go away by themselves; others wait for a change of the catalog entry."""
FIRST_RETRY_SECONDS = 5.0
LAST_RETRY_SECONDS = 300.0
RETIRED_SHOWN_SECONDS = 60.0
"""How long gateways are still told that a version was retired."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the catalog says of one version, as far as a worker needs it."""

    model: str
    version: str
    uri: str
    allow_unsafe: frozenset[str]
    spec: QueueSpec
    predict_timeout: float

    @property
    def source(self) -> tuple[str, frozenset[str]]:
        """What decides the outcome of a load: another source is worth another load."""
        return self.uri, self.allow_unsafe


@dataclass(frozen=True, slots=True)
class VersionReport:
    """What this process says of a version."""

    model: str
    version: str
    state: State
    reason: str
    message: str
    at: float
    """Unix time since which it is so."""


class Resident:
    """One version in this process, from its first load to its end."""

    def __init__(self, plan: Plan, *, left_behind: bool = False) -> None:
        self.plan = plan
        self.wanted = not left_behind
        self.left_behind = left_behind
        """It had left the catalog before this process began, but jobs still wait for it."""
        self.loaded: LoadedVersion | None = None
        self.load: Future[LoadedVersion] | None = None
        self.load_source = plan.source
        self.failures = 0
        self.retry_at: float | None = None
        self.empty_since: float | None = None
        self.set_state("loading")

    def set_state(self, state: State, reason: str = "", message: str = "") -> None:
        """Enter a state, from now on."""
        self.state: State = state
        self.reason, self.message, self.at = reason, message, time.time()

    def report(self) -> VersionReport:
        """Return what gateways are told."""
        plan = self.plan
        return VersionReport(plan.model, plan.version, self.state, self.reason, self.message, self.at)


def read_plans(catalog: Catalog, pool: str) -> dict[str, Plan]:
    """Return what a pool is to serve, by queue name."""
    plans = {}
    for model, entry in catalog.models.items():
        if entry.pool == pool:
            for version in entry.versions:
                plans[queue_name(model, version)] = _plan(catalog, model, version)
    return plans


def read_left_behind(catalog: Catalog, pool: str, queues: Iterable[str]) -> list[Plan]:
    """Return plans for those of ``queues`` whose version has left the catalog, while its model is still the pool's.

    The version is looked for in its usual place, ``<repository>/<model>/<version>``.
    """
    plans = []
    for queue in queues:
        model, version = split_queue_name(queue)
        entry = catalog.models.get(model)
        if entry is not None and version and entry.pool == pool and version not in entry.versions:
            plans.append(_plan(catalog, model, version))
    return plans


def _plan(catalog: Catalog, model: str, version: str) -> Plan:
    entry = catalog.models[model]
    batching = entry.batching
    spec = QueueSpec(
        queue_name(model, version),
        batching.max_rows,
        entry.max_deliveries,
        batching.batch_share,
        batching.target_batch_seconds,
    )
    uri = catalog.version_uri(model, version)
    return Plan(model, version, uri, entry.allow_unsafe, spec, entry.predict_timeout)


class Residents:
    """The versions of this process. All but the loading itself happens in ``tick``, on the claim loop's thread.

    ``depth`` tells how many jobs a queue holds. ``serving`` and ``specs`` are what can be claimed now, ``reports`` is
    what gateways are to be told; after every change of them the functions in ``on_change`` are called. ``load_ended``
    is set when there is something for the next tick to take in.
    """

    def __init__(
        self,
        source: CatalogSource,
        pool: str,
        cache_dir: Path,
        threads: int,
        retire_seconds: float,
        depth: Callable[[str], int],
    ) -> None:
        self._source = source
        self._pool = pool
        self._cache_dir = cache_dir
        self._threads = threads
        self._retire_seconds = retire_seconds
        self._depth = depth
        self._residents: dict[str, Resident] = {}
        # One at a time: two big models that load together need the memory of both, and each takes twice as long.
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self._settled = False
        self.on_change: list[Callable[[], None]] = []
        self.load_ended = threading.Event()
        self.serving: dict[str, Resident] = {}
        self.specs: tuple[QueueSpec, ...] = ()
        self.reports: tuple[VersionReport, ...] = ()
        self._reconcile()
        self._publish()

    @property
    def loading(self) -> bool:
        """Tell whether a load is under way."""
        return any(resident.load for resident in self._residents.values())

    def tick(self) -> None:
        """Follow the catalog, take in what has loaded, try again what failed, and let go what nobody needs.

        Raises redis.RedisError when a queue's depth cannot be asked; everything else is done by then.
        """
        self.load_ended.clear()
        if self._source.poll():
            self._reconcile()
        now = time.monotonic()
        for resident in list(self._residents.values()):
            if resident.load is not None and resident.load.done():
                self._take(resident, resident.load)
            elif resident.wanted and resident.retry_at is not None and now >= resident.retry_at:
                self._start_load(resident)
        self._publish()
        for queue, resident in list(self._residents.items()):
            if not resident.wanted and self._can_go(queue, resident, now):
                self._let_go(queue, resident)
        self._publish()

    def missing(self) -> str:
        """Return why this process is not ready: an empty text when it is.

        At first every version must have been loaded or have failed. Later versions that load do not make it unready.
        """
        reports, can_claim = self.reports, bool(self.specs)
        loading = [f"{report.model} {report.version}" for report in reports if report.state == "loading"]
        if loading and not (self._settled and can_claim):
            return "loading " + ", ".join(loading[:5])
        self._settled = True
        if not can_claim and any(report.state == "failed" for report in reports):
            return "no model version could be loaded"
        return ""

    def take_up(self, plans: Iterable[Plan]) -> None:
        """Serve versions that have left the catalog until their queues are empty."""
        for plan in plans:
            resident = self._residents.setdefault(plan.spec.name, Resident(plan, left_behind=True))
            if resident.left_behind:
                self._start_load(resident)
        self._publish()

    def close(self) -> None:
        """Start no load any more."""
        self._loader.shutdown(wait=False, cancel_futures=True)

    def _reconcile(self) -> None:
        plans = read_plans(self._source.current, self._pool)
        for queue, resident in self._residents.items():
            resident.wanted = queue in plans
        for queue, plan in plans.items():
            known = self._residents.get(queue)
            if known is None or known.state == "retired":
                self._residents[queue] = Resident(plan)
                self._start_load(self._residents[queue])
                continue
            known.plan, known.empty_since = plan, None
            if known.load is None and known.load_source != plan.source:
                known.failures = 0
                self._start_load(known)

    def _start_load(self, resident: Resident) -> None:
        plan = resident.plan
        resident.load_source, resident.retry_at = plan.source, None
        if resident.loaded is None:
            resident.set_state("loading")
        resident.load = self._loader.submit(
            prepare, plan.model, plan.version, plan.uri, self._cache_dir, plan.allow_unsafe
        )
        resident.load.add_done_callback(self._load_done)

    def _load_done(self, _: Future[LoadedVersion]) -> None:
        self.load_ended.set()

    def _take(self, resident: Resident, load: Future[LoadedVersion]) -> None:
        """Take in how a load ended."""
        resident.load = None
        error = load.exception()
        stale = resident.load_source != resident.plan.source
        if error is None and (stale or not (resident.wanted or resident.left_behind)):
            self._unload(load.result())
        elif error is None:
            self._install(resident, load.result())
        elif not stale:
            self._note_failure(resident, error)
        if stale and resident.wanted:
            self._start_load(resident)

    def _install(self, resident: Resident, loaded: LoadedVersion) -> None:
        before, resident.loaded = resident.loaded, loaded
        if before is not None:
            self._unload(before)
        resident.failures = 0
        resident.set_state("ready")
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
        if reason in HEALING:
            pause = min(FIRST_RETRY_SECONDS * 2 ** (resident.failures - 1), LAST_RETRY_SECONDS)
            resident.retry_at = time.monotonic() + pause
            what_next = f"tried again in {pause:g} s"
        else:
            what_next = "tried again when its catalog entry changes"
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
            return True
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
        if entry is None or entry.pool != self._pool:
            return True
        successors = (self._residents.get(queue_name(model, version)) for version in entry.targets())
        return all(successor is not None and successor.loaded is not None for successor in successors)

    def _let_go(self, queue: str, resident: Resident) -> None:
        loaded, resident.loaded, resident.retry_at = resident.loaded, None, None
        if loaded is None:
            # It never served here, or was told about as retired for long enough.
            del self._residents[queue]
            return
        plan = resident.plan
        resident.set_state("retired")
        MODEL_READY.labels(plan.model, plan.version).set(0)
        MODEL_INFO.labels(plan.model, plan.version, loaded.manifest.framework, loaded.manifest.sha256).set(0)
        self._unload(loaded)
        logger.info("Version retired", extra={"model": plan.model, "version": plan.version})

    def _unload(self, loaded: LoadedVersion) -> None:
        def unload() -> None:
            try:
                loaded.unload()
            except Exception:  # a model's own unload can raise anything, and the version is gone either way
                logger.warning("Unload raised", exc_info=True, extra={"model": loaded.model, "version": loaded.version})

        self._loader.submit(unload)

    def _publish(self) -> None:
        """Make the present state visible to the loop and to other threads."""
        serving = {queue: resident for queue, resident in self._residents.items() if resident.loaded is not None}
        specs = tuple(resident.plan.spec for resident in serving.values())
        reports = tuple(resident.report() for resident in self._residents.values())
        if specs == self.specs and reports == self.reports:
            self.serving = serving
            return
        self.serving, self.specs, self.reports = serving, specs, reports
        for notify in self.on_change:
            notify()
