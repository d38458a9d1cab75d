"""The Open Inference Protocol's bodies in the OpenAPI document."""

from typing import Any

from muleteer_gateway.served import ServedVersion
from muleteer_gateway.tensors import DATATYPES, write_tensor

_TENSOR = {
    "type": "object",
    "description": "Its data is in row-major order, flat or nested as its shape says",
    "required": ["name", "shape", "datatype", "data"],
    "properties": {
        "name": {"type": "string"},
        "shape": {
            "type": "array",
            "items": {"type": "integer", "minimum": 0},
            "minItems": 1,
            "description": "The number of instances first",
        },
        "datatype": {"enum": list(DATATYPES)},
        "parameters": {"type": ["object", "null"]},
        "data": {"type": "array"},
    },
}
REQUEST = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": ["string", "null"]},
        "parameters": {
            "type": ["object", "null"],
            "properties": {
                "timeout": {
                    "type": ["integer", "null"],
                    "minimum": 0,
                    "description": "Microseconds that the caller waits: what would take longer is refused",
                }
            },
        },
        "inputs": {"type": "array", "minItems": 1, "items": _TENSOR},
        "outputs": {
            "type": ["array", "null"],
            "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
            "description": "Those that are wanted; all when it is left away",
        },
    },
}
ANSWER = {
    "type": "object",
    "required": ["model_name", "model_version", "outputs"],
    "properties": {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "id": {"type": "string"},
        "outputs": {"type": "array", "items": _TENSOR},
    },
}


def example_of(served: ServedVersion) -> dict[str, Any] | None:
    """Return a request that a version answers: its first golden example as tensors; None when it has none."""
    if served.manifest is None or not served.manifest.examples:
        return None
    instance = served.manifest.examples[0].instance
    by_name = instance if served.signature.by_name and isinstance(instance, dict) else {"instance": instance}
    datatypes = {spec.name: spec.datatype for spec in served.signature.inputs}
    return {"inputs": [write_tensor(name, [value], datatypes.get(name, "")) for name, value in by_name.items()]}
