"""The gateway's small parts: routes, keys, problems, request ids, job documents, signatures, webhook URLs."""

import hashlib
import hmac
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muleteer.errors import (
    BadRequestError,
    JobTimeoutError,
    MethodNotAllowedError,
    NotFoundError,
    UnauthorizedError,
    UnavailableError,
)
from muleteer.queue.jobs import JobView
from muleteer.queue.producer import ClientLimits
from muleteer_gateway.callbacks import sign
from muleteer_gateway.clients import Clients
from muleteer_gateway.documents import job_document, new_job_document
from muleteer_gateway.http import RequestHeaders
from muleteer_gateway.intake import Target
from muleteer_gateway.problems import problem_body, problem_headers, request_path
from muleteer_gateway.request_id import request_id_of
from muleteer_gateway.routes import PREFIX, SUFFIX, read_target
from muleteer_gateway.webhook_url import webhook_host

CLIENTS = Clients({b"first": "one", b"second": "two"}, ClientLimits(), {})


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("echo", Target("echo")),
        ("echo/versions/1.0-rc", Target("echo", version="1.0-rc")),
        ("echo/labels/champion", Target("echo", alias="champion")),
        ("a:predict", Target("a:predict")),
        ("", None),
        ("echo/", None),
        ("/echo", None),
        ("echo/versions", None),
        ("echo/versions/", None),
        ("/versions/1", None),
        ("echo/flavours/1", None),
        ("echo/versions/1/x", None),
    ],
)
def test_a_prediction_path_names_a_model_and_perhaps_a_version_or_alias(name: str, target: Target | None) -> None:
    assert read_target(f"{PREFIX}{name}{SUFFIX}") == target


@pytest.mark.parametrize(
    "headers",
    [
        RequestHeaders(api_key=b"first"),
        RequestHeaders(api_key=b"second"),
        RequestHeaders(authorization=b"Bearer second"),
        RequestHeaders(authorization=b"bearer  first "),
        RequestHeaders(authorization=b"Basic eDp5", api_key=b"first"),
    ],
)
def test_a_caller_with_one_of_the_keys_may_call(headers: RequestHeaders) -> None:
    CLIENTS.identify(headers)


@pytest.mark.parametrize(
    "headers",
    [
        RequestHeaders(),
        RequestHeaders(api_key=b"firs"),
        RequestHeaders(api_key=b"first "),
        RequestHeaders(api_key=b"\xff\xfe"),
        RequestHeaders(authorization=b"first"),
        RequestHeaders(authorization=b"Bearer"),
        RequestHeaders(authorization=b"Bearer first,second"),
        RequestHeaders(authorization=b"Bearer wrong", api_key=b"first"),
    ],
)
def test_a_caller_without_a_key_may_not(headers: RequestHeaders) -> None:
    with pytest.raises(UnauthorizedError):
        CLIENTS.identify(headers)


def test_an_error_becomes_a_problem_document() -> None:
    error = JobTimeoutError("Too slow.", job="/v1/jobs/1")
    assert orjson.loads(problem_body(error, "/echo", "r1")) == {
        "type": "urn:muleteer:problem:prediction-timed-out",
        "title": "Prediction timed out",
        "status": 504,
        "detail": "Too slow.",
        "error": "Too slow.",
        "instance": "/echo",
        "request_id": "r1",
        "job": "/v1/jobs/1",
    }


def test_a_problem_that_its_status_says_it_all_has_no_type_of_its_own() -> None:
    assert orjson.loads(problem_body(UnauthorizedError("Key?"), "/", "r"))["type"] == "about:blank"


def test_a_problem_brings_the_headers_that_belong_to_it() -> None:
    plain = (b"content-type", b"application/problem+json")
    assert problem_headers(BadRequestError("No.")) == [plain]
    assert problem_headers(UnavailableError("Later.", retry_after=1.2)) == [plain, (b"retry-after", b"2")]
    assert problem_headers(UnavailableError("Soon.", retry_after=0)) == [plain, (b"retry-after", b"1")]
    assert problem_headers(UnauthorizedError("Key?")) == [plain, (b"www-authenticate", b"Bearer")]
    assert problem_headers(MethodNotAllowedError("No.", allow=["GET", "POST"])) == [plain, (b"allow", b"GET, POST")]
    assert problem_headers(NotFoundError("No.")) == [plain]


def test_a_problems_path_is_of_bounded_length() -> None:
    assert len(request_path({"path": "/" * 5000})) == 200


