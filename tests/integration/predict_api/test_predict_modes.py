"""Shapes of requests and answers, plain routes, headers, modes, and the limits of a gateway."""

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from support.predict_api import (
    ASYNC,
    ECHO,
    MAX_PARKED,
    PARKED,
    SLOW_PATH,
    TEXT,
    extra_gateway,
    finished,
    keyed,
    slow,
    submit,
)
from support.problems import problem
from support.services import System
from support.waiting import wait_until

# Shapes and routes


def test_a_list_of_instances_gives_a_list_of_predictions(client: httpx.Client) -> None:
    response = client.post(ECHO, json={"instances": [{"text": "a"}, {"text": "b"}]})
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.json() == {"predictions": [{"echo": "a"}, {"echo": "b"}]}


def test_an_object_of_instances_gives_an_object_with_the_same_keys(client: httpx.Client) -> None:
    instances = {name: {"text": name.upper()} for name in ("z", "a", "", "ключ", "1")}
    answer = client.post(ECHO, json={"instances": instances}).json()["predictions"]
    assert answer == {name: {"echo": name.upper()} for name in instances}
    assert list(answer) == list(instances)


def test_a_plain_route_takes_one_instance_and_answers_its_prediction(client: httpx.Client) -> None:
    assert client.post("/echo", json={"text": "hi"}).json() == {"echo": "hi"}


def test_a_plain_route_can_take_an_object_of_instances(client: httpx.Client) -> None:
    answer = client.post("/moods", json={"1": {"text": "x"}, "2": {"text": "y"}}).json()
    assert answer == {"1": {"echo": "x"}, "2": {"echo": "y"}}


def test_a_plain_route_explains_itself(client: httpx.Client) -> None:
    response = client.get("/echo")
    assert response.status_code == 200
    assert response.json()["usage"].startswith("POST /echo with one instance as JSON")
    assert response.json()["instance_schema"]["required"] == ["text"]
    assert "object of id -> instance" in client.get("/moods").json()["usage"]
    head = client.head("/echo")
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize(
    ("path", "version"),
    [
        ("/v1/models/split/versions/1:predict", "1"),
        ("/v1/models/split/versions/2:predict", "2"),
        ("/v1/models/split/labels/champion:predict", "1"),
        ("/v1/models/split/labels/challenger:predict", "2"),
    ],
)
def test_versions_and_labels_have_routes_of_their_own(client: httpx.Client, path: str, version: str) -> None:
    response = client.post(path, json=TEXT)
    assert response.json() == {"predictions": [{"version": version}]}
    assert response.headers["muleteer-model-version"] == version


def test_unnamed_requests_are_split_by_weight(client: httpx.Client) -> None:
    versions: Counter[str] = Counter()
    for _ in range(400):
        response = client.post("/v1/models/split:predict", json=TEXT)
        version = response.headers["muleteer-model-version"]
        assert response.json() == {"predictions": [{"version": version}]}
        versions[version] += 1
    assert 0.68 < versions["1"] / 400 < 0.92  # 0.8 expected, six standard deviations either way


def test_models_are_listed_and_described(client: httpx.Client) -> None:
    models = {model["name"]: model for model in client.get("/v1/models").json()["models"]}
    assert set(models) == {"echo", "moody", "slow", "split", "parked"}
    assert models["echo"] == {
        "name": "echo",
        "description": "Model echo.",
        "versions": ["1"],
        "default": "1",
        "route": "/echo",
        "pool": "default",
        "ready": True,
    }
    assert models["parked"]["ready"] is False
    split = client.get("/v1/models/split").json()
    assert split["aliases"] == {"champion": "1", "challenger": "2"}
    assert split["traffic"] == {"1": 8, "2": 2}
    assert [status["version"] for status in split["model_version_status"]] == ["1", "2"]
    for status in split["model_version_status"]:
        assert status["state"] == "AVAILABLE"
        assert status["status"] == {"error_code": "OK", "error_message": ""}
        assert status["workers"] == 2


# Headers


def test_every_answer_carries_the_callers_request_id(client: httpx.Client) -> None:
    mine = {"X-Request-Id": "my-id:1"}
    assert client.post(ECHO, json=TEXT, headers=mine).headers["x-request-id"] == "my-id:1"
    assert client.get("/v1/models", headers=mine).headers["x-request-id"] == "my-id:1"
    assert client.get("/livez", headers=mine).headers["x-request-id"] == "my-id:1"
    assert problem(client.post(ECHO, content=b"{", headers=mine), 400)["request_id"] == "my-id:1"
    assert problem(client.get("/nowhere", headers=mine), 404)["request_id"] == "my-id:1"


