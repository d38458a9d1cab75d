"""What callers see of a job: long polls, positions, cancellation, events."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx

from muleteer.queue.connection import connect
from support.predict_api import ASYNC, ECHO, PARKED, SLOW_PATH, TEXT, finished, keyed, slow, submit
from support.problems import problem
from support.services import System
from support.waiting import wait_until


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
