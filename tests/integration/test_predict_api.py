"""What callers of the API can rely on: modes, jobs, keys, routes, limits; two real gateways, one worker pod."""

import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from muleteer.queue.connection import connect
from support.models import MOODY, SLOW, write_catalog, write_version
from support.problems import problem
from support.services import Service, System
from support.waiting import wait_until

ECHO = "/v1/models/echo:predict"
SLOW_PATH = "/v1/models/slow:predict"
PARKED = "/v1/models/parked:predict"
"""Its pool has no worker: its jobs stay queued."""
MAX_PARKED = 5
TEXT = {"instances": [{"text": "hello"}]}
ASYNC = {"Prefer": "respond-async"}

VERSIONED = """
    class Model:
        def predict(self, instances):
            return [{{"version": "{version}"}} for _ in instances]
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("predict-api")
    for name, code in {"slow": SLOW, "moody": MOODY}.items():
        write_version(folder / "models", name, code=code)
    for name in ("echo", "parked"):
        write_version(folder / "models", name, description=f"Model {name}.", examples=[])
    for version in ("1", "2"):
        write_version(folder / "models", "split", version, VERSIONED.format(version=version))
    one = {"versions": {"1": {}}}
    two: dict[str, Any] = {"versions": {"1": {}, "2": {}}}
    catalog = write_catalog(
        folder / "catalog.yaml",
        {
            "echo": one | {"route": "/echo"},
            "moody": one | {"route": "/moods", "route_body": "instances"},
            "slow": one | {"timeout": 0.5, "batching": {"max_rows": 1}},
            "split": two | {"traffic": {"1": 8, "2": 2}, "aliases": {"champion": "1", "challenger": "2"}},
            "parked": one | {"pool": "nobody", "timeout": 0.3, "limits": {"max_queue_jobs": MAX_PARKED}},
        },
    )
    with System(folder, catalog) as made:
        made.add_gateway()
        made.add_gateway()
        made.add_worker(processes=2)
        yield made.wait_ready(but=frozenset({"parked"}))


@pytest.fixture(scope="module")
def client(system: System) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=system.url, timeout=30) as made:
        yield made


@pytest.fixture(scope="module")
def other(system: System) -> Iterator[httpx.Client]:
    """A client of the other gateway."""
    with httpx.Client(base_url=system.gateways[1].url, timeout=30) as made:
        yield made


@pytest.fixture(autouse=True)
def empty_park(system: System, client: httpx.Client) -> Iterator[None]:
    """Cancel after each test what it left in the queue that nobody works off."""
    yield
    with connect(system.valkey.url) as redis:
        for job in redis.lrange("rq:queue:parked.1", 0, -1):
            client.delete(f"/v1/jobs/{job.decode()}")


@contextmanager
def extra_gateway(system: System, **settings: str) -> Iterator[Service]:
    """Run one more gateway for the length of a block."""
    gateway = system.add_gateway(**settings)
    try:
        yield gateway.wait_ready()
    finally:
        assert gateway.process is not None
        if gateway.process.poll() is None:
            gateway.kill_all()
        system.gateways.remove(gateway)


def slow(seconds: float) -> dict[str, Any]:
    return {"instances": [{"text": str(seconds)}]}


def submit(client: httpx.Client, path: str, body: object, **headers: str) -> str:
    """Enqueue without waiting and return the job's id."""
    response = client.post(path, json=body, headers=ASYNC | headers)
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def finished(client: httpx.Client, job: str) -> dict[str, Any]:
    document: dict[str, Any] = client.get(f"/v1/jobs/{job}", params={"wait": 20}).json()
    assert document["status"] == "finished", document
    return document


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


# Idempotency keys


def keyed(key: str, **headers: str) -> dict[str, str]:
    return {"Idempotency-Key": key} | headers


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


# Jobs


@contextmanager
def watched_commands(system: System, job: str) -> Iterator[list[str]]:
    """Collect every command that Redis gets from clients and that names ``job``."""
    seen: list[str] = []
    with connect(system.valkey.url) as redis, connect(system.valkey.url) as watcher, watcher.monitor() as monitor:

        def listen() -> None:
            for command in monitor.listen():
                if "end-of-watch" in command["command"]:
                    return
                if job in command["command"] and command["client_type"] != "lua":
                    seen.append(command["command"])

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield seen
        finally:
            redis.echo("end-of-watch")
            thread.join(10)


def test_a_long_poll_waits_for_the_end_without_polling_redis(system: System, client: httpx.Client) -> None:
    job = submit(client, SLOW_PATH, slow(2.5))
    with watched_commands(system, job) as commands:
        document = client.get(f"/v1/jobs/{job}", params={"wait": 20}).json()
    assert document["status"] == "finished"
    # Two looks to begin with, one at the end, the worker's finish and lease; and a safety look a second.
    assert len(commands) <= 9, commands


