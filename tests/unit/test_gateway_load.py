"""What the gateway makes of its looks: backlogs, gauges without leftovers, the server's own figures."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from muleteer.catalog.model import ModelEntry
from muleteer.metrics import GATEWAY, Figures
from muleteer.queue.jobs import QueueState
from muleteer.queue.server import figures_of
from muleteer_gateway.gauges import SystemGauges
from muleteer_gateway.load import Backlog, Load
from muleteer_gateway.served import ServedModel, ServedVersion

INFO: dict[str, Any] = {
    "used_memory": 2048,
    "maxmemory": 0,
    "connected_clients": 3,
    "total_commands_processed": 70,
    "evicted_keys": 0,
    "aof_enabled": 1,
    "aof_last_write_status": "ok",
    "aof_last_bgrewrite_status": "ok",
    "rdb_last_bgsave_status": "ok",
}


def state(queued: int = 0, running: int = 0, jobs: int = 0, seconds: float = 0.0) -> QueueState:
    return QueueState(queued, running, 0.0, jobs, jobs, seconds)


def test_a_pools_backlog_is_that_of_all_its_queues_at_the_pace_of_each() -> None:
    load = Load(workers={"cpu": ["a", "b"]})
    load.queues = {"m.1": state(10, 2, 100, 5.0), "m.2": state(3, 0, 10, 10.0), "new.1": state(7), "other.1": state(50)}
    for queue, seen in load.queues.items():
        load.learn(queue, seen)
    found = load.backlog("cpu", ["m.1", "m.2", "new.1", "not-seen-yet.1"])
    assert found == Backlog("cpu", 20, 2, pytest.approx(12 * 0.05 + 3 * 1.0), 2)
    assert found.jobs == 22
    assert found.seconds_per_worker == pytest.approx(1.8)


def test_a_pool_without_workers_or_jobs_has_numbers_too() -> None:
    load = Load(queues={"m.1": state(4, 0, 10, 20.0)})
    load.learn("m.1", load.queues["m.1"])
    assert (load.backlog("cpu", ["m.1"]).workers, load.backlog("cpu", ["m.1"]).seconds_per_worker) == (0, 8.0)
    assert load.backlog("cpu", []) == Backlog("cpu", 0, 0, 0.0, 0)


def shown(name: str) -> dict[tuple[str, ...], float]:
    """Return a family's samples of this test's models, by their labels' values."""
    found = [sample for family in GATEWAY.collect() for sample in family.samples if sample.name == name]
    return {tuple(s.labels.values()): s.value for s in found if set(s.labels.values()) & {"gauged", "gauged-pool"}}


def served(**said: list[str]) -> ServedModel:
    """Return a model whose versions' workers say these states."""
    entry = ModelEntry.model_validate({"versions": {name: {} for name in said}, "traffic": {"v1": 3, "v2": 1}})
    versions = {name: ServedVersion("gauged", name, entry, f"gauged.{name}", b"", None, None, "") for name in said}
    reports = {name: [{"state": word} for word in words] for name, words in said.items()}
    return ServedModel("gauged", entry, versions, reports)


def test_versions_are_shown_by_what_their_workers_say() -> None:
    gauges = SystemGauges()
    gauges.show_versions([served(v1=["ready", "failed", "ready"], v2=["failed", "failed"], v3=[])])
    of = [("gauged", version) for version in ("v1", "v2", "v3")]
    assert [shown("muleteer_version_ready_workers")[labels] for labels in of] == [2, 0, 0]
    assert [shown("muleteer_version_failed")[labels] for labels in of] == [0, 1, 0]
    assert [shown("muleteer_model_traffic_share")[labels] for labels in of] == [0.75, 0.25, 0]
    gauges.show_versions([])
    assert shown("muleteer_version_ready_workers") == {}


@pytest.mark.parametrize(
    ("said", "state", "cold"),
    [
        (["cold", "cold"], "cold", 1),
        (["cold", "loading"], "loading", 0),
        (["cold", "ready"], "ready", 0),
        (["failed", "cold"], "cold", 1),
        (["retired", "failed"], "failed", 0),
    ],
)
def test_a_version_is_cold_while_no_worker_has_it_and_one_may_load_it(said: list[str], state: str, cold: int) -> None:
    model = served(v1=said, v2=["ready"])
    model.take_reports(model.reports)
    assert model.state("v1")[0] == state
    SystemGauges().show_versions([model])
    assert shown("muleteer_version_cold")["gauged", "v1"] == cold


