"""Which versions a worker process holds while its catalog changes."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from muleteer.catalog.source import CatalogSource
from muleteer_worker import resident
from muleteer_worker.residency import Residency
from muleteer_worker.resident import Residents
from support.models import ECHO, write_catalog, write_version
from support.waiting import wait_until

HELD_UP = """
    import time
    from pathlib import Path

    class Model:
        def load(self, context):
            while not Path(context.manifest.parameters["until"]).exists():
                time.sleep(0.01)

        def predict(self, instances):
            return instances
"""
"""Loads as long as the test likes."""


class World:
    """A catalog, its repository, and the residents that follow it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.depths: Counter[str] = Counter()
        self.made: Residents | None = None
        self.residency: Residency | None = None

    def version(self, version: str, code: str = ECHO, repository: str = "models", **manifest: Any) -> Path:
        return write_version(self.folder / repository, "m", version, code, **manifest)

    def catalog(self, *versions: str, **entry: Any) -> None:
        models: dict[str, Any] = {}
        if versions:
            models["m"] = {"versions": {version: {} for version in versions}, "default": versions[0]} | entry
        write_catalog(self.folder / "catalog.yaml", models)

    @property
    def residents(self) -> Residents:
        if self.made is None:
            source = CatalogSource(self.folder / "catalog.yaml", 0.01)
            cache = self.folder / "cache"
            self.made = Residents(source, "default", cache, 1, 0.05, lambda queue: self.depths[queue], self.residency)
        return self.made

    def states(self) -> dict[str, str]:
        self.residents.tick()
        return {report.version: report.state for report in self.residents.reports}

    def wait(self, **states: str) -> None:
        wanted = {name.removeprefix("v"): state for name, state in states.items()}
        wait_until(lambda: self.states() == wanted, 20, f"{wanted}, still {self.states()}")

    def predict(self, version: str) -> Any:
        loaded = self.residents.serving[f"m.{version}"].loaded
        assert loaded is not None
        return loaded.predict([{"text": "a"}])[0]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.residents.close()


def test_every_version_of_the_pools_models_is_loaded(world: World) -> None:
    world.version("1")
    world.version("2")
    world.catalog("1", "2", batching={"max_rows": 7}, max_deliveries=5)
    assert world.residents.missing() == "loading m 1, m 2"
    world.wait(v1="ready", v2="ready")
    assert world.residents.missing() == ""
    assert [(spec.name, spec.max_rows, spec.max_deliveries) for spec in world.residents.specs] == [
        ("m.1", 7, 5),
        ("m.2", 7, 5),
    ]


def test_models_of_other_pools_are_not_loaded(world: World) -> None:
    world.version("1")
    world.catalog("1", pool="gpu")
    assert world.states() == {}
    assert world.residents.missing() == ""


def test_a_version_that_loads_later_does_not_make_the_process_unready(world: World) -> None:
    world.version("1")
    world.catalog("1")
    world.wait(v1="ready")
    assert world.residents.missing() == ""
    world.version("2")
    world.catalog("1", "2")
    assert world.states() == {"1": "ready", "2": "loading"}
    assert world.residents.missing() == ""
    world.wait(v1="ready", v2="ready")


def test_settings_of_a_version_that_is_resident_follow_the_catalog(world: World) -> None:
    world.version("1")
    world.catalog("1")
    world.wait(v1="ready")
    world.catalog("1", batching={"max_rows": 3}, predict_timeout=9)
    wait_until(lambda: world.states() and world.residents.specs[0].max_rows == 3)
    assert world.residents.serving["m.1"].plan.predict_timeout == 9


def test_a_removed_version_stays_until_its_successor_is_ready(world: World) -> None:
    world.version("1")
    world.catalog("1")
    world.wait(v1="ready")
    (world.folder / "models/m/2").mkdir()
    world.catalog("2")
    world.wait(v1="ready", v2="failed")
    world.version("3")
    world.catalog("3")
    world.wait(v1="retired", v3="ready")
    assert list(world.residents.serving) == ["m.3"]


def test_a_removed_version_stays_while_it_has_jobs(world: World) -> None:
    world.version("1")
    world.version("2")
    world.catalog("1", "2")
    world.wait(v1="ready", v2="ready")
    world.depths["m.1"] = 1
    world.catalog("2")
    wait_until(lambda: world.states() and not world.residents.serving["m.1"].wanted)
    for _ in range(100):
        assert world.states() == {"1": "ready", "2": "ready"}
    world.depths["m.1"] = 0
    world.wait(v1="retired", v2="ready")


def test_versions_of_a_model_that_is_gone_are_retired(world: World) -> None:
    world.version("1")
    world.catalog("1")
    world.wait(v1="ready")
    world.catalog()
    world.wait(v1="retired")
    assert world.residents.specs == ()
    assert world.residents.missing() == ""


def test_a_retired_version_is_forgotten_after_a_while(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "RETIRED_SHOWN_SECONDS", 0.1)
    world.version("1")
    world.catalog("1")
    world.wait(v1="ready")
    world.catalog()
    world.wait(v1="retired")
    world.wait()