@pytest.mark.parametrize("bad", ["", "with space", "x" * 129, "<script>", 'quo"te'])
def test_a_request_id_that_is_not_decent_is_replaced(client: httpx.Client, bad: str) -> None:
    made = client.post(ECHO, json=TEXT, headers={"X-Request-Id": bad}).headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{32}", made)


def test_an_answer_says_where_its_time_went_and_who_gave_it(client: httpx.Client) -> None:
    headers = client.post(SLOW_PATH, json=slow(0.1)).headers
    timing = re.fullmatch(r"queue;dur=([0-9.]+), batch;dur=([0-9.]+), predict;dur=([0-9.]+)", headers["server-timing"])
    assert timing is not None
    queue, batch, predict = map(float, timing.groups())
    assert 100 <= predict < 400
    assert 0 <= queue < 400
    assert 0 <= batch < 400
    assert headers["muleteer-model-version"] == "1"
    assert re.fullmatch(r"[0-9a-f]{32}", headers["muleteer-job-id"])


# Modes


def test_a_sync_answer_leaves_no_job_behind(client: httpx.Client) -> None:
    job = client.post(ECHO, json=TEXT).headers["muleteer-job-id"]
    problem(client.get(f"/v1/jobs/{job}"), 404)


def test_a_model_that_is_too_slow_is_504_and_the_answer_comes_at_the_jobs_url(
    client: httpx.Client, other: httpx.Client
) -> None:
    document = problem(client.post(SLOW_PATH, json={"instances": {"one": {"text": "0.9"}}}), 504)
    assert document["job"] in document["error"]
    job = other.get(document["job"], params={"wait": 10}).json()
    assert job["status"] == "finished"
    assert job["result"] == {"predictions": {"one": {"slept": "0.9"}}}


def test_prefer_wait_answers_when_the_answer_comes_in_time(client: httpx.Client) -> None:
    response = client.post(SLOW_PATH, json=slow(0.8), headers={"Prefer": "wait=10"})
    assert (response.status_code, response.json()) == (200, {"predictions": [{"slept": "0.8"}]})


def test_prefer_wait_gives_the_job_when_the_time_is_up(client: httpx.Client, other: httpx.Client) -> None:
    response = client.post(SLOW_PATH, json=slow(1.6), headers={"Prefer": "wait=1"})
    assert response.status_code == 202
    assert response.headers["preference-applied"] == "wait=1"
    document = response.json()
    assert response.headers["location"] == f"/v1/jobs/{document['id']}" == document["links"]["self"]
    assert response.headers["muleteer-job-id"] == document["id"]
    assert document["status"] == "started"
    job = finished(other, document["id"])
    assert job["result"] == {"predictions": [{"slept": "1.6"}]}


def test_respond_async_gives_the_job_at_once_and_its_document_grows(client: httpx.Client) -> None:
    response = client.post(SLOW_PATH, json=slow(0.4), headers=ASYNC)
    assert response.status_code == 202
    assert response.headers["preference-applied"] == "respond-async"
    assert response.headers["muleteer-model-version"] == "1"
    job = response.json()
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert job.items() >= {"status": "queued", "model": "slow", "version": "1"}.items()
    assert job["links"] == {"self": f"/v1/jobs/{job['id']}", "events": f"/v1/jobs/{job['id']}/events"}
    done = finished(client, job["id"])
    assert done.keys() == {
        "id",
        "status",
        "model",
        "version",
        "created_at",
        "started_at",
        "ended_at",
        "links",
        "result",
    }
    assert done["created_at"] <= done["started_at"] < done["ended_at"]
    assert done["result"] == {"predictions": [{"slept": "0.4"}]}
    looked = client.get(f"/v1/jobs/{job['id']}")
    assert (looked.json(), looked.headers["cache-control"]) == (done, "no-store")


def test_wait_and_respond_async_together_wait_first(client: httpx.Client) -> None:
    both = {"Prefer": "respond-async, wait=5"}
    assert client.post(ECHO, json=TEXT, headers=both).status_code == 200
    assert client.post(PARKED, json=TEXT, headers={"Prefer": "wait=0"}).status_code == 202


