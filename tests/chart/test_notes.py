"""NOTES.txt: the first request to type is one that works."""

import json
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from muleteer.catalog import read_catalog
from support.chart import CHART, CI, NAMESPACE, RELEASE, catalog_values, helm, of_kind, one, render, values_of

EXAMPLES = Path(__file__).parents[2] / "examples"


def notes(values: dict[str, Any] | None = None, ci: str = "default") -> str:
    """Return what helm prints after an installation."""
    words = ("install", RELEASE, str(CHART), "--dry-run=client", "--namespace", NAMESPACE)
    done = helm(*words, "--values", str(CI[ci]), "--values", "-", stdin=json.dumps(values or {}))
    assert done.code == 0, done.stderr
    return done.stdout.partition("\nNOTES:\n")[2]


def commands(text: str, program: str) -> list[list[str]]:
    """Return the commands of a program that the notes show, as a shell takes them apart."""
    lines = text.replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.strip().startswith(f"{program} ")]


def test_the_first_request_by_default_is_one_that_an_example_answers() -> None:
    sync, job = commands(notes(), "curl")
    catalog = read_catalog(EXAMPLES / "catalog.yaml")
    for words in (sync, job):
        (url,) = [word for word in words if word.startswith("http")]
        parts = urlsplit(url)
        assert parts.netloc == "localhost:8080"
        model = parts.path.removeprefix("/v1/models/").removesuffix(":predict")
        assert model in catalog.models
        assert parts.path == f"/v1/models/{model}:predict"
        headers = [words[index + 1] for index, word in enumerate(words) if word == "-H"]
        assert "Content-Type: application/json" in headers
        assert ("Prefer: respond-async" in headers) is (words is job)
        body = json.loads(words[words.index("-d") + 1])
        assert list(body) == ["instances"]
        assert all(set(instance) == {"text"} for instance in body["instances"])


def test_the_port_that_is_forwarded_is_the_services() -> None:
    text = notes({"gateway": {"service": {"port": 8000}}})
    (forward,) = [words for words in commands(text, "kubectl") if "port-forward" in words]
    service = one(render({"gateway": {"service": {"port": 8000}}}), "Service", "-gateway")
    assert f"service/{service['metadata']['name']}" in forward
    assert "8080:8000" in forward
    assert NAMESPACE in forward


@pytest.mark.parametrize("name", sorted(CI))
def test_every_request_shown_is_for_a_model_that_is_served(name: str) -> None:
    text, values = notes(ci=name), values_of(name)
    requests = commands(text, "curl")
    assert requests
    models = catalog_values(values)
    for words in requests:
        (url,) = [word for word in words if word.startswith("http")]
        path = urlsplit(url).path
        assert path == "/v1/models" or path.removeprefix("/v1/models/").removesuffix(":predict") in models
        wants_key = bool(values["gateway"]["apiKeys"]["existingSecret"])
        assert any(word.startswith("Authorization: Bearer ") for word in words) is wants_key
    assert f"helm test {RELEASE}" in text
    assert all(model in text for model in models)


def test_requests_go_to_the_host_of_the_ingress_or_the_route() -> None:
    assert "curl https://models.internal/v1/models" in notes(ci="locked-down")
    assert "curl https://models.example.com/v1/models" in notes(ci="production")
    assert "port-forward" not in notes(ci="production")


@pytest.mark.parametrize(
    ("values", "warning"),
    [
        ({"gateway": {"service": {"type": "LoadBalancer"}}}, "gateway.apiKeys.existingSecret is empty"),
        ({"valkey": {"persistence": {"enabled": False}}}, "valkey.persistence.enabled is false"),
        ({"monitoring": {"podMonitor": {"enabled": True}}}, "networkPolicy.metricsFrom is empty"),
    ],
)
def test_what_may_surprise_is_said(values: dict[str, Any], warning: str) -> None:
    assert f"WARNING: {warning}" in " ".join(notes(values).split()) or warning in notes(values)
    assert "WARNING" in notes(values)
    assert warning not in notes()


def test_nothing_is_left_of_the_template(ci: str) -> None:
    text = notes(ci=ci)
    assert "{{" not in text
    assert "<no value>" not in text
    assert "%!" not in text
    assert "\n\n\n" not in text
    for secret in of_kind(render(ci=ci), "Secret"):
        assert secret["data"]["password"] not in text
