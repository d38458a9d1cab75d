"""Answers over HTTP equal the model called directly: every example, sync and async, one and 1,000, batched or alone."""

import asyncio
import csv
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime
import pytest
import skops.io
import yaml

from muleteer.client import Client
from muleteer.queue.connection import connect
from muleteer_worker.readiness import prepare
from support.metrics import counted
from support.piling import piled_up
from support.services import System

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
TIMEOUT = 60.0

Instances = list[Any]


@dataclass(frozen=True)
class Case:
    """One version of one example, and the model behind it called without any of Muleteer."""

    model: str
    version: str
    instances: Callable[[], Instances]
    direct: Callable[[Path, Instances], list[Any]]


def texts() -> Instances:
    words = "this movie really sucked a wonderful touching film with great actors but dull plot and no end".split()  # noqa: SIM905 - a sentence
    return [{"text": " ".join(words[(n * k) % len(words)] for k in range(1, 3 + n % 12))} for n in range(1000)]


def tweets() -> Instances:
    return [f"@user{n} {row['text']} http://t.co/{n} !!" for n, row in enumerate(texts())]


def rides() -> Instances:
    return [
        {"PULocationID": 1 + n % 263, "DOLocationID": 1 + (7 * n) % 263, "trip_distance": 0.3 + (n % 97) / 5}
        for n in range(1000)
    ]


def trusted(path: Path) -> Any:
    return skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))


def fancy(_: Path, instances: Instances) -> list[Any]:
    return [{"res": f"Can't tell anything smart about: {i['text']}"} for i in instances]


def movie_sklearn(folder: Path, instances: Instances) -> list[Any]:
    pipeline = trusted(folder / "model.skops")
    return [{"score": float(row[1])} for row in pipeline.predict_proba([i["text"] for i in instances])]


def movie_onnx(folder: Path, instances: Instances) -> list[Any]:
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    wanted = session.get_inputs()[0]
    rows = np.array([i["text"] for i in instances], dtype=object)
    outputs = session.run(None, {wanted.name: rows.reshape(-1, 1) if len(wanted.shape) == 2 else rows})
    scores = next(np.asarray(o) for o in outputs if np.asarray(o).ndim == 2 and np.asarray(o).dtype.kind == "f")
    return [{"score": float(row[1])} for row in scores]


def ride(folder: Path, instances: Instances) -> list[Any]:
    pipeline = trusted(folder / "model.skops")
    return [{"duration": float(value), "model_version": "1"} for value in pipeline.predict(instances)]


def tweet(folder: Path, instances: Instances) -> list[Any]:
    # Its model is this project's own code, so that there is no other way to call it than as its author does.
    return list(prepare("tweet-sentiment", "1", str(folder), folder, frozenset()).adapter.predict(instances))


CASES = {
    "fancy": Case("fancy", "1", texts, fancy),
    "tweet-sentiment": Case("tweet-sentiment", "1", tweets, tweet),
    "movie-sentiment": Case("movie-sentiment", "1", texts, movie_sklearn),
    "movie-sentiment-onnx": Case("movie-sentiment", "2", texts, movie_onnx),
    "ride-duration": Case("ride-duration", "1", rides, ride),
}


