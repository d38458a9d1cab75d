"""Bodies of a wrong kind or size, wrong paths, methods and headers."""

import gzip
import json
import zlib

import httpx
import pytest

from support.bad_input import GOOD, MAX_BODY, PREDICT, post, wrong_fields
from support.problems import problem
from support.raw import RawConnection, request
from support.services import System

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
