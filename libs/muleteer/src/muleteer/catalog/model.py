"""What a catalog says: models, versions, traffic, batching and limits."""

import random
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from muleteer.errors import NotFoundError

ModelName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
VersionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


OWN_PATHS = ("/v1/models", "/v1/jobs", "/v2", "/livez", "/readyz", "/metrics", "/backlog", "/docs", "/openapi.json")
"""What the gateway answers itself, and all below it: no model's route. The chart knows them too."""


class Strict(BaseModel):
    """A part of the catalog: unknown keys are errors, so that a typing mistake cannot pass for a setting."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Batching(Strict):
    """How jobs of one version are put together."""

    max_rows: int = Field(64, ge=1, le=100_000, description="Most instances in one predict call")
    target_batch_seconds: float = Field(
        1.0,
        gt=0,
        description="Longest time that a batch should take: it gets fewer rows when more are predicted to take longer",
    )
    batch_share: float = Field(
        0.2, gt=0, lt=1, description="Share of a batch's rows for async jobs while sync ones wait too"
    )


class Limits(Strict):
    """What is refused at the door."""

    max_instances: int = Field(10_000, ge=1, description="Most instances in one request")
    max_queue_jobs: int = Field(50_000, ge=1, description="Queued jobs of a version at which new ones are refused")
    max_queue_rows: int | None = Field(None, ge=1, description="Queued instances of a version, the same way; none: any")
    max_queue_seconds: float | None = Field(
        None, gt=0, description="Predicted seconds in the queue at which new jobs are refused; none: any"
    )


class VersionEntry(Strict):
    """Where one version's folder lives."""

    uri: str | None = Field(None, description="The version's folder; by default <repository>/<model>/<version>")


class ModelEntry(Strict):
    """One model: its versions and how they are served."""

    versions: dict[VersionName, VersionEntry] = Field(min_length=1)
    default: VersionName | None = Field(None, description="Version that answers when none is named")
    traffic: dict[VersionName, float] = Field({}, description="Shares of unnamed requests, instead of `default`")
    aliases: dict[ModelName, VersionName] = Field({}, description="Labels that move between versions")
    route: str | None = Field(None, pattern=r"^/[A-Za-z0-9/_.~-]+$", description="Plain path for simple clients")
    route_body: Literal["instance", "instances"] = Field(
        "instance", description="What a plain body is: one instance, or an object of id -> instance"
    )
    pool: ModelName = Field("default", description="Worker pool that serves the model")
    pinned: bool = Field(
        False, description="Always resident: loaded at start and never unloaded, in a pool with a memory budget"
    )
    timeout: float = Field(30.0, gt=0, le=86_400, description="Seconds a caller waits by default")
    predict_timeout: float = Field(300.0, gt=0, description="Seconds after which a predict call is given up as hung")
    max_deliveries: int = Field(
        3,
        ge=1,
        le=20,
        description="Times a job is handed out before it fails for good: in a full batch, among few, alone. Below 3 "
        "its neighbours in the batch may fail with it",
    )
    result_ttl: int = Field(3600, ge=1, description="Seconds a kept result can be fetched")
    failure_ttl: int = Field(604_800, ge=1, description="Seconds a failed job is kept for `rq requeue`")
    batching: Batching = Batching()
    limits: Limits = Limits()
    allow_unsafe: frozenset[Sha256] = Field(
        frozenset(), description="Checksums of joblib or pickle artifacts that may be loaded: they can run any code"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        named = {"default": [self.default] if self.default else [], "traffic": list(self.traffic)}
        named["aliases"] = list(self.aliases.values())
        for where, versions in named.items():
            for version in versions:
                if version not in self.versions:
                    raise ValueError(f"{where} names version {version!r}, which is not among `versions`")
        if self.traffic and self.default:
            raise ValueError("give either `default` or `traffic`, not both")
        if any(share < 0 for share in self.traffic.values()) or (self.traffic and sum(self.traffic.values()) <= 0):
            raise ValueError("shares in `traffic` must not be negative, and one must be above 0")
        if not self.default and not self.traffic and len(self.versions) > 1:
            raise ValueError("with several versions, `default` or `traffic` must say which one answers")
        return self

    def targets(self) -> dict[str, float]:
        """Return the versions that unnamed requests go to, with their shares."""
        if self.traffic:
            return {version: share for version, share in self.traffic.items() if share > 0}
        return {self.default or next(iter(self.versions)): 1.0}


def pick(shares: dict[str, float]) -> str:
    """Return one key of ``shares``, drawn by weight."""
    if len(shares) == 1:
        return next(iter(shares))
    return random.choices(list(shares), weights=list(shares.values()))[0]  # noqa: S311 - traffic, not a secret


class Catalog(Strict):
    """The list of models served and how."""

    repository: str = Field("models", description="Folder or URL (s3://…) under which <model>/<version>/ live")
    models: dict[ModelName, ModelEntry] = Field({}, description="The models served, by name")

    @model_validator(mode="after")
    def _routes_differ(self) -> Self:
        seen: dict[str, str] = {}
        for name, entry in self.models.items():
            if entry.route is None:
                continue
            if any(f"{entry.route}/".startswith(f"{own}/") for own in OWN_PATHS):
                raise ValueError(f"model {name}: route {entry.route} belongs to Muleteer's own API")
            if entry.route in seen:
                raise ValueError(f"models {seen[entry.route]} and {name} have the same route {entry.route}")
            seen[entry.route] = name
        return self

    def model(self, name: str) -> ModelEntry:
        """Return the entry of a model. Raises NotFoundError that lists the models there are."""
        entry = self.models.get(name)
        if entry is None:
            known = ", ".join(sorted(self.models)) or "none"
            raise NotFoundError(f"There is no model {name[:100]!r}. Models served: {known}.")
        return entry

    def version_uri(self, model: str, version: str) -> str:
        """Return where a version's folder lives."""
        entry = self.models[model].versions.get(version)
        return (entry.uri if entry else None) or f"{self.repository.rstrip('/')}/{model}/{version}"
