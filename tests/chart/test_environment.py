"""The services take what the chart gives them: their settings load, the catalog reads, and the drain times add up."""

import math
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from muleteer.catalog import ModelEntry, read_catalog
from muleteer.settings import load_settings
from muleteer_gateway.settings import GatewaySettings
from muleteer_worker.settings import WorkerSettings
from support.chart import (
    CI,
    Manifest,
    PodTemplate,
    catalog_values,
    one,
    pod,
    pods,
    pool_values,
    render,
    values_of,
)
from support.tls import Authority

SERVICES = {"gateway": GatewaySettings, "worker": WorkerSettings}


def load(item: PodTemplate, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Any:
    """Return the settings that the service reads in a pod's environment, with a secret's place taken by its name."""
    environment = item.environment()
    for variable in item.main["env"]:
        if "secretKeyRef" in variable.get("valueFrom", {}):
            environment[variable["name"]] = f"{variable['valueFrom']['secretKeyRef']['name']}-content"
    if "MULETEER_REDIS_CA" in environment:
        environment["MULETEER_REDIS_CA"] = str(Authority(folder).ca)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load_settings(SERVICES[item.component])


@pytest.mark.parametrize("name", sorted(CI))
def test_every_service_reads_its_settings_from_the_pods_environment(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for item in pods(render(ci=name)):
        if item.component not in SERVICES:
            continue
        known = {f"MULETEER_{field.upper()}" for field in SERVICES[item.component].model_fields}
        names = {variable["name"] for variable in item.main["env"] if variable["name"].startswith("MULETEER_")}
        assert names <= known, f"{item.name} sets what nobody reads"
        with monkeypatch.context() as patch:
            settings = load(item, patch, tmp_path)
            assert str(settings.catalog) == "/etc/muleteer/catalog.yaml"
            assert str(settings.cache_dir) == "/var/cache/muleteer"
            ports = item.ports()
            if item.component == "worker":
                assert ports == {"metrics": settings.worker_port}
            else:
                assert ports == {"http": settings.gateway_port, "metrics": settings.metrics_port}


def test_settings_of_production_arrive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    manifests = render(ci="production")
    with monkeypatch.context() as patch:
        gateway = load(pod(manifests, "gateway"), patch, tmp_path)
    assert gateway.redis_url == "rediss://redis.example.com:6380/0"
    assert gateway.redis.startswith("rediss://muleteer:muleteer-redis-content@redis.example.com:6380/0?ssl_ca_certs=")
    assert list(gateway.keys) == [b"muleteer-api-keys-content"]
    assert gateway.callback_secret.get_secret_value() == "muleteer-callbacks-content"
    assert gateway.callback_host_names == {"hooks.example.com"}
    assert gateway.max_body_bytes == 52_428_800
    assert gateway.max_wait_seconds == 120
    assert gateway.access_log is True
    assert gateway.log_level == "warning"
    with monkeypatch.context() as patch:
        worker = load(pod(manifests, "worker", "gpu"), patch, tmp_path)
    assert (worker.pool, worker.processes, worker.threads) == ("gpu", 2, 2)
    assert worker.drain_seconds == 120


@pytest.mark.parametrize(
    ("given", "read"),
    [(0, 0), (2_000_000_000, 2_000_000_000), ("500Mi", 500 * 1024**2), ("1.5G", 1_500_000_000), ("2Ti", 2 * 1024**4)],
)
def test_a_memory_budget_arrives_in_bytes(
    given: int | str, read: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    manifests = render({"pools": {"many": {"maxResidentBytes": given}}})
    with monkeypatch.context() as patch:
        assert load(pod(manifests, "worker", "many"), patch, tmp_path).max_resident_bytes == read
    with monkeypatch.context() as patch:
        assert load(pod(manifests, "worker", "default"), patch, tmp_path).max_resident_bytes == 0


def test_settings_of_any_kind_arrive_as_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = {
        "accessLog": False,
        "redisRetrySeconds": 0,
        "observeSeconds": 0.25,
        "maxBodyBytes": 2_000_000_000,
        "idempotencyTtl": 31_536_000,
        "gatewayHost": "::",
        "logFormat": "text",
    }
    manifests = render({"gateway": {"settings": given}})
    with monkeypatch.context() as patch:
        settings = load(pod(manifests, "gateway"), patch, tmp_path)
    assert settings.access_log is False
    assert settings.redis_retry_seconds == 0
    assert settings.observe_seconds == 0.25
    assert settings.max_body_bytes == 2_000_000_000
    assert settings.idempotency_ttl == 31_536_000
    assert settings.gateway_host == "::"
    assert settings.log_format == "text"


@pytest.mark.parametrize(
    ("external", "url"),
    [
        ({"host": "r"}, "redis://r:6379/0"),
        ({"host": "r.example.com", "port": 6380, "db": 3, "tls": True}, "rediss://r.example.com:6380/3"),
        ({"host": "[fd00::1]"}, "redis://[fd00::1]:6379/0"),
        ({"url": "rediss://r:7000/2?socket_keepalive=true"}, "rediss://r:7000/2?socket_keepalive=true"),
    ],
)
def test_an_external_redis_is_where_the_values_say(
    external: dict[str, Any], url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    values = {"valkey": {"enabled": False}, "redis": {"external": {**external, "username": "u", "existingSecret": "s"}}}
    manifests = render(values)
    assert not [item for item in pods(manifests) if item.component == "valkey"]
    for component in SERVICES:
        with monkeypatch.context() as patch:
            settings = load(pod(manifests, component), patch, tmp_path)
            assert settings.redis_url == url
            assert "u:s-content@" in settings.redis


def read(manifests: list[Manifest], folder: Path) -> Any:
    """Return the catalog that the services read."""
    path = folder / "catalog.yaml"
    path.write_text(one(manifests, "ConfigMap", "-catalog")["data"]["catalog.yaml"])
    return read_catalog(path)


def wanted(entries: Mapping[str, Any]) -> dict[str, ModelEntry]:
    """Return the models that values describe, as a catalog has them."""
    return {
        name: ModelEntry.model_validate(
            {**entry, "versions": {version: place or {} for version, place in entry["versions"].items()}}
        )
        for name, entry in entries.items()
    }


def test_the_catalog_says_what_the_values_say(ci: str, manifests: list[Manifest], tmp_path: Path) -> None:
    catalog = read(manifests, tmp_path)
    assert catalog.models == wanted(catalog_values(values_of(ci)))
    assert catalog.repository == values_of(ci)["models"]["repository"]


def test_the_default_catalog_is_that_of_the_examples(tmp_path: Path) -> None:
    examples = read_catalog(Path(__file__).parents[2] / "examples" / "catalog.yaml")
    assert read(render(), tmp_path).models == examples.models


def test_a_catalog_of_ones_own_replaces_the_examples(tmp_path: Path) -> None:
    assert set(read(render({"models": {"catalog": {"iris": {"versions": {"1": {}}}}}}), tmp_path).models) == {"iris"}


# Names that YAML takes for something else, and numbers that it writes in its own way.
versions = st.sampled_from(
    ["1", "1.10", "2025-01-01", "1e3", "0x1F", "0o17", "null", "yes", "No", "on", "1_000", "12.0"]
)
entries = st.builds(
    lambda names, timeout, rows, jobs, ttl, pool, share: {
        "versions": {name: {} for name in names},
        **({"default": names[0]} if share is None else {"traffic": {names[-1]: share}}),
        "aliases": {"champion": names[0]},
        "timeout": timeout,
        "pool": pool,
        "batching": {"max_rows": rows},
        "limits": {"max_queue_jobs": jobs},
        "result_ttl": ttl,
    },
    st.lists(versions, min_size=1, max_size=3, unique=True),
    st.one_of(st.integers(1, 86_400), st.floats(0.001, 86_400).map(lambda value: round(value, 3))),
    st.integers(1, 100_000),
    st.integers(1, 10**12),
    st.integers(1, 10**9),
    st.sampled_from(["default", "other"]),
    st.one_of(st.none(), st.floats(1e-9, 1e9)),
)


@hypothesis.settings(max_examples=12, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(
    models=st.dictionaries(st.sampled_from(["a", "b-1", "9", "null"]), entries, min_size=1),
    lease=st.integers(1, 3600),
    drain=st.tuples(st.integers(0, 600), st.integers(0, 600)),
)
def test_for_any_catalog_services_read_it_and_pods_get_the_time_they_need(
    models: dict[str, Any], lease: int, drain: tuple[int, int], tmp_path: Path
) -> None:
    values = {
        "models": {"catalog": models},
        "worker": {"leaseSeconds": lease},
        "pools": {"other": {}},
        "gateway": {"drain": {"preStopSeconds": drain[0], "delaySeconds": drain[1]}},
    }
    manifests = render(values)
    assert read(manifests, tmp_path).models == wanted(models)
    gateway = pod(manifests, "gateway")
    longest = max(entry["timeout"] for entry in models.values())
    assert gateway.spec["terminationGracePeriodSeconds"] > sum(drain) + longest
    assert float(gateway.environment()["MULETEER_DRAIN_SECONDS"]) >= longest
    for pool in ("default", "other"):
        worker = pod(manifests, "worker", pool)
        own = [entry["timeout"] for entry in models.values() if entry["pool"] == pool]
        assert worker.spec["terminationGracePeriodSeconds"] > max(own, default=0) + lease
        assert float(worker.environment()["MULETEER_DRAIN_SECONDS"]) >= max(own, default=0)


def test_pods_get_the_time_they_need_to_end(ci: str, manifests: list[Manifest]) -> None:
    values = values_of(ci)
    timeouts = {name: entry.timeout for name, entry in wanted(catalog_values(values)).items()}
    pools = {name: entry.pool for name, entry in wanted(catalog_values(values)).items()}
    for item in pods(manifests):
        grace = item.spec.get("terminationGracePeriodSeconds")
        variables = item.environment()
        if item.component == "worker":
            pool = item.labels["muleteer.dev/pool"]
            longest = max((timeouts[name] for name in timeouts if pools[name] == pool), default=0)
            lease = pool_values(values, pool)["leaseSeconds"]
            assert int(variables["MULETEER_LEASE_SECONDS"]) == lease
            assert grace > longest + lease
            assert grace > int(variables["MULETEER_DRAIN_SECONDS"]) + lease
        elif item.component == "gateway":
            slept = item.main["lifecycle"]["preStop"]["sleep"]["seconds"]
            assert slept == values["gateway"]["drain"]["preStopSeconds"]
            delay, drain = (int(variables[f"MULETEER_DRAIN_{name}SECONDS"]) for name in ("DELAY_", ""))
            assert drain >= math.ceil(max(timeouts.values()))
            assert grace > slept + delay + drain
        elif item.component == "valkey":
            assert grace >= 60


def test_without_a_sleep_there_is_no_hook() -> None:
    gateway = pod(render({"gateway": {"drain": {"preStopSeconds": 0}}}), "gateway")
    assert "lifecycle" not in gateway.main


def test_a_rolling_update_never_has_fewer_pods_than_before(manifests: list[Manifest]) -> None:
    for item in pods(manifests):
        if item.owner["kind"] == "Deployment":
            assert item.owner["spec"]["strategy"] == {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
            }


def test_gateways_copy_manifests_and_nothing_else_out_of_the_workers_image(tmp_path: Path) -> None:
    models, copies = tmp_path / "models;$(exit)", tmp_path / "manifests"
    folder = models / "iris" / "1"
    folder.mkdir(parents=True)
    copies.mkdir()
    (folder / "model.yaml").write_text("framework: sklearn\n")
    (folder / "model.skops").write_text("large")
    folder.chmod(0o555)
    (first,) = pod(render({"models": {"repository": str(models)}}), "gateway").spec["initContainers"]
    assert first["volumeMounts"] == [{"name": "manifests", "mountPath": "/manifests"}]
    command = [word.replace("/manifests", str(copies)) for word in first["command"]]
    for _ in range(2):  # the second time as after a restart of the pod's node, over what is there
        assert subprocess.run(command, check=False).returncode == 0
        found = {path.relative_to(copies) for path in copies.rglob("*") if path.is_file()}
        assert found == {Path("iris/1/model.yaml")}
    assert (copies / "iris" / "1").stat().st_mode & 0o200, "a folder that nothing more can be written to"
    folder.chmod(0o755)
    copies.rename(tmp_path / "gone")
    assert subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode != 0
