"""Tensors of the Open Inference Protocol as JSON: rows out of them, and predictions into them.

The protocol: https://github.com/open-inference/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import orjson

from muleteer.errors import UnsupportedMediaTypeError, ValidationFailedError

JSON = {"content_type": "application/json"}
"""Parameters of a tensor whose strings hold JSON, because no datatype fits."""

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


def read_rows(tensor: Any, path: str, *, arrays: bool) -> list[Any]:
    """Return a tensor's values, one a row: those of its first dimension.

    ``arrays``: a second dimension of 1 makes a row a list of one value, else the row is the value itself.
    Raises ValidationFailedError that says what is wrong with which member.
    """
    shape, datatype = _read_shape(tensor, path), tensor.get("datatype")
    allowed = _ALLOWED.get(datatype) if isinstance(datatype, str) else None
    if allowed is None:
        raise wrong(f"{path}/datatype", f"must be one of {', '.join(DATATYPES)}")
    values = _flatten(tensor.get("data"), shape, f"{path}/data")
    if not allowed.issuperset(map(type, values)):
        place = next(number for number, value in enumerate(values) if type(value) not in allowed)
        raise wrong(f"{path}/data/{place}", f"must be {_WANTED.get(datatype, 'a number')}: the datatype is {datatype}")
    limits = _INTEGERS.get(datatype)
    if limits is not None and values and not (min(values) in limits and max(values) in limits):
        place = next(number for number, value in enumerate(values) if value not in limits)
        raise wrong(f"{path}/data/{place}", f"must be from {limits[0]} to {limits[-1]}: the datatype is {datatype}")
    inner = shape[1:]
    if not inner or (inner == [1] and not arrays):
        return values
    for size in reversed(inner):
        values = [values[start : start + size] for start in range(0, len(values), size)]
    return values


def write_tensor(name: str, values: Sequence[Any], datatype: str) -> dict[str, Any]:
    """Return the tensor of a column of values, one a row.

    ``datatype`` is what the model's schema says, empty when it says nothing; values that do not fit it get the
    datatype that fits them, and those that no datatype fits are strings of JSON.
    """
    shape, flat = _measure(values)
    kinds, fitting, int64 = set(map(type, flat)), "", _INTEGERS["INT64"]
    if kinds <= {bool}:
        fitting = "BOOL"
    elif kinds <= {str}:
        fitting = "BYTES"
    elif kinds <= {int} and datatype != "FP64" and min(flat) in int64 and max(flat) in int64:
        fitting = "INT64"
    elif kinds <= {int, float}:
        fitting, flat = "FP64", [float(value) for value in flat]
    if not kinds and datatype:
        fitting = datatype
    if fitting:
        return {"name": name, "datatype": fitting, "shape": shape, "data": flat}
    texts = [orjson.dumps(value).decode() for value in values]
    return {"name": name, "datatype": "BYTES", "shape": [len(values)], "parameters": JSON, "data": texts}


def _read_shape(tensor: Any, path: str) -> list[int]:
    if not isinstance(tensor, dict):
        raise wrong(path, "must be a tensor: an object with name, shape, datatype and data")
    parameters = tensor.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise wrong(f"{path}/parameters", "must be an object")
    if parameters and "binary_data_size" in parameters:
        raise no_binary()
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not shape or not all(type(size) is int and size > 0 for size in shape):
        raise wrong(f"{path}/shape", "must be a list of positive integers, the number of rows first")
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
