"""HTTP as no library sends it."""

import json

import httpx
import pytest

from support.bad_input import GOOD, PREDICT
from support.problems import problem
from support.raw import RawConnection, request
from support.services import System
from support.waiting import wait_until


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