@pytest.mark.parametrize("sent", ["a", "req-1", "0af7651916cd43dd8448eb211c80319c", "user@host:1/2+3=4", "x" * 128])
def test_a_decent_request_id_is_kept(sent: str) -> None:
    assert request_id_of({"headers": [(b"x-request-id", sent.encode())]}) == sent


@given(st.binary(max_size=300))
def test_every_request_gets_an_id_that_is_safe_in_a_header_and_stays(sent: bytes) -> None:
    scope: dict[str, Any] = {"headers": [(b"x-request-id", sent)]}
    made = request_id_of(scope)
    assert made == request_id_of(scope)
    assert 1 <= len(made) <= 128
    assert made.isascii()
    assert made.isprintable()


def view(**changes: Any) -> JobView:
    fields: dict[str, Any] = {
        "id": "j1",
        "status": "queued",
        "model": "m",
        "version": "2",
        "created_at": "2026-11-21T10:00:00.000000Z",
        "started_at": "",
        "ended_at": "",
        "rows": 1,
        "deliveries": 0,
        "kept": True,
        "position": None,
        "extra": {},
        "timing": (),
        "predictions": None,
        "error": None,
    }
    return JobView(**(fields | changes))


def read(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(orjson.dumps(document))
    return found


BASE = {
    "id": "j1",
    "status": "queued",
    "model": "m",
    "version": "2",
    "created_at": "2026-11-21T10:00:00.000000Z",
    "links": {"self": "/v1/jobs/j1", "events": "/v1/jobs/j1/events"},
}


def test_a_new_job_and_the_same_job_looked_at_have_the_same_document() -> None:
    assert read(new_job_document("j1", "m", "2", BASE["created_at"], None)) == BASE  # type: ignore[arg-type]  # a str
    assert read(job_document(view())) == BASE


def test_a_queued_job_shows_its_position_and_eta() -> None:
    assert read(job_document(view(position=0), 1.23456)) == BASE | {"position": 0, "eta_seconds": 1.235}


def test_a_finished_job_shows_its_result_in_the_shape_of_its_instances() -> None:
    ended = {"status": "finished", "started_at": "s", "ended_at": "e", "predictions": b'[{"a":1},2]'}
    listed = read(job_document(view(**ended), 5.0))
    assert listed == BASE | {"status": "finished", "started_at": "s", "ended_at": "e"} | {
        "result": {"predictions": [{"a": 1}, 2]}
    }
    named = read(job_document(view(**ended, extra={"keys": ["x", "y"]})))
    assert named["result"] == {"predictions": {"x": {"a": 1}, "y": 2}}


def test_a_failed_job_shows_its_error_and_lost_deliveries() -> None:
    error = {"type": "WorkerLost", "message": "lost 3 times"}
    document = read(job_document(view(status="failed", error=error, deliveries=3, ended_at="e")))
    assert document == BASE | {"status": "failed", "ended_at": "e", "deliveries": 3, "error": error}


def test_a_webhook_is_signed_over_its_time_and_body() -> None:
    expected = hmac.new(b"secret", b'1700000000.{"a":1}', hashlib.sha256).hexdigest()
    assert sign("secret", 1_700_000_000, b'{"a":1}') == f"t=1700000000,v1={expected}"
    assert sign("secret", 1_700_000_001, b'{"a":1}') != sign("secret", 1_700_000_000, b'{"a":1}')
    assert sign("other", 1_700_000_000, b"x") != sign("secret", 1_700_000_000, b"x")


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://example.org", "example.org"),
        ("https://Example.ORG:8443/hook?a=1#x", "example.org"),
        ("http://user:pass@example.org/", "example.org"),
        ("http://allowed.org@evil.org/", "evil.org"),
        ("http://[::1]:80/", "::1"),
        ("http://bücher.example/", "xn--bcher-kva.example"),
        ("ftp://example.org", ""),
        ("//example.org", ""),
        ("http://", ""),
        ("http://[::1", ""),
        ("http://host:99999", ""),
        ("http://a b/", ""),
        ("", ""),
        ("http://e.org/" + "x" * 3000, ""),
        (None, ""),
        (7, ""),
    ],
)
def test_a_webhooks_host_is_read_as_it_will_be_called(url: object, host: str) -> None:
    assert webhook_host(url) == host


@given(st.text(max_size=100))
def test_any_text_is_a_webhook_url_or_not(text: str) -> None:
    for url in (text, f"http://{text}", f"https://e.org:{text}"):
        assert isinstance(webhook_host(url), str)
