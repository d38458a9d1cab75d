"""Versions come, move, fail and go; the others serve on."""

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from support.load import Load
from support.models import ECHO, TEXT_SCHEMA, write_catalog, write_version
from support.services import System
from support.waiting import wait_until

pytestmark = pytest.mark.timeout(180)


def break_bytes(folder: Path) -> None:
    (folder / "model.py").write_text((folder / "model.py").read_text() + "\n# corrupted\n")


def break_checksum(folder: Path) -> None:
    manifest = folder / "model.yaml"
    right = hashlib.sha256((folder / "model.py").read_bytes()).hexdigest()
    manifest.write_text(manifest.read_text().replace(right, "f" * 64))


def break_artifact(folder: Path) -> None:
    garbage = b"PK\x03\x04 and no model at all"
    (folder / "model.skops").write_bytes(garbage)
    manifest = yaml.safe_load((folder / "model.yaml").read_text())
    del manifest["entrypoint"]
    checksum = hashlib.sha256(garbage).hexdigest()
    manifest |= {"framework": "sklearn", "artifact": "model.skops", "sha256": checksum}
    (folder / "model.yaml").write_text(yaml.safe_dump(manifest))


def break_golden(folder: Path) -> None:
    manifest = folder / "model.yaml"
    manifest.write_text(manifest.read_text().replace("echo: a", "echo: b"))


def break_library(folder: Path) -> None:
    manifest = folder / "model.yaml"
    manifest.write_text(manifest.read_text() + "libraries: {not-a-real-library: '1.0'}\n")


def break_code(folder: Path) -> None:
    write_version(folder.parent.parent, "bad", "1", code="raise RuntimeError('no such day')")


def break_manifest(folder: Path) -> None:
    (folder / "model.yaml").unlink()