def test_a_plain_route_has_the_same_modes(client: httpx.Client) -> None:
    job = client.post("/echo", json={"text": "later"}, headers=ASYNC).json()["id"]
    assert finished(client, job)["result"] == {"predictions": [{"echo": "later"}]}
    job = client.post("/moods", json={"x": {"text": "later"}}, headers=ASYNC).json()["id"]
    assert finished(client, job)["result"] == {"predictions": {"x": {"echo": "later"}}}


def test_a_model_that_raises_is_500_with_type_and_message_and_no_stack(client: httpx.Client) -> None:
    raising = {"instances": [{"text": "raise"}]}
    document = problem(client.post("/v1/models/moody:predict", json=raising), 500)
    assert document["error"] == "ValueError: this text is not to my taste"
    assert document["error_type"] == "ValueError"
    job = submit(client, "/v1/models/moody:predict", raising)
    failed = client.get(f"/v1/jobs/{job}", params={"wait": 10}).json()
    assert failed["status"] == "failed"
    assert failed["error"] == {"type": "ValueError", "message": "this text is not to my taste"}
    assert "result" not in failed


# Limits


def test_a_full_queue_is_503_with_a_retry_after_and_takes_jobs_again(client: httpx.Client) -> None:
    jobs = [submit(client, PARKED, TEXT) for _ in range(MAX_PARKED)]
    for headers in (ASYNC, {}, {"Prefer": "wait=2"}, keyed("full")):
        response = client.post(PARKED, json=TEXT, headers=headers)
        document = problem(response, 503)
        assert f"{MAX_PARKED} jobs wait" in document["error"]
        assert 1 <= int(response.headers["retry-after"]) <= 60
    client.delete(f"/v1/jobs/{jobs[0]}")
    submit(client, PARKED, TEXT)
    assert client.post(ECHO, json=TEXT).status_code == 200


def test_a_gateway_refuses_more_requests_at_once_than_it_may_answer(system: System) -> None:
    with extra_gateway(system, MULETEER_MAX_IN_PROGRESS="2") as gateway, ThreadPoolExecutor(2) as threads:
        url = f"{gateway.url}{PARKED}"
        waiting = [threads.submit(httpx.post, url, json=TEXT, headers={"Prefer": "wait=2"}) for _ in range(2)]
        wait_until(lambda: "muleteer_requests_in_progress 2.0" in gateway.metrics(), 10, "two in progress")
        response = httpx.post(f"{gateway.url}{ECHO}", json=TEXT)
        assert "2 requests at once" in problem(response, 503)["error"]
        assert int(response.headers["retry-after"]) >= 1
        assert httpx.get(f"{gateway.url}/v1/models").status_code == 200
        assert [future.result().status_code for future in waiting] == [202, 202]
        assert httpx.post(f"{gateway.url}{ECHO}", json=TEXT).status_code == 200


def test_with_api_keys_only_those_who_send_one_may_call(system: System) -> None:
    with (
        extra_gateway(system, MULETEER_API_KEYS="first-key, second-key") as gateway,
        httpx.Client(base_url=gateway.url) as client,
    ):
        bad: list[dict[str, str]] = [{}, {"X-Api-Key": "wrong"}, {"Authorization": "Basic first-key"}]
        bad += [{"Authorization": "Bearer"}, {"X-Api-Key": "first-key, second-key"}, {"X-Api-Key": "first-ke"}]
        for headers in bad:
            response = client.post(ECHO, json=TEXT, headers=headers)
            problem(response, 401)
            assert response.headers["www-authenticate"] == "Bearer"
            for path in ("/echo", "/v1/models", "/v1/models/echo", "/v1/jobs/unknown", "/v1/nothing"):
                problem(client.get(path, headers=headers), 401)
            problem(client.post("/echo", json={"text": "a"}, headers=headers), 401)
        for headers in ({"X-Api-Key": "first-key"}, {"Authorization": "Bearer second-key"}):
            assert client.post(ECHO, json=TEXT, headers=headers).status_code == 200
            assert client.post("/echo", json={"text": "a"}, headers=headers).status_code == 200
            assert client.get("/v1/models", headers=headers).status_code == 200
        for path in ("/livez", "/readyz", "/metrics"):
            assert client.get(path).status_code == 200


def test_a_callback_is_refused_where_webhooks_are_not_served(client: httpx.Client) -> None:
    document = problem(client.post(ECHO, json=TEXT | {"callback": "http://example.org/hook"}), 422)
    assert "MULETEER_CALLBACK_SECRET" in document["error"]
