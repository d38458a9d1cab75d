"""From a model's output to predictions: plain JSON types, one for each instance."""

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

import numpy as np

from muleteer.errors import PredictionFailedError
from muleteer.repository.manifest import OutputSpec

Decode = Callable[[Any], list[Any]]


def make_decoder(spec: OutputSpec, version: str) -> Decode:
    """Return the function that turns a model's output into predictions, as ``spec`` describes.

    The function raises PredictionFailedError that names the instance when a number is NaN or infinite or a value has
    no JSON type, and when the output is not a sequence.
    """
    column, labels, field, version_field = spec.column, spec.labels, spec.field, spec.version_field

    def decode(raw: Any) -> list[Any]:
        values = to_list(raw if column is None else _column(raw, column))
        if labels is not None:
            values = [_label(labels, value) for value in values]
        if field is None:
            return values
        if version_field is None:
            return [{field: value} for value in values]
        return [{field: value, version_field: version} for value in values]

    return decode


def to_list(raw: Any) -> list[Any]:
    """Return a model's output (array, sparse matrix, dataframe, series or sequence) as a list of plain JSON values.

    Arrays of numbers or text are converted in one step; only other values are looked at one by one.
    """
    if isinstance(raw, np.ndarray):
        return _array_list(raw)
    if isinstance(raw, list | tuple):
        return [_plain(value, index) for index, value in enumerate(raw)]
    if hasattr(raw, "toarray"):  # scipy's sparse matrices
        return _array_list(np.asarray(raw.toarray()))
    if hasattr(raw, "to_dict") and hasattr(raw, "columns"):  # a pandas DataFrame: one object a row
        return [_plain(row, index) for index, row in enumerate(raw.to_dict(orient="records"))]
    if hasattr(raw, "to_numpy"):  # a pandas Series or Index
        return _array_list(np.asarray(raw.to_numpy()))
    if hasattr(raw, "tolist") and hasattr(raw, "__len__"):  # tensors of other libraries
        return [_plain(value, index) for index, value in enumerate(raw.tolist())]
    raise PredictionFailedError(
        f"The model answered {_name(raw)}, not a sequence with one prediction for each instance."
    )


def _array_list(array: np.ndarray[Any, Any]) -> list[Any]:
    if array.ndim == 0:
        raise PredictionFailedError("The model answered a single value, not one prediction for each instance.")
    kind = array.dtype.kind
    if kind == "f" and array.dtype.itemsize <= 8:
        if not np.isfinite(array).all():
            bad = np.argwhere(~np.isfinite(array))[0]
            raise _not_finite(float(array[tuple(bad)]), int(bad[0]))
        return _listed(array)
    if kind in "iubU":
        return _listed(array)
    return [_plain(value, index) for index, value in enumerate(array)]


def _listed(array: np.ndarray[Any, Any]) -> list[Any]:
    values: list[Any] = array.tolist()
    return values


def _column(raw: Any, column: int) -> Any:
    if hasattr(raw, "toarray"):
        raw = raw.toarray()
    elif hasattr(raw, "iloc"):
        raw = raw.to_numpy()
    matrix = np.asarray(raw)
    if matrix.ndim < 2 or not -matrix.shape[1] <= column < matrix.shape[1]:
        shape = " x ".join(map(str, matrix.shape))
        raise PredictionFailedError(f"The model's output has no column {column}: its shape is {shape}.")
    return matrix[:, column]


def _label(labels: Mapping[str, Any], value: Any) -> Any:
    """Return the label of an output; one without a label stays as it is."""
    if isinstance(value, list | dict):
        return value
    if isinstance(value, float) and value.is_integer() and str(value) not in labels:
        value = int(value)  # a classifier trained on floats answers 1.0 where the manifest says "1"
    return labels.get(str(value), value)


def _plain(value: Any, index: int) -> Any:  # noqa: C901 - one branch a type, the most frequent ones first
    """Return ``value`` in plain JSON types; ``index`` is the instance it answers."""
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if kind is float:
        if isfinite(value):
            return value
        raise _not_finite(value, index)
    if kind is int:
        if -0x8000000000000000 <= value <= 0xFFFFFFFFFFFFFFFF:
            return value
        raise PredictionFailedError(f"The prediction for instance {index} holds an integer of more than 64 bits.")
    if isinstance(value, Mapping):
        return {_member(name, index): _plain(item, index) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, index) for item in value]
    if hasattr(value, "tolist"):  # numpy's scalars and arrays, and tensors of other libraries
        plain = value.tolist()
        if type(plain) is not kind:
            return _plain(plain, index)
    for base in (str, bool, int, float):
        if isinstance(value, base):  # a subclass, such as a str enum
            return _plain(base(value) if base is not str else str.__str__(value), index)
    raise PredictionFailedError(
        f"The prediction for instance {index} holds {_name(value)}, for which JSON has no type."
    )


def _member(name: Any, index: int) -> str:
    if type(name) is str:
        return name
    if isinstance(name, str | int | np.integer):
        return str(name)
    raise PredictionFailedError(f"The prediction for instance {index} has a member whose name is {_name(name)}.")


def _not_finite(value: float, index: int) -> PredictionFailedError:
    return PredictionFailedError(f"The prediction for instance {index} holds {value}, which is not a JSON number.")


def _name(value: Any) -> str:
    kind = type(value)
    return f"a {kind.__name__}" if value is not None else "nothing"
