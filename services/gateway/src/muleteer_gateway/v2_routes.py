"""/v2: health and metadata of the Open Inference Protocol. Its inference requests are in ``routes``."""

from typing import Any

from fastapi import APIRouter, Response

import muleteer
from muleteer_gateway.core import Gateway
from muleteer_gateway.openapi import PROBLEM_RESPONSES
from muleteer_gateway.served import ServedModel

_FOR_MODELS = PROBLEM_RESPONSES(401, 404)
NOT_READY = 400
"""The protocol wants a status of 4xx for no; /readyz, for probes and load balancers, says 503."""
_NO: dict[int | str, dict[str, Any]] = {
    NOT_READY: {"description": "Not ready", "content": {"application/json": {}}},
}


def v2_routes(gateway: Gateway) -> APIRouter:
    """Return the routes that say how server and models are, and what tensors a model takes and answers."""
    router = APIRouter(prefix="/v2", tags=["v2"])

    @router.get("", summary="The server's name, version and protocol extensions")
    async def server_metadata() -> dict[str, Any]:
        return {"name": "muleteer", "version": muleteer.__version__, "extensions": []}

    @router.get("/health/live", summary="The process works", responses=_NO)
    async def server_live(response: Response) -> dict[str, bool]:
        return _say(response, "live", yes=not gateway.broken)

    @router.get("/health/ready", summary="Ready for requests", responses=_NO)
    async def server_ready(response: Response) -> dict[str, bool]:
        return _say(response, "ready", yes=not gateway.ready_problem())

    @router.get(
        "/models/{model}", summary="A model's tensors, as the version has them that answers", responses=_FOR_MODELS
    )
    async def model_metadata(model: str) -> dict[str, Any]:
        found = gateway.models.model(model)
        return _metadata(found, found.default().version)

    @router.get("/models/{model}/versions/{version}", summary="A version's tensors", responses=_FOR_MODELS)
    async def version_metadata(model: str, version: str) -> dict[str, Any]:
        found = gateway.models.model(model)
        found.check_version(version)
        return _metadata(found, version)

    @router.get("/models/{model}/ready", summary="A model takes requests", responses=_NO | _FOR_MODELS)
    async def model_ready(model: str, response: Response) -> dict[str, Any]:
        found = gateway.models.model(model)
        return {"name": model, **_say(response, "ready", yes=found.answers())}

    @router.get("/models/{model}/versions/{version}/ready", summary="A version is ready", responses=_NO | _FOR_MODELS)
    async def version_ready(model: str, version: str, response: Response) -> dict[str, Any]:
        found = gateway.models.model(model)
        found.check_version(version)
        return {"name": model, "version": version, **_say(response, "ready", yes=found.answers(version))}

    return router


def _say(response: Response, what: str, *, yes: bool) -> dict[str, bool]:
    response.status_code = 200 if yes else NOT_READY
    return {what: yes}


def _metadata(model: ServedModel, version: str) -> dict[str, Any]:
    served = model.versions.get(version) or model.retiring[version]
    manifest, signature = served.manifest, served.signature
    return {
        "name": model.name,
        "versions": list(model.versions),
        "platform": manifest.framework if manifest else "",
        "inputs": [spec.document() for spec in signature.inputs],
        "outputs": [spec.document() for spec in signature.outputs],
    }
