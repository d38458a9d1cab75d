"""What the gateway makes of its looks: backlogs, gauges without leftovers, the server's own figures."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from muleteer.catalog.model import ModelEntry
from muleteer.metrics import GATEWAY, Figures
from muleteer.queue.cost import Cost
from muleteer.queue.jobs import QueueState
from muleteer.queue.server import figures_of
from muleteer_gateway.gauges import SystemGauges
from muleteer_gateway.load import Backlog, Load, QueueLoad, Service
from muleteer_gateway.served import ServedModel, ServedVersion
from muleteer_gateway.signature import Signature

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


def service(queue: str = "m.1", pool: str = "cpu", workers: int = 1, max_rows: int = 10) -> Service:
    return Service(queue, pool, workers, max_rows, target_seconds=100.0, batch_share=0.2)


def state(queued: int = 0, running: int = 0, cost: Cost | None = None, rows: int | None = None) -> QueueState:
    return QueueState(queued, running, rows=queued if rows is None else rows, cost=cost)


class Clock:
    """Time that stands still until it is told to pass."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def seen(*looks: tuple[Service, QueueState], workers: int = 1, clock: Clock | None = None) -> Load:
    """Return what one look makes known of these queues."""
    load = Load(clock or Clock())
    names = [f"w{n}" for n in range(workers)]
    load.see(
        [one for one, _ in looks], {one.queue: is_so for one, is_so in looks}, {one.pool: names for one, _ in looks}
    )
    return load


TENTH = Cost(0.0, 0.1)
"""A tenth of a second a row."""


def test_a_pools_backlog_is_that_of_all_its_queues_at_the_cost_of_each() -> None:
    load = seen(
        (service("m.1"), state(10, 2, Cost(0.5, 0.05))),
        (service("m.2"), state(3, 0, Cost(0.0, 1.0))),
        (service("new.1"), state(7)),
        (service("other.1", "gpu"), state(50, 0, TENTH)),
        workers=2,
    )
    found = load.backlog("cpu", ["m.1", "m.2", "new.1", "not-seen-yet.1"])
    assert found == Backlog("cpu", 20, 2, pytest.approx(2 * 0.5 + 12 * 0.05 + 3 * 1.0), 2, 0.0)
    assert found.jobs == 22
    assert found.seconds_per_worker == pytest.approx(2.3)


def test_a_pool_without_workers_or_jobs_has_numbers_too() -> None:
    load = seen((service(workers=0), state(4, 0, Cost(0.0, 2.0))), workers=0)
    assert (load.backlog("cpu", ["m.1"]).workers, load.backlog("cpu", ["m.1"]).seconds_per_worker) == (0, 8.0)
    assert load.backlog("cpu", []) == Backlog("cpu", 0, 0, 0.0, 0, 0.0)


def test_a_pool_that_keeps_up_is_as_busy_as_its_traffic_makes_it() -> None:
    clock = Clock()
    one, load, cost = service(max_rows=10), Load(clock), Cost(0.5, 0.05)
    for look in range(200):
        looked = QueueState(accounted={"accepted": 1000 + 20 * look}, cost=cost)
        load.see([one], {"m.1": looked}, {"cpu": ["w"]})
        assert load.backlog("cpu", ["m.1"]).busy_workers == pytest.approx(2.0 if look else 0)  # 20 x (0.05 + 0.5 / 10)
        assert load.backlog("cpu", ["m.1"]).jobs == 0
        clock.now += 1.0
    for _ in range(200):
        load.see([one], {"m.1": looked}, {"cpu": ["w"]})
        clock.now += 1.0
    assert load.backlog("cpu", ["m.1"]).busy_workers < 0.01


def test_a_queue_that_was_deleted_begins_anew() -> None:
    clock = Clock()
    load = Load(clock)
    for accepted in (1000, 5, 15):
        looked = QueueState(accounted={"accepted": accepted}, cost=TENTH)
        load.see([service()], {"m.1": looked}, {"cpu": ["w"]})
        clock.now += 1.0
    assert load.queues["m.1"].busy_workers == pytest.approx(1.0)


def loaded(queued: int = 0, running: int = 0, cost: Cost | None = None) -> QueueLoad:
    return seen((service(), state(queued, running, cost))).queues["m.1"]


def wait(load: Load, rows: int = 1, client: str = "", *, interactive: bool = True) -> float | None:
    return load.queues["m.1"].wait_seconds(rows, client, interactive=interactive)


def test_no_wait_is_predicted_while_no_cost_or_no_worker_is_known() -> None:
    assert wait(seen((service(), state(50)))) is None
    assert wait(seen((service(workers=0), state(50, 0, TENTH)))) is None


def test_a_job_waits_for_the_rows_before_it_by_all_workers() -> None:
    assert wait(seen((service(workers=1), state(50, 0, TENTH)))) == pytest.approx(5.0)
    assert wait(seen((service(workers=5), state(50, 0, TENTH)))) == pytest.approx(1.0)
    assert wait(seen((service(), state(0, 0, TENTH)))) == 0


def test_each_batch_costs_its_part_too() -> None:
    assert wait(seen((service(max_rows=10), state(50, 0, Cost(1.0, 0.0))))) == pytest.approx(5.0)


def test_a_running_batch_is_half_done_on_average() -> None:
    assert wait(seen((service(), state(0, 10, TENTH)))) == pytest.approx(0.5)


