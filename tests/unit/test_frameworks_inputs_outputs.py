"""Instances become a model's input, and its output becomes plain JSON."""

import datetime as dt
import enum
import json
from decimal import Decimal
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from muleteer.errors import ModelLoadError, PredictionFailedError, ValidationFailedError
from muleteer.repository.manifest import InputSpec, OutputSpec
from muleteer_worker.frameworks.inputs import make_encoder
from muleteer_worker.frameworks.outputs import make_decoder, to_list

NAN, INF = float("nan"), float("inf")


def encode(instances: list[Any], **spec: Any) -> Any:
    return make_encoder(InputSpec(**spec))(instances)


def decode(raw: Any, **spec: Any) -> list[Any]:
    return make_decoder(OutputSpec(**spec), "7")(raw)


# Inputs


def test_records_are_the_instances_themselves() -> None:
    instances = [{"a": 1}, {"a": 2}]
    assert encode(instances) is instances


def test_text_is_a_member_or_the_instance() -> None:
    assert encode([{"text": "a"}, {"text": "b"}], kind="text", field="text") == ["a", "b"]
    assert encode(["a", "b"], kind="text") == ["a", "b"]


def test_an_array_is_made_of_columns_of_a_member_or_of_the_instances() -> None:
    rows = [{"a": 1, "b": 2}, {"a": 3, "b": 4.5}]
    for array in (
        encode(rows, kind="array", columns=["a", "b"]),
        encode([{"x": [1, 2]}, {"x": [3, 4.5]}], kind="array", field="x"),
        encode([[1, 2], [3, 4.5]], kind="array"),
    ):
        assert array.tolist() == [[1.0, 2.0], [3.0, 4.5]]
    assert encode(rows, kind="array", columns=["b"]).tolist() == [[2.0], [4.5]]


def test_an_arrays_type_does_not_depend_on_its_neighbours() -> None:
    assert encode([[1, 2]], kind="array").dtype == np.float64
    assert encode([[1, 2]], kind="array", dtype="float32").dtype == np.float32
    assert make_encoder(InputSpec(kind="array"), dtype=np.int64)([[1]]).dtype == np.int64


def test_a_dataframe_has_the_columns_in_the_order_that_was_asked_for() -> None:
    frame = encode([{"b": "x", "a": 1}, {"a": 2}], kind="dataframe", columns=["a", "b"])
    assert list(frame.columns) == ["a", "b"]
    assert frame["a"].tolist() == [1, 2]
    assert pd.isna(frame["b"][1])

    by_model = make_encoder(InputSpec(kind="dataframe"), columns=np.array(["b", "a"], dtype=object))
    assert list(by_model([{"a": 1, "b": 2}]).columns) == ["b", "a"]
    assert list(encode([{"z": 1, "a": 2}], kind="dataframe").columns) == ["z", "a"]


@pytest.mark.parametrize(
    ("instances", "spec", "message"),
    [
        ([{"text": "a"}, {"txt": "b"}], {"kind": "text", "field": "text"}, "Instance 1 has no member 'text'."),
        ([{"text": 1}], {"kind": "text", "field": "text"}, "Instance 0 has a member 'text' that is not text."),
        (["a", 5], {"kind": "text"}, "Instance 1 is not text."),
        (["a"], {"kind": "text", "field": "text"}, "Instance 0 is not an object with a member 'text'."),
        ([{"a": 1}], {"kind": "array", "columns": ["a", "b"]}, "Instance 0 has no member 'b'."),
        ([[1], ["x"]], {"kind": "array"}, "Instance 1 does not fit an array of float64: could not convert string"),
        ([[1], [1, 2]], {"kind": "array"}, "Instance 1 has the shape [2], the ones before it [1]."),
        ([{"a": 1}, [1]], {"kind": "dataframe"}, "Instance 1 is not an object."),
    ],
)
def test_an_instance_that_does_not_fit_is_named(instances: list[Any], spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationFailedError) as caught:
        encode(instances, **spec)
    assert caught.value.message.startswith(message)
    assert caught.value.extra["errors"][0]["path"].startswith("instances.")


def test_a_dtype_that_numpy_does_not_know_is_refused_at_load() -> None:
    with pytest.raises(ModelLoadError, match=r"input\.dtype: 'flaot' is not a numpy dtype"):
        make_encoder(InputSpec(kind="array", dtype="flaot"))