def test_a_retired_version_that_comes_back_is_loaded_again(world: World) -> None:
    world.version("1")
    world.catalog("1")
    world.wait(v1="ready")
    world.catalog()
    world.wait(v1="retired")
    world.catalog("1")
    world.wait(v1="ready")
    assert world.predict("1") == {"echo": "a"}


def test_a_version_removed_and_put_back_in_time_is_not_loaded_again(world: World) -> None:
    world.version("1")
    world.catalog("1")
    world.wait(v1="ready")
    loaded = world.residents.serving["m.1"].loaded
    world.depths["m.1"] = 1
    world.catalog()
    wait_until(lambda: world.states() and not world.residents.serving["m.1"].wanted)
    world.catalog("1")
    wait_until(lambda: world.states() and world.residents.serving["m.1"].wanted)
    assert world.residents.serving["m.1"].loaded is loaded


def test_a_version_whose_place_changes_is_replaced_without_a_gap(world: World) -> None:
    world.version("1")
    world.version("1", ECHO.replace("echo", "moved"), "elsewhere")
    world.catalog("1")
    world.wait(v1="ready")
    world.catalog("1", versions={"1": {"uri": "elsewhere/m/1"}})
    wait_until(lambda: world.states() == {"1": "ready"} and world.predict("1") == {"moved": "a"})


def test_the_old_copy_serves_on_when_the_new_place_is_wrong(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.version("1")
    world.catalog("1")
    world.wait(v1="ready")
    world.catalog("1", versions={"1": {"uri": "nowhere"}})
    wait_until(lambda: world.states() == {"1": "ready"} and "failed to load" in caplog.text)
    assert world.predict("1") == {"echo": "a"}


def test_a_failure_that_can_heal_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "FIRST_RETRY_SECONDS", 0.05)
    world.catalog("1")
    world.wait(v1="failed")
    assert world.residents.missing() == "no model version could be loaded"
    assert world.residents.reports[0].reason == "repository"
    world.version("1")
    world.wait(v1="ready")
    assert world.residents.missing() == ""


def test_a_wrong_checksum_waits_for_a_change_of_the_entry(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "FIRST_RETRY_SECONDS", 0.0)
    folder = world.version("1")
    (folder / "model.py").write_text("tampered with")
    world.version("1", repository="good")
    world.catalog("1")
    world.wait(v1="failed")
    assert world.residents.reports[0].reason == "checksum"
    assert not world.residents.loading
    world.catalog("1", versions={"1": {"uri": "good/m/1"}})
    world.wait(v1="ready")


def test_changes_are_told(world: World) -> None:
    told: list[dict[str, str]] = []
    world.version("1")
    world.catalog("1")
    world.residents.on_change.append(lambda: told.append({r.version: r.state for r in world.residents.reports}))
    world.wait(v1="ready")
    assert told == [{"1": "ready"}]


def test_under_a_budget_only_pinned_versions_are_loaded_at_the_start(world: World) -> None:
    world.residency = Residency(1_000_000)
    world.version("1", HELD_UP, parameters={"until": str(world.folder / "go")})
    world.catalog("1")
    assert world.states() == {"1": "cold"}
    assert world.residents.missing() == ""
    assert world.residents.cold
    world.catalog("1", pinned=True)
    world.wait(v1="loading")
    assert world.residents.missing() == "loading m 1"
    (world.folder / "go").touch()
    world.wait(v1="ready")
    assert not world.residents.cold


def test_a_version_that_goes_to_make_room_can_be_loaded_again(world: World) -> None:
    world.residency = Residency(1_000_000)
    world.version("1")
    world.catalog("1")
    for _ in range(2):
        world.residents.load("m.1")
        world.wait(v1="ready")
        assert world.predict("1") == {"echo": "a"}
        assert world.residents.residents["m.1"].load_seconds is not None
        world.residents.evict("m.1")
        world.wait(v1="cold")
        assert world.residents.specs == ()
        assert [spec.name for spec in world.residents.known_specs] == ["m.1"]


def test_a_version_that_failed_is_cold_again_when_it_may_be_tried(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resident, "FIRST_RETRY_SECONDS", 0.2)
    world.residency = Residency(1_000_000)
    world.catalog("1")
    world.residents.load("m.1")
    world.wait(v1="failed")
    world.wait(v1="cold")
    world.version("1")
    world.residents.load("m.1")
    world.wait(v1="ready")


def test_a_cold_version_that_leaves_the_catalog_stays_while_it_has_jobs(world: World) -> None:
    world.residency = Residency(1_000_000)
    world.version("1")
    world.catalog("1")
    world.depths["m.1"] = 1
    assert world.states() == {"1": "cold"}
    world.catalog()
    wait_until(lambda: world.states() and not world.residents.residents["m.1"].wanted)
    world.residents.load("m.1")
    world.wait(v1="ready")
    world.depths["m.1"] = 0
    world.wait(v1="retired")