def test_what_was_enqueued_since_the_look_counts_and_what_must_be_through_does_not() -> None:
    clock = Clock()
    load = seen((service(), state(50, 0, TENTH)), clock=clock)
    clock.now += 2.0
    assert wait(load) == pytest.approx(3.0)
    load.queues["m.1"].enter("", 10)
    assert wait(load) == pytest.approx(4.0)
    clock.now += 100.0
    assert wait(load) == pytest.approx(1.0)  # its own callers wait still: that is known, not predicted
    load.queues["m.1"].leave("", 10)
    assert wait(load) == 0


def test_callers_that_were_answered_are_not_ahead_however_slow_the_fit_says() -> None:
    load = seen((service(), state(0, 0, TENTH)))
    for _ in range(100):
        load.queues["m.1"].enter("", 1)
        load.queues["m.1"].leave("", 1)
    assert wait(load) == 0


def test_another_clients_many_jobs_are_not_ahead() -> None:
    load = seen((service(), state(0, 0, TENTH)))
    for _ in range(500):
        load.queues["m.1"].enter("heavy", 1)
    assert wait(load, client="light") == pytest.approx(0.2, abs=0.15)
    assert (wait(load, client="heavy") or 0) > 40


def test_batch_jobs_are_ahead_of_an_interactive_one_by_their_share_only() -> None:
    load = seen((service(), QueueState(1010, 0, rows=10, batch_rows=1000, cost=TENTH)))
    assert wait(load) == pytest.approx(1.0 / 0.8, rel=0.2)
    assert wait(load, interactive=False) == pytest.approx(101.0)


def test_the_pools_other_queues_are_served_in_turn() -> None:
    other = (service("m.2"), state(1000, 0, TENTH))
    # Three batches of its own, each with one of the other queue's before it.
    assert wait(seen((service(), state(20, 0, TENTH)), other)) == pytest.approx(2.0 + 3 * 1.0)
    assert wait(seen((service(), state(20, 0, TENTH)), (service("m.2"), state(5, 0, TENTH)))) == pytest.approx(2.5)


def test_a_job_ahead_of_others_in_its_lane_is_done_sooner() -> None:
    load = seen((service(), state(100, 0, TENTH))).queues["m.1"]
    assert load.seconds_ahead(0) == pytest.approx(0.1)
    assert load.seconds_ahead(49) == pytest.approx(5.0)


def shown(name: str) -> dict[tuple[str, ...], float]:
    """Return a family's samples of this test's models, by their labels' values."""
    found = [sample for family in GATEWAY.collect() for sample in family.samples if sample.name == name]
    return {tuple(s.labels.values()): s.value for s in found if set(s.labels.values()) & {"gauged", "gauged-pool"}}


def served(**said: list[str]) -> ServedModel:
    """Return a model whose versions' workers say these states."""
    entry = ModelEntry.model_validate({"versions": {name: {} for name in said}, "traffic": {"v1": 3, "v2": 1}})
    versions = {
        name: ServedVersion("gauged", name, entry, f"gauged.{name}", b"", None, None, "", Signature()) for name in said
    }
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
    assert model.answers()


def test_a_model_answers_through_the_versions_that_requests_go_to() -> None:
    model = served(v1=["ready"], v2=[])
    model.take_reports(model.reports)
    model.entry = ModelEntry.model_validate({"versions": {"v1": {}, "v2": {}}, "default": "v2"})
    model.take_reports({"v1": [{"state": "ready"}], "v2": [{"state": "loading"}]})
    assert model.default().version == "v1"
    assert (model.answers(), model.answers("v1"), model.answers("v2")) == (True, True, False)


def test_a_version_whose_manifest_the_gateway_cannot_read_is_failed_whatever_its_workers_say() -> None:
    model = served(v1=["ready"], v2=["ready"])
    model.versions["v2"].problem = "model.yaml is missing"
    assert model.state("v1") == ("ready", "")
    assert model.state("v2") == ("failed", "model.yaml is missing")
    model.take_reports(model.reports)
    assert (model.answers("v1"), model.answers("v2")) == (True, False)
    SystemGauges().show_versions([model])
    assert shown("muleteer_version_failed") == {("gauged", "v1"): 0, ("gauged", "v2"): 1}


def test_what_is_gone_is_removed_and_the_rest_is_never_missing() -> None:
    gauges = SystemGauges()
    seen: list[set[tuple[str, ...]]] = []

    class Scraper(dict[tuple[str, str], QueueLoad]):
        """Scrapes between any two values that are shown."""

        def items(self) -> Any:
            for item in super().items():
                seen.append(set(shown("muleteer_queue_jobs")))
                yield item

    gauges.show_queues({("gauged", "1"): loaded(1), ("gauged", "2"): loaded(2)})
    gauges.show_queues(Scraper({("gauged", "2"): loaded(5, 1), ("gauged", "3"): loaded()}))
    assert all(("gauged", "2", "queued") in labels for labels in seen)
    jobs = shown("muleteer_queue_jobs")
    assert {labels[1] for labels in jobs} == {"2", "3"}
    assert (jobs["gauged", "2", "queued"], jobs["gauged", "2", "running"]) == (5, 1)
    assert shown("muleteer_queue_oldest_seconds").keys() == {("gauged", "2"), ("gauged", "3")}
    gauges.show_pools({"gauged-pool": ["w"]}, [Backlog("gauged-pool", 1, 1, 3.0, 1, 0.5)])
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
