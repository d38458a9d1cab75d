"""The development images: a changed source counts at once, and a broken one does not end the container."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from muleteer.embedded import EmbeddedValkey, free_port
from support.containers import Container, ContainerService
from support.images import ImageStore
from support.waiting import wait_until

pytestmark = pytest.mark.timeout(900)  # the first test builds the images

ROOT = Path(__file__).parents[2]
USER = 10001
VERSION_FILE = "libs/muleteer/src/muleteer/__init__.py"


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="module", params=["gateway", "worker"])
def development(request: pytest.FixtureRequest, store: ImageStore) -> tuple[str, str]:
    """A service and the name of its development image."""
    return request.param, store.build(request.param, tag="dev", target="dev")


@pytest.fixture
def service(
    development: tuple[str, str], store: ImageStore, valkey: EmbeddedValkey, tmp_path: Path
) -> Iterator[ContainerService]:
    """A service of a development image, with an empty volume at /src as values for development mount one."""
    name, image = development
    sources, settings = tmp_path / "src", tmp_path / "settings"
    for folder in (sources, settings):
        folder.mkdir()
    shutil.chown(sources, USER, USER)
    catalog = {"repository": "/models", "models": {"fancy": {"versions": {"1": {}}}}}
    (settings / "catalog.yaml").write_text(yaml.safe_dump(catalog))
    port = free_port()
    env = {"MULETEER_REDIS_URL": valkey.url, f"MULETEER_{name.upper()}_PORT": str(port)}
    with store.mounted(image) as root:
        mounts = {"/etc/muleteer": settings, "/src": sources}
        container = Container(root, store.config(image), mounts, frozenset({"/src"}))
        running = ContainerService(container, port, tmp_path / "service.log", env).start()
        try:
            yield running.wait_ready()
        finally:
            running.kill()


def sync(sources: Path, content: str) -> None:
    """Change a file as skaffold does: tar in the container, as its user, replaces it."""
    path = sources / VERSION_FILE
    replacement = path.with_suffix(".new")
    replacement.write_text(content)
    os.chown(replacement, USER, USER)
    replacement.rename(path)


def alive(service: ContainerService) -> bool:
    try:
        return httpx.get(f"{service.url}/livez", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def test_a_changed_source_starts_the_service_again(service: ContainerService, tmp_path: Path) -> None:
    sources = tmp_path / "src"
    right = (ROOT / VERSION_FILE).read_text()
    first = service.first
    marker = f'{right}\nimport sys; sys.stderr.write("changed source\\n")\n'
    sync(sources, marker)
    wait_until(lambda: "changed source" in service.log.read_text(), 30, "the changed source ran")
    service.wait_ready()
    sync(sources, "this is no Python")
    wait_until(lambda: "SyntaxError" in service.log.read_text() and not alive(service), 30, "the broken source ran")
    assert service.first == first
    sync(sources, right)
    service.wait_ready()
    assert service.first == first


def test_sigterm_ends_it_in_order(service: ContainerService) -> None:
    assert service.stop() == 0
    assert "Traceback" not in service.log.read_text()
