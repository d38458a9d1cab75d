"""The OpenAPI document: valid, complete, true. Schemathesis holds the real gateway to it."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from pydantic import ValidationError

from muleteer.catalog.model import Catalog, ModelEntry
from support.models import ECHO, TEXT_SCHEMA, write_catalog, write_version
from support.services import System
from support.waiting import wait_until

TRIP_SCHEMA: dict[str, Any] = {
    "$defs": {"Zone": {"type": "integer", "minimum": 1, "maximum": 265}},
    "type": "object",
    "properties": {
        "from": {"$ref": "#/$defs/Zone"},
        "to": {"$ref": "#/$defs/Zone"},
        "distance": {"type": "number", "minimum": 0},
        "paid": {"type": "boolean"},
    },
    "required": ["from", "to"],
    "additionalProperties": False,
}
MINUTES_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"minutes": {"$ref": "#/$defs/Minutes"}},
    "required": ["minutes"],
    "$defs": {"Minutes": {"type": "number", "minimum": 0}},
}
TRIP = """
    class Model:
        def predict(self, instances):
            return [{"minutes": abs(i["to"] - i["from"]) + i.get("distance", 0) / 10} for i in instances]
"""
ECHO_ANSWER = {"type": "object", "properties": {"echo": {"type": "string"}}, "required": ["echo"]}
METHODS = {"get", "post", "delete"}


def entries(versions: tuple[str, ...] = ("1",)) -> dict[str, dict[str, Any]]:
    return {
        "echo": {
            "versions": {version: {} for version in versions},
            "default": "1",
            "aliases": {"champion": versions[-1]},
            "route": "/echo",
            "limits": {"max_instances": 50},
        },
        "trip": {"versions": {"2.0-rc1": {}}, "route": "/api/trips", "route_body": "instances"},
        "anything": {"versions": {"1": {}}},
    }


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("openapi")
    examples = [{"instance": {"text": "a"}, "prediction": {"echo": "a"}}]
    for version in ("1", "2"):
        write_version(folder / "models", "echo", version, examples=examples, prediction_schema=ECHO_ANSWER)
    write_version(folder / "models", "trip", "2.0-rc1", TRIP, schema=TRIP_SCHEMA, prediction_schema=MINUTES_SCHEMA)
    write_version(folder / "models", "anything", code=ECHO.replace('{"echo": i["text"]}', "repr(i)"), schema={})
    with System(folder, write_catalog(folder / "catalog.yaml", entries())) as made:
        made.add_gateway()
        made.add_worker(processes=2)
        yield made.wait_ready()


@pytest.fixture
def document(system: System) -> dict[str, Any]:
    response = httpx.get(f"{system.url}/openapi.json")
    assert response.status_code == 200
    found: dict[str, Any] = response.json()
    return found


def resolve(document: dict[str, Any], reference: str) -> Any:
    """Follow a reference of the document."""
    assert reference.startswith("#/"), reference
    found: Any = document
    for part in reference[2:].split("/"):
        found = found[part]
    return found


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for item in part:
            yield from references(item)


def test_the_document_is_valid_and_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    schemathesis.openapi.from_dict(document).validate()
    found = set(references(document))
    assert len(found) > 5
    for reference in found:
        assert resolve(document, reference) is not None


def test_every_model_has_its_routes_and_its_own_schemas(document: dict[str, Any]) -> None:
    assert {path for path in document["paths"] if "{" not in path} == {
        "/v1/models",
        "/v1/models/echo:predict",
        "/v1/models/echo/versions/1:predict",
        "/v1/models/echo/labels/champion:predict",
        "/echo",
        "/v1/models/trip:predict",
        "/v1/models/trip/versions/2.0-rc1:predict",
        "/api/trips",
        "/v1/models/anything:predict",
        "/v1/models/anything/versions/1:predict",
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/echo/infer",
        "/v2/models/trip/infer",
        "/v2/models/anything/infer",
        "/v2/models/echo/versions/1/infer",
        "/v2/models/trip/versions/2.0-rc1/infer",
        "/v2/models/anything/versions/1/infer",
        "/livez",
        "/readyz",
        "/metrics",
    }
    request = document["paths"]["/v1/models/echo:predict"]["post"]["requestBody"]["content"]["application/json"]
    by_list, by_name = request["schema"]["properties"]["instances"]["anyOf"]
    assert resolve(document, by_list["items"]["$ref"]) == TEXT_SCHEMA
    assert resolve(document, by_name["additionalProperties"]["$ref"]) == TEXT_SCHEMA
    assert by_list["maxItems"] == by_name["maxProperties"] == 50
    assert request["example"] == {"instances": [{"text": "a"}]}
    plain = document["paths"]["/api/trips"]["post"]
    answer = plain["responses"]["200"]["content"]["application/json"]["schema"]["additionalProperties"]
    trip = resolve(document, answer["$ref"])
    assert resolve(document, trip["properties"]["minutes"]["$ref"]) == {"type": "number", "minimum": 0}


def test_no_model_can_have_a_route_in_the_place_of_a_path_of_the_gateways_own(document: dict[str, Any]) -> None:
    for path in document["paths"].keys() - {"/echo", "/api/trips"} | {"/docs", "/openapi.json"}:
        route = re.sub(r"[{}]|:.*", "", path)
        with pytest.raises(ValidationError, match="belongs to Muleteer's own API"):
            Catalog(models={"m": ModelEntry(versions={"1": {}}, route=route)})


def test_a_models_example_is_told_as_tensors_too(system: System, document: dict[str, Any]) -> None:
    example = document["paths"]["/v2/models/echo/infer"]["post"]["requestBody"]["content"]["application/json"][
        "example"
    ]
    assert example == {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]}]}
    answer = httpx.post(f"{system.url}/v2/models/echo/infer", json=example).json()
    assert answer["outputs"] == [{"name": "echo", "datatype": "BYTES", "shape": [1], "data": ["a"]}]


def test_every_operation_has_its_own_id_and_says_how_it_can_fail(document: dict[str, Any]) -> None:
    operations = [(path, item[method]) for path, item in document["paths"].items() for method in METHODS & item.keys()]
    ids = [operation["operationId"] for _, operation in operations]
    assert len(set(ids)) == len(ids)
    for path, operation in operations:
        assert operation["summary"]
        failures = {status: r for status, r in operation["responses"].items() if not status.startswith("2")}
        assert failures or path in ("/metrics", "/v2")
        for response in failures.values():
            if path.startswith("/v1") or path.endswith("/infer") or path in ("/echo", "/api/trips"):
                assert response["content"].keys() == {"application/problem+json"}


def test_a_model_whose_schema_has_references_is_checked_by_them(system: System) -> None:
    url = f"{system.url}/v1/models/trip:predict"
    assert httpx.post(url, json={"instances": [{"from": 1, "to": 5}]}).json() == {"predictions": [{"minutes": 4.0}]}
    response = httpx.post(url, json={"instances": [{"from": 0, "to": "x"}]})
    assert response.status_code == 422
    assert {error["path"] for error in response.json()["errors"]} == {"instances/0/from", "instances/0/to"}


def test_api_keys_and_webhooks_are_told_of_where_they_are_used(system: System, document: dict[str, Any]) -> None:
    schema = "/v1/models/echo:predict"

    def properties(found: dict[str, Any]) -> set[str]:
        content = found["paths"][schema]["post"]["requestBody"]["content"]["application/json"]
        return set(content["schema"]["properties"])

    assert "security" not in document
    assert properties(document) == {"instances"}
    gateway = system.add_gateway(MULETEER_API_KEYS="key", MULETEER_CALLBACK_SECRET="hooks").wait_ready()  # noqa: S106 - a test
    found = httpx.get(f"{gateway.url}/openapi.json").json()
    gateway.kill_all()
    system.gateways.remove(gateway)
    schemathesis.openapi.from_dict(found).validate()
    assert found["security"] == [{"bearer": []}, {"apiKey": []}]
    assert found["paths"]["/livez"]["get"]["security"] == []
    assert properties(found) == {"instances", "callback"}


def test_the_document_follows_the_catalog(system: System) -> None:
    def paths() -> set[str]:
        return set(httpx.get(f"{system.url}/openapi.json").json()["paths"])

    before = paths()
    write_catalog(system.catalog, entries(("1", "2")))
    added = {"/v1/models/echo/versions/2:predict", "/v2/models/echo/versions/2/infer"}
    wait_until(lambda: paths() == before | added, 10, "the new version in the document")
    write_catalog(system.catalog, entries())
    wait_until(lambda: paths() == before, 10, "the old document")


def test_the_documentation_page_is_there(system: System) -> None:
    response = httpx.get(f"{system.url}/docs")
    assert response.status_code == 200
    assert "/openapi.json" in response.text


CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
]
CONFIGURATION = """
[checks.negative_data_rejection]
expected-statuses = [400, 401, 404, 405, 413, 415, 422, 431]
"""
"""A list longer than the schema allows is 413."""


def run_schemathesis(location: str, system: System, folder: Path, checks: list[str], *, tested: int) -> None:
    """Run its command line against the first gateway and assert that it finds nothing."""
    (folder / "schemathesis.toml").write_text(CONFIGURATION)
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", location, "--url", system.url),
        *("--phases", "examples,coverage,fuzzing", "--max-examples", "20", "--seed", "20261121", "--workers", "1"),
        *("--checks", ",".join(checks), "--continue-on-failure", "--no-shrink", "--request-timeout", "20"),
        *("--exclude-path-regex", "/events$", "--suppress-health-check", "all"),
    ]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stdout[-12_000:] + run.stderr[-2000:]
    assert f"Tested: {tested}" in run.stdout
    assert [line for line in system.gateways[0].log_lines() if line["level"] in ("ERROR", "CRITICAL")] == []


def test_schemathesis_finds_nothing_wrong(system: System, tmp_path: Path) -> None:
    run_schemathesis(f"{system.url}/openapi.json", system, tmp_path, CHECKS, tested=32)


def test_schemathesis_finds_no_good_request_that_is_refused(
    system: System, document: dict[str, Any], tmp_path: Path
) -> None:
    # It reuses idempotency keys with other bodies, which is rightly refused: here it is not told of them.
    # Nor of tensors: that their data has as many values as their shape says is nothing a JSON Schema can tell.
    document["paths"] = {path: item for path, item in document["paths"].items() if not path.endswith("/infer")}
    for item in document["paths"].values():
        for operation in item.values():
            kept = [p for p in operation.get("parameters", []) if p["name"] != "Idempotency-Key"]
            operation["parameters"] = kept
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    run_schemathesis("openapi.json", system, tmp_path, ["positive_data_acceptance", "not_a_server_error"], tested=26)