BREAKS = {
    "changed-artifact": (break_bytes, "checksum", "sha256"),
    "wrong-checksum": (break_checksum, "checksum", "f" * 64),
    "corrupt-artifact": (break_artifact, "load", "zip"),
    "golden": (break_golden, "golden", "expected"),
    "library": (break_library, "library", "not-a-real-library"),
    "code": (break_code, "load", "no such day"),
    "manifest": (break_manifest, "manifest", "model.yaml"),
}
"""What is wrong: how to make it so, the reason that is given, and words of it."""


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system with one good model, and one version broken in each way."""
    folder = tmp_path_factory.mktemp("broken")
    repository = folder / "models"
    examples = [{"instance": {"text": "a"}, "prediction": {"echo": "a"}}]
    models: dict[str, Any] = {"good": {"versions": {"1": {}}, "route": "/good"}}
    write_version(repository, "good", examples=examples)
    for what, (break_it, *_) in BREAKS.items():
        version = write_version(repository, "bad", "1", examples=examples)
        break_it(version)
        version.rename(repository / f"bad-{what}")
        models[f"bad-{what}"] = {"versions": {"1": {"uri": f"models/bad-{what}"}}}
    for what in BREAKS:
        manifest = repository / f"bad-{what}" / "model.yaml"
        if manifest.exists():
            manifest.write_text(manifest.read_text().replace("name: bad", f"name: bad-{what}"))
    with System(folder, write_catalog(folder / "catalog.yaml", models)) as system:
        system.add_gateway()
        system.add_worker()
        yield system.wait_ready()


@pytest.mark.parametrize("what", BREAKS)
def test_a_broken_version_does_not_become_ready_and_says_why(broken: System, what: str) -> None:
    model, (_, reason, words) = f"bad-{what}", BREAKS[what]
    described = httpx.get(f"{broken.url}/v1/models/{model}").json()
    status = described["model_version_status"][0]
    assert status["state"] == "FAILED"
    assert status["status"]["error_code"] == reason
    assert words in status["status"]["error_message"]
    lines = [line for line in broken.workers[0].log_lines() if line.get("model") == model and line["level"] == "ERROR"]
    messages = [line["message"] for line in lines]
    assert len(set(messages)) == len(messages) >= 1  # one a try, and each try names its own pause
    assert all(words in message and "\n" not in message for message in messages)
    metric = f'muleteer_model_load_failures_total{{model="{model}",reason="{reason}",version="1"}}'
    assert metric in broken.workers[0].metrics()
    answer = httpx.post(f"{broken.url}/v1/models/{model}:predict", json={"instances": [{"text": "a"}]})
    assert answer.status_code == 503
    assert words in answer.json()["detail"]


def test_a_good_version_serves_beside_broken_ones(broken: System) -> None:
    answer = httpx.post(f"{broken.url}/good", json={"text": "x"})
    assert (answer.status_code, answer.json()) == (200, {"echo": "x"})


def test_each_version_lists_its_own_examples(broken: System) -> None:
    described = httpx.get(f"{broken.url}/v1/models/good").json()
    example = {"instance": {"text": "a"}, "prediction": {"echo": "a"}}
    assert described["examples"] == [example]
    assert described["model_version_status"][0]["examples"] == [example | {"tolerance": 1e-6}]
    unreadable = httpx.get(f"{broken.url}/v1/models/bad-manifest").json()
    assert unreadable["model_version_status"][0]["examples"] == []


async def test_a_catalog_edited_under_load_fails_no_request(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    for version in ("1", "2", "3"):
        write_version(repository, "echo", version, code=ECHO)

    def entry(default: str, *versions: str) -> dict[str, Any]:
        return {"echo": {"versions": {v: {} for v in versions}, "default": default, "route": "/echo"}}

    catalog = write_catalog(tmp_path / "catalog.yaml", entry("1", "1"))
    with System(tmp_path, catalog, MULETEER_RETIRE_SECONDS="1") as system:
        system.add_gateway()
        system.add_worker(processes=2)
        system.wait_ready()
        urls = [f"{system.url}/echo"]
        load = Load(lambda: urls, lambda n: {"text": str(n)}, lambda n: {"echo": str(n)}, connections=32)
        async with load:
            await load.until_more(300)
            write_catalog(catalog, entry("1", "1", "2"))  # a version is added
            await load.until(lambda: _answers(system, "2"))
            write_catalog(catalog, entry("2", "1", "2"))  # the default moves
            await load.until(lambda: _answers(system, None, "2"))
            write_catalog(catalog, entry("2", "2"))  # a version is removed
            await load.until(lambda: _states(system) == {"2": "AVAILABLE"})
            await load.until_more(200)
            write_catalog(catalog, entry("3", "3"))  # all at once: old out, new in
            await load.until(lambda: _answers(system, None, "3"))
            await load.until_more(200)
        assert load.report.failed == 0, load.report.wrong[:5]
        assert load.report.wrong == []
        wait_until(lambda: 'muleteer_model_ready{model="echo",version="1"} 0' in _ready_metric(system), 30)


def _ready_metric(system: System) -> str:
    lines = system.workers[0].metrics().splitlines()
    ready = [line.removesuffix(".0") for line in lines if line.startswith("muleteer_model_ready")]
    gone = 'muleteer_model_ready{model="echo",version="1"} 0'
    return "\n".join(ready) if any('version="1"' in line for line in ready) else gone


def _answers(system: System, version: str | None, expected: str | None = None) -> bool:
    path = f"/v1/models/echo/versions/{version}:predict" if version else "/v1/models/echo:predict"
    answer = httpx.post(f"{system.url}{path}", json={"instances": [{"text": "x"}]}, timeout=30)
    return answer.status_code == 200 and answer.headers["muleteer-model-version"] == (expected or version)


def _states(system: System) -> dict[str, str]:
    described = httpx.get(f"{system.url}/v1/models/echo").json()
    return {status["version"]: status["state"] for status in described["model_version_status"]}


async def test_a_new_default_that_fails_to_load_leaves_the_old_one_serving(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    write_version(repository, "echo", "1")
    write_version(repository, "echo", "2", code="raise RuntimeError('not today')")
    catalog = write_catalog(tmp_path / "catalog.yaml", {"echo": {"versions": {"1": {}}, "route": "/echo"}})
    with System(tmp_path, catalog) as system:
        system.add_gateway()
        system.add_worker()
        system.wait_ready()
        assert await asyncio.to_thread(_answers, system, None, "1")
        write_catalog(catalog, {"echo": {"versions": {"1": {}, "2": {}}, "default": "2", "route": "/echo"}})
        await asyncio.to_thread(wait_until, lambda: _states(system).get("2") == "FAILED", 30)
        assert await asyncio.to_thread(_answers, system, None, "1")


def test_a_broken_catalog_edit_keeps_the_old_one_and_is_logged_once(tmp_path: Path) -> None:
    write_version(tmp_path / "models", "echo", schema=TEXT_SCHEMA)
    catalog = write_catalog(tmp_path / "catalog.yaml", {"echo": {"versions": {"1": {}}, "route": "/echo"}})
    with System(tmp_path, catalog) as system:
        gateway = system.add_gateway()
        system.add_worker()
        system.wait_ready()
        catalog.write_text("models: {echo: {versions: {}, rout: /echo}}")
        wait_until(lambda: 'muleteer_catalog_reloads_total{outcome="refused"} 1.0' in gateway.metrics())
        assert _answers(system, None, "1")
        lines = [line for line in gateway.log_lines() if line["level"] == "ERROR"]
        assert len(lines) == 1
        assert "catalog.yaml" in lines[0]["message"]


def test_jobs_of_a_version_that_left_the_catalog_without_a_worker_are_still_done(tmp_path: Path) -> None:
    for version in ("1", "2"):
        write_version(tmp_path / "models", "echo", version)
    catalog = write_catalog(tmp_path / "catalog.yaml", {"echo": {"versions": {"1": {}}, "route": "/echo"}})
    with System(tmp_path, catalog, MULETEER_RETIRE_SECONDS="0") as system:
        gateway = system.add_gateway()
        gateway.wait_ready()
        job = httpx.post(f"{system.url}/echo", json={"text": "x"}, headers={"Prefer": "respond-async"}).json()
        write_catalog(catalog, {"echo": {"versions": {"2": {}}, "route": "/echo"}})
        wait_until(lambda: list(_states(system)) == ["2"])
        worker = system.add_worker()
        document = httpx.get(f"{system.url}/v1/jobs/{job['id']}?wait=30", timeout=60).json()
        assert document["result"] == {"predictions": [{"echo": "x"}]}
        wait_until(lambda: "Version retired" in worker.log.read_text(), 30, "version 1 is let go again")