@pytest.fixture(scope="module")
def system(trained_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("examples")
    catalog = yaml.safe_load((ROOT / "examples" / "catalog.yaml").read_text())
    catalog["repository"] = str(trained_models)
    (folder / "catalog.yaml").write_text(yaml.safe_dump(catalog))
    with System(folder, folder / "catalog.yaml") as running:
        running.add_gateway()
        running.add_worker(processes=2)
        yield running.wait_ready()


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def expected(case: Case, trained_models: Path) -> list[Any]:
    return case.direct(trained_models / case.model / case.version, case.instances())


def assert_same(answers: list[Any], expected: list[Any]) -> None:
    assert len(answers) == len(expected)
    for answer, right in zip(answers, expected, strict=True):
        assert same(answer, right), (answer, right)


def same(answer: Any, right: Any) -> bool:
    if isinstance(right, dict):
        return answer.keys() == right.keys() and all(same(answer[key], right[key]) for key in right)
    if isinstance(right, float):
        return math.isclose(answer, right, rel_tol=1e-6, abs_tol=1e-6)  # float32 sums depend on the batch's shape
    return bool(answer == right)


def test_one_instance_sync(system: System, case: Case, expected: list[Any]) -> None:
    with Client(system.url, timeout=TIMEOUT) as client:
        for n in (0, 1, 500):
            answer = client.predict(case.model, [case.instances()[n]], version=case.version)
            assert_same(list(answer), [expected[n]])


def test_a_thousand_instances_sync(system: System, case: Case, expected: list[Any]) -> None:
    with Client(system.url, timeout=TIMEOUT) as client:
        assert_same(list(client.predict(case.model, case.instances(), version=case.version)), expected)


def test_a_thousand_instances_async(system: System, case: Case, expected: list[Any]) -> None:
    with Client(system.url, timeout=TIMEOUT) as client:
        job = client.submit(case.model, case.instances(), version=case.version)
        assert_same(list(client.result(job, timeout=TIMEOUT)), expected)


def test_one_instance_async(system: System, case: Case, expected: list[Any]) -> None:
    with Client(system.url, timeout=TIMEOUT) as client:
        job = client.submit(case.model, [case.instances()[7]], version=case.version)
        assert_same(list(client.result(job, timeout=TIMEOUT)), [expected[7]])


def test_instances_by_id_keep_their_ids(system: System, case: Case, expected: list[Any]) -> None:
    instances = {f"id {n}": instance for n, instance in enumerate(case.instances()[:10])}
    with Client(system.url, timeout=TIMEOUT) as client:
        answer = client.predict(case.model, instances, version=case.version)
    assert isinstance(answer, dict)
    assert list(answer) == list(instances)
    assert_same(list(answer.values()), expected[:10])


async def test_many_single_requests_at_once_are_batched_and_right(
    system: System, case: Case, expected: list[Any]
) -> None:
    url = f"{system.url}/v1/models/{case.model}/versions/{case.version}:predict"
    instances = case.instances()[:256]
    calls = predict_calls(system, case)
    limits = httpx.Limits(max_connections=64)
    with connect(system.valkey.url) as connection:
        async with (
            httpx.AsyncClient(timeout=TIMEOUT, limits=limits) as client,
            asyncio.TaskGroup() as group,
            piled_up(system.workers[0], connection, f"{case.model}.{case.version}", 64),
        ):
            posts = [group.create_task(client.post(url, json={"instances": [i]})) for i in instances]
    answers = [post.result() for post in posts]
    assert {answer.status_code for answer in answers} == {200}
    assert_same([answer.json()["predictions"][0] for answer in answers], expected[:256])
    assert 4 <= predict_calls(system, case) - calls <= 256 - 50  # the first 64 at least shared batches


def predict_calls(system: System, case: Case) -> float:
    return counted(system.workers[0], "muleteer_batch_rows_count", model=case.model, version=case.version)


def test_the_tutorials_clients_work_unchanged(system: System) -> None:
    def post(path: str, body: Any) -> httpx.Response:
        return httpx.post(f"{system.url}{path}", json=body, timeout=TIMEOUT)

    assert post("/fancy", {"text": "it"}).json() == {"res": "Can't tell anything smart about: it"}
    tweets_answer = post("/api/v1/tweets/predict", {"1": "I love this so much :)", "2": "i hate mondays, so sad"})
    assert tweets_answer.json() == {"1": "Positive", "2": "Negative"}
    assert post("/api/v1/tweets/predict", {}).status_code == 400
    score = post("/predict", {"text": "this movie really sucked"}).json()["score"]
    assert 0 <= score < 0.5
    assert httpx.get(f"{system.url}/predict").json()["name"] == "movie-sentiment"
    for wrong in ({}, {"text": 3}):
        refused = post("/predict", wrong)
        assert refused.status_code == 422
        assert "text" in refused.json()["error"]
    answer = post("/rides/predict", {"PULocationID": 10, "DOLocationID": 50, "trip_distance": 40}).json()
    assert answer.keys() == {"duration", "model_version"}
    assert answer["model_version"] == "1"
    assert 10 < answer["duration"] < 200


def test_every_sample_request_of_the_examples_is_answered(system: System) -> None:
    found = sorted((ROOT / "examples").glob("*/requests.json"))
    assert len(found) == 4
    for path in found:
        for sample in json.loads(path.read_text()):
            url = f"{system.url}{sample['path']}"
            answer = httpx.request(sample["method"], url, json=sample.get("body"), timeout=TIMEOUT)
            assert answer.status_code == 200, (path, sample, answer.text)


def test_the_demo_asks_every_example_and_ends_well(system: System) -> None:
    command = [sys.executable, str(ROOT / "examples" / "demo.py"), "--url", system.url]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    printed = [line.strip() for line in ended.stdout.splitlines()]
    for model in ("fancy", "tweet-sentiment", "movie-sentiment", "ride-duration"):
        assert printed.count(model) == 1  # the title of its table


def test_smoke_finds_every_version_of_every_example_well(system: System) -> None:
    program = "from muleteer.cli.app import main; main()"
    command = [sys.executable, "-c", program, "smoke", "--url", system.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {line.partition(":")[0] for line in done.stdout.splitlines() if ": ok, " in line} == {
        f"{case.model} {case.version}" for case in CASES.values()
    }


def test_real_tweets_are_told_apart_better_than_the_tutorial_did(system: System) -> None:
    if not (SHARED / "tweets.csv").exists():
        pytest.skip("the real tweets (../shared/data/tweets.csv) are not on this machine")
    with (SHARED / "tweets.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with Client(system.url, timeout=TIMEOUT) as client:
        answers = client.predict("tweet-sentiment", [row["text"] for row in rows])
    right: dict[str, list[bool]] = {"0": [], "1": []}
    for row, answer in zip(rows, answers, strict=True):
        right[row["target"]].append(answer == ("Positive" if row["target"] == "1" else "Negative"))
    balanced = sum(sum(hits) / len(hits) for hits in right.values()) / 2
    assert balanced > 0.6  # another source and another time than its training tweets