def test_cold_versions_get_their_share_of_the_traffic() -> None:
    model = served(v1=["cold"], v2=["ready"])
    model.take_reports(model.reports)
    assert {model.default().version for _ in range(200)} == {"v1", "v2"}
    # A target that fails while it is cold leaves the traffic to what was ready before.
    model.take_reports({"v1": [{"state": "failed"}], "v2": [{"state": "ready"}]})
    assert {model.default().version for _ in range(50)} == {"v2"}


def test_a_version_whose_manifest_the_gateway_cannot_read_is_failed_whatever_its_workers_say() -> None:
    model = served(v1=["ready"], v2=["ready"])
    model.versions["v2"].problem = "model.yaml is missing"
    assert model.state("v1") == ("ready", "")
    assert model.state("v2") == ("failed", "model.yaml is missing")
    SystemGauges().show_versions([model])
    assert shown("muleteer_version_failed") == {("gauged", "v1"): 0, ("gauged", "v2"): 1}


def test_what_is_gone_is_removed_and_the_rest_is_never_missing() -> None:
    gauges = SystemGauges()
    seen: list[set[tuple[str, ...]]] = []

    class Scraper(dict[tuple[str, str], QueueState]):
        """Scrapes between any two values that are shown."""

        def items(self) -> Any:
            for item in super().items():
                seen.append(set(shown("muleteer_queue_jobs")))
                yield item

    gauges.show_queues({("gauged", "1"): state(1), ("gauged", "2"): state(2)})
    gauges.show_queues(Scraper({("gauged", "2"): state(5, 1), ("gauged", "3"): state()}))
    assert all(("gauged", "2", "queued") in labels for labels in seen)
    jobs = shown("muleteer_queue_jobs")
    assert {labels[1] for labels in jobs} == {"2", "3"}
    assert (jobs["gauged", "2", "queued"], jobs["gauged", "2", "running"]) == (5, 1)
    assert shown("muleteer_queue_oldest_seconds").keys() == {("gauged", "2"), ("gauged", "3")}
    gauges.show_pools({"gauged-pool": ["w"]}, [Backlog("gauged-pool", 1, 1, 3.0, 1)])
    assert shown("muleteer_backlog_jobs") == {("gauged-pool",): 2}
    assert shown("muleteer_backlog_seconds") == {("gauged-pool",): 3.0}
    gauges.show_pools({}, [])
    gauges.show_queues({})
    assert shown("muleteer_workers") == shown("muleteer_backlog_jobs") == shown("muleteer_queue_jobs") == {}


@pytest.mark.parametrize(
    ("change", "fine"),
    [
        ({}, 1),
        ({"rdb_last_bgsave_status": "err"}, 1),
        ({"aof_last_write_status": "err"}, 0),
        ({"aof_last_bgrewrite_status": "err"}, 0),
        ({"aof_enabled": 0, "aof_last_write_status": "err"}, 1),
        ({"aof_enabled": 0, "rdb_last_bgsave_status": "err"}, 0),
    ],
)
def test_persistence_is_judged_by_the_append_only_file_or_else_by_the_snapshot(
    change: dict[str, Any], fine: int
) -> None:
    assert figures_of(INFO | change)["muleteer_redis_persistence_ok"] == fine


def test_figures_that_a_server_keeps_to_itself_are_left_away() -> None:
    assert figures_of(INFO).keys() == {
        "muleteer_redis_memory_bytes",
        "muleteer_redis_memory_limit_bytes",
        "muleteer_redis_clients",
        "muleteer_redis_commands_total",
        "muleteer_redis_evicted_keys_total",
        "muleteer_redis_aof_enabled",
        "muleteer_redis_persistence_ok",
    }
    assert figures_of({"used_memory": 5}) == {"muleteer_redis_memory_bytes": 5.0}


def test_figures_of_others_are_gauges_and_counters_while_they_are_told() -> None:
    registry = CollectorRegistry()
    figures = Figures({"one_bytes": "One."}, {"two_total": "Two."}, registry)
    assert generate_latest(registry) == b""
    figures.show({"one_bytes": 1.0, "two_total": 2.0})
    text = generate_latest(registry).decode()
    assert "# TYPE one_bytes gauge\none_bytes 1.0\n" in text
    assert "# TYPE two_total counter\ntwo_total 2.0\n" in text
    figures.show({"two_total": 3.0})
    assert b"one_bytes" not in generate_latest(registry)
