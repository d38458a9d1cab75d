"""The models a gateway serves: entry, manifest, validator and readiness of each version, and which one answers."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema_rs

from muleteer.catalog import Catalog, ModelEntry
from muleteer.catalog.model import pick
from muleteer.errors import ModelLoadError, NotFoundError, RepositoryError, UnavailableError
from muleteer.queue.names import queue_name
from muleteer.repository.manifest import Manifest
from muleteer.repository.store import fetch_manifest
from muleteer_gateway.instances import InstanceValidator
from muleteer_gateway.signature import Signature, signature_of

logger = logging.getLogger(__name__)

MOMENT = 0.1
"""What a load that should be over by now is taken to need yet, in seconds."""
Reports = dict[str, list[dict[str, Any]]]
"""What live workers say of a model's versions, by version."""


@dataclass(slots=True)
class ServedVersion:
    """One version of one model, as the gateway knows it."""

    model: str
    version: str
    entry: ModelEntry
    queue: str
    version_header: bytes
    manifest: Manifest | None
    validator: InstanceValidator | None
    problem: str
    """Why its manifest cannot be used; empty when it can."""
    signature: Signature
    """Its inputs and outputs as tensors."""


@dataclass(slots=True)
class ServedModel:
    """One model of the catalog with its versions."""

    name: str
    entry: ModelEntry
    versions: dict[str, ServedVersion]
    reports: Reports = field(default_factory=dict)
    ready: frozenset[str] = frozenset()
    """Versions that some live worker has ready."""
    cold: frozenset[str] = frozenset()
    """Versions that no live worker has ready or loads, but that one will load when jobs wait for them."""
    last_targets: dict[str, float] = field(default_factory=dict)
    """Targets that were ready when last seen so: they go on answering while new ones are not ready yet."""
    retiring: dict[str, ServedVersion] = field(default_factory=dict)
    """Versions that have left the catalog but that workers still hold."""
    _shares: dict[str, float] = field(default_factory=dict)
    """Of unnamed requests, by version."""
    _refusals: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Why versions take no requests, and the seconds after which to ask again."""

    def __post_init__(self) -> None:
        self._settle()

    def state(self, version: str) -> tuple[str, str]:
        """Return a version's state over all workers and its reason: ready, loading, cold, failed or unknown.

        One that this gateway cannot read the manifest of is failed, whatever the workers say: it is not asked.
        """
        served = self.versions.get(version)
        if served is not None and served.problem:
            return "failed", served.problem
        reports = self.reports.get(version, [])
        states = {report.get("state") for report in reports}
        for state in ("ready", "loading", "cold"):
            if state in states:
                return state, ""
        for report in reports:
            if report.get("state") == "failed":
                return "failed", str(report.get("message", ""))
        return "unknown", ""

    def answers(self, version: str | None = None) -> bool:
        """Tell whether a version takes requests, or when none is named whether the model does.

        A cold version does: it is loaded for them. Whoever waits for it to be ready would wait for ever.
        """
        versions = self._shares if version is None else (version,)
        return any((name in self.ready or name in self.cold) and name not in self._refusals for name in versions)

    def check_version(self, version: str) -> None:
        """Raise NotFoundError that lists the versions there are, unless ``version`` is one."""
        if version not in self.versions:
            known = ", ".join(self.versions)
            raise NotFoundError(f"Model {self.name} has no version {version[:100]!r}. Versions: {known}.")

    def ready_workers(self, version: str) -> int:
        """Return how many live worker processes have a version ready."""
        return sum(1 for report in self.reports.get(version, ()) if report.get("state") == "ready")

    def seconds_to_load(self, version: str, load_seconds: float) -> float:
        """Return the seconds until a version will be ready whose load takes ``load_seconds``.

        0 when it is ready already, and when no worker is about to load it.
        """
        if version in self.ready:
            return 0.0
        now, waits = time.time(), []
        for report in self.reports.get(version, ()):
            if report.get("state") == "cold":
                waits.append(load_seconds)
            elif report.get("state") == "loading":
                waits.append(max(MOMENT, load_seconds - (now - float(report.get("at", now)))))
        return min(waits, default=0.0)

    def take_reports(self, reports: Reports) -> None:
        """Take what live workers say of the model's versions."""
        self.reports = reports
        self.ready = frozenset(version for version in reports if self.ready_workers(version))
        self.cold = frozenset(version for version in reports if self.state(version)[0] == "cold")
        for version in [version for version in self.retiring if version not in reports]:
            del self.retiring[version]
        self._settle()

    def _settle(self) -> None:
        """Work out which versions answer, from what is known now: requests only look it up.

        Shares go to versions that are ready, or cold: without requests those would stay cold for ever. While none of
        the catalog's targets is, the ones before them go on.
        """
        targets = self.entry.targets()
        ready = {version: share for version, share in targets.items() if version in self.ready}
        if ready:
            self.last_targets = ready
        able = {version: share for version, share in targets.items() if version in self.ready or version in self.cold}
        known = self.versions | self.retiring
        before = {v: share for v, share in self.last_targets.items() if v in self.ready and v in known}
        self._shares = able or before or targets
        found = {version: self._refusal(served) for version, served in known.items()}
        self._refusals = {version: refusal for version, refusal in found.items() if refusal is not None}

    def default(self) -> ServedVersion:
        """Return the version that answers an unnamed request now."""
        chosen = pick(self._shares)
        return self.versions.get(chosen) or self.retiring[chosen]

    def refusal(self, version: str) -> UnavailableError | None:
        """Return why a version takes no requests now; None when it does."""
        found = self._refusals.get(version)
        return UnavailableError(found[0], retry_after=found[1]) if found is not None else None

    def _refusal(self, served: ServedVersion) -> tuple[str, int] | None:
        reports = self.reports.get(served.version, ())
        if reports and all(report.get("state") == "retired" for report in reports):
            # The workers have seen a newer catalog than this gateway: what is enqueued now would wait for nobody.
            return f"Version {served.version} of model {self.name} is being removed.", 5
        state, reason = self.state(served.version)
        if served.problem or (reports and state == "failed"):
            return f"Version {served.version} of model {self.name} is not ready: {reason or served.problem}.", 30
        return None


