"""What the clients send and what they make of the answers: sync and async alike, over a real socket."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from muleteer.client import (
    AsyncClient,
    Client,
    Job,
    JobCanceled,
    JobTimeout,
    MuleteerAPIError,
    NotFound,
    PredictionFailed,
    Unavailable,
    ValidationFailed,
)
from muleteer.embedded import free_port
from muleteer.errors import SettingsError

JOB = "0198c1de-7000-7000-8000-000000000001"


@dataclass
class Reply:
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False  # close the connection instead of answering


class Gateway:
    """Plays a gateway: gives the scripted replies in order (the last one again and again), keeps the requests."""

    def __init__(self, port: int = 0) -> None:
        self.replies: list[Reply] = []
        self.seen: list[SimpleNamespace] = []
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                content = json.loads(body) if body else None
                gateway.seen.append(SimpleNamespace(method=self.command, path=self.path, headers=headers, body=content))
                reply = gateway.replies.pop(0) if len(gateway.replies) > 1 else gateway.replies[0]
                if reply.drop:
                    self.close_connection = True
                    return
                answer = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                self.send_response(reply.status)
                for name, value in (reply.headers | {"Content-Length": str(len(answer))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = do_DELETE = answer  # noqa: N815 - http.server's names

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    server = Gateway()
    yield server
    server.close()


Call = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest, gateway: Gateway) -> Call:
    """Call a method of a client (sync or async) made for this one call."""

    def with_sync(method: str, *args: Any, client: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        with Client(**({"url": gateway.url} | (client or {}))) as api:
            return getattr(api, method)(*args, **kwargs)

    def with_async(method: str, *args: Any, client: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        async def run() -> Any:
            async with AsyncClient(**({"url": gateway.url} | (client or {}))) as api:
                return await getattr(api, method)(*args, **kwargs)

        return asyncio.run(run())

    return with_sync if request.param == "sync" else with_async


def job_document(status: str, **members: Any) -> dict[str, Any]:
    document = {"id": JOB, "status": status, "model": "m", "version": "1", "created_at": "2026-11-21T12:00:00Z"}
    return document | {"deliveries": 0, "links": {"self": f"/v1/jobs/{JOB}"}} | members


def problem(status: int, title: str, **members: Any) -> dict[str, Any]:
    return {"type": "about:blank", "title": title, "status": status, "request_id": "r-1"} | members


def test_predict_posts_instances_and_returns_predictions(gateway: Gateway, call: Call) -> None:
    gateway.replies = [Reply(body={"predictions": [{"score": 0.1}, {"score": 0.9}]})]
    answer = call("predict", "movie-sentiment", [{"text": "bad"}, {"text": "gööd"}], timeout=7.9)
    assert answer == [{"score": 0.1}, {"score": 0.9}]
    (seen,) = gateway.seen
    assert (seen.method, seen.path) == ("POST", "/v1/models/movie-sentiment:predict")
    assert seen.body == {"instances": [{"text": "bad"}, {"text": "gööd"}]}
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["prefer"] == "wait=7"
    assert "idempotency-key" not in seen.headers
    assert "authorization" not in seen.headers


def test_keyed_instances_give_keyed_predictions(gateway: Gateway, call: Call) -> None:
    gateway.replies = [Reply(body={"predictions": {"a": 1, "b": 2}})]
    assert call("predict", "m", {"a": {"x": 1}, "b": {"x": 2}}) == {"a": 1, "b": 2}
    assert gateway.seen[0].body == {"instances": {"a": {"x": 1}, "b": {"x": 2}}}


@pytest.mark.parametrize(
    ("choice", "path"),
    [
        ({"version": "2.0"}, "/v1/models/m/versions/2.0:predict"),
        ({"alias": "champion"}, "/v1/models/m/labels/champion:predict"),
        ({"version": "a/b"}, "/v1/models/m/versions/a%2Fb:predict"),
    ],
)
def test_a_version_or_an_alias_can_be_named(gateway: Gateway, call: Call, choice: dict[str, str], path: str) -> None:
    gateway.replies = [Reply(body={"predictions": [1]})]
    call("predict", "m", [1], **choice)
    assert gateway.seen[0].path == path


def test_a_version_and_an_alias_together_are_refused_before_anything_is_sent(gateway: Gateway, call: Call) -> None:
    with pytest.raises(ValueError, match="not both"):
        call("predict", "m", [1], version="1", alias="champion")
    assert gateway.seen == []


def test_a_number_that_json_does_not_have_is_refused_before_anything_is_sent(gateway: Gateway, call: Call) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        call("predict", "m", [float("nan")])
    assert gateway.seen == []


def test_the_api_key_and_the_idempotency_key_are_sent(gateway: Gateway, call: Call) -> None:
    gateway.replies = [Reply(body={"predictions": [1]})]
    call("predict", "m", [1], idempotency_key="order-7", client={"api_key": "s3cret"})
    assert gateway.seen[0].headers["idempotency-key"] == "order-7"
    assert gateway.seen[0].headers["authorization"] == "Bearer s3cret"


@pytest.mark.parametrize(
    "unfinished",
    [
        Reply(202, job_document("queued"), {"Location": f"/v1/jobs/{JOB}"}),
        Reply(504, problem(504, "Prediction timed out", job=f"http://127.0.0.1/v1/jobs/{JOB}")),
    ],
    ids=["202", "504"],
)
def test_predict_goes_on_with_the_job_when_the_server_stops_waiting(
    gateway: Gateway, call: Call, unfinished: Reply
) -> None:
    finished = job_document("finished", result={"predictions": [42]})
    gateway.replies = [unfinished, Reply(body=job_document("started")), Reply(body=finished)]
    assert call("predict", "m", [1], timeout=50) == [42]
    assert [seen.method for seen in gateway.seen] == ["POST", "GET", "GET"]
    assert gateway.seen[1].path == f"/v1/jobs/{JOB}?wait=20"


def test_predict_past_its_timeout_names_the_job_that_goes_on(gateway: Gateway, call: Call) -> None:
    gateway.replies = [Reply(202, job_document("queued"), {"Location": f"/v1/jobs/{JOB}"})]
    gateway.replies.append(Reply(body=job_document("started")))
    with pytest.raises(JobTimeout, match=f"job {JOB} is started after 0.2 s") as caught:
        call("predict", "m", [1], timeout=0.2)
    assert caught.value.job_id == JOB


def test_a_504_without_a_job_is_a_timeout(gateway: Gateway, call: Call) -> None:
    gateway.replies = [Reply(504, b"<html>gateway timeout</html>")]
    with pytest.raises(JobTimeout, match="504 Gateway Timeout") as caught:
        call("predict", "m", [1])
    assert caught.value.job_id == ""


def test_submit_returns_the_job_at_once(gateway: Gateway, call: Call) -> None:
    gateway.replies = [Reply(202, job_document("queued", position=3, eta_seconds=0.5))]
    job = call("submit", "m", [1], callback="http://127.0.0.1/done", idempotency_key="k")
    assert isinstance(job, Job)
    assert (job.id, job.status, job.position, job.eta_seconds, job.ended) == (JOB, "queued", 3, 0.5, False)
    (seen,) = gateway.seen
    assert seen.headers["prefer"] == "respond-async"
    assert seen.headers["idempotency-key"] == "k"
    assert seen.body == {"instances": [1], "callback": "http://127.0.0.1/done"}


def test_submit_with_a_key_whose_job_has_finished_returns_that_job(gateway: Gateway, call: Call) -> None:
    finished = job_document("finished", result={"predictions": [1]})
    gateway.replies = [Reply(200, {"predictions": [1]}, {"Muleteer-Job-Id": JOB}), Reply(body=finished)]
    assert call("submit", "m", [1], idempotency_key="k").ended


def test_result_takes_a_job_or_its_id(gateway: Gateway, call: Call) -> None:
    gateway.replies = [Reply(body=job_document("finished", result={"predictions": {"a": 1}}))]
    assert call("result", JOB, 5) == {"a": 1}
    assert call("result", Job(id=JOB, status="queued"), 5) == {"a": 1}
    assert gateway.seen[0].path == f"/v1/jobs/{JOB}?wait=4"


def test_the_result_of_a_failed_job_raises_the_models_own_error_and_of_a_canceled_job_that(
    gateway: Gateway, call: Call
) -> None:
    gateway.replies = [Reply(body=job_document("failed", error={"type": "ValueError", "message": "no such zone"}))]
    with pytest.raises(PredictionFailed, match="ValueError: no such zone") as caught:
        call("result", JOB, 5)
    assert caught.value.job_id == JOB
    assert caught.value.problem["error"]["type"] == "ValueError"
    gateway.replies = [Reply(body=job_document("canceled"))]
    with pytest.raises(JobCanceled, match="was canceled"):
        call("result", JOB, 5)


def test_cancel_deletes_the_job(gateway: Gateway, call: Call) -> None:
    gateway.replies = [Reply(body=job_document("canceled"))]
    assert call("cancel", JOB).status == "canceled"
    assert (gateway.seen[0].method, gateway.seen[0].path) == ("DELETE", f"/v1/jobs/{JOB}")


def test_cancel_answered_without_a_body_gets_the_job(gateway: Gateway, call: Call) -> None:
    gateway.replies = [Reply(204, b""), Reply(body=job_document("canceled"))]
    assert call("cancel", Job(id=JOB, status="queued")).status == "canceled"


def test_models_and_model_are_typed(gateway: Gateway, call: Call) -> None:
    summary = {"name": "m", "description": "d", "versions": ["1", "2"], "default": "2", "route": None}
    gateway.replies = [Reply(body={"models": [summary | {"pool": "default", "ready": True, "newer": 1}]})]
    (model,) = call("models")
    assert (model.name, model.versions, model.default, model.ready) == ("m", ["1", "2"], "2", True)
    failed = {"version": "2", "state": "FAILED", "status": {"error_code": "checksum", "error_message": "differs"}}
    gateway.replies = [Reply(body={"name": "m", "model_version_status": [failed | {"workers": 0}], "route": "/m"})]
    details = call("model", "m")
    assert gateway.seen[-1].path == "/v1/models/m"
    assert details.versions[0].state == "FAILED"
    assert details.versions[0].status.error_message == "differs"


@pytest.mark.parametrize(
    ("status", "document", "kind"),
    [
        (400, problem(400, "Bad request", detail="The body is not JSON."), MuleteerAPIError),
        (404, problem(404, "Not found", detail="There is no model 'x'."), NotFound),
        (409, problem(409, "Conflict", detail="The job has ended."), MuleteerAPIError),
        (422, problem(422, "Validation failed", detail="1 wrong field", errors=[]), ValidationFailed),
        (422, problem(422, "Idempotency key reused", detail="Another body."), MuleteerAPIError),
        (429, problem(429, "Too many requests", detail="Slow down."), Unavailable),
        (500, problem(500, "Prediction failed", detail="ValueError: no"), PredictionFailed),
        (503, problem(503, "Service unavailable", detail="No Redis."), Unavailable),
    ],
)
def test_every_problem_is_its_exception(
    gateway: Gateway, call: Call, status: int, document: dict[str, Any], kind: type[MuleteerAPIError]
) -> None:
    gateway.replies = [Reply(status, document, {"Content-Type": "application/problem+json"})]
    with pytest.raises(MuleteerAPIError) as caught:
        call("predict", "m", [1])
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.title, error.detail) == (status, document["title"], document["detail"])
    assert error.request_id == "r-1"
    assert error.problem == document
    assert str(error) == f"{document['title']}: {document['detail']}"


def test_wrong_fields_are_named_by_path(gateway: Gateway, call: Call) -> None:
    errors = [{"path": "/instances/0/text", "message": "3 is not of type 'string'"}]
    gateway.replies = [Reply(422, problem(422, "Validation failed", errors=errors))]
    with pytest.raises(ValidationFailed) as caught:
        call("predict", "m", [{"text": 3}])
    assert caught.value.errors == errors


@pytest.mark.parametrize("body", [b"<html>hello</html>", b'{"something": "else"}', b'{"predictions": 3}', b"[]"])
def test_an_answer_that_no_muleteer_gives_is_said_so(gateway: Gateway, call: Call, body: bytes) -> None:
    gateway.replies = [Reply(200, body)]
    for method, arguments in {"predict": ("m", [1]), "job": (JOB,), "models": (), "model": ("m",)}.items():
        with pytest.raises(MuleteerAPIError, match="Unexpected answer"):
            call(method, *arguments)


@pytest.mark.parametrize("status", [429, 503])
def test_a_refusal_with_retry_after_is_tried_again(gateway: Gateway, call: Call, status: int) -> None:
    refused = Reply(status, problem(status, "Later"), {"Retry-After": "0.2"})
    gateway.replies = [refused, refused, Reply(body={"predictions": [1]})]
    begin = time.monotonic()
    assert call("predict", "m", [1], timeout=10) == [1]
    assert time.monotonic() - begin >= 0.4
    assert len(gateway.seen) == 3


def test_a_retry_after_longer_than_the_timeout_is_not_waited_for(gateway: Gateway, call: Call) -> None:
    gateway.replies = [Reply(503, problem(503, "Later", detail="Full."), {"Retry-After": "60"})]
    with pytest.raises(Unavailable) as caught:
        call("predict", "m", [1], timeout=5)
    assert caught.value.retry_after == 60
    assert len(gateway.seen) == 1


def test_a_date_as_retry_after_is_understood(gateway: Gateway, call: Call) -> None:
    later = Reply(503, problem(503, "Later"), {"Retry-After": "Mon, 01 Jan 2035 00:00:00 GMT"})
    gateway.replies = [later]
    with pytest.raises(Unavailable) as caught:
        call("models")
    assert caught.value.retry_after is not None
    assert caught.value.retry_after > 1e6


def test_predict_is_sent_again_over_a_dropped_connection(gateway: Gateway, call: Call) -> None:
    gateway.replies = [Reply(drop=True), Reply(body={"predictions": [1]})]
    assert call("predict", "m", [1]) == [1]
    assert len(gateway.seen) == 2


def test_submit_is_sent_again_over_a_dropped_connection_only_with_a_key(gateway: Gateway, call: Call) -> None:
    gateway.replies = [Reply(drop=True), Reply(202, job_document("queued"))]
    with pytest.raises(Unavailable, match="Server out of reach"):
        call("submit", "m", [1])
    assert len(gateway.seen) == 1
    gateway.replies.insert(0, Reply(drop=True))
    assert call("submit", "m", [1], idempotency_key="k").id == JOB
    assert len(gateway.seen) == 3


def test_a_lost_server_while_a_job_is_awaited_still_names_the_job(gateway: Gateway, call: Call) -> None:
    gateway.replies = [Reply(202, job_document("queued"), {"Location": f"/v1/jobs/{JOB}"}), Reply(drop=True)]
    with pytest.raises(Unavailable) as caught:
        call("predict", "m", [1], client={"reconnect": 0.2})
    assert caught.value.job_id == JOB


def test_a_refused_connection_is_tried_again_until_the_server_is_back(call: Call) -> None:
    port = free_port()
    late: list[Gateway] = []

    def start() -> None:
        late.append(Gateway(port))
        late[0].replies = [Reply(body={"predictions": [1]})]

    timer = threading.Timer(0.3, start)
    timer.start()
    try:
        assert call("predict", "m", [1], client={"url": f"http://127.0.0.1:{port}"}) == [1]
    finally:
        timer.join()
        late[0].close()


def test_a_server_that_stays_away_is_unavailable_in_one_line(call: Call) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Unavailable, match=f"Server out of reach: {url}: ") as caught:
        call("models", client={"url": url, "reconnect": 0.2})
    assert caught.value.status == 0


def test_wait_ready_returns_when_the_server_says_so(gateway: Gateway, call: Call) -> None:
    gateway.replies = [Reply(503, problem(503, "Service unavailable")), Reply(200, {"status": "ok"})]
    call("wait_ready", 10)
    assert [seen.path for seen in gateway.seen] == ["/readyz", "/readyz"]


def test_wait_ready_says_why_it_gave_up(gateway: Gateway, call: Call) -> None:
    gateway.replies = [Reply(503, problem(503, "Service unavailable", detail="No model is ready."))]
    with pytest.raises(Unavailable, match=r"was not ready within 0.3 s \(.*No model is ready"):
        call("wait_ready", 0.3)


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://host", "http://", ""])
def test_a_url_that_is_none_is_refused_at_once(call: Call, url: str) -> None:
    with pytest.raises(SettingsError, match="is not the URL of a server"):
        call("models", client={"url": url})
