"""What autoscalers and alerts read: each pool's backlog, each version's state, the server's own figures."""

import re
from collections.abc import Iterator

import httpx
import pytest

from muleteer.queue.connection import connect
from muleteer.queue.names import cost_key
from support.metrics import counted
from support.models import ECHO, SLOW, write_catalog, write_version
from support.predict_api import ASYNC, extra_gateway
from support.services import Service, System
from support.waiting import wait_until

REDIS_METRICS = (
    "muleteer_redis_memory_bytes",
    "muleteer_redis_memory_limit_bytes",
    "muleteer_redis_clients",
    "muleteer_redis_commands_total",
    "muleteer_redis_aof_enabled",
    "muleteer_redis_persistence_ok",
    "muleteer_redis_evicted_keys_total",
)
WRONG = [{"instance": {"text": "a"}, "prediction": {"echo": "b"}}]
PENDING = frozenset({"parked"})


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("gauges")
    write_version(folder / "models", "slow", code=SLOW)
    write_version(folder / "models", "parked")
    write_version(folder / "models", "echo", "1")
    write_version(folder / "models", "echo", "2", ECHO, examples=WRONG)
    one = {"versions": {"1": {}}}
    split = {"versions": {"1": {}, "2": {}}, "traffic": {"1": 3, "2": 1}}
    models = {"slow": one, "parked": one | {"pool": "nobody"}, "echo": split}
    with System(folder, write_catalog(folder / "catalog.yaml", models)) as made:
        made.add_gateway()
        made.add_worker()
        yield made.wait_ready(but=PENDING)


def backlog(service: Service, pool: str) -> dict[str, float]:
    response = httpx.get(f"{service.url}/backlog/{pool}", timeout=5)
    assert response.status_code == 200, response.text
    document: dict[str, float] = response.json()
    names = {"pool", "queued", "running", "jobs", "seconds", "workers", "busy_workers", "seconds_per_worker"}
    assert document.keys() == names
    return document


def of_jobs(service: Service, jobs: int) -> dict[str, float] | None:
    """Return the default pool's backlog once it has so many jobs."""
    found = backlog(service, "default")
    return found if found["jobs"] == jobs else None


def has(service: Service, name: str, **labels: str) -> bool:
    """Tell whether a metric has a sample with these labels, be it 0."""
    parts = [re.escape(f'{label}="{text}"') for label, text in labels.items()]
    lines = [line for line in service.metrics().splitlines() if line.partition("{")[0].partition(" ")[0] == name]
    return any(all(re.search(part, line) for part in parts) for line in lines)


def test_a_pools_backlog_counts_its_jobs_and_their_seconds(system: System) -> None:
    gateway = system.gateways[0]
    slow = f"{gateway.url}/v1/models/slow:predict"
    assert httpx.post(slow, json={"instances": [{"text": "0.2"}]}).status_code == 200
    with connect(system.valkey.url) as connection:
        wait_until(lambda: connection.hget(cost_key("slow.1"), "b"), 10, "the worker tells of its cost")
    for _ in range(4):
        assert httpx.post(slow, json={"instances": [{"text": "2"}]}, headers=ASYNC).status_code == 202
    found = wait_until(lambda: of_jobs(gateway, 4), 10, "four jobs seen")
    assert found is not None
    assert found["queued"] + found["running"] == found["jobs"]
    assert found["workers"] == 1
    assert found["seconds"] == pytest.approx(4 * 0.2, rel=0.5)
    assert found["seconds_per_worker"] == pytest.approx(found["seconds"])
    assert counted(gateway, "muleteer_backlog_jobs", pool="default") == 4
    assert counted(gateway, "muleteer_backlog_seconds", pool="default") == pytest.approx(found["seconds"], rel=0.5)
    wait_until(lambda: backlog(gateway, "default")["jobs"] == 0, 20, "all done")


def test_a_pool_without_a_worker_has_a_backlog_of_unknown_length(system: System) -> None:
    gateway = system.gateways[0]
    none = {"pool": "nobody", "queued": 0, "running": 0, "jobs": 0, "seconds": 0, "workers": 0, "seconds_per_worker": 0}
    none["busy_workers"] = 0
    assert backlog(gateway, "nobody") == none
    body = {"instances": [{"text": "a"}]}
    job = httpx.post(f"{gateway.url}/v1/models/parked:predict", json=body, headers=ASYNC).json()["id"]
    wait_until(lambda: backlog(gateway, "nobody") == none | {"queued": 1, "jobs": 1}, 10, "the job is seen")
    assert counted(gateway, "muleteer_backlog_jobs", pool="nobody") == 1
    assert has(gateway, "muleteer_backlog_seconds", pool="nobody")
    httpx.delete(f"{gateway.url}/v1/jobs/{job}")
    wait_until(lambda: backlog(gateway, "nobody") == none, 10, "it is gone")


def test_an_unknown_pool_is_a_problem_that_names_the_pools_there_are(system: System) -> None:
    response = httpx.get(f"{system.url}/backlog/gpu")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"] == "No model of the catalog is in a pool 'gpu'. Pools: default, nobody."


