"""The FastAPI application, built from settings: routes, errors, OpenAPI."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

import muleteer
from muleteer.errors import ValidationFailedError
from muleteer_gateway.callbacks import run_callbacks
from muleteer_gateway.core import Gateway
from muleteer_gateway.envelope import Envelope, as_problem
from muleteer_gateway.health_routes import health_routes
from muleteer_gateway.job_routes import job_routes
from muleteer_gateway.metrics_routes import metrics_routes
from muleteer_gateway.model_routes import model_routes
from muleteer_gateway.openapi import add_models
from muleteer_gateway.routes import PredictRoute
from muleteer_gateway.v2_routes import v2_routes

DESCRIPTION = (
    "Predictions as durable jobs. Every request becomes a job; the caller waits for its answer, or gets the job's URL."
)


class GatewayApp(FastAPI):
    """FastAPI with one shortcut: prediction requests go straight to their route.

    FastAPI's own layers cost more per request than all the rest of the gateway, and none of them has a task there:
    errors, limits and ids are the envelope's.
    """

    hot: ASGIApp | None = None
    hot_route: PredictRoute | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self.hot is not None and self.hot_route is not None:
            match, child_scope = self.hot_route.matches(scope)
            if match is Match.FULL:
                scope.update(child_scope)
                await self.hot(scope, receive, send)
                return
        await super().__call__(scope, receive, send)


def build_app(gateway: Gateway) -> FastAPI:
    """Return the application that serves ``gateway``."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with gateway.running():
            webhooks = asyncio.create_task(run_callbacks(gateway), name="webhooks")
            if gateway.settings.callback_secret.get_secret_value():
                webhooks.add_done_callback(gateway.note_end)
            yield
            webhooks.cancel()
            await asyncio.gather(webhooks, return_exceptions=True)

    app = GatewayApp(
        title="Muleteer",
        version=muleteer.__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    app.hot_route = PredictRoute(gateway)
    app.hot = Envelope(app.hot_route.handle, gateway)
    routers = [job_routes(gateway), model_routes(gateway), v2_routes(gateway), health_routes(gateway)]
    if not gateway.settings.metrics_port:
        routers.append(metrics_routes(gateway))
    _serve(app, gateway, routers)
    _serve_openapi(app, gateway)
    return app


def build_metrics_app(gateway: Gateway) -> FastAPI:
    """Return the application of the metrics port: it only watches ``gateway``, which another application runs."""
    app = FastAPI(title="Muleteer metrics", openapi_url=None, redirect_slashes=False)
    _serve(app, gateway, [health_routes(gateway), metrics_routes(gateway)])
    return app


def _serve(app: FastAPI, gateway: Gateway, routers: Sequence[APIRouter]) -> None:
    for router in routers:
        app.include_router(router)
    app.add_middleware(Envelope, gateway=gateway)
    app.add_exception_handler(HTTPException, _raiser_of_problems([r for router in routers for r in router.routes]))
    app.add_exception_handler(RequestValidationError, _raise_invalid)


def _raiser_of_problems(routes: Sequence[BaseRoute]) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Return the handler that hands the framework's errors to the envelope, where all become problem documents."""

    async def raise_problem(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        # The framework names the methods of the first route with this path only.
        methods = {
            method
            for route in routes
            if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE
            for method in route.methods or ()
        }
        allow = sorted(methods) or [name.strip() for name in (error.headers or {}).get("Allow", "").split(",")]
        raise as_problem(error, allow) from error

    return raise_problem


async def _raise_invalid(_: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    errors = [{"path": "/".join(map(str, e["loc"])), "message": str(e["msg"])} for e in error.errors()]
    raise ValidationFailedError(f"{errors[0]['path']}: {errors[0]['message']}.", errors=errors) from error


def _serve_openapi(app: FastAPI, gateway: Gateway) -> None:
    """Make ``/openapi.json`` follow the catalog: the document is built anew when that has changed."""
    built: tuple[int, dict[str, Any]] = (-1, {})

    def openapi() -> dict[str, Any]:
        nonlocal built
        if built[0] != gateway.models.generation:
            base = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes)
            built = gateway.models.generation, add_models(base, gateway.models, gateway.settings)
        return built[1]

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document
