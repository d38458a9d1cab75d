"""Webhooks: signed, repeated until they are taken, and delivered by any gateway."""

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from muleteer.queue.connection import connect
from support.models import MOODY, write_catalog, write_version
from support.problems import problem
from support.receiver import Delivery, Receiver
from support.services import Service, System
from support.waiting import wait_until

SECRET = "a-secret-for-webhooks"  # noqa: S105 - a test's own
PREDICT = "/v1/models/moody:predict"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("callbacks")
    write_version(folder / "models", "moody", code=MOODY)
    one = {"versions": {"1": {}}}
    catalog = write_catalog(folder / "catalog.yaml", {"moody": one, "parked": one | {"pool": "nobody"}})
    write_version(folder / "models", "parked")
    settings = {
        "MULETEER_CALLBACK_SECRET": SECRET,
        "MULETEER_CALLBACK_TIMEOUT": "1",
        "MULETEER_CALLBACK_HOSTS": "127.0.0.1, Hooks.Example.org",
    }
    with System(folder, catalog, **settings) as made:
        made.add_gateway()
        made.add_worker()
        yield made.wait_ready(but=frozenset({"parked"}))


@pytest.fixture(autouse=True)
def nothing_is_left_to_deliver(system: System) -> Iterator[None]:
    yield
    with connect(system.valkey.url) as redis:
        wait_until(lambda: redis.zcard("muleteer:callbacks") == 0, 10, "every webhook settled")


def submit(gateway: Service, callback: str, text: str = "hello", **body: Any) -> str:
    document = {"instances": [{"text": text}], "callback": callback} | body
    response = httpx.post(f"{gateway.url}{PREDICT}", json=document, headers={"Prefer": "respond-async"})
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def check_signature(delivery: Delivery) -> None:
    """Check a webhook as its receiver would: by the documented scheme, in time."""
    parts = dict(part.split("=", 1) for part in delivery.headers["muleteer-signature"].split(","))
    expected = hmac.new(SECRET.encode(), f"{parts['t']}.".encode() + delivery.body, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(parts["v1"], expected)
    assert abs(time.time() - int(parts["t"])) < 30


def test_a_finished_jobs_document_is_posted_and_signed(system: System) -> None:
    with Receiver() as receiver:
        job = submit(system.gateways[0], f"{receiver.url}/hook?x=1")
        wait_until(lambda: receiver.deliveries, 10, "a delivery")
    (delivery,) = receiver.deliveries
    check_signature(delivery)
    assert delivery.path == "/hook?x=1"
    assert delivery.headers["content-type"] == "application/json"
    assert delivery.headers["muleteer-job-id"] == job
    assert json.loads(delivery.body) == httpx.get(f"{system.url}/v1/jobs/{job}").json()
    assert json.loads(delivery.body)["result"] == {"predictions": [{"echo": "hello"}]}


def test_a_sync_request_with_a_callback_is_answered_and_called_back(system: System) -> None:
    with Receiver() as receiver:
        body = {"instances": {"k": {"text": "both"}}, "callback": receiver.url}
        response = httpx.post(f"{system.url}{PREDICT}", json=body)
        assert response.json() == {"predictions": {"k": {"echo": "both"}}}
        wait_until(lambda: receiver.deliveries, 10, "a delivery")
    assert json.loads(receiver.deliveries[0].body)["result"] == {"predictions": {"k": {"echo": "both"}}}


def test_failed_and_cancelled_jobs_are_called_back_too(system: System) -> None:
    with Receiver() as receiver:
        submit(system.gateways[0], receiver.url, "raise")
        wait_until(lambda: receiver.deliveries, 10, "a delivery")
        body = {"instances": [{"text": "a"}], "callback": receiver.url}
        parked = httpx.post(f"{system.url}/v1/models/parked:predict", json=body, headers={"Prefer": "respond-async"})
        httpx.delete(f"{system.url}/v1/jobs/{parked.json()['id']}")
        wait_until(lambda: len(receiver.deliveries) == 2, 10, "another delivery")
    first, second = (json.loads(delivery.body) for delivery in receiver.deliveries)
    assert (first["status"], first["error"]["type"]) == ("failed", "ValueError")
    assert (second["status"], second["id"]) == ("canceled", parked.json()["id"])


def test_a_receiver_that_fails_first_gets_it_again(system: System) -> None:
    with Receiver(lambda number: 500 if number == 0 else 200) as receiver:
        submit(system.gateways[0], receiver.url)
        wait_until(lambda: len(receiver.deliveries) == 2, 15, "a second delivery")
    first, second = receiver.deliveries
    assert first.body == second.body
    check_signature(second)


def test_a_receiver_that_hangs_holds_up_nobody_elses_webhook(system: System) -> None:
    let_go = threading.Event()

    def hang_once(number: int) -> int:
        if number == 0:
            let_go.wait(20)
        return 200

    with Receiver(hang_once) as hanging, Receiver() as receiver:
        submit(system.gateways[0], hanging.url)
        wait_until(lambda: hanging.deliveries, 10, "the hanging delivery")
        for _ in range(3):
            submit(system.gateways[0], receiver.url)
        wait_until(lambda: len(receiver.deliveries) == 3, 10, "the others' deliveries")
        wait_until(lambda: len(hanging.deliveries) == 2, 15, "the hanging one again")
        let_go.set()


def test_a_gateway_that_dies_while_it_delivers_leaves_it_to_another(system: System) -> None:
    let_go = threading.Event()

    def hang_once(number: int) -> int:
        if number == 0:
            let_go.wait(30)
        return 200

    with Receiver(hang_once) as receiver:
        job = submit(system.gateways[0], receiver.url)
        wait_until(lambda: receiver.deliveries, 10, "the first delivery")
        system.gateways[0].kill_all()
        system.gateways[0].start().wait_ready()  # to the system it is another one: it knows nothing of the first
        wait_until(lambda: len(receiver.deliveries) == 2, 20, "the second delivery")
        let_go.set()
    assert json.loads(receiver.deliveries[1].body)["id"] == job
    check_signature(receiver.deliveries[1])


@pytest.mark.parametrize("url", ["http://127.0.0.2/", "http://127.0.0.1.evil.org/", "http://127.0.0.1@evil.org/"])
def test_a_callback_to_a_host_that_is_not_allowed_is_422(system: System, url: str) -> None:
    body = {"instances": [{"text": "a"}], "callback": url}
    assert "MULETEER_CALLBACK_HOSTS" in problem(httpx.post(f"{system.url}{PREDICT}", json=body), 422)["error"]
