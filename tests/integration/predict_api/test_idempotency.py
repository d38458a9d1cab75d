"""One idempotency key is one job: on every gateway, in every mode, after a restart."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from support.predict_api import ASYNC, ECHO, SLOW_PATH, TEXT, extra_gateway, finished, keyed, slow, submit
from support.problems import problem
from support.services import System


def test_the_same_key_gives_the_same_job_on_every_gateway_and_in_every_mode(
    client: httpx.Client, other: httpx.Client
) -> None:
    job = submit(client, SLOW_PATH, slow(0.3), **keyed("modes"))
    assert submit(other, SLOW_PATH, slow(0.3), **keyed("modes")) == job
    waited = other.post(SLOW_PATH, json=slow(0.3), headers=keyed("modes", Prefer="wait=10"))
    synced = client.post(SLOW_PATH, json=slow(0.3), headers=keyed("modes"))
    for response in (waited, synced):
        assert (response.status_code, response.json()) == (200, {"predictions": [{"slept": "0.3"}]})
        assert response.headers["muleteer-job-id"] == job
        assert response.headers["muleteer-model-version"] == "1"
    assert finished(other, job)["id"] == job
    late = other.post(SLOW_PATH, json=slow(0.3), headers=keyed("modes") | ASYNC)
    assert (late.status_code, late.json()["status"]) == (202, "finished")


def test_many_requests_with_one_key_at_once_make_one_job(client: httpx.Client, other: httpx.Client) -> None:
    def call(number: int) -> tuple[str, Any]:
        chosen = (client, other)[number % 2]
        response = chosen.post(SLOW_PATH, json=slow(0.3), headers=keyed("at-once"))
        return response.headers["muleteer-job-id"], response.json()

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(call, range(16)))
    assert len({job for job, _ in answers}) == 1
    assert all(answer == {"predictions": [{"slept": "0.3"}]} for _, answer in answers)


def test_a_key_used_with_another_body_is_422(client: httpx.Client, other: httpx.Client) -> None:
    job = submit(client, ECHO, TEXT, **keyed("bodies"))
    another = {"instances": [{"text": "other"}]}
    for headers in (keyed("bodies"), keyed("bodies") | ASYNC, keyed("bodies", Prefer="wait=1")):
        document = problem(other.post(ECHO, json=another, headers=headers), 422)
        assert "Idempotency-Key" in document["error"]
        assert document["job"] == f"/v1/jobs/{job}"
    named = {"instances": {"a": {"text": "hello"}}}
    problem(client.post(ECHO, json=named, headers=keyed("bodies")), 422)


def test_a_key_belongs_to_one_model(client: httpx.Client) -> None:
    first = client.post(ECHO, json=TEXT, headers=keyed("models"))
    second = client.post("/v1/models/moody:predict", json=TEXT, headers=keyed("models"))
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.headers["muleteer-job-id"] != second.headers["muleteer-job-id"]


def test_a_key_is_the_same_quoted_or_not_and_however_json_is_written(client: httpx.Client) -> None:
    first = client.post(ECHO, json=TEXT, headers=keyed('"quoted"'))
    spaced = client.post(ECHO, content=json.dumps(TEXT, indent=8), headers=keyed("quoted"))
    assert first.headers["muleteer-job-id"] == spaced.headers["muleteer-job-id"]


def test_a_key_outlives_the_gateway_that_took_it(system: System, client: httpx.Client) -> None:
    with extra_gateway(system) as gateway:
        first = httpx.post(f"{gateway.url}{ECHO}", json=TEXT, headers=keyed("restart"))
        assert first.status_code == 200
        gateway.kill_all()
        gateway.start().wait_ready()
        again = httpx.post(f"{gateway.url}{ECHO}", json=TEXT, headers=keyed("restart"))
    assert again.headers["muleteer-job-id"] == first.headers["muleteer-job-id"]
    assert again.json() == first.json() == client.post(ECHO, json=TEXT, headers=keyed("restart")).json()


def test_a_failed_job_stays_failed_for_its_key(client: httpx.Client) -> None:
    raising = {"instances": [{"text": "raise"}]}
    documents = [
        problem(client.post("/v1/models/moody:predict", json=raising, headers=keyed("failed")), 500) for _ in range(2)
    ]
    assert documents[0]["job_id"] == documents[1]["job_id"]