class ServedModels:
    """All models of the current catalog."""

    def __init__(self, catalog: Catalog, cache_dir: Path) -> None:
        self._cache_dir = cache_dir
        self.models: dict[str, ServedModel] = {}
        self.routes: dict[str, ServedModel] = {}
        self.generation = 0
        self._catalog = catalog

    def adopt(self, catalog: Catalog) -> None:
        """Take a new catalog: read the manifests it needs (blocking: call from a thread), then switch in one step."""
        models = {}
        for name, entry in catalog.models.items():
            old = self.models.get(name)
            versions = {version: self._serve(catalog, name, version, entry, old) for version in entry.versions}
            if old is None:
                models[name] = ServedModel(name, entry, versions)
                continue
            retiring = {v: s for v, s in {**old.retiring, **old.versions}.items() if v not in versions}
            models[name] = ServedModel(
                name,
                entry,
                versions,
                reports=old.reports,
                ready=old.ready,
                cold=old.cold,
                last_targets=old.last_targets,
                retiring=retiring,
            )
        self.models = models
        self.routes = {served.entry.route: served for served in models.values() if served.entry.route}
        self._catalog = catalog
        self.generation += 1

    def model(self, name: str) -> ServedModel:
        """Return a model. Raises NotFoundError that lists the models there are."""
        served = self.models.get(name)
        if served is None:
            self._catalog.model(name)
            raise NotFoundError(f"There is no model {name[:100]!r}.")
        return served

    def choose(self, name: str, version: str | None, alias: str | None) -> ServedVersion:
        """Return the version that a request goes to.

        Raises NotFoundError for an unknown model, version or alias, UnavailableError for a version that failed to load.
        """
        model = self.model(name)
        if alias is not None:
            version = model.entry.aliases.get(alias)
            if version is None:
                known = ", ".join(sorted(model.entry.aliases)) or "none"
                raise NotFoundError(f"Model {name} has no alias {alias[:100]!r}. Aliases: {known}.")
        return self.usable(model, version)

    def usable(self, model: ServedModel, version: str | None) -> ServedVersion:
        """Return the named version of a model, or the one that answers when none is named, if it can take requests."""
        if version is None:
            chosen = model.default()
        else:
            model.check_version(version)
            chosen = model.versions[version]
        refusal = model.refusal(chosen.version)
        if refusal is not None:
            raise refusal
        return chosen

    def take_reports(self, reports: dict[str, Reports]) -> None:
        """Take what live workers say of the models' versions."""
        for name, model in self.models.items():
            model.take_reports(reports.get(name, {}))

    def all_versions(self) -> Iterator[ServedVersion]:
        """Yield every version there is a queue for, also those that have left the catalog but not the workers."""
        for model in self.models.values():
            yield from model.versions.values()
            yield from model.retiring.values()

    def _serve(
        self, catalog: Catalog, name: str, version: str, entry: ModelEntry, old: ServedModel | None
    ) -> ServedVersion:
        manifest, validator, problem = None, None, ""
        known = old.versions.get(version) if old is not None else None
        if (
            known is not None
            and not known.problem
            and known.entry.versions.get(version) == entry.versions[version]
            and self._catalog.repository == catalog.repository
        ):
            manifest, validator = known.manifest, known.validator  # a version is immutable
        else:
            try:
                manifest = fetch_manifest(catalog.version_uri(name, version), self._cache_dir)
                validator = InstanceValidator(manifest.instance_schema)
            except (ModelLoadError, RepositoryError) as error:
                problem = error.message
            except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
                problem = f"its instance_schema is not a JSON Schema: {str(error).splitlines()[0]}"
            if problem:
                logger.error("Version %s of %s: %s", version, name, problem, extra={"model": name, "version": version})
        queue = queue_name(name, version)
        signature = signature_of(manifest)
        return ServedVersion(name, version, entry, queue, version.encode(), manifest, validator, problem, signature)
