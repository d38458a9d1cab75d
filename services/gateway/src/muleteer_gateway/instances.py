"""The instances of a request: list or object, validated against the model's schema, and their way back as an answer."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import jsonschema_rs
import orjson

from muleteer.errors import BadRequestError, PayloadTooLargeError, ValidationFailedError
from muleteer_gateway.infer import Inference, read_inference
from muleteer_gateway.signature import Signature

Shape = Literal["list", "object", "single", "tensors"]
MAX_ERRORS_SHOWN = 50
MAX_MESSAGE = 300
MAX_DEPTH = 250
"""A little below what orjson writes: it reads deeper than that."""


@dataclass(frozen=True, slots=True)
class Instances:
    """A request's rows, and the shape its answer takes."""

    rows: list[Any]
    shape: Shape
    keys: list[str] | None = None
    """Ids of the rows, for shape ``object``."""
    inference: Inference | None = None
    """For shape ``tensors``."""


class InstanceValidator:
    """A model version's instance schema, compiled."""

    def __init__(self, schema: dict[str, Any]) -> None:
        """Compile ``schema``. Raises jsonschema_rs.ValidationError when it is not a JSON Schema."""
        self._validator = jsonschema_rs.validator_for(schema) if schema else None

    def check(self, instances: Instances, prefix: str) -> None:
        """Raise ValidationFailedError that names every wrong field by its path, up to a bounded number."""
        if self._validator is None:
            return
        try:
            # Row by row: inside a larger schema the references of this one would point to nothing.
            if all(map(self._validator.is_valid, instances.rows)):
                return
            errors = list(islice(self._find_errors(instances, prefix), MAX_ERRORS_SHOWN + 1))
        except ValueError as error:
            raise _too_deep() from error
        found, errors = len(errors), errors[:MAX_ERRORS_SHOWN]
        more = "" if found == 1 else f" (and {found - 1} more)"
        if found > MAX_ERRORS_SHOWN:
            more = f" (and at least {MAX_ERRORS_SHOWN} more)"
        first = errors[0]
        where = first["path"] or "the body"
        raise ValidationFailedError(f"{where}: {first['message']}{more}.", errors=errors)

    def _find_errors(self, instances: Instances, prefix: str) -> Iterator[dict[str, str]]:
        if self._validator is None:
            return
        for row, instance in enumerate(instances.rows):
            for error in self._validator.iter_errors(instance):
                for field, message in _wrong_fields(error):
                    path = _path(row, [*error.instance_path, *field], instances, prefix)
                    yield {"path": _shorten(path), "message": _shorten(message)}


def _wrong_fields(error: jsonschema_rs.ValidationError) -> Iterator[tuple[list[str], str]]:
    """Yield the fields that an error is about, below its own path: a missing field is named, and each unknown one."""
    kind = error.kind
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.Required):
        yield [kind.property], error.message
    elif isinstance(
        kind,
        jsonschema_rs.ValidationErrorKind.AdditionalProperties
        | jsonschema_rs.ValidationErrorKind.UnevaluatedProperties,
    ):
        for name in kind.unexpected:
            yield [name], "is a field that the schema does not know"
    else:
        yield [], error.message


def encode_rows(instances: Instances) -> bytes:
    """Return the rows as a JSON array. Raises BadRequestError when they are nested deeper than JSON is written."""
    try:
        return orjson.dumps(instances.rows)
    except TypeError as error:
        raise _too_deep() from error


def _too_deep() -> BadRequestError:
    return BadRequestError(f"The instances are nested too deeply: at most {MAX_DEPTH} levels are read.")


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


def read_v2(payload: Any, model: str, signature: Signature, max_instances: int, max_bytes: int) -> Instances:
    """Read a body of the Open Inference Protocol: ``{"inputs": [...]}``."""
    rows, inference = read_inference(payload, model, signature, max_instances, max_bytes)
    return Instances(rows, "tensors", inference=inference)


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


def _path(row: int, field: list[str | int], instances: Instances, prefix: str) -> str:
    head: list[str | int] = [prefix] if prefix else []
    if instances.shape == "list":
        head.append(row)
    elif instances.keys is not None:
        head.append(instances.keys[row])
    elif instances.inference is not None:
        head, field = [*head, *field[: instances.inference.depth], row], field[instances.inference.depth :]
    return "/".join(str(part) for part in [*head, *field])


def _shorten(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"
