"""The route in front of all others: prediction requests, found by their path without regular expressions."""

import orjson
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from muleteer.errors import MethodNotAllowedError, NotFoundError
from muleteer_gateway.core import Gateway
from muleteer_gateway.http import read_headers, send_answer
from muleteer_gateway.intake import Target
from muleteer_gateway.model_routes import describe_model
from muleteer_gateway.predict import Predict

PREFIX = "/v1/models/"
SUFFIX = ":predict"
V2_PREFIX = "/v2/models/"
V2_SUFFIX = "/infer"
_TARGET = "muleteer.target"


class PredictRoute(BaseRoute):
    """Matches ``/v1/models/…:predict``, ``/v2/models/…/infer`` and the catalog's plain routes, as they are now."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._predict = Predict(gateway)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Say whether the request is for a prediction route; its target travels in the scope."""
        if scope["type"] != "http":
            return Match.NONE, {}
        path: str = scope["path"]
        if path.endswith(SUFFIX) and path.startswith(PREFIX):
            return Match.FULL, {_TARGET: read_target(path)}
        if path.endswith(V2_SUFFIX) and path.startswith(V2_PREFIX):
            target = read_v2_target(path)
            if target is not None:  # else it may be the metadata of what is named like the suffix
                return Match.FULL, {_TARGET: target}
        served = self._gateway.models.routes.get(path)
        if served is not None:
            return Match.FULL, {_TARGET: Target(served.name, protocol="plain")}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that matched."""
        target: Target | None = scope[_TARGET]
        method = scope["method"]
        if target is None:
            raise NotFoundError(
                "There is no such prediction route: /v1/models/{model}:predict, …/versions/{version}:predict or "
                "…/labels/{alias}:predict."
            )
        plain = target.protocol == "plain"
        if method == "POST":
            await self._predict(scope, receive, send, target)
        elif plain and method in ("GET", "HEAD"):
            await self._explain(scope, send, target)
        else:
            allow = ["GET", "POST"] if plain else ["POST"]
            raise MethodNotAllowedError(f"{method} is not for this route: use {' or '.join(allow)}.", allow=allow)

    async def _explain(self, scope: Scope, send: Send, target: Target) -> None:
        """Say what a plain route is for."""
        self._gateway.clients.identify(read_headers(scope))
        model = self._gateway.models.model(target.model)
        described = describe_model(model, self._gateway.load)
        body = (
            f"an object of id -> instance of {model.name}" if model.entry.route_body == "instances" else "one instance"
        )
        described["usage"] = f"POST {model.entry.route} with {body} as JSON; the answer is the prediction itself."
        headers = [(b"content-type", b"application/json")]
        await send_answer(send, 200, headers, b"" if scope["method"] == "HEAD" else orjson.dumps(described))


def read_target(path: str) -> Target | None:
    """Return what a ``/v1/models/…:predict`` path names, None when it names nothing."""
    parts = path[len(PREFIX) : -len(SUFFIX)].split("/")
    if len(parts) == 1 and parts[0]:
        return Target(parts[0])
    if len(parts) == 3 and all(parts):
        if parts[1] == "versions":
            return Target(parts[0], version=parts[2])
        if parts[1] == "labels":
            return Target(parts[0], alias=parts[2])
    return None


def read_v2_target(path: str) -> Target | None:
    """Return what a ``/v2/models/…/infer`` path names, None when it names nothing."""
    parts = path[len(V2_PREFIX) : -len(V2_SUFFIX)].split("/")
    if len(parts) == 1 and parts[0]:
        return Target(parts[0], protocol="v2")
    if len(parts) == 3 and all(parts) and parts[1] == "versions":
        return Target(parts[0], version=parts[2], protocol="v2")
    return None
