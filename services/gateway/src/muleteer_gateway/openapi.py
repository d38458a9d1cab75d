"""The OpenAPI document: FastAPI's own, with every model's prediction routes and schemas added."""

from typing import Any

from muleteer_gateway import openapi_v2
from muleteer_gateway.served import ServedModel, ServedModels, ServedVersion
from muleteer_gateway.settings import GatewaySettings
from muleteer_gateway.webhook_url import MAX_LENGTH

_OPEN_PATHS = {"/livez", "/readyz", "/metrics", "/backlog/{pool}", "/v2", "/v2/health/live", "/v2/health/ready"}
"""They want no API key."""

_TITLES = {
    400: "The body cannot be understood",
    401: "No valid API key",
    404: "No such model, version, alias, job or pool",
    405: "Method not allowed",
    409: "The job has ended, or was cancelled",
    413: "The body or the list of instances is too long",
    415: "The content type or encoding is not understood",
    422: "Instances do not fit the schema; every wrong field is named",
    429: "Too many requests",
    431: "The request's headers are too long",
    500: "The model failed; its exception's type and message",
    503: "Not now; see Retry-After",
    504: "The answer did not come in time; the job's URL",
}


def PROBLEM_RESPONSES(*statuses: int) -> dict[int | str, dict[str, Any]]:  # noqa: N802 - used like a constant
    """Return OpenAPI responses for these error statuses."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": _TITLES[status], "content": {"application/problem+json": {"schema": schema}}}
        for status in statuses
    }


JOB_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The job",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Job"}}},
    },
    **PROBLEM_RESPONSES(401, 404, 409, 422, 503),
}

_PROBLEM = {
    "type": "object",
    "description": "An error (RFC 9457)",
    "required": ["type", "title", "status", "detail", "error"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "error": {"type": "string", "description": "Same as detail: what V1 clients read"},
        "instance": {"type": "string"},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"path": {"type": "string"}, "message": {"type": "string"}},
            },
        },
        "job": {"type": "string", "description": "URL of the job that goes on"},
        "reason": {"type": "string", "description": "Why a request was refused: deadline, queue_seconds, rate, …"},
        "queue_seconds": {"type": "number", "description": "Predicted seconds in the queue"},
    },
}

_JOB = {
    "type": "object",
    "description": "A prediction on its way, or its end",
    "required": ["id", "status", "model", "version", "created_at", "links"],
    "properties": {
        "id": {"type": "string"},
        "status": {"enum": ["queued", "started", "finished", "failed", "canceled", "stopped"]},
        "model": {"type": "string"},
        "version": {"type": "string"},
        "created_at": {"type": "string"},
        "started_at": {"type": "string"},
        "ended_at": {"type": "string"},
        "position": {"type": "integer", "description": "Jobs before it in the queue"},
        "eta_seconds": {"type": "number"},
        "deliveries": {"type": "integer", "description": "Deliveries that were lost with their worker"},
        "result": {"type": "object", "properties": {"predictions": {}}},
        "error": {
            "type": "object",
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
        },
        "links": {"type": "object"},
    },
}

_PREDICT_HEADERS = [
    {
        "name": "Prefer",
        "in": "header",
        "description": (
            "`wait=N`: wait up to N seconds, then 202; refused if that is predicted not to be enough. `respond-async`: "
            "202 at once. Both: as `wait=N`, never refused for being late."
        ),
        "schema": {"type": "string", "examples": ["wait=5", "respond-async"]},
    },
    {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "The same key and body give the same job.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    },
    {
        "name": "X-Client-Id",
        "in": "header",
        "description": "Who calls, for fair queueing and limits, where no API key says it.",
        "schema": {"type": "string", "pattern": "^[!-~]{1,100}$"},
    },
]

_PREDICT_ERRORS = PROBLEM_RESPONSES(400, 401, 404, 409, 413, 415, 422, 429, 431, 500, 503, 504)


_SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
}

_CALLBACK = {
    "type": ["string", "null"],
    "format": "uri",
    "pattern": "^https?://",
    "maxLength": MAX_LENGTH,
    "description": "URL that a signed webhook goes to",
}


def add_models(document: dict[str, Any], models: ServedModels, settings: GatewaySettings) -> dict[str, Any]:
    """Add Problem, Job and every model's routes to an OpenAPI document, and how callers prove who they are."""
    _drop_framework_errors(document)
    if settings.keys:
        document.setdefault("components", {})["securitySchemes"] = _SECURITY_SCHEMES
        document["security"] = [{name: []} for name in _SECURITY_SCHEMES]
        for path in _OPEN_PATHS & document["paths"].keys():
            for operation in document["paths"][path].values():
                operation["security"] = []
    webhooks = bool(settings.callback_secret.get_secret_value())
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"], schemas["Job"] = _PROBLEM, _JOB
    paths = document.setdefault("paths", {})
    for model in models.models.values():
        for of_version in model.versions.values():
            schemas |= _component_schemas(of_version)
        served = model.versions[next(iter(model.entry.targets()))]
        name = model.name
        paths[f"/v1/models/{name}:predict"] = {
            "post": _v1_operation(model, served, f"predict_{name}", webhooks=webhooks)
        }
        for version, of_version in model.versions.items():
            operation = _v1_operation(model, of_version, f"predict_{name}_version_{version}", webhooks=webhooks)
            paths[f"/v1/models/{name}/versions/{version}:predict"] = {"post": operation}
            operation = _v2_operation(model, of_version, f"infer_{name}_version_{version}")
            paths[f"/v2/models/{name}/versions/{version}/infer"] = {"post": operation}
        for alias, version in model.entry.aliases.items():
            operation = _v1_operation(
                model, model.versions[version], f"predict_{name}_label_{alias}", webhooks=webhooks
            )
            paths[f"/v1/models/{name}/labels/{alias}:predict"] = {"post": operation}
        paths[f"/v2/models/{name}/infer"] = {"post": _v2_operation(model, served, f"infer_{name}")}
        if model.entry.route:
            paths[model.entry.route] = _plain_item(model, served)
    return document


