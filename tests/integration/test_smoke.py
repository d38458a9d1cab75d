"""muleteer smoke against a pool that has no worker: its question is what brings one."""

import subprocess
import sys
from pathlib import Path

import httpx

from support.models import ECHO, write_catalog, write_version
from support.services import System
from support.waiting import wait_until

RIGHT = [{"instance": {"text": "a"}, "prediction": {"echo": "a"}}]


def test_smoke_wakes_a_pool_that_is_scaled_to_zero(tmp_path: Path) -> None:
    write_version(tmp_path / "models", "echo", "1", ECHO, examples=RIGHT)
    catalog = write_catalog(tmp_path / "catalog.yaml", {"echo": {"versions": {"1": {}}}})
    with System(tmp_path, catalog) as system:
        gateway = system.add_gateway()
        gateway.wait_ready()
        command = [sys.executable, "-c", "from muleteer.cli.app import main; main()", "smoke", "--url", gateway.url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as smoke:
            wait_until(lambda: httpx.get(f"{gateway.url}/backlog/default").json()["jobs"] == 1, 20, "a job waits")
            system.add_worker()
            said, _ = smoke.communicate(timeout=60)
    assert smoke.returncode == 0, said
    assert said.startswith("echo 1: ok, 1 example sync and async")
