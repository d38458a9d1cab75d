"""The Open Inference Protocol: the same jobs behind tensors, and Triton's own client as its user."""

import json
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from support.predict_api import extra_gateway, finished, submit
from support.problems import problem
from support.services import System
from support.waiting import wait_until

INFER = "/v2/models/echo/infer"


def texts(*values: str, **more: object) -> dict[str, object]:
    return {"inputs": [{"name": "text", "shape": [len(values)], "datatype": "BYTES", "data": values}], **more}


@pytest.fixture
def triton_client(system: System) -> Iterator[triton.InferenceServerClient]:
    client = triton.InferenceServerClient(system.url.removeprefix("http://"))
    yield client
    client.close()


def test_tensors_come_in_and_go_out(client: httpx.Client) -> None:
    response = client.post(INFER, json=texts("a", "b", id="mine"))
    assert response.json() == {
        "model_name": "echo",
        "model_version": "1",
        "id": "mine",
        "outputs": [{"name": "echo", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]}],
    }
    assert response.headers["muleteer-model-version"] == "1"
    assert response.headers["muleteer-job-id"]


def test_a_version_can_be_named(client: httpx.Client) -> None:
    for version in ("1", "2"):
        answer = client.post(f"/v2/models/split/versions/{version}/infer", json=texts("a")).json()
        assert (answer["model_version"], answer["outputs"][0]["data"]) == (version, [version])
    assert "no version" in problem(client.post("/v2/models/split/versions/9/infer", json=texts("a")), 404)["detail"]
    assert "Models served:" in problem(client.post("/v2/models/nobody/infer", json=texts("a")), 404)["detail"]
    problem(client.post("/v2/models/a/b/infer", json=texts("a")), 404)
    assert problem(client.get(INFER), 405)["allow"] == ["POST"]


def test_what_is_wrong_is_named_by_tensor_and_row(client: httpx.Client) -> None:
    (error,) = problem(client.post(INFER, json={"inputs": texts("a")["inputs"], "outputs": [1]}), 422)["errors"]
    assert error["path"] == "outputs/0"
    sent = {"inputs": [{"name": "text", "shape": [2], "datatype": "INT64", "data": [1, 2]}]}
    errors = problem(client.post(INFER, json=sent), 422)["errors"]
    assert [error["path"] for error in errors] == ["inputs/text/0", "inputs/text/1"]


def test_the_same_job_can_be_had_as_a_job(client: httpx.Client) -> None:
    job = submit(client, INFER, texts("a", "b"))
    assert finished(client, job)["result"] == {"predictions": [{"echo": "a"}, {"echo": "b"}]}
    keyed = {"Idempotency-Key": "v2-once"}
    first, again = (client.post(INFER, json=texts("c"), headers=keyed) for _ in range(2))
    assert first.headers["muleteer-job-id"] == again.headers["muleteer-job-id"]
    assert first.json() == again.json()


def test_the_timeout_parameter_ends_the_wait_and_the_job_goes_on(client: httpx.Client) -> None:
    sent = texts("0.4", parameters={"timeout": 50_000})  # microseconds
    refused = problem(client.post("/v2/models/slow/infer", json=sent), 504)
    assert "did not answer in 0.05 s" in refused["detail"]
    assert finished(client, refused["job"].rpartition("/")[2])["result"] == {"predictions": [{"slept": "0.4"}]}


def test_a_timeout_longer_than_the_models_is_waited_for(client: httpx.Client) -> None:
    # The model's own timeout is half a second.
    sent = texts("0.7", parameters={"timeout": 10_000_000})
    assert client.post("/v2/models/slow/infer", json=sent).json()["outputs"][0]["data"] == ["0.7"]


def test_a_header_that_says_how_to_wait_goes_before_the_timeout(client: httpx.Client) -> None:
    sent = texts("0.1", parameters={"timeout": 1})
    assert client.post("/v2/models/slow/infer", json=sent, headers={"Prefer": "wait=5"}).status_code == 200


def test_health_and_metadata_say_what_there_is(client: httpx.Client) -> None:
    assert client.get("/v2").json()["name"] == "muleteer"
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2/models/echo").json() == {
        "name": "echo",
        "versions": ["1"],
        "platform": "python",
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [],
    }
    assert client.get("/v2/models/split/versions/2").json()["versions"] == ["1", "2"]
    assert client.get("/v2/models/echo/ready").json() == {"name": "echo", "ready": True}
    assert client.get("/v2/models/split/versions/2/ready").json()["ready"] is True


