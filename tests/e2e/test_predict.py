"""What somebody has who has just installed the chart."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from muleteer.client import Client
from support.release import Release

pytestmark = pytest.mark.timeout(900)


def test_helm_test_succeeds(release: Release) -> None:
    assert "Succeeded" in release.test()


def test_every_model_answers_through_the_service_sync_and_async(url: str, requests: list[dict[str, Any]]) -> None:
    with Client(url) as client:
        assert len(requests) == len(client.models()) == 4
        for request in requests:
            model = request["path"].removeprefix("/v1/models/").removesuffix(":predict")
            instances, expected = request["body"]["instances"], request["answer"]["predictions"]
            assert client.predict(model, instances) == expected
            assert client.result(client.submit(model, instances), timeout=60) == expected


def test_the_second_protocol_answers_through_the_service(url: str) -> None:
    text = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["this movie really sucked"]}
    with httpx.Client(base_url=url, timeout=60) as client:
        assert client.get("/v2/models/movie-sentiment/ready").json()["ready"] is True
        body = {"inputs": [text], "parameters": {"timeout": 60_000_000}}
        (score,) = client.post("/v2/models/movie-sentiment/infer", json=body).json()["outputs"]
        assert (score["name"], score["datatype"], score["shape"]) == ("score", "FP64", [1])
        assert score["data"][0] < 0.5


def test_a_job_taken_in_by_one_gateway_is_answered_by_the_other(release: Release) -> None:
    one, other = (pod["metadata"]["name"] for pod in release.pods("gateway"))
    with release.namespace.forwarded(f"pod/{one}", 8080) as taking, Client(taking) as client:
        job = client.submit("movie-sentiment", [{"text": "this movie really sucked"}])
    with release.namespace.forwarded(f"pod/{other}", 8080) as answering, Client(answering) as client:
        assert len(client.result(job, timeout=60)) == 1


def test_a_hundred_callers_at_once_are_all_answered(url: str, requests: list[dict[str, Any]]) -> None:
    with httpx.Client(base_url=url, timeout=60) as client, ThreadPoolExecutor(100) as callers:
        answers = list(callers.map(lambda _: client.post(requests[0]["path"], json=requests[0]["body"]), range(1000)))
    assert {answer.status_code for answer in answers} == {200}


def test_no_pod_has_been_started_again(release: Release) -> None:
    for component in ("gateway", "worker", "valkey"):
        for pod in release.pods(component):
            assert [status["restartCount"] for status in pod["status"]["containerStatuses"]] == [0]
