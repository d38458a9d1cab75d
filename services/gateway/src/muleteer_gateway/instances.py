"""The instances of a request: list or object, validated against the model's schema, and their way back as an answer."""

from dataclasses import dataclass
from typing import Any, Literal

import jsonschema_rs
import orjson

from muleteer.errors import BadRequestError, PayloadTooLargeError, ValidationFailedError

Shape = Literal["list", "object", "single"]
MAX_ERRORS_SHOWN = 50
MAX_MESSAGE = 300


@dataclass(frozen=True, slots=True)
class Instances:
    """A request's rows, and the shape its answer takes."""

    rows: list[Any]
    shape: Shape
    keys: list[str] | None = None
    """Ids of the rows, for shape ``object``."""


class InstanceValidator:
    """A model version's instance schema, compiled."""

    def __init__(self, schema: dict[str, Any]) -> None:
        """Compile ``schema``. Raises jsonschema_rs.ValidationError when it is not a JSON Schema."""
        self._validator = jsonschema_rs.validator_for({"type": "array", "items": schema}) if schema else None

    def check(self, instances: Instances, prefix: str) -> None:
        """Raise ValidationFailedError that names every wrong field by its path, up to a bounded number."""
        if self._validator is None or self._validator.is_valid(instances.rows):
            return
        errors: list[dict[str, str]] = []
        for error in self._validator.iter_errors(instances.rows):
            if len(errors) == MAX_ERRORS_SHOWN:
                break
            path = _path(list(error.instance_path), instances, prefix)
            errors.append({"path": path, "message": _shorten(error.message)})
        first = errors[0]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        where = first["path"] or "the body"
        raise ValidationFailedError(f"{where}: {first['message']}{more}.", errors=errors)


def read_v1(payload: Any, max_instances: int) -> Instances:
    """Read a V1 body: ``{"instances": [...]}``, or an object of id -> instance in place of the list."""
    if not isinstance(payload, dict):
        raise BadRequestError('The body must be an object: {"instances": [...]}.')
    if "instances" not in payload:
        raise BadRequestError('The body has no "instances": send {"instances": [...]}.')
    found = payload["instances"]
    if isinstance(found, list):
        return _checked(Instances(found, "list"), max_instances)
    if isinstance(found, dict):
        return _checked(Instances(list(found.values()), "object", list(found)), max_instances)
    raise ValidationFailedError(
        '"instances" must be a list, or an object of id -> instance.',
        errors=[{"path": "instances", "message": "must be a list or an object"}],
    )


def read_plain(payload: Any, *, several: bool, max_instances: int) -> Instances:
    """Read a plain route's body: one instance, or (``several``) an object of id -> instance."""
    if not several:
        return Instances([payload], "single")
    if not isinstance(payload, dict):
        raise BadRequestError("The body must be an object of id -> instance.")
    return _checked(Instances(list(payload.values()), "object", list(payload)), max_instances)


def render(predictions: bytes, shape: Shape, keys: list[str] | None, *, plain: bool) -> bytes:
    """Return the answer's body for a JSON array of predictions, without reading the array where it need not be."""
    if shape == "single":
        return predictions[1:-1]
    body = predictions
    if keys is not None:
        body = orjson.dumps(dict(zip(keys, orjson.loads(predictions), strict=True)))
    return body if plain else b'{"predictions":' + body + b"}"


def _checked(instances: Instances, max_instances: int) -> Instances:
    if not instances.rows:
        raise BadRequestError("There are no instances to predict: send at least one.")
    if len(instances.rows) > max_instances:
        raise PayloadTooLargeError(
            f"{len(instances.rows)} instances are more than the {max_instances} that this model takes at once.",
            limit=max_instances,
        )
    return instances


def _path(parts: list[str | int], instances: Instances, prefix: str) -> str:
    row, rest = int(parts[0]) if parts else 0, parts[1:]
    head: list[str | int] = [prefix] if prefix else []
    if instances.shape == "list":
        head.append(row)
    elif instances.keys is not None:
        head.append(instances.keys[row])
    return "/".join(str(part) for part in [*head, *rest])


def _shorten(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"