# Outputs


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (np.array([1.5, 2.0]), [1.5, 2.0]),
        (np.array([1, 2], dtype=np.int8), [1, 2]),
        (np.array([True, False]), [True, False]),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.array([[0.25, 0.75]]), [[0.25, 0.75]]),
        (np.array(["a", 1, None, np.float64(2.5)], dtype=object), ["a", 1, None, 2.5]),
        (scipy.sparse.csr_matrix([[0.0, 1.0]]), [[0.0, 1.0]]),
        (pd.Series([1, 2]), [1, 2]),
        (pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}), [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]),
        ([{"score": np.float32(0.5), "tags": ("a", np.str_("b"))}], [{"score": 0.5, "tags": ["a", "b"]}]),
        (({1: np.array([1, 2])},), [{"1": [1, 2]}]),
        ([Colour.RED, Level.HIGH], ["red", 3]),
        ([], []),
    ],
)
def test_outputs_become_plain_json_types(raw: Any, expected: list[Any]) -> None:
    got = to_list(raw)

    assert got == expected
    assert json.loads(orjson.dumps(got)) == expected
    assert all(type(value) in {str, bool, int, float, list, dict, type(None)} for value in got)


def test_a_column_labels_a_field_and_the_version_are_applied_in_this_order() -> None:
    probabilities = np.array([[0.25, 0.75], [0.5, 0.5]])
    assert decode(probabilities, column=1) == [0.75, 0.5]
    assert decode(pd.DataFrame({"a": [1, 2], "b": [3, 4]}), column=-1) == [3, 4]
    assert decode(scipy.sparse.csr_matrix([[0.0, 1.0]]), column=1) == [1.0]
    labels = {"0": "Negative", "1": "Positive"}
    assert decode(np.array([1, 0]), labels=labels) == ["Positive", "Negative"]
    assert decode(np.array([1.0, 2.0]), labels=labels) == ["Positive", 2]
    assert decode(np.array([True]), labels={"True": "yes"}) == ["yes"]
    assert decode([0.5], field="score") == [{"score": 0.5}]
    assert decode([0], field="label", version_field="model_version", labels=labels) == [
        {"label": "Negative", "model_version": "7"}
    ]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (np.array([0.5, NAN]), "The prediction for instance 1 holds nan, which is not a JSON number."),
        (np.array([[0.5, 1], [1, -INF]]), "The prediction for instance 1 holds -inf, which is not a JSON number."),
        ([{"score": 1}, {"score": [INF]}], "The prediction for instance 1 holds inf, which is not a JSON number."),
        ([np.float32(NAN)], "The prediction for instance 0 holds nan, which is not a JSON number."),
        ([1, Decimal(1)], "The prediction for instance 1 holds a Decimal, for which JSON has no type."),
        ([dt.date(2026, 1, 1)], "The prediction for instance 0 holds a date, for which JSON has no type."),
        ([b"bytes"], "The prediction for instance 0 holds a bytes, for which JSON has no type."),
        ([np.longdouble(1)], "The prediction for instance 0 holds a longdouble, for which JSON has no type."),
        (np.array([1], dtype=complex), "The prediction for instance 0 holds a complex, for which JSON has no type."),
        ([2**64], "The prediction for instance 0 holds an integer of more than 64 bits."),
        ([{(1, 2): 3}], "The prediction for instance 0 has a member whose name is a tuple."),
        (np.array(1.0), "The model answered a single value, not one prediction for each instance."),
        (None, "The model answered nothing, not a sequence with one prediction for each instance."),
        ("text", "The model answered a str, not a sequence with one prediction for each instance."),
        ({"a": 1}, "The model answered a dict, not a sequence with one prediction for each instance."),
    ],
)
def test_what_is_not_a_prediction_is_refused_and_the_instance_named(raw: Any, message: str) -> None:
    with pytest.raises(PredictionFailedError) as caught:
        to_list(raw)
    assert caught.value.message == message


def test_a_column_that_is_not_there_is_refused() -> None:
    with pytest.raises(PredictionFailedError, match="no column 2: its shape is 1 x 2"):
        decode(np.array([[1, 2]]), column=2)
    with pytest.raises(PredictionFailedError, match="no column 0: its shape is 2"):
        decode(np.array([1, 2]), column=0)


plain_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)


@given(st.lists(plain_json, max_size=6))
def test_plain_json_comes_through_unchanged(values: list[Any]) -> None:
    got = to_list(values)
    assert got == values
    assert repr(got) == repr(values)
