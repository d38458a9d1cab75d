"""The Open Inference Protocol's bodies: tensors as a manifest tells them, to instances, and back from predictions."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muleteer.errors import BadRequestError, PayloadTooLargeError, UnsupportedMediaTypeError, ValidationFailedError
from muleteer.repository.manifest import InputSpec, Manifest
from muleteer_gateway.infer import Inference, read_inference
from muleteer_gateway.instances import InstanceValidator, read_v2
from muleteer_gateway.prefer import Preference
from muleteer_gateway.signature import Signature, TensorSpec, signature_of
from muleteer_gateway.tensors import read_rows, write_tensor

RIDE: dict[str, Any] = {
    "$defs": {"Zone": {"type": "integer"}},
    "type": "object",
    "properties": {"zone": {"$ref": "#/$defs/Zone"}, "miles": {"type": "number"}, "tip": {"type": ["number", "null"]}},
    "required": ["zone", "miles"],
    "additionalProperties": False,
}
MINUTES: dict[str, Any] = {"type": "object", "properties": {"minutes": {"type": "number"}, "zone": {"type": "integer"}}}
PIXELS: dict[str, Any] = {
    "type": "array",
    "items": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
}


def manifest(instance: dict[str, Any], prediction: dict[str, Any] | None = None, **more: Any) -> Manifest:
    return Manifest(
        name="m",
        version="1",
        framework="python",
        artifact="model.py",
        sha256="0" * 64,
        instance_schema=instance,
        prediction_schema=prediction or {},
        **more,
    )


ROWS, BYTES = 100, 10_000
"""Limits."""
RIDES = signature_of(manifest(RIDE, MINUTES))
TEXTS = signature_of(manifest({"type": "string"}, {"type": "number"}))


def tensor(name: str, data: list[Any], datatype: str = "FP64", shape: list[int] | None = None) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape or [len(data)], "data": data}


def wrong(payload: Any, signature: Signature = RIDES) -> str:
    """Return the path of what is wrong with a body."""
    with pytest.raises(ValidationFailedError) as caught:
        read_inference(payload, "m", signature, ROWS, BYTES)
    (error,) = caught.value.extra["errors"]
    assert caught.value.message == f"{error['path']}: {error['message']}."
    return str(error["path"])


def test_a_manifests_schemas_tell_the_tensors() -> None:
    assert RIDES.inputs == (
        TensorSpec("zone", "INT64", (-1,)),
        TensorSpec("miles", "FP64", (-1,)),
        TensorSpec("tip", "FP64", (-1,), required=False),
    )
    assert [(spec.name, spec.datatype) for spec in RIDES.outputs] == [("minutes", "FP64"), ("zone", "INT64")]
    assert (RIDES.by_name, RIDES.closed) == (True, True)


def test_instances_that_are_no_objects_are_one_tensor() -> None:
    assert TEXTS.inputs == (TensorSpec("instance", "BYTES", (-1,)),)
    assert TEXTS.outputs == (TensorSpec("prediction", "FP64", (-1,)),)
    assert signature_of(manifest(PIXELS)).inputs == (TensorSpec("instance", "FP64", (-1, -1, 2)),)


def test_without_a_schema_the_kind_of_input_tells_whether_inputs_are_members() -> None:
    assert signature_of(manifest({})) == Signature()
    assert signature_of(None) == Signature()
    inputs = {
        "text": InputSpec(kind="text"),
        "field": InputSpec(kind="text", field="tweet"),
        "array": InputSpec(kind="array"),
        "columns": InputSpec(kind="array", columns=["a", "b"]),
    }
    found = {name: signature_of(manifest({}, input=taken)) for name, taken in inputs.items()}
    assert {name: signature.by_name for name, signature in found.items()} == {
        "text": False,
        "field": True,
        "array": False,
        "columns": True,
    }
    assert found["field"].inputs == (TensorSpec("tweet", "BYTES", (-1,)),)
    assert [spec.name for spec in found["columns"].inputs] == ["a", "b"]
    one_feature = tensor("x", [1, 2], "FP64", [2, 1])
    assert read_inference({"inputs": [one_feature]}, "m", found["array"], ROWS, BYTES)[0] == [[1], [2]]


def test_a_schema_that_refers_to_itself_ends() -> None:
    loop = {"$defs": {"A": {"type": "array", "items": {"$ref": "#/$defs/A"}}}, "$ref": "#/$defs/A"}
    (spec,) = signature_of(manifest(loop)).inputs
    assert spec.shape == (-1,) * 8
    assert signature_of(manifest({"$ref": "#"})).inputs == ()


def test_a_schema_that_does_not_say_that_instances_are_objects_leaves_it_to_the_kind_of_input() -> None:
    schema = {"allOf": [{"type": "object", "properties": {"a": {"type": "number"}}, "required": ["a"]}]}
    rows, _ = read_inference({"inputs": [tensor("a", [1])]}, "m", signature_of(manifest(schema, schema)), ROWS, BYTES)
    assert rows == [{"a": 1}]
    assert signature_of(manifest(schema, schema)).outputs == ()


def test_members_by_a_pattern_are_left_to_the_validator() -> None:
    schema = {"type": "object", "patternProperties": {"^f": {"type": "number"}}, "additionalProperties": False}
    rows, _ = read_inference({"inputs": [tensor("f1", [1])]}, "m", signature_of(manifest(schema)), ROWS, BYTES)
    assert rows == [{"f1": 1}]


@pytest.mark.parametrize("required", [None, True, 3, "ab", {}])
def test_what_makes_no_sense_in_a_schema_tells_nothing(required: Any) -> None:
    schema = {"type": "object", "properties": {"a": None, 0: {}, True: {}}, "required": required}
    assert signature_of(manifest({}, schema)).outputs == (TensorSpec("a", "BYTES", (-1,), required=False),)


def test_each_input_is_a_member_of_the_instances() -> None:
    inputs = [tensor("zone", [1, 2], "INT64"), tensor("miles", [0.5, 3])]
    rows, inference = read_inference({"id": "a", "inputs": inputs}, "m", RIDES, ROWS, BYTES)
    assert rows == [{"zone": 1, "miles": 0.5}, {"zone": 2, "miles": 3}]
    assert inference == Inference("m", RIDES, "a")


def test_the_one_input_of_other_models_is_their_instances_whatever_its_name() -> None:
    assert read_inference({"inputs": [tensor("x", ["a", "b"], "BYTES")]}, "m", TEXTS, ROWS, BYTES)[0] == ["a", "b"]


@pytest.mark.parametrize("data", [[1, 2, 3, 4, 5, 6, 7, 8], [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]])
def test_data_is_flat_or_nested_in_row_major_order(data: list[Any]) -> None:
    rows = read_rows(tensor("x", data, "INT64", [2, 2, 2]), "inputs/0", ROWS, arrays=True)
    assert rows == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]


def test_data_that_is_nested_otherwise_than_its_shape_says_is_refused() -> None:
    with pytest.raises(ValidationFailedError, match="not nested as its shape"):
        read_rows(tensor("x", [[1, 2, 3, 4], [5, 6, 7, 8]], "INT64", [2, 2, 2]), "inputs/0", ROWS, arrays=True)


def test_a_column_of_one_value_a_row_is_the_values_unless_the_schema_wants_lists() -> None:
    column = tensor("x", ["a", "b"], "BYTES", [2, 1])
    assert read_rows(column, "inputs/0", ROWS, arrays=False) == ["a", "b"]
    assert read_rows(column, "inputs/0", ROWS, arrays=True) == [["a"], ["b"]]


@pytest.mark.parametrize(
    ("data", "datatype", "shape", "path"),
    [
        ([1], "COMPLEX64", [1], "datatype"),
        ([1], None, [1], "datatype"),
        ([1], ["FP64"], [1], "datatype"),
        ([1], "FP64", [], "shape"),
        ([1], "FP64", [0], "shape"),
        ([1], "FP64", [True], "shape"),
        ([1], "FP64", [1] * 9, "shape"),
        ([1, 2], "FP64", [2, 1, 1, 1, 1], "shape"),
        ([1], "FP64", [1, -1], "shape"),
        ([1], "FP64", "1", "shape"),
        ({"a": 1}, "FP64", [1], "data"),
        ([1, 2], "FP64", [3], "data"),
        ([[1], [2, 3]], "FP64", [3, 1], "data"),
        ([[1, 2], 3], "FP64", [2, 2], "data"),
        ([[1], [2]], "FP64", [2], "data/0"),
        ([1, "2"], "FP64", [2], "data/1"),
        ([1, True], "INT8", [2], "data/1"),
        ([1, 128], "INT8", [2], "data/1"),
        ([-1, 1], "UINT64", [2], "data/0"),
        ([0, 1], "BOOL", [2], "data/0"),
        (["a", None], "BYTES", [2], "data/1"),
    ],
)
def test_what_is_wrong_with_a_tensor_is_named(data: Any, datatype: Any, shape: Any, path: str) -> None:
    sent = {"name": "zone", "datatype": datatype, "shape": shape, "data": data}
    assert wrong({"inputs": [sent]}) == f"inputs/0/{path}"


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ({"inputs": [3]}, "inputs/0"),
        ({"inputs": [{"name": 3}]}, "inputs/0/name"),
        ({"inputs": [{"name": "zone", "parameters": 3}]}, "inputs/0/parameters"),
        ({"inputs": [tensor("zone", [1]), tensor("zone", [1])]}, "inputs/1/name"),
        ({"inputs": [tensor("zone", [1]), tensor("miles", [1, 2])]}, "inputs/1/shape"),
        ({"inputs": [tensor("zone", [1])]}, "inputs"),
        ({"inputs": [tensor("zone", [1]), tensor("miles", [1]), tensor("colour", [1])]}, "inputs/2/name"),
        ({"id": 3, "inputs": [3]}, "id"),
        ({"parameters": [], "inputs": [3]}, "parameters"),
        ({"parameters": {"timeout": -1}, "inputs": [3]}, "parameters/timeout"),
        ({"parameters": {"timeout": 0.5}, "inputs": [3]}, "parameters/timeout"),
        ({"parameters": {"timeout": True}, "inputs": [3]}, "parameters/timeout"),
        ({"parameters": {"timeout": False}, "inputs": [3]}, "parameters/timeout"),
        ({"outputs": 3, "inputs": [3]}, "outputs"),
        ({"outputs": ["minutes"], "inputs": [3]}, "outputs/0"),
        ({"outputs": [{"name": "minutes"}, {"name": "hours"}], "inputs": [3]}, "outputs/1/name"),
    ],
)
def test_what_is_wrong_with_a_request_is_named(payload: Any, path: str) -> None:
    assert wrong(payload) == path


def test_a_model_of_one_value_has_one_input() -> None:
    assert wrong({"inputs": [tensor("a", ["x"], "BYTES"), tensor("b", ["x"], "BYTES")]}, TEXTS) == "inputs/1"


@pytest.mark.parametrize("payload", [None, [], {}, {"inputs": []}, {"inputs": {}}])
def test_a_body_without_tensors_is_not_understood(payload: Any) -> None:
    with pytest.raises(BadRequestError, match='"inputs"'):
        read_inference(payload, "m", RIDES, ROWS, BYTES)


def test_binary_data_is_refused_by_its_name() -> None:
    sent = {"name": "zone", "shape": [1], "datatype": "INT64", "parameters": {"binary_data_size": 8}}
    with pytest.raises(UnsupportedMediaTypeError, match="Binary tensor data"):
        read_inference({"inputs": [sent]}, "m", RIDES, ROWS, BYTES)


def test_more_rows_than_the_model_takes_are_too_many() -> None:
    with pytest.raises(PayloadTooLargeError):
        read_v2({"inputs": [tensor("x", ["a", "b"], "BYTES")]}, "m", TEXTS, 1, BYTES)


def test_names_that_would_make_far_more_of_the_request_than_it_is_are_too_much() -> None:
    inputs = [tensor("a" * 250, [1] * 100)]
    with pytest.raises(PayloadTooLargeError, match="inputs' names, once for each of 100 instances"):
        read_inference({"inputs": inputs}, "m", Signature(), ROWS, BYTES)
    assert wrong({"inputs": [tensor("a" * 256, [1])]}) == "inputs/0/name"


def test_empty_lists_are_values_too() -> None:
    assert read_rows(tensor("x", [], "INT64", [2, 0]), "inputs/0", ROWS, arrays=True) == [[], []]


def test_a_wrong_value_is_named_by_its_tensor_and_its_row() -> None:
    schema = RIDE | {"properties": RIDE["properties"] | {"miles": {"type": "number", "minimum": 0}}}
    inputs = [tensor("zone", [1, 2], "INT64"), tensor("miles", [1, -1])]
    read = read_v2({"inputs": inputs}, "m", signature_of(manifest(schema)), ROWS, BYTES)
    with pytest.raises(ValidationFailedError) as caught:
        InstanceValidator(schema).check(read, "inputs")
    assert [error["path"] for error in caught.value.extra["errors"]] == ["inputs/miles/1"]
    alone = read_v2({"inputs": [tensor("x", ["a", "b"], "BYTES")]}, "m", TEXTS, ROWS, BYTES)
    with pytest.raises(ValidationFailedError) as caught:
        InstanceValidator({"type": "string", "maxLength": 0}).check(alone, "inputs")
    assert [error["path"] for error in caught.value.extra["errors"]] == ["inputs/0", "inputs/1"]


@pytest.mark.parametrize(
    ("values", "declared", "written"),
    [
        ([True, False], "", ("BOOL", [2], [True, False])),
        ([1, 2], "", ("INT64", [2], [1, 2])),
        ([1, 2], "FP64", ("FP64", [2], [1.0, 2.0])),
        ([1, 2.5], "", ("FP64", [2], [1.0, 2.5])),
        ([2**63], "", ("FP64", [1], [float(2**63)])),
        (["a", "b"], "", ("BYTES", [2], ["a", "b"])),
        ([[1, 2], [3, 4]], "", ("INT64", [2, 2], [1, 2, 3, 4])),
        ([[[1.5]], [[2.5]]], "", ("FP64", [2, 1, 1], [1.5, 2.5])),
        ([[], []], "FP64", ("FP64", [2, 0], [])),
        ([None, 1], "INT64", ("BYTES", [2], ["null", "1"])),
        ([[1], [2, 3]], "", ("BYTES", [2], ["[1]", "[2,3]"])),
        ([True, 1], "", ("BYTES", [2], ["true", "1"])),
        ([{"a": 1}], "", ("BYTES", [1], ['{"a":1}'])),
    ],
)
def test_a_column_of_predictions_gets_the_datatype_that_fits(values: list[Any], declared: str, written: Any) -> None:
    found = write_tensor("x", values, declared)
    assert (found["datatype"], found["shape"], found["data"]) == written


def test_strings_that_hold_json_are_marked_as_such_in_requests_too() -> None:
    sent = tensor("x", ['{"a": 1}', "null"], "BYTES")
    assert read_rows(sent, "inputs/0", ROWS, arrays=False) == ['{"a": 1}', "null"]
    marked = sent | {"parameters": {"content_type": "application/json"}}
    assert read_rows(marked, "inputs/0", ROWS, arrays=False) == [{"a": 1}, None]
    with pytest.raises(ValidationFailedError, match=r"inputs/0/data/1: is not JSON"):
        read_rows(marked | {"data": ["1", "{"]}, "inputs/0", ROWS, arrays=False)
    assert write_tensor("x", [None, "a"], "")["parameters"] == {"content_type": "application/json"}
    assert "parameters" not in write_tensor("x", ["b", "a"], "")


def test_an_answer_has_an_output_for_each_member_of_the_predictions() -> None:
    predictions = b'[{"minutes":1,"zone":3},{"minutes":2.5,"zone":4}]'
    assert orjson.loads(Inference("m", RIDES, "a").render(predictions, "7")) == {
        "model_name": "m",
        "model_version": "7",
        "id": "a",
        "outputs": [tensor("minutes", [1.0, 2.5]), tensor("zone", [3, 4], "INT64")],
    }
    some = orjson.loads(Inference("m", RIDES, outputs=("zone", "minutes")).render(predictions, "7"))
    assert [output["name"] for output in some["outputs"]] == ["zone", "minutes"]
    assert "id" not in some


def test_a_member_that_some_predictions_lack_is_none_there() -> None:
    predictions = b'[{"minutes":1},{"minutes":2,"zone":3}]'
    both = orjson.loads(Inference("m", RIDES).render(predictions, "1"))["outputs"]
    assert [(output["name"], output["data"]) for output in both] == [("minutes", [1.0, 2.0]), ("zone", ["null", "3"])]
    (zone,) = orjson.loads(Inference("m", RIDES, outputs=("zone",)).render(b'[{"minutes":1}]', "1"))["outputs"]
    assert zone["data"] == ["null"]


def test_an_output_that_a_model_without_a_schema_does_not_have_is_refused_by_its_name() -> None:
    with pytest.raises(ValidationFailedError, match="'b' is none of this model's outputs: a"):
        Inference("m", Signature(), outputs=("b",)).render(b'[{"a":1}]', "1")


@pytest.mark.parametrize("predictions", [b"[1,2]", b"[{},{}]", b'[{"a":1},2]'])
def test_predictions_that_are_not_all_objects_with_members_are_one_output(predictions: bytes) -> None:
    (output,) = orjson.loads(Inference("m", Signature()).render(predictions, "1"))["outputs"]
    assert (output["name"], output["shape"]) == ("prediction", [2])


scalars = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text() | st.booleans()


@given(st.lists(st.lists(scalars, min_size=3, max_size=3), min_size=1))
def test_what_is_written_is_read_as_it_was(rows: list[list[Any]]) -> None:
    written = write_tensor("x", rows, "")
    assert read_rows(orjson.loads(orjson.dumps(written)), "inputs/0", ROWS, arrays=True) == rows


def test_the_timeout_is_in_microseconds_and_a_header_goes_before_it() -> None:
    body = {"parameters": {"timeout": 250_000}, "inputs": [tensor("x", ["a"], "BYTES")]}
    _, inference = read_inference(body, "m", TEXTS, ROWS, BYTES)
    assert inference.timeout == 0.25
    odd = {microseconds: body | {"parameters": {"timeout": microseconds}} for microseconds in (1, 123_456, 3_141_592)}
    found = {sent: read_inference(request, "m", TEXTS, ROWS, BYTES)[1].timeout for sent, request in odd.items()}
    assert found == {1: 0.01, 123_456: 0.13, 3_141_592: 3.2}  # rounded up
    assert inference.bound(Preference("sync"), 60) == Preference("sync", 0.25)
    assert inference.bound(Preference("sync"), 0.1) == Preference("sync", 0.1)
    for said in (Preference("async"), Preference("wait", 3)):
        assert inference.bound(said, 60) == said
    for nothing in (None, {}, {"timeout": 0}, {"timeout": None}, {"priority": 1}):
        assert read_inference(body | {"parameters": nothing}, "m", TEXTS, ROWS, BYTES)[1].timeout is None
