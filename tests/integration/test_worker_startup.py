"""How a worker pod refuses to start: an exit code and one line."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from muleteer.embedded import free_port
from support.models import write_catalog
from support.pod import readiness
from support.services import Service
from support.waiting import wait_until


def run_worker(timeout: float = 60, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MULETEER_")}
    return subprocess.run(
        [sys.executable, "-m", "muleteer_worker"],
        env=clean | {"MULETEER_WORKER_PORT": "0", "MULETEER_WORKER_HOST": "127.0.0.1"} | env,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MULETEER_PROCESSES", "none"),
        ("MULETEER_WORKER_PORT", "70000"),
        ("MULETEER_REDIS_URL", "nonsense://here"),
        ("MULETEER_CATALOG", "/nowhere/catalog.yaml"),
        ("MULETEER_POOL", "No Pool"),
        ("MULETEER_MAX_RESIDENT_BYTES", "2 gigs"),
    ],
)
def test_a_wrong_setting_ends_the_start_with_one_line(tmp_path: Path, name: str, value: str) -> None:
    catalog = write_catalog(tmp_path / "catalog.yaml", {})
    done = run_worker(**{"MULETEER_CATALOG": str(catalog), name: value})
    assert done.returncode == os.EX_CONFIG
    assert len(done.stderr.splitlines()) == 1
    assert (value if name == "MULETEER_CATALOG" else name) in done.stderr


def test_a_wrong_catalog_ends_the_start_with_one_line(tmp_path: Path) -> None:
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text("models: {m: {verzions: {}}}")
    done = run_worker(MULETEER_CATALOG=str(catalog))
    assert done.returncode == os.EX_CONFIG
    assert len(done.stderr.splitlines()) == 1
    assert "verzions" in done.stderr


def test_a_port_in_use_ends_the_start_with_one_line(tmp_path: Path) -> None:
    catalog = write_catalog(tmp_path / "catalog.yaml", {})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run_worker(MULETEER_CATALOG=str(catalog), MULETEER_WORKER_PORT=port)
    assert done.returncode == os.EX_CONFIG
    assert len(done.stderr.splitlines()) == 1
    assert port in done.stderr


def test_redis_out_of_reach_at_the_start_is_waited_for_and_then_ends_it(tmp_path: Path) -> None:
    catalog = write_catalog(tmp_path / "catalog.yaml", {})
    url = f"redis://:secret@127.0.0.1:{free_port()}/0"
    done = run_worker(MULETEER_CATALOG=str(catalog), MULETEER_REDIS_URL=url, MULETEER_STARTUP_SECONDS="1")
    assert done.returncode == os.EX_UNAVAILABLE
    last = done.stderr.splitlines()[-1]
    assert "could not be reached in 1 s" in last
    assert "secret" not in done.stderr


def test_a_pod_that_waits_for_redis_is_alive(tmp_path: Path) -> None:
    """Else Kubernetes restarts workers on a first installation, while Valkey's image is still on its way."""
    worker = start_without_redis(tmp_path)
    seen = [0.0]

    def turned_again() -> bool:
        seen.append(httpx.get(f"{worker.url}/livez").json()["seconds_since_turn"])
        return seen[-1] < seen[-2]

    wait_until(turned_again, 20)
    assert httpx.get(f"{worker.url}/livez").status_code == 200
    assert readiness(worker)[0] == 503
    assert worker.stop(10) == 0


def test_sigterm_ends_the_wait_for_redis(tmp_path: Path) -> None:
    worker = start_without_redis(tmp_path)
    assert readiness(worker)[0] == 503
    assert worker.stop(10) == 0


def start_without_redis(folder: Path) -> Service:
    """Start a worker pod that finds no Redis, and return it when it waits for one."""
    port = free_port()
    env = {
        "MULETEER_CATALOG": str(write_catalog(folder / "catalog.yaml", {})),
        "MULETEER_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
        "MULETEER_WORKER_PORT": str(port),
        "MULETEER_WORKER_HOST": "127.0.0.1",
    }
    worker = Service("muleteer_worker", port, folder / "worker.log", env).start()
    wait_until(lambda: "does not answer yet" in worker.log.read_text(), 20)
    return worker
