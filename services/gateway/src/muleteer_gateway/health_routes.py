"""/livez and /readyz."""

from fastapi import APIRouter, Response

from muleteer_gateway.core import Gateway


def health_routes(gateway: Gateway) -> APIRouter:
    """Return the routes for probes."""
    router = APIRouter(tags=["health"])

    @router.get(
        "/livez",
        summary="The process works, or can only be helped by a restart (503)",
        responses={503: {"description": "Broken, with the reason", "content": {"application/json": {}}}},
    )
    async def livez(response: Response) -> dict[str, str]:
        if gateway.broken:
            response.status_code = 503
            return {"status": "broken", "reason": gateway.broken}
        return {"status": "alive"}

    @router.get(
        "/readyz",
        summary="Ready: Redis answers, and the gateway is not draining",
        responses={503: {"description": "Not ready, with the reason", "content": {"application/json": {}}}},
    )
    async def readyz(response: Response) -> dict[str, str]:
        problem = gateway.ready_problem()
        if problem:
            response.status_code = 503
            return {"status": "not ready", "reason": problem}
        return {"status": "ready"}

    return router
