"""Bodies that are not JSON, not a request, or not what the model takes."""

import httpx
import pytest

from support.bad_input import GOOD, MAX_INSTANCES, PREDICT, post, wrong_fields
from support.problems import problem

# Not JSON


@pytest.mark.parametrize(
    "body",
    [
        b"hello",
        b"{'instances': []}",
        b'{"instances": [{"text": "cut o',
        b'{"instances": [{"text": "a"}]',
        b'{"instances": [{"text": "a"}]} and more',
        b"\xff\xfe\x00",
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"instances":' * 50_000,
        b'{"instances": [{"text": "\\ud800"}]}',
        b'{"instances": [{"text": "\xed\xa0\x80"}]}',
        b'{"instances": [NaN]}',
        b'{"instances": [Infinity]}',
        b'{"instances": [-Infinity]}',
        b'{"instances": [1e999]}',
        b'{"instances": [' + b"9" * 5000 + b"]}",
    ],
    ids=lambda body: body[:24].decode("latin-1") + f"... ({len(body)})",
)
@pytest.mark.parametrize("path", [PREDICT, "/echo", "/v1/models/anything:predict", "/anything"])
def test_a_body_that_is_not_json_is_400_and_says_where(client: httpx.Client, body: bytes, path: str) -> None:
    document = problem(post(client, body, path), 400)
    assert document["error"].startswith("The body is not JSON: ")
    assert "line 1 column" in document["error"] or "UTF-8" in document["error"]


@pytest.mark.parametrize("path", [PREDICT, "/echo"])
def test_an_empty_body_is_400(client: httpx.Client, path: str) -> None:
    assert problem(post(client, b"", path), 400)["error"] == "The body is empty: JSON is needed."


@pytest.mark.parametrize("depth", [200, 250, 253, 254, 255, 256, 300, 1000, 1020])
@pytest.mark.parametrize("path", [PREDICT, "/v1/models/anything:predict", "/anything", "/echo"])
def test_json_of_any_depth_is_answered_or_refused_but_never_breaks_anything(
    client: httpx.Client, depth: int, path: str
) -> None:
    deep = "[" * depth + "]" * depth
    response = post(client, deep if path in ("/anything", "/echo") else f'{{"instances": [{deep}]}}', path)
    if response.status_code != 200:
        document = problem(response, response.status_code)
        assert response.status_code in (400, 422), document
    if depth <= 200 and "anything" in path:
        assert response.status_code == 200
    if depth >= 300:
        assert response.status_code in (400, 422)


def test_deeply_nested_ids_of_instances_are_refused_too(client: httpx.Client) -> None:
    deep = '{"a":' * 400 + "1" + "}" * 400
    document = problem(post(client, f'{{"instances": {deep}}}', "/v1/models/anything:predict"), 400)
    assert "nested" in document["error"]


def test_a_big_number_that_json_can_hold_is_answered(client: httpx.Client) -> None:
    body = f'{{"instances": [{2**64 - 1}, {2**200}, 1e308, 5e-324]}}'
    assert post(client, body, "/v1/models/anything:predict").json() == {
        "predictions": ["int", "float", "float", "float"]
    }


# JSON, but not a request


@pytest.mark.parametrize("body", ["[]", "1", '"instances"', "null", "true", '[{"text": "a"}]'])
def test_a_body_that_is_no_object_is_400(client: httpx.Client, body: str) -> None:
    assert "must be an object" in problem(post(client, body), 400)["error"]


@pytest.mark.parametrize("body", ["{}", '{"Instances": []}', '{"inputs": [{"text": "a"}]}'])
def test_a_body_without_instances_is_400(client: httpx.Client, body: str) -> None:
    assert 'no "instances"' in problem(post(client, body), 400)["error"]


@pytest.mark.parametrize("body", ['{"instances": []}', '{"instances": {}}'])
def test_no_instances_at_all_are_400(client: httpx.Client, body: str) -> None:
    assert "no instances" in problem(post(client, body), 400)["error"]


def test_an_empty_object_of_a_plain_route_is_400(client: httpx.Client) -> None:
    assert "no instances" in problem(post(client, "{}", "/trips"), 400)["error"]


@pytest.mark.parametrize("body", ["[]", "3", '"a"', "null"])
def test_a_plain_route_of_several_instances_wants_an_object(client: httpx.Client, body: str) -> None:
    assert "id -> instance" in problem(post(client, body, "/trips"), 400)["error"]


