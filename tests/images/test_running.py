"""Both images run as in a cluster: read-only, without privileges, the gateway with manifests only."""

import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from muleteer import __version__
from muleteer.client import Client
from muleteer.embedded import EmbeddedValkey, free_port
from muleteer.repository.manifest import read_manifest
from support.containers import Container, ContainerService
from support.images import ImageStore
from support.waiting import wait_until

pytestmark = pytest.mark.timeout(900)  # the first test builds the images

ROOT = Path(__file__).parents[2]
CATALOG = yaml.safe_load((ROOT / "examples" / "catalog.yaml").read_text()) | {"repository": "/models"}
VERSIONS = [(model, version) for model, entry in CATALOG["models"].items() for version in entry["versions"]]
USER = 10001


def copy_manifests() -> list[str]:
    """Return the command of the chart's init container, which runs in the worker's image."""
    template = (ROOT / "charts" / "muleteer" / "templates" / "gateway" / "deployment.yaml").read_text()
    [command] = re.findall(r"^ *- (cd .* -name model\.yaml .*)$", template, re.MULTILINE)
    return ["/bin/sh", "-c", re.sub(r"\{\{.*?\}\}", "/models", command)]


@dataclass
class Running:
    """A gateway and a worker, each in its image."""

    gateway: ContainerService
    worker: ContainerService
    gateway_container: Container
    worker_container: Container


@pytest.fixture(scope="module")
def system(
    store: ImageStore, gateway_image: str, worker_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("images")
    settings, manifests = folder / "settings", folder / "manifests"
    settings.mkdir()
    (settings / "catalog.yaml").write_text(yaml.safe_dump(CATALOG))
    manifests.mkdir()
    shutil.chown(manifests, USER, USER)
    with (
        store.mounted(worker_image) as worker_root,
        store.mounted(gateway_image) as gateway_root,
        EmbeddedValkey(folder / "valkey") as valkey,
    ):
        mounts = {"/etc/muleteer": settings}
        copying = Container(
            worker_root, store.config(worker_image), {"/manifests": manifests}, frozenset({"/manifests"})
        )
        copied = copying.run(*copy_manifests())
        assert copied.returncode == 0, copied.stderr
        worker_container = Container(worker_root, store.config(worker_image), mounts)
        gateway_container = Container(gateway_root, store.config(gateway_image), {**mounts, "/models": manifests})
        ports = free_port(), free_port()
        shared = {"MULETEER_REDIS_URL": valkey.url, "MULETEER_DRAIN_DELAY_SECONDS": "0.2"}
        worker = ContainerService(
            worker_container, ports[0], folder / "worker.log", {**shared, "MULETEER_WORKER_PORT": str(ports[0])}
        ).start()
        gateway = ContainerService(
            gateway_container, ports[1], folder / "gateway.log", {**shared, "MULETEER_GATEWAY_PORT": str(ports[1])}
        ).start()
        try:
            worker.wait_ready()
            gateway.wait_ready()
            yield Running(gateway, worker, gateway_container, worker_container)
        finally:
            for service in (gateway, worker):
                service.kill()


@pytest.fixture(params=["gateway", "worker"])
def service(request: pytest.FixtureRequest, system: Running) -> ContainerService:
    found: ContainerService = getattr(system, request.param)
    return found


@pytest.fixture(params=["gateway", "worker"])
def container(request: pytest.FixtureRequest, system: Running) -> Container:
    found: Container = getattr(system, f"{request.param}_container")
    return found


def close(answer: Any, wanted: Any, tolerance: float) -> bool:
    if isinstance(wanted, dict):
        return answer.keys() == wanted.keys() and all(close(answer[key], wanted[key], tolerance) for key in wanted)
    if isinstance(wanted, float):
        return math.isclose(answer, wanted, rel_tol=tolerance, abs_tol=tolerance)
    return bool(answer == wanted)


@pytest.mark.parametrize(("model", "version"), VERSIONS)
def test_every_model_predicts_its_golden_examples_sync_and_async(system: Running, model: str, version: str) -> None:
    manifest = read_manifest(system.worker_container.root / "models" / model / version)
    instances = [example.instance for example in manifest.examples]
    with Client(system.gateway.url, timeout=60) as client:
        answers = list(client.predict(model, instances, version=version))
        later = list(client.result(client.submit(model, instances, version=version), timeout=60))
    for example, answer, again in zip(manifest.examples, answers, later, strict=True):
        assert close(answer, example.prediction, max(example.tolerance, 1e-6)), (answer, example)
        assert again == answer


def test_the_gateway_serves_with_nothing_but_manifests(system: Running) -> None:
    found = system.gateway_container.run("find", "/models", "-type", "f")
    assert sorted(found.stdout.split()) == sorted(
        f"/models/{model}/{version}/model.yaml" for model, version in VERSIONS
    )


def test_the_service_is_process_one_of_the_user_without_privileges(service: ContainerService) -> None:
    for process in [service.first, *service.first.children(recursive=True)]:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
        assert (set(process.uids()), set(process.gids())) == ({USER}, {USER})
        assert status["Groups"].split() == []
        assert {int(status[name], 16) for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {0}
        if process == service.first:
            assert status["NSpid"].split()[-1] == "1"


def test_the_root_file_system_is_read_only(container: Container) -> None:
    tried = container.run("python", "-c", "open('/var/cache/muleteer/x', 'w'); open('/var/x', 'w')")
    assert "Read-only file system: '/var/x'" in tried.stderr


def test_the_command_line_is_in_both(container: Container) -> None:
    answer = container.run("muleteer", "--version")
    assert (answer.returncode, answer.stdout.strip(), answer.stderr) == (0, f"muleteer {__version__}", "")


def test_the_command_line_asks_a_gateway(system: Running) -> None:
    answer = system.worker_container.run("muleteer", "models", "--url", system.gateway.url)
    assert answer.returncode == 0, answer.stderr
    assert all(model in answer.stdout for model in CATALOG["models"])


def test_an_unset_setting_ends_the_entry_point_with_one_line(container: Container) -> None:
    without = replace(container, mounts={})
    ended = without.run(*container.config["Entrypoint"], MULETEER_STARTUP_SECONDS="0.1")
    assert ended.returncode == 78
    assert "/etc/muleteer/catalog.yaml" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_sigterm_ends_each_with_code_zero(system: Running) -> None:
    # The last test of the module: afterwards nothing runs any more.
    assert httpx.get(f"{system.gateway.url}/readyz", timeout=5).status_code == 200
    processes = [*system.worker.first.children(recursive=True), system.gateway.first]
    assert system.worker.stop() == 0
    assert system.gateway.stop() == 0
    wait_until(lambda: not any(psutil.pid_exists(process.pid) for process in processes), 10, "all processes gone")
