"""A gateway with a port of its own for metrics."""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from muleteer.embedded import free_port
from support.metrics import counted
from support.models import SLOW, write_catalog, write_version
from support.predict_api import ASYNC, extra_gateway
from support.services import Service, System
from support.waiting import wait_until

PAGES = ["/metrics", "/backlog/default"]
PROBES = ["/livez", "/readyz"]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("metrics-port")
    write_version(folder / "models", "slow", code=SLOW)
    catalog = write_catalog(folder / "catalog.yaml", {"slow": {"versions": {"1": {}}}})
    with System(folder, catalog) as made:
        made.add_worker()
        yield made.wait_ready()


@contextmanager
def gateway_with_port(system: System, **settings: str) -> Iterator[tuple[Service, str]]:
    """Run a gateway for the length of a block; give it and the URL of its metrics."""
    port = free_port()
    with extra_gateway(system, MULETEER_METRICS_PORT=str(port), **settings) as gateway:
        yield gateway, f"http://127.0.0.1:{port}"


def closed(url: str) -> bool:
    try:
        httpx.get(f"{url}/livez", timeout=5)
    except httpx.TransportError:
        return True
    return False


def test_metrics_and_backlog_are_only_there_and_probes_on_both(system: System) -> None:
    with gateway_with_port(system) as (gateway, metrics):
        assert [httpx.get(f"{metrics}{page}").status_code for page in PAGES + PROBES] == [200] * 4
        assert [httpx.get(f"{gateway.url}{page}").status_code for page in PAGES] == [404] * 2
        assert [httpx.get(f"{gateway.url}{page}").status_code for page in PROBES] == [200] * 2
        assert "/metrics" not in httpx.get(f"{gateway.url}/openapi.json").json()["paths"]
        assert "muleteer_redis_up 1.0" in httpx.get(f"{metrics}/metrics").text
        assert httpx.get(f"{metrics}/backlog/default").json()["jobs"] == 0
        for path in ("/v1/models", "/openapi.json", "/docs", "/nothing"):
            refused = httpx.get(f"{metrics}{path}")
            assert refused.status_code == 404
            assert refused.headers["content-type"] == "application/problem+json"
        assert httpx.post(f"{metrics}/metrics").status_code == 405
        assert httpx.get(f"{metrics}/backlog/nobody").status_code == 404


def test_it_goes_on_while_the_gateway_drains_and_ends_with_it(system: System) -> None:
    with gateway_with_port(system, MULETEER_DRAIN_DELAY_SECONDS="0") as (gateway, metrics), httpx.Client() as client:
        client.get(f"{metrics}/livez")  # a connection that is kept does not hold up the end
        body = {"instances": [{"text": "2"}]}
        job = httpx.post(f"{gateway.url}/v1/models/slow:predict", json=body, headers=ASYNC).json()["id"]
        with httpx.stream("GET", f"{gateway.url}/v1/jobs/{job}/events") as events:
            assert events.status_code == 200
        waiting = socket.create_connection(("127.0.0.1", gateway.port))
        text = b'{"instances": [{"text": "1.5"}]}'
        waiting.sendall(
            b"POST /v1/models/slow:predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(text), text)
        )
        wait_until(lambda: "muleteer_requests_in_progress 1.0" in client.get(f"{metrics}/metrics").text, 10)
        gateway.signal(signal.SIGTERM)
        drained = wait_until(lambda: [r for r in [httpx.get(f"{metrics}/readyz")] if r.status_code == 503], 10)[0]
        assert drained.json()["reason"] == "draining"
        assert "muleteer_requests_in_progress 1.0" in httpx.get(f"{metrics}/metrics").text
        assert waiting.recv(4096).startswith(b"HTTP/1.1 200 ")  # the request in progress was answered
        waiting.close()
        assert gateway.process is not None
        assert gateway.process.wait(20) == 0
        assert closed(metrics)
        assert [line for line in gateway.log_lines() if line["level"] in ("ERROR", "CRITICAL")] == []


def test_a_port_that_is_taken_ends_the_start_with_one_line(system: System) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        gateway = system.add_gateway(MULETEER_METRICS_PORT=str(port))
        system.gateways.remove(gateway)
        assert gateway.process is not None
        assert gateway.process.wait(30) == 3
    (line,) = [line for line in gateway.log_lines() if line["level"] == "ERROR"]
    assert f"MULETEER_METRICS_PORT={port}: " in line["message"]
    assert "in use" in line["message"]


def test_without_one_metrics_are_on_the_apis_port(system: System) -> None:
    with extra_gateway(system) as gateway:
        assert [httpx.get(f"{gateway.url}{page}").status_code for page in PAGES + PROBES] == [200] * 4
        assert counted(gateway, "muleteer_redis_up") == 1