def test_a_long_poll_ends_when_its_time_is_up(client: httpx.Client) -> None:
    job = submit(client, PARKED, TEXT)
    response = client.get(f"/v1/jobs/{job}", params={"wait": 0.3})
    assert (response.status_code, response.json()["status"]) == (200, "queued")
    assert 0.3 <= response.elapsed.total_seconds() < 2


def test_a_long_poll_on_another_gateway_hears_of_a_cancellation(client: httpx.Client, other: httpx.Client) -> None:
    job = submit(client, PARKED, TEXT)
    with ThreadPoolExecutor(1) as threads:
        polled = threads.submit(lambda: other.get(f"/v1/jobs/{job}", params={"wait": 20}))
        assert client.delete(f"/v1/jobs/{job}").json()["status"] == "canceled"
        assert polled.result(10).json()["status"] == "canceled"


def test_a_queued_job_knows_its_position(client: httpx.Client, other: httpx.Client) -> None:
    jobs = [submit(client, PARKED, TEXT) for _ in range(3)]
    assert [other.get(f"/v1/jobs/{job}").json()["position"] for job in jobs] == [0, 1, 2]
    client.delete(f"/v1/jobs/{jobs[0]}")
    assert [other.get(f"/v1/jobs/{job}").json()["position"] for job in jobs[1:]] == [0, 1]


def test_an_async_job_gets_an_eta_once_the_models_speed_is_known(client: httpx.Client) -> None:
    client.post(SLOW_PATH, json=slow(0.2))

    def eta() -> float | None:
        accepted: dict[str, Any] = client.post(SLOW_PATH, json=slow(0.2), headers=ASYNC).json()
        finished(client, accepted["id"])
        return accepted.get("eta_seconds")

    assert 0.01 < (wait_until(eta, 10, "an ETA") or 0) < 30


def test_a_queued_job_can_be_cancelled_and_its_waiter_is_told(client: httpx.Client, other: httpx.Client) -> None:
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(lambda: client.post(PARKED, json=TEXT, headers=keyed("cancel", Prefer="wait=20")))
        job = wait_until(lambda: other.post(PARKED, json=TEXT, headers=keyed("cancel") | ASYNC).json().get("id"))
        response = other.delete(f"/v1/jobs/{job}")
        assert (response.status_code, response.json()["status"]) == (200, "canceled")
        assert "cancelled" in problem(waiting.result(10), 409)["error"]
    again = other.delete(f"/v1/jobs/{job}")
    assert (again.status_code, again.json()["status"]) == (200, "canceled")


def test_a_running_job_can_be_cancelled_and_loses_its_result(client: httpx.Client) -> None:
    job = submit(client, SLOW_PATH, slow(1.0))
    wait_until(lambda: client.get(f"/v1/jobs/{job}").json()["status"] == "started", 10)
    assert client.delete(f"/v1/jobs/{job}").json()["status"] == "canceled"
    assert client.get(f"/v1/jobs/{job}").json()["status"] == "canceled"
    assert client.post(SLOW_PATH, json=slow(0), headers={"Prefer": "wait=10"}).status_code == 200


def test_a_job_that_has_ended_cannot_be_cancelled(client: httpx.Client) -> None:
    job = submit(client, ECHO, TEXT)
    finished(client, job)
    document = problem(client.delete(f"/v1/jobs/{job}"), 409)
    assert "finished" in document["error"]
    assert client.get(f"/v1/jobs/{job}").json()["status"] == "finished"


def read_events(client: httpx.Client, job: str) -> Iterator[tuple[str, dict[str, Any]]]:
    with client.stream("GET", f"/v1/jobs/{job}/events") as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-request-id"]
        name = ""
        for line in response.iter_lines():
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                yield name, json.loads(value)


def test_events_tell_a_jobs_progress_to_its_end(client: httpx.Client, other: httpx.Client) -> None:
    job = submit(client, SLOW_PATH, slow(1.3))
    events = list(read_events(other, job))
    assert [name for name, _ in events[:-1]] == ["progress"] * (len(events) - 1)
    assert len(events) >= 2
    name, last = events[-1]
    assert (name, last["status"]) == ("end", "finished")
    assert last["result"] == {"predictions": [{"slept": "1.3"}]}
    assert list(read_events(client, job)) == [("end", last)]


def test_events_of_a_cancelled_job_end_at_once(client: httpx.Client) -> None:
    job = submit(client, PARKED, TEXT)
    events = read_events(client, job)
    assert next(events)[0] == "progress"
    client.delete(f"/v1/jobs/{job}")
    name, last = next(events)
    assert (name, last["status"]) == ("end", "canceled")
    assert next(events, None) is None


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
