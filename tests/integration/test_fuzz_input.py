"""Whatever is sent, the gateway answers, never with a 5xx of its own, and every refusal is a problem document."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from muleteer.queue.connection import connect
from support.models import write_catalog, write_version
from support.problems import problem
from support.raw import RawConnection, RawResponse, request
from support.services import System
from support.waiting import wait_until

PATHS = [
    "/v1/models/echo:predict",
    "/v1/models/any:predict",
    "/v1/models/echo/versions/1:predict",
    "/v2/models/echo/infer",
    "/v2/models/any/infer",
    "/echo",
    "/any",
    "/many",
]
TYPE_NAMES = """
    class Model:
        def predict(self, instances):
            return [type(i).__name__ for i in instances]
"""
# Deterministic and bounded: the same inputs in every run, and no shrinking, which would repeat a failure for minutes.
SETTINGS = settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=25,
)
almost_tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("text") | json_values,
        "shape": st.just([1]) | json_values,
        "datatype": st.sampled_from(["BYTES", "INT64", "FP64"]) | json_values,
        "data": st.lists(st.text(), max_size=2) | json_values,
        "parameters": json_values,
    },
)
almost_requests = st.fixed_dictionaries(
    {},
    optional={
        "inputs": st.lists(almost_tensors, max_size=2) | json_values,
        "outputs": json_values,
        "parameters": st.fixed_dictionaries({}, optional={"timeout": json_values}) | json_values,
        "id": json_values,
        "instances": json_values | st.lists(st.fixed_dictionaries({"text": st.text() | json_values}), max_size=4),
        "callback": json_values,
        "text": st.text() | json_values,
    },
)
header_values = st.binary(max_size=300).map(lambda value: value.translate(None, b"\r\n\x00")) | st.sampled_from(
    [b"wait=5", b"respond-async", b"gzip", b"application/json", b"chunked", b"wait=1, respond-async", b"deflate", b"0"]
)
header_names = st.sampled_from(
    [
        "Prefer",
        "Idempotency-Key",
        "X-Request-Id",
        "Content-Type",
        "Content-Encoding",
        "Accept",
        "X-Api-Key",
        "Authorization",
    ]
)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("fuzz")
    write_version(folder / "models", "echo")
    write_version(folder / "models", "any", code=TYPE_NAMES, schema={})
    write_version(folder / "models", "many", code=TYPE_NAMES, schema={})
    one = {"versions": {"1": {}}}
    catalog = write_catalog(
        folder / "catalog.yaml",
        {
            "echo": one | {"route": "/echo"},
            "any": one | {"route": "/any"},
            "many": one | {"route": "/many", "route_body": "instances"},
        },
    )
    with System(folder, catalog) as made:
        made.add_gateway()
        made.add_worker()
        yield made.wait_ready()
        wait_until(lambda: "muleteer_requests_in_progress 0.0" in made.gateways[0].metrics(), 10, "no request hangs")
        with connect(made.valkey.url) as redis:
            wait_until(lambda: not redis.keys("rq:queue:*") and not redis.keys("rq:wip:*"), 10, "no job hangs")


@pytest.fixture(scope="module")
def client(system: System) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=system.url, timeout=30) as made:
        yield made


def check(response: httpx.Response | RawResponse) -> None:
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        problem(response, response.status_code)
    else:
        json.loads(response.text)


def post(client: httpx.Client, path: str, body: bytes) -> httpx.Response:
    return client.post(path, content=body, headers={"content-type": "application/json"})


@SETTINGS
@given(path=st.sampled_from(PATHS), value=json_values | almost_requests)
def test_any_json_value_is_answered_or_refused(client: httpx.Client, path: str, value: Any) -> None:
    # allow_nan and surrogates as Python writes them: some of this is not JSON, which is part of the point
    check(post(client, path, json.dumps(value, allow_nan=True).encode("utf-8", "surrogatepass")))


@SETTINGS
@given(path=st.sampled_from(PATHS), body=st.binary(max_size=2000))
def test_any_bytes_are_answered_or_refused(client: httpx.Client, path: str, body: bytes) -> None:
    check(post(client, path, body))


@SETTINGS
@given(path=st.sampled_from(PATHS), value=almost_requests, cut=st.integers(0, 200), extra=st.binary(max_size=5))
def test_damaged_json_is_answered_or_refused(
    client: httpx.Client, path: str, value: Any, cut: int, extra: bytes
) -> None:
    body = json.dumps(value).encode()
    check(post(client, path, body[:cut] + extra + body[cut + len(extra) :]))


@SETTINGS
@given(headers=st.lists(st.tuples(header_names, header_values), max_size=6), path=st.sampled_from(PATHS))
def test_any_header_values_are_answered_or_refused(system: System, headers: list[tuple[str, bytes]], path: str) -> None:
    lines = [f"{name}: {value.decode('latin-1')}" for name, value in headers]
    with RawConnection(system.url) as raw:
        check(raw.send(request(path, b'{"instances": [{"text": "a"}]}', *lines)).response())


@SETTINGS
@given(
    method=st.sampled_from(["GET", "DELETE", "POST", "PUT", "PATCH", "OPTIONS"]),
    job=st.text(max_size=80),
    query=st.text(max_size=40),
    tail=st.sampled_from(["", "/events", "/", "/x"]),
)
def test_any_job_id_and_query_are_answered_or_refused(
    client: httpx.Client, method: str, job: str, query: str, tail: str
) -> None:
    name = quote(job.encode("utf-8", "surrogatepass"), safe="")
    wait = quote(query.encode("utf-8", "surrogatepass"))
    check(client.request(method, f"/v1/jobs/{name}{tail}?wait={wait}"))


@SETTINGS
@given(path=st.text(max_size=80), body=almost_requests)
def test_any_path_is_answered_or_refused(client: httpx.Client, path: str, body: Any) -> None:
    name = quote(path.encode("utf-8", "surrogatepass"), safe="/:")
    for url in (f"/v1/models/{name}:predict", f"/v1/models/echo/versions/{name}:predict", f"/{name}"):
        check(client.post(url, json=None, content=json.dumps(body)))


@SETTINGS
@given(data=st.binary(min_size=1, max_size=400))
def test_any_bytes_on_a_connection_are_answered_or_refused(system: System, data: bytes) -> None:
    with RawConnection(system.url) as raw:
        raw.send(data + b"\r\n\r\n" + request("/livez", method="GET"))
        assert raw.response().status_code in (200, 400, 404)