def _drop_framework_errors(document: dict[str, Any]) -> None:
    """Take out the error answers that the framework announces by itself: ours are problem documents."""
    framework = {"$ref": "#/components/schemas/HTTPValidationError"}
    for item in document.get("paths", {}).values():
        for operation in item.values():
            answer = operation["responses"].get("422", {})
            if answer.get("content", {}).get("application/json", {}).get("schema") == framework:
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        document.get("components", {}).get("schemas", {}).pop(name, None)


def _component_schemas(served: ServedVersion) -> dict[str, Any]:
    """Return a version's own schemas, to be put among the document's components."""
    manifest = served.manifest
    instance, prediction = (manifest.instance_schema, manifest.prediction_schema) if manifest else ({}, {})
    return {
        name: _rebased(schema, f"#/components/schemas/{name}")
        for name, schema in zip(_schema_names(served), (instance, prediction), strict=True)
    }


def _schema_names(served: ServedVersion) -> tuple[str, str]:
    return f"{served.model}.{served.version}.instance", f"{served.model}.{served.version}.prediction"


def _schemas(served: ServedVersion) -> tuple[dict[str, Any], dict[str, Any]]:
    instance, prediction = _schema_names(served)
    return {"$ref": f"#/components/schemas/{instance}"}, {"$ref": f"#/components/schemas/{prediction}"}


def _rebased(schema: Any, base: str) -> Any:
    """Return a schema whose references to its own parts hold where it lies in the document."""
    if isinstance(schema, list):
        return [_rebased(item, base) for item in schema]
    if not isinstance(schema, dict) or "$id" in schema:
        return schema
    return {
        key: base + value[1:]
        if key == "$ref" and isinstance(value, str) and (value == "#" or value.startswith("#/"))
        else _rebased(value, base)
        for key, value in schema.items()
    }


def _v1_operation(model: ServedModel, served: ServedVersion, operation_id: str, *, webhooks: bool) -> dict[str, Any]:
    instance, prediction = _schemas(served)
    limit = model.entry.limits.max_instances
    request: dict[str, Any] = {
        "type": "object",
        "required": ["instances"],
        "properties": {
            "instances": {
                "anyOf": [
                    {"type": "array", "items": instance, "minItems": 1, "maxItems": limit},
                    {"type": "object", "additionalProperties": instance, "minProperties": 1, "maxProperties": limit},
                ]
            },
        },
    }
    if webhooks:
        request["properties"]["callback"] = _CALLBACK
    answer = {
        "type": "object",
        "required": ["predictions"],
        "properties": {
            "predictions": {
                "anyOf": [
                    {"type": "array", "items": prediction},
                    {"type": "object", "additionalProperties": prediction},
                ]
            }
        },
    }
    examples = [example.instance for example in served.manifest.examples[:1]] if served.manifest else []
    return _operation(model, operation_id, request, answer, {"instances": examples} if examples else None)


def _v2_operation(model: ServedModel, served: ServedVersion, operation_id: str) -> dict[str, Any]:
    example = openapi_v2.example_of(served)
    return _operation(model, operation_id, openapi_v2.REQUEST, openapi_v2.ANSWER, example)


def _plain_item(model: ServedModel, served: ServedVersion) -> dict[str, Any]:
    instance, prediction = _schemas(served)
    example = served.manifest.examples[0].instance if served.manifest and served.manifest.examples else None
    request, answer = instance, prediction
    if model.entry.route_body == "instances":
        limit = model.entry.limits.max_instances
        request = {"type": "object", "additionalProperties": instance, "minProperties": 1, "maxProperties": limit}
        answer = {"type": "object", "additionalProperties": prediction}
        example = {"1": example} if example is not None else None
    explain = {
        "tags": ["predict"],
        "operationId": f"explain_{model.name}",
        "summary": f"What {model.name} wants and answers",
        "responses": {
            "200": {"description": "The model's description", "content": {"application/json": {}}},
            **PROBLEM_RESPONSES(401),
        },
    }
    return {"post": _operation(model, f"plain_{model.name}", request, answer, example), "get": explain}


def _operation(
    model: ServedModel, operation_id: str, request: dict[str, Any], answer: dict[str, Any], example: Any
) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": request}
    if example is not None:
        content["example"] = example
    return {
        "tags": ["predict"],
        "operationId": operation_id,
        "summary": f"Predict with {model.name}",
        "parameters": _PREDICT_HEADERS,
        "requestBody": {"required": True, "content": {"application/json": content}},
        "responses": {
            "200": {"description": "The predictions", "content": {"application/json": {"schema": answer}}},
            "202": {
                "description": "The job goes on; its URL is in Location",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Job"}}},
            },
            **{str(status): value for status, value in _PREDICT_ERRORS.items()},
        },
    }