def test_what_is_not_ready_says_so_with_a_4xx(client: httpx.Client) -> None:
    response = client.get("/v2/models/parked/ready")
    assert (response.status_code, response.json()) == (400, {"name": "parked", "ready": False})
    for path in ("/v2/models/nobody", "/v2/models/nobody/ready", "/v2/models/echo/versions/9/ready"):
        problem(client.get(path), 404)


def test_keys_guard_models_and_not_health(system: System) -> None:
    with extra_gateway(system, MULETEER_API_KEYS="web=k1") as gateway, httpx.Client(base_url=gateway.url) as client:
        assert client.get("/v2/health/ready").status_code == 200
        assert client.get("/v2").status_code == 200
        problem(client.get("/v2/models/echo"), 401)
        problem(client.post(INFER, json=texts("a")), 401)
        keyed = {"X-Api-Key": "k1"}
        wait_until(lambda: client.get("/v2/models/echo/ready", headers=keyed).status_code == 200, 20, "ready")
        assert client.post(INFER, json=texts("a"), headers=keyed).status_code == 200


def test_tritons_client_sees_a_server_it_knows(triton_client: triton.InferenceServerClient) -> None:
    assert triton_client.is_server_live()
    assert triton_client.is_server_ready()
    assert triton_client.is_model_ready("echo")
    assert triton_client.is_model_ready("split", "2")
    assert not triton_client.is_model_ready("parked")
    assert triton_client.get_server_metadata()["name"] == "muleteer"
    assert triton_client.get_model_metadata("echo")["inputs"][0]["name"] == "text"


def test_tritons_client_gets_its_answers(triton_client: triton.InferenceServerClient) -> None:
    sent = triton.InferInput("text", [2], "BYTES")
    sent.set_data_from_numpy(np.array(["a", "ü"], dtype=np.object_), binary_data=False)
    wanted = triton.InferRequestedOutput("echo", binary_data=False)
    result = triton_client.infer("echo", [sent], outputs=[wanted], request_id="7")
    assert result.as_numpy("echo").tolist() == ["a", "ü"]
    assert result.get_response()["id"] == "7"
    # With the client's defaults outputs are asked for as binary, which no server has to send.
    assert triton_client.infer("echo", [sent]).get_response()["outputs"][0]["data"] == ["a", "ü"]


def test_tritons_client_sets_the_timeout(triton_client: triton.InferenceServerClient) -> None:
    sent = triton.InferInput("text", [1], "BYTES")
    sent.set_data_from_numpy(np.array(["0.3"], dtype=np.object_), binary_data=False)
    with pytest.raises(InferenceServerException, match=r"did not answer in 0\.02 s"):
        triton_client.infer("slow", [sent], timeout=20_000)


def test_a_model_named_like_the_suffix_has_its_metadata(client: httpx.Client) -> None:
    assert problem(client.get("/v2/models/infer"), 404)["detail"].startswith("There is no model 'infer'.")
    assert problem(client.get("/v2/models/echo/versions/infer"), 404)["detail"].startswith("Model echo has no version")


def test_the_json_of_a_client_that_tells_its_length_is_read(client: httpx.Client) -> None:
    body = json.dumps(texts("a")).encode()
    headers = {"Content-Type": "application/json", "Inference-Header-Content-Length": str(len(body))}
    assert client.post(INFER, content=body, headers=headers).status_code == 200
    longer = client.post(INFER, content=body + b"\0\0", headers=headers)
    assert "binary_data=False" in problem(longer, 415)["detail"]
    octets = {"Content-Type": "application/octet-stream"}
    assert "binary_data=False" in problem(client.post(INFER, content=body, headers=octets), 415)["detail"]


def test_tritons_binary_data_is_refused_by_its_name(triton_client: triton.InferenceServerClient) -> None:
    sent = triton.InferInput("text", [1], "BYTES")
    sent.set_data_from_numpy(np.array(["a"], dtype=np.object_))
    with pytest.raises(InferenceServerException, match="binary_data=False"):
        triton_client.infer("echo", [sent])
