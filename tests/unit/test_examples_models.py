"""The four trained examples: figures, schemas, requests, and the catalog that serves them."""

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from muleteer.catalog.source import read_catalog
from muleteer.repository.manifest import read_manifest
from muleteer_worker.readiness import LoadedVersion, prepare

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
VERSIONS = [("fancy", "1"), ("tweet-sentiment", "1"), ("movie-sentiment", "1"), ("movie-sentiment", "2")]
VERSIONS += [("ride-duration", "1")]
MODELS = sorted({model for model, _ in VERSIONS})


@pytest.fixture(scope="module")
def served(trained_models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], LoadedVersion]:
    cache = tmp_path_factory.mktemp("cache")
    return {
        (model, version): prepare(model, version, str(trained_models / model / version), cache, frozenset())
        for model, version in VERSIONS
    }


def requests_of(model: str) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = json.loads((EXAMPLES / model / "requests.json").read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize(
    ("model", "version", "metric", "least", "most"),
    [
        ("tweet-sentiment", "1", "balanced_accuracy", 0.65, 1),
        ("movie-sentiment", "1", "balanced_accuracy", 0.75, 1),
        ("movie-sentiment", "2", "balanced_accuracy", 0.75, 1),
        ("movie-sentiment", "2", "largest_score_difference", 0, 1e-4),
        ("ride-duration", "1", "mae_minutes", 0, 4),
    ],
)
def test_the_figures_on_held_out_data_are_kept_in_the_manifest(
    trained_models: Path, model: str, version: str, metric: str, least: float, most: float
) -> None:
    assert least <= read_manifest(trained_models / model / version).metrics[metric] <= most


@pytest.mark.parametrize(("model", "version"), VERSIONS)
def test_every_version_has_golden_examples_awkward_ones_among_them(
    trained_models: Path, model: str, version: str
) -> None:
    examples = read_manifest(trained_models / model / version).examples
    assert len(examples) >= 3
    written = json.dumps([example.instance for example in examples], ensure_ascii=False)
    assert not written.isascii()
    assert model == "ride-duration" or '""' in written


def test_the_two_versions_of_the_movie_model_agree(served: dict[tuple[str, str], LoadedVersion]) -> None:
    texts = [
        "this movie really sucked",
        "",
        "¡Olé! ÉCLAT",
        "GOOD_movie 10/10",
        "a\x00b\nc\td",
        "x" * 100_000,
        "日本 ok",
    ]
    instances = [{"text": text} for text in texts]
    first, second = (served["movie-sentiment", version].predict(instances) for version in ("1", "2"))
    assert [item["score"] for item in second] == pytest.approx([item["score"] for item in first], abs=1e-4)
    assert first[0]["score"] < 0.2


def test_the_graph_asks_for_no_locale_that_a_slim_image_lacks(trained_models: Path) -> None:
    content = (trained_models / "movie-sentiment" / "2" / "model.onnx").read_bytes()
    assert b"en_US" not in content


def test_the_answers_have_the_tutorials_shape(served: dict[tuple[str, str], LoadedVersion]) -> None:
    text = "Ünï"
    assert served["fancy", "1"].predict([{"text": text}]) == [{"res": f"Can't tell anything smart about: {text}"}]
    assert served["tweet-sentiment", "1"].predict(["I love it", "I hate it"]) == ["Positive", "Negative"]
    [ride] = served["ride-duration", "1"].predict([{"PULocationID": 10, "DOLocationID": 50, "trip_distance": 40}])
    assert ride["model_version"] == "1"
    assert 20 < ride["duration"] < 60


@pytest.mark.parametrize(
    ("model", "good", "bad"),
    [
        ("fancy", {"text": ""}, {"text": 1}),
        ("tweet-sentiment", "", {"text": "a"}),
        ("movie-sentiment", {"text": "a"}, {}),
        ("ride-duration", {"PULocationID": 1, "DOLocationID": 2, "trip_distance": 3, "tip": None}, {"PULocationID": 1}),
        ("ride-duration", {"PULocationID": 1, "DOLocationID": 2, "trip_distance": 0}, [1, 2, 3]),
    ],
)
def test_the_instance_schema_takes_what_the_model_can_answer_and_nothing_else(
    trained_models: Path, model: str, good: Any, bad: Any
) -> None:
    validator = jsonschema_rs.validator_for(read_manifest(trained_models / model / "1").instance_schema)
    assert validator.is_valid(good)
    assert not validator.is_valid(bad)


@pytest.mark.parametrize("value", [1e308, -1, 0.5, "10", True, None, {"a": 1}])
def test_a_zone_that_would_make_the_forest_raise_is_refused_by_the_schema(trained_models: Path, value: Any) -> None:
    schema = read_manifest(trained_models / "ride-duration" / "1").instance_schema
    ride = {"PULocationID": value, "DOLocationID": 2, "trip_distance": 3}
    assert not jsonschema_rs.validator_for(schema).is_valid(ride)


@pytest.mark.parametrize("model", MODELS)
def test_the_sample_requests_go_to_the_catalogs_routes_with_instances_that_fit(
    trained_models: Path, model: str
) -> None:
    entry = read_catalog(EXAMPLES / "catalog.yaml").models[model]
    validator = jsonschema_rs.validator_for(read_manifest(trained_models / model / "1").instance_schema)
    requests = requests_of(model)
    assert {request["path"] == entry.route for request in requests} == {True, False}
    for request in requests:
        assert request["method"] == "POST"
        if request["path"] == entry.route:
            instances = request["body"] if entry.route_body == "instances" else [request["body"]]
        else:
            assert re.fullmatch(rf"/v1/models/{model}(/labels/[a-z]+)?:predict", request["path"])
            instances = request["body"]["instances"]
        for instance in instances.values() if isinstance(instances, dict) else instances:
            assert validator.is_valid(instance)


def test_the_catalog_names_every_version_that_training_writes(trained_models: Path) -> None:
    catalog = read_catalog(EXAMPLES / "catalog.yaml")
    named = [(model, version) for model, entry in catalog.models.items() for version in entry.versions]
    assert sorted(named) == sorted(VERSIONS)
    assert Path(catalog.version_uri("fancy", "1")).resolve() == (trained_models / "fancy" / "1").resolve()


def test_training_again_skips_what_holds_and_replaces_what_is_damaged(trained_models: Path, tmp_path: Path) -> None:
    shutil.copytree(trained_models, tmp_path, dirs_exist_ok=True)
    model = tmp_path / "fancy" / "1" / "model.py"
    original = model.read_text(encoding="utf-8")
    model.write_text(original + "# changed", encoding="utf-8")
    command = [sys.executable, str(EXAMPLES / "train_all.py"), "--output", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("there already") == 3
    assert re.search(r"^fancy +\d+\.\d s  version 1$", result.stdout, re.MULTILINE)
    assert model.read_text(encoding="utf-8") == original


class Refusing(BaseHTTPRequestHandler):
    """Answers everything with 503, as a gateway without workers may."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = b'{"title": "Service unavailable"}'
        self.send_response(503)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def refusing_url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_demo_ends_with_one_clear_line_when_an_answer_is_not_2xx(refusing_url: str) -> None:
    command = [sys.executable, str(EXAMPLES / "demo.py"), "--url", refusing_url]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    expected = (
        f'demo: fancy, plain route: POST {refusing_url}/fancy was answered 503: {{"title": "Service unavailable"}}'
    )
    assert result.stderr.strip() == expected


def test_the_demo_ends_with_one_clear_line_when_nothing_listens() -> None:
    command = [sys.executable, str(EXAMPLES / "demo.py"), "--url", "http://127.0.0.1:9"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("demo: fancy, plain route: POST http://127.0.0.1:9/fancy got no answer")
    assert len(result.stderr.splitlines()) == 1
