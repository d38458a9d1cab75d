"""Bad input, each a precise problem document and nothing lost: sent to a real gateway, with a real worker behind it."""

import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from redis import Redis

from muleteer.queue.connection import connect
from support.models import SLOW, write_catalog, write_version
from support.problems import problem
from support.raw import RawConnection, request
from support.services import System
from support.waiting import wait_until

PREDICT = "/v1/models/echo:predict"
MAX_BODY = 1024 * 1024
MAX_INSTANCES = 100
GOOD = {"instances": [{"text": "good"}]}

TRIP_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "zone": {"type": "integer"},
        "distance": {"type": "number", "minimum": 0},
        "paid": {"type": "boolean"},
        "stops": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
    },
    "required": ["zone", "distance"],
    "additionalProperties": False,
}
ANY = """
    class Model:
        def predict(self, instances):
            return [type(i).__name__ for i in instances]
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("bad-input")
    write_version(folder / "models", "echo")
    write_version(folder / "models", "trip", code=ANY, schema=TRIP_SCHEMA)
    write_version(folder / "models", "slow", code=SLOW)
    write_version(folder / "models", "anything", code=ANY, schema={})
    limits = {"max_instances": MAX_INSTANCES}
    catalog = write_catalog(
        folder / "catalog.yaml",
        {
            "echo": {"versions": {"1": {}}, "aliases": {"champion": "1"}, "route": "/echo", "limits": limits},
            "trip": {"versions": {"1": {}}, "route": "/trips", "route_body": "instances", "limits": limits},
            "anything": {"versions": {"1": {}}, "route": "/anything"},
            "slow": {"versions": {"1": {}}, "route": "/slow"},
        },
    )
    settings = {
        "MULETEER_MAX_BODY_BYTES": str(MAX_BODY),
        "MULETEER_RECEIVE_SECONDS": "2",
        "MULETEER_CALLBACK_SECRET": "for-webhooks",
    }
    with System(folder, catalog, **settings) as made:
        made.add_gateway()
        made.add_worker()
        yield made.wait_ready()


@pytest.fixture(scope="module")
def client(system: System) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=system.url, timeout=30) as made:
        yield made


@pytest.fixture(scope="module")
def redis(system: System) -> Iterator[Redis]:
    with connect(system.valkey.url) as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_is_lost(client: httpx.Client, redis: Redis) -> Iterator[None]:
    """After every test the system still answers, and Redis holds no job."""
    yield
    answer = client.post(PREDICT, json=GOOD)
    assert (answer.status_code, answer.json()) == (200, {"predictions": [{"echo": "good"}]})
    wait_until(lambda: not redis.keys("rq:job:*"), 10, "no job keys are left")
    assert redis.keys("rq:results:*") == []
    assert redis.keys("rq:queue:*") == []


def post(client: httpx.Client, body: bytes | str, path: str = PREDICT, **headers: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(path, content=body, headers={"content-type": "application/json"} | names)


def wrong_fields(document: dict[str, Any]) -> set[str]:
    return {error["path"] for error in document["errors"]}


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


# Content type, encoding, size


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "json", "a" * 500],
)
def test_another_content_type_is_415(client: httpx.Client, content_type: str) -> None:
    document = problem(post(client, json.dumps(GOOD), content_type=content_type), 415)
    assert "application/json" in document["error"]
    assert len(document["error"]) < 300


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/vnd.acme.v1+json"],
)
def test_every_kind_of_json_is_taken(client: httpx.Client, content_type: str) -> None:
    assert post(client, json.dumps(GOOD), content_type=content_type).status_code == 200


def test_json_without_a_content_type_is_taken(system: System) -> None:
    body = json.dumps(GOOD).encode()
    with RawConnection(system.url) as raw:
        raw.send(f"POST {PREDICT} HTTP/1.1\r\nHost: t\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        assert raw.response().status_code == 200


def packed(body: object = GOOD) -> bytes:
    return gzip.compress(json.dumps(body).encode())


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP"])
def test_a_gzipped_body_is_taken(client: httpx.Client, encoding: str) -> None:
    assert post(client, packed(), content_encoding=encoding).status_code == 200


def test_a_deflated_body_is_taken(client: httpx.Client) -> None:
    assert post(client, zlib.compress(json.dumps(GOOD).encode()), content_encoding="deflate").status_code == 200


def test_a_body_gzipped_in_several_members_is_taken_whole(client: httpx.Client) -> None:
    text = json.dumps(GOOD).encode()
    body = gzip.compress(text[:10]) + gzip.compress(text[10:])
    assert post(client, body, content_encoding="gzip").json() == {"predictions": [{"echo": "good"}]}


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "nonsense", "x" * 500])
def test_another_content_encoding_is_415(client: httpx.Client, encoding: str) -> None:
    document = problem(post(client, packed(), content_encoding=encoding), 415)
    assert "gzip" in document["error"]
    assert len(document["error"]) < 300


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (json.dumps(GOOD).encode(), "is not gzip"),
        (b"\x1f\x8b" + b"\x00" * 40, "is not gzip"),
        (b"", "cut off"),
        (packed()[:-12], "cut off"),
        (packed()[:12], "cut off"),
        (packed()[:-4] + b"\x00\x00\x00\x00", "is not gzip"),
        (packed() + b"more", "is not gzip"),
    ],
    ids=["not gzip", "bad header", "nothing", "cut off", "cut off early", "bad length", "trailing bytes"],
)
def test_a_broken_gzip_body_is_400(client: httpx.Client, body: bytes, says: str) -> None:
    assert says in problem(post(client, body, content_encoding="gzip"), 400)["error"]


@pytest.mark.parametrize("path", [PREDICT, "/echo"])
def test_a_gzip_bomb_is_413(client: httpx.Client, path: str) -> None:
    bomb = gzip.compress(b'{"instances": "' + b"a" * 100_000_000 + b'"}')
    assert len(bomb) < MAX_BODY
    document = problem(post(client, bomb, path, content_encoding="gzip"), 413)
    assert str(MAX_BODY) in document["error"]


def test_a_gzip_bomb_of_many_members_is_413(client: httpx.Client) -> None:
    bomb = gzip.compress(b" " * 100_000) * 2000
    assert len(bomb) < MAX_BODY
    problem(post(client, bomb, content_encoding="gzip"), 413)


def too_long() -> bytes:
    return json.dumps({"instances": [{"text": "x" * (MAX_BODY + 1)}]}).encode()


def test_a_body_over_the_limit_is_413(client: httpx.Client) -> None:
    document = problem(post(client, too_long()), 413)
    assert str(MAX_BODY) in document["error"]
    assert document["limit"] == MAX_BODY


def test_a_chunked_body_over_the_limit_is_413(client: httpx.Client) -> None:
    body = too_long()
    chunks = (body[at : at + 100_000] for at in range(0, len(body), 100_000))
    problem(client.post(PREDICT, content=chunks, headers={"content-type": "application/json"}), 413)


@pytest.mark.parametrize("size", [4 * MAX_BODY, 40 * MAX_BODY])
@pytest.mark.parametrize("chunked", [False, True])
def test_the_answer_413_reaches_a_client_that_sends_everything_before_it_reads(
    system: System, size: int, chunked: bool
) -> None:
    piece = b"x" * MAX_BODY
    with RawConnection(system.url) as raw:
        if chunked:
            raw.send(request(PREDICT, b"", "Transfer-Encoding: chunked"))
            for _ in range(size // MAX_BODY):
                raw.send_while_taken(f"{MAX_BODY:x}\r\n".encode() + piece + b"\r\n")
        else:
            raw.send(request(PREDICT, b"", f"Content-Length: {size}"))
            for _ in range(size // MAX_BODY):
                raw.send_while_taken(piece)
        response = raw.response()
        problem(response, 413)
        assert response.headers["connection"] == "close"
        assert raw.closed()


def test_a_body_just_at_the_limit_is_read(client: httpx.Client) -> None:
    body = json.dumps(GOOD).encode()
    assert post(client, body + b" " * (MAX_BODY - len(body))).status_code == 200
    problem(post(client, body + b" " * (MAX_BODY - len(body) + 1)), 413)


def test_a_chunked_body_is_read(client: httpx.Client) -> None:
    chunks = (bytes([byte]) for byte in json.dumps(GOOD).encode())
    assert client.post(PREDICT, content=chunks, headers={"content-type": "application/json"}).status_code == 200


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


# Paths and methods


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/v1/models/nobody:predict", "no model 'nobody'"),
        ("/v1/models/nobody/versions/1:predict", "no model 'nobody'"),
        ("/v1/models/echo/versions/9:predict", "no version '9'"),
        ("/v1/models/echo/labels/loser:predict", "no alias 'loser'"),
        ("/v1/models/echo/flavours/1:predict", "no such prediction route"),
        ("/v1/models/:predict", "no such prediction route"),
        ("/v1/models/echo/versions/:predict", "no such prediction route"),
        ("/v1/models/echo/1:predict", "no such prediction route"),
        ("/v1/models/" + "x" * 5000 + ":predict", "no model"),
        ("/v1/models/%00%ff%0d%0aX:predict", "no model"),
        ("/v1/models/..%2f..%2fetc%2fpasswd:predict", "no such prediction route"),
        ("/nothing/here", "nothing at this path"),
        ("/echo/", "nothing at this path"),
    ],
    ids=lambda text: text[:40],
)
def test_an_unknown_model_version_alias_or_path_is_404(client: httpx.Client, path: str, says: str) -> None:
    document = problem(client.post(path, json=GOOD), 404)
    assert says in document["error"]
    assert len(document["error"]) < 500


def test_an_unknown_model_is_404_and_the_known_ones_are_listed(client: httpx.Client) -> None:
    assert "anything, echo, slow, trip" in problem(client.post("/v1/models/nobody:predict", json=GOOD), 404)["error"]
    problem(client.get("/v1/models/nobody"), 404)


@pytest.mark.parametrize("job", ["0" * 32, "unknown", "x" * 3000, "%00", "a%20b", "*", "..", "%F0%9F%90%B4", "a:b"])
@pytest.mark.parametrize("suffix", ["", "?wait=1", "/events"])
def test_an_unknown_job_is_404(client: httpx.Client, job: str, suffix: str) -> None:
    problem(client.get(f"/v1/jobs/{job}{suffix}"), 404)
    if not suffix and job != "..":
        problem(client.delete(f"/v1/jobs/{job}"), 404)


@pytest.mark.parametrize("wait", ["soon", "-1", "nan", "", "1e", "0x10", "9" * 5000])
def test_a_wait_that_is_no_number_of_seconds_is_422(client: httpx.Client, wait: str) -> None:
    response = client.get("/v1/jobs/unknown", params={"wait": wait})
    if wait.startswith("99"):
        problem(response, 404)  # endless, and therefore bounded; but there is no such job
    else:
        assert wrong_fields(problem(response, 422)) == {"query/wait"}


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", PREDICT, {"POST"}),
        ("PUT", PREDICT, {"POST"}),
        ("DELETE", "/v1/models/echo/versions/1:predict", {"POST"}),
        ("OPTIONS", "/v1/models/echo/labels/champion:predict", {"POST"}),
        ("HEAD", PREDICT, {"POST"}),
        ("DELETE", "/echo", {"GET", "POST"}),
        ("PATCH", "/trips", {"GET", "POST"}),
        ("POST", "/v1/jobs/unknown", {"DELETE", "GET"}),
        ("PUT", "/v1/jobs/unknown/events", {"GET"}),
        ("POST", "/v1/models", {"GET"}),
        ("DELETE", "/v1/models/echo", {"GET"}),
        ("POST", "/livez", {"GET"}),
        ("POST", "/metrics", {"GET"}),
    ],
)
def test_a_wrong_method_is_405_with_the_methods_that_are_allowed(
    client: httpx.Client, method: str, path: str, allow: set[str]
) -> None:
    response = client.request(method, path)
    assert {name.strip() for name in response.headers["allow"].split(",")} >= allow
    if method == "HEAD":
        assert (response.status_code, response.content) == (405, b"")
    else:
        document = problem(response, 405)
        assert method in document["error"] or "method" in document["error"]


# Headers


def test_a_header_of_a_megabyte_is_431(system: System) -> None:
    with RawConnection(system.url) as raw:
        raw.send_while_taken(request(PREDICT, json.dumps(GOOD).encode(), "X-Big: " + "b" * 1_000_000))
        problem(raw.response(), 431)


def test_ten_thousand_headers_are_431(system: System) -> None:
    many = [f"X-Header-{n}: value" for n in range(10_000)]
    with RawConnection(system.url) as raw:
        raw.send_while_taken(request(PREDICT, json.dumps(GOOD).encode(), *many))
        problem(raw.response(), 431)


@pytest.mark.parametrize("path", [PREDICT, "/echo", "/v1/jobs/unknown", "/v1/models", "/nothing"])
def test_too_many_headers_are_431_on_every_path(system: System, path: str) -> None:
    with RawConnection(system.url) as raw:
        raw.send(request(path, b"{}", *[f"X-{n}: v" for n in range(200)]))
        problem(raw.response(), 431)


@pytest.mark.parametrize(
    "garbage", [bytes(range(128, 256)), b"\xff" * 1000, b'"', b'a=b;c=d,e;;;,,="', b"wait=" + b"9" * 400]
)
@pytest.mark.parametrize("name", ["Prefer", "X-Request-Id", "Accept", "Authorization", "X-Api-Key", "Cookie"])
def test_garbage_in_a_header_that_need_not_be_understood_changes_nothing(
    system: System, name: str, garbage: bytes
) -> None:
    body = json.dumps(GOOD).encode()
    with RawConnection(system.url) as raw:
        raw.send(request(PREDICT, body, f"{name}: {garbage.decode('latin-1')}"))
        response = raw.response()
    assert (response.status_code, json.loads(response.text)) == (200, {"predictions": [{"echo": "good"}]})
    assert response.headers["x-request-id"].isascii()


@pytest.mark.parametrize("key", [b"", b"\x80\x81\x82", b"a" * 256, b'""', b"caf\xe9\x9f"])
def test_an_idempotency_key_that_is_none_is_400(system: System, key: bytes) -> None:
    body = json.dumps(GOOD).encode()
    with RawConnection(system.url) as raw:
        raw.send(request(PREDICT, body, f"Idempotency-Key: {key.decode('latin-1')}"))
        assert "Idempotency-Key" in problem(raw.response(), 400)["error"]


# HTTP as no library sends it


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET /livez HTTP/9.9\r\n\r\n",
        b"POST " + PREDICT.encode() + b" HTTP/1.1\r\nHost: t\r\nbad header\r\n\r\n",
        b"POST " + PREDICT.encode() + b" HTTP/1.1\r\nHost: t\r\nContent-Length: many\r\n\r\n",
        b"POST " + PREDICT.encode() + b" HTTP/1.1\r\nHost: t\r\nContent-Length: -1\r\n\r\n",
        b"POST " + PREDICT.encode() + b" HTTP/1.1\r\nHost: t\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"POST " + PREDICT.encode() + b" HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        b"POST " + PREDICT.encode() + b" HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /v1/\xff\xfe HTTP/1.1\r\nHost: t\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: t\r\nX-A: \x00\x01\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: t\r\n\r\n",
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: t\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\nHost: t\r\n\r\n",
    ],
    ids=lambda data: data[:60].decode("latin-1"),
)
def test_what_is_not_http_is_a_problem_document_too(system: System, data: bytes) -> None:
    with RawConnection(system.url) as raw:
        response = raw.send(data).response()
        assert 400 <= response.status_code < 500
        problem(response, response.status_code)


def test_garbage_after_a_good_request_on_the_same_connection_is_400(system: System) -> None:
    with RawConnection(system.url) as raw:
        assert raw.send(request(PREDICT, json.dumps(GOOD).encode())).response().status_code == 200
        problem(raw.send(b"\x00\x01\x02\r\n\r\n").response(), 400)
        assert raw.closed()


def test_a_connection_goes_on_after_a_refusal(system: System) -> None:
    with RawConnection(system.url) as raw:
        for body in (b"{", b"{}", b'{"instances": 3}'):
            assert raw.send(request(PREDICT, body)).response().status_code in (400, 422)
        assert raw.send(request("/v1/models/nobody:predict", b"x" * 100_000)).response().status_code == 404
        assert raw.send(request(PREDICT, json.dumps(GOOD).encode())).response().status_code == 200


def test_a_client_that_leaves_amid_its_body_leaves_nothing_behind(system: System) -> None:
    body = json.dumps(GOOD).encode()
    for part in (0, 1, len(body) - 1):
        with RawConnection(system.url) as raw:
            raw.send(request(PREDICT, b"", f"Content-Length: {len(body)}") + body[:part])
    with RawConnection(system.url) as raw:
        raw.send(request(PREDICT, b"", "Transfer-Encoding: chunked") + b"5\r\n{")
    wait_until(lambda: "muleteer_requests_in_progress 0.0" in system.gateways[0].metrics(), 10, "all requests ended")
    assert not [line for line in system.gateways[0].log_lines() if line["level"] == "ERROR"]


def test_a_client_that_leaves_before_its_answer_leaves_nothing_behind(system: System) -> None:
    for _ in range(20):
        with RawConnection(system.url) as raw:
            raw.send(request(PREDICT, json.dumps(GOOD).encode()))
    wait_until(lambda: "muleteer_requests_in_progress 0.0" in system.gateways[0].metrics(), 10, "all requests ended")


def test_a_slow_client_is_answered_and_holds_up_nobody(system: System, client: httpx.Client) -> None:
    body = json.dumps(GOOD).encode()
    data = request(PREDICT, body)
    with RawConnection(system.url) as raw:
        for byte in data[:-1]:
            raw.send(bytes([byte]))
        assert client.post(PREDICT, json=GOOD).status_code == 200
        assert raw.send(data[-1:]).response().status_code == 200


@pytest.mark.parametrize("part", [b"", b'{"instances"'])
def test_a_client_whose_body_does_not_come_is_408(system: System, part: bytes) -> None:
    with RawConnection(system.url) as raw:
        raw.send(request(PREDICT, b"", "Content-Length: 100") + part)
        document = problem(raw.response(), 408)
        assert "MULETEER_RECEIVE_SECONDS" in document["error"]
        assert raw.closed()


def test_a_client_that_waits_for_leave_to_send_its_body_gets_it(system: System) -> None:
    body = json.dumps(GOOD).encode()
    with RawConnection(system.url) as raw:
        raw.send(request(PREDICT, b"", f"Content-Length: {len(body)}", "Expect: 100-continue"))
        assert raw.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert raw.send(body).response().status_code == 200


@pytest.mark.parametrize("protocol", ["h2c", "websocket", "nonsense"])
def test_a_client_that_offers_another_protocol_is_answered_in_this_one(system: System, protocol: str) -> None:
    body = json.dumps(GOOD).encode()
    offer = ("Connection: Upgrade, HTTP2-Settings", f"Upgrade: {protocol}", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
    with RawConnection(system.url) as raw:
        for _ in range(3):
            assert raw.send(request(PREDICT, body, *offer)).response().status_code == 200
        assert raw.send(request("/livez", b"", *offer, method="GET")).response().status_code == 200
        assert raw.send(request(PREDICT, body)).response().status_code == 200


def test_requests_sent_in_one_go_are_answered_in_order(system: System) -> None:
    bodies = [json.dumps({"instances": [{"text": str(n)}]}).encode() for n in range(20)]
    with RawConnection(system.url) as raw:
        raw.send(b"".join(request(PREDICT, body) for body in bodies))
        answers = [json.loads(raw.response().text)["predictions"][0]["echo"] for _ in bodies]
    assert answers == [str(n) for n in range(20)]


def test_garbage_behind_a_request_does_not_take_its_answer_away(system: System) -> None:
    with RawConnection(system.url) as raw:
        response = raw.send(request(PREDICT, json.dumps(GOOD).encode()) + b"\x00garbage\r\n\r\n").response()
        assert (response.status_code, json.loads(response.text)) == (200, {"predictions": [{"echo": "good"}]})
        assert raw.closed()


@pytest.mark.parametrize("data", [b"GET /livez?" + b"a" * 100_000, b"GET /livez HTTP/1.1\r\n" + b"X-A: b\r\n" * 10_000])
def test_headers_that_never_end_are_431(system: System, data: bytes) -> None:
    with RawConnection(system.url) as raw:
        raw.send(data)
        for _ in range(20):
            raw.send_while_taken(b"b" * 100_000)
        problem(raw.response(), 431)
        assert raw.closed()


def test_headers_that_never_come_are_408(system: System) -> None:
    with RawConnection(system.url) as raw:
        problem(raw.send(b"GET /livez HTTP/1.1\r\nHost: t").response(), 408)
        assert raw.closed()


def test_an_answer_that_takes_longer_than_a_request_may_is_not_cut(system: System) -> None:
    text = json.dumps({"text": "2.6"}).encode()
    with RawConnection(system.url) as raw:
        assert raw.send(request("/slow", text)).response().status_code == 200