@pytest.mark.parametrize("value", ["1", "null", '"text"', "true", "1.5"])
def test_instances_of_another_type_are_422(client: httpx.Client, value: str) -> None:
    document = problem(post(client, f'{{"instances": {value}}}'), 422)
    assert document["errors"] == [{"path": "instances", "message": "must be a list or an object"}]


@pytest.mark.parametrize("shape", [list, dict])
def test_too_many_instances_are_413(client: httpx.Client, shape: type) -> None:
    rows = [{"text": "a"}] * (MAX_INSTANCES + 1)
    instances = rows if shape is list else {str(n): row for n, row in enumerate(rows)}
    document = problem(client.post(PREDICT, json={"instances": instances}), 413)
    assert document["limit"] == MAX_INSTANCES
    answer = client.post(PREDICT, json={"instances": rows[:-1]})
    assert len(answer.json()["predictions"]) == MAX_INSTANCES


# Instances that do not fit the schema

WRONG_TRIPS = [
    {"zone": "here", "distance": -1},
    {"zone": 1, "distance": 2.5},
    {"distance": 1, "paid": "yes", "stops": [{"name": "a"}, {"name": 3}, 7]},
    {"zone": 1, "distance": 1, "fare": 3, "tip": 1},
    "a trip",
    {},
]
WRONG_PATHS = {
    "0/zone",
    "0/distance",
    "2/zone",
    "2/paid",
    "2/stops/1/name",
    "2/stops/2",
    "3/fare",
    "3/tip",
    "4",
    "5/zone",
    "5/distance",
}


def test_every_wrong_field_is_named_by_its_path(client: httpx.Client) -> None:
    document = problem(client.post("/v1/models/trip:predict", json={"instances": WRONG_TRIPS}), 422)
    assert wrong_fields(document) == {f"instances/{path}" for path in WRONG_PATHS}
    assert all(error["message"] for error in document["errors"])
    assert document["error"].startswith("instances/0/")
    assert f"{len(WRONG_PATHS) - 1} more" in document["error"]


def test_wrong_fields_of_named_instances_are_named_with_the_name(client: httpx.Client) -> None:
    named = {f"trip-{n}": trip for n, trip in enumerate(WRONG_TRIPS)}
    document = problem(client.post("/v1/models/trip:predict", json={"instances": named}), 422)
    assert wrong_fields(document) == {f"instances/trip-{path}" for path in WRONG_PATHS}


def test_wrong_fields_of_a_plain_route_are_named_from_the_body_on(client: httpx.Client) -> None:
    named = {f"trip-{n}": trip for n, trip in enumerate(WRONG_TRIPS)}
    assert wrong_fields(problem(client.post("/trips", json=named), 422)) == {f"trip-{path}" for path in WRONG_PATHS}
    assert wrong_fields(problem(client.post("/echo", json={"text": 3}), 422)) == {"text"}
    document = problem(client.post("/echo", json=[1]), 422)
    assert wrong_fields(document) == {""}
    assert document["error"].startswith("the body: ")


def test_a_missing_field_is_said_to_be_missing(client: httpx.Client) -> None:
    document = problem(client.post("/echo", json={}), 422)
    assert document["errors"] == [{"path": "text", "message": '"text" is a required property'}]


def test_very_many_wrong_fields_are_counted_but_not_all_listed(client: httpx.Client) -> None:
    rows = [{"text": n} for n in range(MAX_INSTANCES)]
    document = problem(client.post(PREDICT, json={"instances": rows}), 422)
    assert len(document["errors"]) == 50
    assert "more" in document["error"]


def test_a_huge_wrong_value_is_not_sent_back(client: httpx.Client) -> None:
    response = client.post(PREDICT, json={"instances": ["x" * 900_000, {"text": ["y" * 50_000]}]})
    problem(response, 422)
    assert len(response.content) < 3000


# Callbacks


@pytest.mark.parametrize(
    "callback",
    [
        "not a url",
        "ftp://example.org/x",
        "file:///etc/passwd",
        "http://",
        "http://[::1",
        "http://[nonsense]/",
        "http://host:99999/",
        "http://host:port/",
        "http://exa mple.org/",
        "http://\n/",
        "http://" + "a" * 300 + ".org/" + "b" * 10_000,
        "http://\u2100.org/",
        "http://\ud7ff\uffff/",
        3,
        True,
        [],
        {"url": "http://example.org"},
        "",
    ],
    ids=repr,
)
def test_a_callback_that_is_no_url_is_422(client: httpx.Client, callback: object) -> None:
    document = problem(client.post(PREDICT, json=GOOD | {"callback": callback}), 422)
    assert wrong_fields(document) == {"callback"}
    assert len(document["error"]) < 500
