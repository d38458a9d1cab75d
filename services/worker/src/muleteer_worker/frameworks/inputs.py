"""From instances to a model's input: records, text, array or dataframe."""

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from muleteer.errors import ModelLoadError, ValidationFailedError
from muleteer.repository.manifest import InputSpec
from muleteer_worker.frameworks.libraries import require

Encode = Callable[[list[Any]], Any]


def make_encoder(spec: InputSpec, columns: Sequence[str] | None = None, dtype: Any = None) -> Encode:
    """Return the function that turns instances into the input that ``spec`` describes.

    ``columns`` and ``dtype`` are what the model itself says it wants; those of ``spec`` come first. Arrays are of
    float64 when nothing says otherwise: the type must not depend on which instances share a batch. Raises
    ModelLoadError: reason ``library`` when a dataframe is wanted without pandas, ``manifest`` for a dtype that numpy
    does not know.
    """
    if spec.kind == "text":
        return _text_encoder(spec.field)
    if spec.kind == "array":
        return _array_encoder(spec, dtype)
    if spec.kind == "dataframe":
        return _dataframe_encoder(spec.columns or columns)
    return _same


def take(instances: list[Any], name: str) -> list[Any]:
    """Return one member of each instance. Raises ValidationFailedError that names the first without it."""
    try:
        return list(map(itemgetter(name), instances))
    except (KeyError, TypeError, IndexError):
        raise _missing(instances, [name]) from None


def as_array(values: list[Any], dtype: Any) -> Any:
    """Return ``values`` as an array. Raises ValidationFailedError that names the first one that does not fit."""
    try:
        return np.array(values, dtype=dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise _first_unlike(values, np.dtype(dtype)) from error


def _same(instances: list[Any]) -> list[Any]:
    return instances


def _text_encoder(field: str | None) -> Encode:
    def encode(instances: list[Any]) -> list[str]:
        texts = instances if field is None else take(instances, field)
        for index, text in enumerate(texts):
            if type(text) is not str:
                where = "" if field is None else f" has a member {field!r} that"
                raise _wrong(index, f"instance {index}{where} is not text")
        return texts

    return encode


def _array_encoder(spec: InputSpec, wanted: Any) -> Encode:
    try:
        dtype = np.dtype(spec.dtype) if spec.dtype else np.dtype(wanted or np.float64)
    except TypeError as error:
        raise ModelLoadError(f"input.dtype: {spec.dtype!r} is not a numpy dtype", reason="manifest") from error
    rows: Encode = _same
    if spec.columns:
        rows = _row_encoder(spec.columns)
    elif spec.field is not None:
        field = spec.field

        def rows(instances: list[Any]) -> list[Any]:
            return take(instances, field)

    def encode(instances: list[Any]) -> Any:
        return as_array(rows(instances), dtype)

    return encode


def _row_encoder(columns: list[str]) -> Encode:
    get = itemgetter(*columns)
    single = len(columns) == 1

    def encode(instances: list[Any]) -> list[Any]:
        try:
            values = list(map(get, instances))
        except (KeyError, TypeError, IndexError):
            raise _missing(instances, columns) from None
        return [[value] for value in values] if single else values

    return encode


def _dataframe_encoder(columns: Sequence[str] | None) -> Encode:
    pandas = require("pandas", "pandas", "mlflow")
    names = list(columns) if columns is not None else None

    def encode(instances: list[Any]) -> Any:
        for index, instance in enumerate(instances):
            if type(instance) is not dict:
                raise _wrong(index, f"instance {index} is not an object")
        if names is None:
            return pandas.DataFrame.from_records(instances)
        # A member that is not there becomes a missing value: pipelines with an imputer rely on it.
        return pandas.DataFrame({name: [instance.get(name) for instance in instances] for name in names})

    return encode


def _missing(instances: list[Any], names: list[str]) -> ValidationFailedError:
    for index, instance in enumerate(instances):
        if not isinstance(instance, dict):
            return _wrong(index, f"instance {index} is not an object with a member {names[0]!r}")
        for name in names:
            if name not in instance:
                return _wrong(index, f"instance {index} has no member {name!r}")
    return ValidationFailedError(f"The instances have no members {names!r}.")


def _first_unlike(values: list[Any], dtype: np.dtype[Any]) -> ValidationFailedError:
    """Return the error that names the first row which is not of ``dtype``, or not as long as the first row."""
    shape: tuple[int, ...] | None = None
    for index, value in enumerate(values):
        try:
            row = np.array(value, dtype=dtype)
        except (ValueError, TypeError, OverflowError) as error:
            return _wrong(index, f"instance {index} does not fit an array of {dtype}: {error}")
        if shape is not None and row.shape != shape:
            return _wrong(index, f"instance {index} has the shape {list(row.shape)}, the ones before it {list(shape)}")
        shape = row.shape
    return ValidationFailedError(f"The instances do not fit an array of {dtype}.")


def _wrong(index: int, what: str) -> ValidationFailedError:
    return ValidationFailedError(
        f"{what[0].upper()}{what[1:]}.", errors=[{"path": f"instances.{index}", "message": what}]
    )
