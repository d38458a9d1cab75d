"""/v1/models: which models there are, and how each version is."""

from typing import Any

from fastapi import APIRouter

from muleteer.queue.jobs import QueueState
from muleteer_gateway.core import Gateway
from muleteer_gateway.load import Load, QueueLoad
from muleteer_gateway.openapi import PROBLEM_RESPONSES
from muleteer_gateway.served import ServedModel

_V1_STATES = {"ready": "AVAILABLE", "loading": "LOADING", "cold": "COLD", "failed": "FAILED", "retired": "RETIRED"}
"""COLD is ours: TensorFlow Serving has no state for a version that is loaded when it is asked for. Its nearest, START,
tells clients to wait for a load that nobody has asked for."""


def model_routes(gateway: Gateway) -> APIRouter:
    """Return the routes that describe models, in TensorFlow Serving's words where it has them."""
    router = APIRouter(prefix="/v1/models", tags=["models"])

    @router.get("", summary="The models served", responses=PROBLEM_RESPONSES(401))
    async def list_models() -> dict[str, Any]:
        return {"models": [_summary(model) for model in gateway.models.models.values()]}

    @router.get(
        "/{model}",
        summary="One model: its versions, their state, and its schema",
        responses=PROBLEM_RESPONSES(401, 404),
    )
    async def get_model(model: str) -> dict[str, Any]:
        return describe_model(gateway.models.model(model), gateway.load)

    return router


def _summary(model: ServedModel) -> dict[str, Any]:
    targets = model.entry.targets()
    manifest = model.versions[next(iter(targets))].manifest
    return {
        "name": model.name,
        "description": manifest.description if manifest else "",
        "versions": list(model.versions),
        "default": model.entry.default or next(iter(targets)),
        "route": model.entry.route,
        "pool": model.entry.pool,
        "ready": model.answers(),
    }


def describe_model(model: ServedModel, load: Load) -> dict[str, Any]:
    """Return everything a caller may want to know of a model."""
    manifest = model.versions[next(iter(model.entry.targets()))].manifest
    return {
        **_summary(model),
        "aliases": model.entry.aliases,
        "traffic": model.entry.targets(),
        "timeout": model.entry.timeout,
        "model_version_status": [_version_status(model, version, load) for version in model.versions],
        "instance_schema": manifest.instance_schema if manifest else {},
        "prediction_schema": manifest.prediction_schema if manifest else {},
        "examples": [example.model_dump(include={"instance", "prediction"}) for example in manifest.examples]
        if manifest
        else [],
        "metrics": manifest.metrics if manifest else {},
    }


def _version_status(model: ServedModel, version: str, load: Load) -> dict[str, Any]:
    state, reason = model.state(version)
    failed = [r for r in model.reports.get(version, []) if r.get("state") == "failed"]
    manifest = model.versions[version].manifest
    return {
        "version": version,
        "state": _V1_STATES.get(state, "UNKNOWN"),
        "status": {
            "error_code": "OK" if not reason else str(failed[0].get("reason", "manifest")) if failed else "manifest",
            "error_message": reason,
        },
        "framework": manifest.framework if manifest else "",
        "workers": model.ready_workers(version),
        "examples": [example.model_dump() for example in manifest.examples] if manifest else [],
        "cost": _cost(load.queues.get(model.versions[version].queue)),
    }


def _cost(load: QueueLoad | None) -> dict[str, float | None]:
    """Return what workers have learned of a version: a batch takes batch_seconds + row_seconds for each row in it."""
    state = load.state if load is not None else QueueState()
    return {
        "batch_seconds": state.cost.batch_seconds if state.cost else None,
        "row_seconds": state.cost.row_seconds if state.cost else None,
        "load_seconds": state.load_seconds,
        "bytes": state.resident_bytes,
    }
