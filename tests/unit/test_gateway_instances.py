"""Instances: their shapes, the paths of what is wrong with them, and their way back as an answer."""

from typing import Any

import jsonschema_rs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muleteer.errors import BadRequestError, MuleteerError, PayloadTooLargeError, ValidationFailedError
from muleteer_gateway.instances import (
    MAX_ERRORS_SHOWN,
    Instances,
    InstanceValidator,
    encode_rows,
    read_plain,
    read_v1,
    render,
)

SCHEMA: dict[str, Any] = {
    "$defs": {"Name": {"type": "string", "maxLength": 5}},
    "type": "object",
    "properties": {
        "name": {"$ref": "#/$defs/Name"},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/Name"}},
        "place": {"type": "object", "properties": {"lat": {"type": "number"}}, "required": ["lat"]},
    },
    "required": ["name"],
    "additionalProperties": False,
}


def wrong(instances: Instances, prefix: str = "instances", schema: dict[str, Any] | None = None) -> list[str]:
    with pytest.raises(ValidationFailedError) as caught:
        InstanceValidator(schema or SCHEMA).check(instances, prefix)
    return [error["path"] for error in caught.value.extra["errors"]]


def nested(depth: int) -> list[Any]:
    deep: list[Any] = []
    for _ in range(depth - 1):
        deep = [deep]
    return deep


def test_v1_instances_are_a_list_or_an_object() -> None:
    assert read_v1({"instances": [1, 2]}, 10) == Instances([1, 2], "list")
    assert read_v1({"instances": {"b": 1, "a": 2}}, 10) == Instances([1, 2], "object", ["b", "a"])


def test_a_plain_body_is_one_instance_or_an_object_of_them() -> None:
    assert read_plain({"a": 1}, several=False, max_instances=1) == Instances([{"a": 1}], "single")
    assert read_plain({"a": 1}, several=True, max_instances=1) == Instances([1], "object", ["a"])


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        ([], BadRequestError),
        ("text", BadRequestError),
        ({}, BadRequestError),
        ({"instances": []}, BadRequestError),
        ({"instances": {}}, BadRequestError),
        ({"instances": "text"}, ValidationFailedError),
        ({"instances": None}, ValidationFailedError),
        ({"instances": [1, 2, 3]}, PayloadTooLargeError),
        ({"instances": {"a": 1, "b": 2, "c": 3}}, PayloadTooLargeError),
    ],
)
def test_a_v1_body_that_cannot_be_used_says_why(payload: object, error: type[MuleteerError]) -> None:
    with pytest.raises(error) as caught:
        read_v1(payload, 2)
    assert caught.value.message


def test_wrong_fields_are_named_by_their_path_in_the_body() -> None:
    rows = [{"name": "longer"}, {"name": "ok", "tags": ["a", 3], "place": {}}, {"x": 1, "y": 2}, 7, {"name": "fine"}]
    paths = ["0/name", "1/tags/1", "1/place/lat", "2/name", "2/x", "2/y", "3"]
    assert set(wrong(Instances(rows, "list"))) == {f"instances/{path}" for path in paths}
    names = ["v", "w", "x", "y", "z"]
    named = {f"instances/{names[int(path[0])]}{path[1:]}" for path in paths}
    assert set(wrong(Instances(rows, "object", names))) == named
    assert set(wrong(Instances(rows, "object", names), "")) == {path.removeprefix("instances/") for path in named}


def test_the_body_itself_can_be_what_is_wrong() -> None:
    assert wrong(Instances(["text"], "single"), "") == [""]
    with pytest.raises(ValidationFailedError, match=r'^the body: "text" is not of type "object"\.$'):
        InstanceValidator(SCHEMA).check(Instances(["text"], "single"), "")


def test_the_first_wrong_field_is_told_and_the_others_are_counted() -> None:
    rows: list[Any] = [{"name": 1}, {"name": 2}, {"name": 3}]
    with pytest.raises(ValidationFailedError, match=r"^instances/0/name: .* \(and 2 more\)\.$"):
        InstanceValidator(SCHEMA).check(Instances(rows, "list"), "instances")


def test_a_bounded_number_of_wrong_fields_is_listed_at_a_bounded_length() -> None:
    rows: list[Any] = [["x" * 10_000]] * 1000
    with pytest.raises(ValidationFailedError, match=f"at least {MAX_ERRORS_SHOWN} more") as caught:
        InstanceValidator(SCHEMA).check(Instances(rows, "list"), "instances")
    assert len(caught.value.extra["errors"]) == MAX_ERRORS_SHOWN
    assert len(orjson.dumps(caught.value.extra)) < 30_000


def test_without_a_schema_everything_fits() -> None:
    InstanceValidator({}).check(Instances([None, 1, {"a": []}], "list"), "instances")


@pytest.mark.parametrize("schema", [{"type": "nonsense"}, {"$ref": "#/$defs/missing"}, {"pattern": "("}])
def test_what_is_no_schema_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises((jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError)):
        InstanceValidator(schema)


def test_instances_nested_too_deeply_are_refused_before_they_become_a_job() -> None:
    assert encode_rows(Instances([nested(250)], "list")).startswith(b"[[[")
    with pytest.raises(BadRequestError, match="nested too deeply"):
        encode_rows(Instances([nested(300)], "list"))
    with pytest.raises(BadRequestError, match="nested too deeply"):
        InstanceValidator({"type": "object"}).check(Instances([nested(300)], "list"), "instances")


def test_the_answer_has_the_shape_of_the_question() -> None:
    assert render(b"[1,2]", "list", None, plain=False) == b'{"predictions":[1,2]}'
    assert render(b"[1,2]", "object", ["a", "b"], plain=False) == b'{"predictions":{"a":1,"b":2}}'
    assert render(b"[1,2]", "object", ["a", "b"], plain=True) == b'{"a":1,"b":2}'
    assert render(b'[{"a":[1]}]', "single", None, plain=True) == b'{"a":[1]}'


@given(st.dictionaries(st.text(), st.integers(-(2**63), 2**64 - 1) | st.text(), min_size=1))
def test_predictions_go_back_under_their_instances_ids(instances: dict[str, Any]) -> None:
    read = read_v1({"instances": instances}, 1000)
    answer = orjson.loads(render(orjson.dumps([[row] for row in read.rows]), read.shape, read.keys, plain=False))
    assert answer == {"predictions": {name: [row] for name, row in instances.items()}}