def test_backlog_and_metrics_want_no_api_key(system: System) -> None:
    with extra_gateway(system, MULETEER_API_KEYS="key") as gateway:
        assert httpx.get(f"{gateway.url}/v1/models").status_code == 401
        assert backlog(gateway, "default")["workers"] == 1
        assert httpx.get(f"{gateway.url}/metrics").status_code == 200


def test_each_version_is_shown_with_its_workers_its_failure_and_its_traffic(system: System) -> None:
    gateway = system.gateways[0]
    expected = {
        ("echo", "1"): (1, 0, 0.75),
        ("echo", "2"): (0, 1, 0.25),
        ("slow", "1"): (1, 0, 1),
        ("parked", "1"): (0, 0, 1),
    }
    for (model, version), (ready, failed, share) in expected.items():
        of = {"model": model, "version": version}
        assert has(gateway, "muleteer_version_ready_workers", **of)
        assert counted(gateway, "muleteer_version_ready_workers", **of) == ready
        assert has(gateway, "muleteer_version_failed", **of)
        assert counted(gateway, "muleteer_version_failed", **of) == failed
        assert counted(gateway, "muleteer_model_traffic_share", **of) == share


def test_redis_is_shown_with_its_own_figures(system: System) -> None:
    gateway = system.gateways[0]
    assert all(has(gateway, name) for name in REDIS_METRICS)
    assert counted(gateway, "muleteer_redis_memory_bytes") > 100_000
    assert counted(gateway, "muleteer_redis_memory_limit_bytes") == 0
    assert counted(gateway, "muleteer_redis_clients") >= 3
    assert counted(gateway, "muleteer_redis_aof_enabled") == 1
    assert counted(gateway, "muleteer_redis_persistence_ok") == 1
    before = counted(gateway, "muleteer_redis_commands_total")
    wait_until(lambda: counted(gateway, "muleteer_redis_commands_total") > before, 15, "the next look")


def test_counters_and_only_they_are_named_total(system: System) -> None:
    for service in (system.gateways[0], system.workers[0]):
        types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", service.metrics(), re.MULTILINE))
        assert {name for name, kind in types.items() if kind == "counter"} == {n for n in types if n.endswith("_total")}
        assert len(types) >= 10


def test_a_server_that_forbids_info_is_served_from_without_its_figures(system: System) -> None:
    gateway = system.gateways[0]
    with connect(system.valkey.url) as connection:
        connection.execute_command("ACL", "SETUSER", "default", "-info")
        try:
            wait_until(lambda: not any(has(gateway, name) for name in REDIS_METRICS), 15, "the figures are gone")
            assert httpx.get(f"{gateway.url}/readyz").status_code == 200
            assert counted(gateway, "muleteer_redis_up") == 1
            with extra_gateway(system) as other:  # started while INFO is forbidden
                assert not has(other, "muleteer_redis_memory_bytes")
                assert backlog(other, "default")["workers"] == 1
        finally:
            connection.execute_command("ACL", "SETUSER", "default", "+info")
    wait_until(lambda: all(has(gateway, name) for name in REDIS_METRICS), 15, "the figures are back")
    assert [line["level"] for line in gateway.log_lines() if "own figures" in line["message"]] == ["WARNING"]


def test_what_left_the_catalog_leaves_the_metrics(system: System) -> None:
    gateway = system.gateways[0]
    one = {"versions": {"1": {}}}
    before = system.catalog.read_text()
    write_catalog(system.catalog, {"slow": one, "echo": {"versions": {"1": {}}}})
    try:
        names = ("queue_jobs", "queue_oldest_seconds", "version_ready_workers", "model_traffic_share")
        gone = [("model", "parked")] * len(names)
        wait_until(
            lambda: not any(has(gateway, f"muleteer_{n}", **{k: v}) for n, (k, v) in zip(names, gone, strict=True)), 10
        )
        assert not has(gateway, "muleteer_backlog_jobs", pool="nobody")
        assert not has(gateway, "muleteer_workers", pool="nobody")
        assert counted(gateway, "muleteer_model_traffic_share", model="echo", version="1") == 1
        assert httpx.get(f"{gateway.url}/backlog/nobody").status_code == 404
    finally:
        system.catalog.write_text(before)
    wait_until(lambda: has(gateway, "muleteer_backlog_jobs", pool="nobody"), 10, "it is back")


def test_without_redis_there_is_no_backlog_instead_of_an_old_one(system: System) -> None:
    gateway = system.gateways[0]
    system.valkey.stop()
    try:
        response = wait_until(
            lambda: [r for r in [httpx.get(f"{gateway.url}/backlog/default")] if r.status_code == 503], 20, "no backlog"
        )[0]
        assert response.headers["content-type"] == "application/problem+json"
        assert "Redis does not answer" in response.json()["detail"]
        assert not any(has(gateway, name) for name in REDIS_METRICS)
    finally:
        system.valkey.start()
    system.wait_ready(but=PENDING)
    assert backlog(gateway, "default")["workers"] >= 0
