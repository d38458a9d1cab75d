"""Tensors of the Open Inference Protocol as JSON: rows out of them, and predictions into them.

The protocol: https://github.com/open-inference/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import orjson

from muleteer.errors import PayloadTooLargeError, UnsupportedMediaTypeError, ValidationFailedError

JSON = {"content_type": "application/json"}
"""Parameters of a tensor whose strings hold JSON, because no datatype fits: in requests and answers."""

MAX_DIMENSIONS = 8

_BITS = (8, 16, 32, 64)
_INTEGERS = {f"INT{bits}": range(-(2 ** (bits - 1)), 2 ** (bits - 1)) for bits in _BITS} | {
    f"UINT{bits}": range(2**bits) for bits in _BITS
}
_ALLOWED: dict[str, frozenset[type]] = {
    "BOOL": frozenset({bool}),
    "BYTES": frozenset({str}),
    **dict.fromkeys(_INTEGERS, frozenset({int})),
    **dict.fromkeys(("FP16", "FP32", "FP64"), frozenset({int, float})),
}
DATATYPES = tuple(_ALLOWED)
_WANTED = {"BOOL": "true or false", "BYTES": "a string"} | dict.fromkeys(_INTEGERS, "an integer")


def wrong(path: str, message: str) -> ValidationFailedError:
    """Return the error that says what is wrong with the member of the body at ``path``."""
    return ValidationFailedError(f"{path}: {message}.", errors=[{"path": path, "message": message}])


def no_binary() -> UnsupportedMediaTypeError:
    """Return the error that answers the protocol's binary data extension."""
    return UnsupportedMediaTypeError(
        "Binary tensor data is not understood: send the data as JSON (in Triton's clients: binary_data=False)."
    )


def read_rows(tensor: Any, path: str, max_rows: int, *, arrays: bool) -> list[Any]:
    """Return a tensor's values, one a row: those of its first dimension.

    ``arrays``: a second dimension of 1 makes a row a list of one value, else the row is the value itself.
    Raises ValidationFailedError that says what is wrong with which member, PayloadTooLargeError for too many rows.
    """
    shape, datatype = _read_shape(tensor, path, max_rows), tensor.get("datatype")
    if not isinstance(datatype, str) or datatype not in _ALLOWED:
        raise wrong(f"{path}/datatype", f"must be one of {', '.join(DATATYPES)}")
    values = _flatten(tensor.get("data"), shape, f"{path}/data")
    _check(values, datatype, f"{path}/data")
    if datatype == "BYTES" and (tensor.get("parameters") or {}).get("content_type") == JSON["content_type"]:
        values = [_parse(text, f"{path}/data/{place}") for place, text in enumerate(values)]
    if len(shape) == 1 or (shape[1:] == [1] and not arrays):
        return values
    for level in range(len(shape) - 1, 0, -1):
        size = shape[level]
        values = [values[part * size : (part + 1) * size] for part in range(math.prod(shape[:level]))]
    return values


def write_tensor(name: str, values: Sequence[Any], declared: str) -> dict[str, Any]:
    """Return the tensor of a column of values, one a row.

    ``declared`` is the datatype that the model's schema says, empty when it says none. Values that do not fit it get
    the one that fits them; those that none fits are strings of JSON.
    """
    shape, flat = _measure(values)
    datatype = _fitting(flat, declared)
    if not datatype:
        texts = [orjson.dumps(value).decode() for value in values]
        return {"name": name, "datatype": "BYTES", "shape": [len(values)], "parameters": JSON, "data": texts}
    if datatype == "FP64":
        flat = [float(value) for value in flat]
    return {"name": name, "datatype": datatype, "shape": shape, "data": flat}


def _check(values: list[Any], datatype: str, path: str) -> None:
    """Raise ValidationFailedError that names the first value that is none of the datatype's."""
    allowed, limits = _ALLOWED[datatype], _INTEGERS.get(datatype)
    if not allowed.issuperset(map(type, values)):
        place = next(number for number, value in enumerate(values) if type(value) not in allowed)
        raise wrong(f"{path}/{place}", f"must be {_WANTED.get(datatype, 'a number')}: the datatype is {datatype}")
    if limits is not None and values and not (min(values) in limits and max(values) in limits):
        place = next(number for number, value in enumerate(values) if value not in limits)
        raise wrong(f"{path}/{place}", f"must be from {limits[0]} to {limits[-1]}: the datatype is {datatype}")


def _fitting(flat: list[Any], declared: str) -> str:
    """Return the datatype that all elements fit, empty when none does."""
    kinds = set(map(type, flat))
    if not kinds:
        return declared or "FP64"
    if kinds == {bool}:
        return "BOOL"
    if kinds == {str}:
        return "BYTES"
    limits = _INTEGERS["INT64"]
    if kinds == {int} and declared != "FP64" and min(flat) in limits and max(flat) in limits:
        return "INT64"
    return "FP64" if kinds <= {int, float} else ""


def _parse(text: str, path: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise wrong(path, f"is not JSON: {error}") from error


def _read_shape(tensor: Any, path: str, max_rows: int) -> list[int]:
    if not isinstance(tensor, dict):
        raise wrong(path, "must be a tensor: an object with name, shape, datatype and data")
    parameters = tensor.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise wrong(f"{path}/parameters", "must be an object")
    if parameters and "binary_data_size" in parameters:
        raise no_binary()
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape) or not any(shape[:1]):
        raise wrong(f"{path}/shape", "must be a list of whole numbers, that of rows first and at least 1")
    if len(shape) > MAX_DIMENSIONS:
        raise wrong(f"{path}/shape", f"has {len(shape)} dimensions: at most {MAX_DIMENSIONS} are read")
    if shape[0] > max_rows:
        raise PayloadTooLargeError(
            f"{path}: {shape[0]} instances are more than the {max_rows} that this model takes at once.", limit=max_rows
        )
    # Each dimension of 1 makes a list of every value: far more to hold than the body was.
    if sum(math.prod(shape[:level]) for level in range(1, len(shape))) > 2 * math.prod(shape) + shape[0]:
        raise wrong(f"{path}/shape", "has more dimensions than it has values for: leave out those of 0 and 1")
    return shape


def _flatten(data: Any, shape: Sequence[int], path: str) -> list[Any]:
    """Return data in row-major order, which may be nested as ``shape`` says or flat already."""
    if not isinstance(data, list):
        raise wrong(path, "must be a list")
    flat = data
    for level, size in enumerate(shape[1:], 1):
        if not flat or not isinstance(flat[0], list):
            break
        if len(flat) != math.prod(shape[:level]) or any(not isinstance(p, list) or len(p) != size for p in flat):
            raise wrong(path, f"is not nested as its shape {list(shape)} says")
        flat = list(chain.from_iterable(flat))
    if len(flat) != math.prod(shape):
        raise wrong(path, f"holds {len(flat)} values, and its shape {list(shape)} says {math.prod(shape)}")
    return flat


def _measure(values: Sequence[Any]) -> tuple[list[int], list[Any]]:
    """Return the shape of values that may be lists, and all their elements in row-major order."""
    shape, flat = [len(values)], list(values)
    while flat and isinstance(flat[0], list):
        size = len(flat[0])
        if any(not isinstance(part, list) or len(part) != size for part in flat):
            break
        shape.append(size)
        flat = list(chain.from_iterable(flat))
    return shape, flat
