"""The simulation against queueing theory, and its autoscaler against Kubernetes' own rules."""

import math
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest

from benchmarks.cases import BenchmarkError
from benchmarks.simulate import main
from benchmarks.simulation.autoscaler import (
    Autoscaler,
    BacklogTarget,
    CpuAutoscaler,
    CpuTarget,
    Fixed,
    KedaAutoscaler,
    Look,
)
from benchmarks.simulation.behavior import (
    Behavior,
    Brakes,
    Direction,
    Policy,
    read_behavior,
    wanted_by_cpu,
    wanted_by_total,
)
from benchmarks.simulation.learned import read_cost
from benchmarks.simulation.pool import Cost, measured, varying
from benchmarks.simulation.report import csv_text, slices, svg
from benchmarks.simulation.run import Outcome, Plan, simulate
from benchmarks.simulation.traffic import Trace, make_trace, read_trace

AT_ONCE = varying(0.0)
BEHAVIOR = Behavior(
    up=Direction(0.0, (Policy("Percent", 100, 15.0), Policy("Pods", 4, 15.0))),
    down=Direction(300.0, (Policy("Percent", 50, 60.0),)),
)
"""The chart's."""
FREE = Behavior(up=Direction(0.0, ()), down=Direction(0.0, ()))


def plan(batch: float, row: float, max_rows: int = 64, **more: object) -> Plan:
    return Plan(Cost(batch, row, overhead=0.0), AT_ONCE, max_rows=max_rows, **more)  # type: ignore[arg-type]  # test


def steady(rate: float, seconds: float) -> Trace:
    return Trace((0.0,), (rate,), seconds)


# Queueing theory ----------------------------------------------------------------------------------------------------


def test_constant_arrivals_below_capacity_never_wait() -> None:
    arrivals = steady(100.0, 20.0).arrivals(np.random.default_rng(1), even=True)
    outcome = simulate(plan(0.009, 0.0), arrivals, Fixed(1), seed=1)
    assert len(arrivals) == 2000
    assert outcome.waits.max() == 0.0


@pytest.mark.parametrize(("rows", "processes"), [(8, 1), (64, 1), (64, 3)])
def test_a_full_queue_is_worked_off_at_rows_over_the_cost_of_a_batch(rows: int, processes: int) -> None:
    batch, row, jobs = 0.01, 0.001, 96 * rows
    outcome = simulate(plan(batch, row, rows, processes=processes), np.zeros(jobs), Fixed(1), seed=1)
    assert outcome.batches == 96
    assert outcome.ended_at == pytest.approx(jobs / processes / (rows / (batch + row * rows)))


def test_a_batch_gets_no_more_rows_than_its_target_seconds_allow() -> None:
    outcome = simulate(plan(0.01, 0.01, 64, target_seconds=0.11), np.zeros(100), Fixed(1), seed=1)
    assert outcome.batches == 10


def test_a_request_of_many_rows_counts_as_many() -> None:
    outcome = simulate(plan(0.01, 0.001, 64, rows=30), np.zeros(10), Fixed(1), seed=1)
    assert (outcome.batches, outcome.rows) == (5, 300)
    assert outcome.ended_at == pytest.approx(5 * (0.01 + 0.001 * 60))


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_batches_of_one_wait_as_pollaczek_and_khinchine_say(load: float) -> None:
    service = 0.01
    arrivals = steady(load / service, 1200.0).arrivals(np.random.default_rng(7))
    outcome = simulate(plan(service, 0.0, 1), arrivals, Fixed(1), seed=7)
    assert outcome.mean == pytest.approx(load * service / (2 * (1 - load)), rel=0.05)


def test_a_spread_of_the_service_time_waits_as_pollaczek_and_khinchine_say() -> None:
    service, spread, load = 0.01, 0.5, 0.7
    arrivals = steady(load / service, 1200.0).arrivals(np.random.default_rng(3))
    outcome = simulate(Plan(Cost(service, 0.0, spread, 0.0), AT_ONCE, max_rows=1), arrivals, Fixed(1), seed=3)
    assert outcome.mean == pytest.approx(load * service * (1 + spread**2) / (2 * (1 - load)), rel=0.05)


def test_durations_and_overheads_are_drawn_from_what_was_measured() -> None:
    cost = Cost(0.01, 0.0, factors=(1.0, 3.0), overheads=(0.1, 0.2))
    outcome = simulate(Plan(cost, AT_ONCE, max_rows=1), np.zeros(200), Fixed(1), seed=1)
    took = np.unique(np.diff(np.sort(outcome.waits)).round(6))
    assert took == pytest.approx([0.11, 0.13, 0.21, 0.23])


def test_two_workers_wait_as_cosmetatos_says() -> None:
    # M/D/2 has no short closed form. Cosmetatos' approximation, from M/M/2's wait (Erlang C), is good to 1 %.
    service, load = 0.01, 0.6
    offered = 2 * load
    waiting = offered**2 / 2 / (1 - load)
    erlang_c = waiting / (1 + offered + waiting)
    exponential = erlang_c * service / (2 - offered)
    expected = exponential / 2 * (1 + (1 - load) * (math.sqrt(14) - 2) / (32 * load))
    arrivals = steady(offered / service, 800.0).arrivals(np.random.default_rng(5))
    outcome = simulate(plan(service, 0.0, 1), arrivals, Fixed(2), seed=5)
    assert outcome.mean == pytest.approx(expected, rel=0.05)


def test_batches_make_capacity_out_of_waiting() -> None:
    arrivals = steady(500.0, 30.0).arrivals(np.random.default_rng(1))
    alone = simulate(plan(0.005, 0.0001, 1), arrivals, Fixed(1), seed=1)
    batched = simulate(plan(0.005, 0.0001, 64), arrivals, Fixed(1), seed=1)
    assert alone.mean > 5.0
    assert batched.mean < 0.005


def test_the_same_seed_gives_the_same_run() -> None:
    arrivals = steady(50.0, 20.0).arrivals(np.random.default_rng(1))
    noisy = Plan(Cost(0.01, 0.001, 0.3), varying(5.0, 0.3))
    one, two, other = (simulate(noisy, arrivals, Fixed(1), seed) for seed in (1, 1, 2))
    assert np.array_equal(one.waits, two.waits)
    assert not np.array_equal(one.waits, other.waits)


# Pods ---------------------------------------------------------------------------------------------------------------


class Script:
    """Sets the pods at given times."""

    def __init__(self, first: int, changes: dict[float, int]) -> None:
        self.first_replicas = first
        self._changes = changes

    @property
    def rounds(self) -> tuple[object, ...]:
        from benchmarks.simulation.autoscaler import Round

        return (Round(1.0, lambda now, replicas, _: self._changes.get(now, replicas)),)


def run_script(first: int, changes: dict[float, int], arrivals: list[float], cost: float, start_up: float) -> Outcome:
    found = Plan(Cost(cost, 0.0, overhead=0.0), varying(start_up), max_rows=1)
    script: Autoscaler = Script(first, changes)  # type: ignore[assignment]  # rounds of plain objects
    return simulate(found, np.array(arrivals), script, seed=1)


def test_a_job_waits_for_the_first_pod_to_start() -> None:
    outcome = run_script(0, {3.0: 1}, [0.5], cost=0.1, start_up=10.0)
    assert outcome.waits == pytest.approx([12.5])
    assert outcome.replicas == [(0.0, 0, 0), (3.0, 1, 0), (13.0, 1, 1)]


def test_a_pod_that_is_stopped_finishes_its_batch_and_claims_no_more() -> None:
    outcome = run_script(2, {1.0: 1}, [0.0, 0.0, 0.1], cost=5.0, start_up=0.0)
    # Two jobs at once; the third is for the pod that stays, though both are through at the same time.
    assert outcome.waits == pytest.approx([0.0, 0.0, 4.9])
    assert outcome.ended_at == pytest.approx(10.0)
    assert outcome.pod_seconds == pytest.approx(15.0)


def test_a_pod_that_is_stopped_before_it_is_ready_never_serves() -> None:
    outcome = run_script(0, {1.0: 1, 2.0: 0, 20.0: 1}, [0.0], cost=1.0, start_up=5.0)
    assert outcome.waits == pytest.approx([25.0])


def test_jobs_that_no_pod_ever_serves_are_counted() -> None:
    outcome = run_script(0, {}, [0.0, 1.0], cost=1.0, start_up=5.0)
    assert outcome.unclaimed == 2
    assert math.isnan(outcome.mean)


def test_start_ups_are_drawn_from_those_with_as_many_pods_starting() -> None:
    draw = measured({1: [3.0, 4.0], 4: [9.0]})
    rng = np.random.default_rng(1)
    assert {draw(rng, 1) for _ in range(50)} == {3.0, 4.0}
    assert {draw(rng, pods) for pods in (3, 4, 10)} == {9.0}


def test_pods_that_are_created_together_start_together() -> None:
    found = Plan(Cost(1.0, 0.0, overhead=0.0), varying(10.0, 0.5), max_rows=1)
    script: Autoscaler = Script(0, {1.0: 3})  # type: ignore[assignment]  # rounds of plain objects
    outcome = simulate(found, np.zeros(3), script, seed=1)
    assert outcome.waits[0] > 1.0
    assert np.unique(outcome.waits).size == 1


# Kubernetes' formulas -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usages", "starting", "current", "wanted"),
    [
        # The documentation's example: 200m for a target of 100m doubles, 50m halves.
        ([0.2], 0, 1, 2),
        ([0.05, 0.05], 0, 2, 1),
        # Within a tenth of the target nothing changes.
        ([0.109], 0, 1, 1),
        ([0.091, 0.091], 0, 2, 2),
        ([0.112], 0, 1, 2),
        # Pods that start count as idle when more are asked for, so that a start is not answered with more starts.
        ([0.2], 1, 2, 2),
        ([0.4], 1, 2, 4),
        ([0.15, 0.15], 2, 4, 4),
        # When fewer are asked for they do not count.
        ([0.02, 0.02], 1, 3, 1),
        # Nothing measured, nothing changed.
        ([], 2, 2, 2),
    ],
)
def test_cpu_asks_for_pods_as_kubernetes_does(usages: list[float], starting: int, current: int, wanted: int) -> None:
    assert wanted_by_cpu(usages, starting, 0.1, current, 0.1) == wanted


@pytest.mark.parametrize(
    ("total", "current", "wanted"),
    [
        (0, 3, 0),
        (499, 1, 1),
        (549, 1, 1),
        (551, 1, 2),
        (1500, 3, 3),
        (1649, 3, 3),
        (1651, 3, 4),
        (1349, 3, 3),
        (900, 3, 2),
    ],
)
def test_a_backlog_asks_for_pods_as_kubernetes_does(total: float, current: int, wanted: int) -> None:
    assert wanted_by_total(total, 500.0, current, 0.1) == wanted


def test_scaling_up_is_limited_by_the_policy_that_allows_most() -> None:
    brakes = Brakes(1, 100, BEHAVIOR)
    assert brakes.allow(0.0, 1, 50) == 5  # 4 pods are more than 100 %
    assert brakes.allow(5.0, 5, 50) == 5  # in the same 15 s no more
    assert brakes.allow(15.0, 5, 50) == 10  # now 100 % are more
    assert brakes.allow(30.0, 10, 50) == 20
    assert brakes.allow(45.0, 20, 21) == 21


def test_scaling_up_stops_at_the_most() -> None:
    assert Brakes(1, 3, BEHAVIOR).allow(0.0, 1, 50) == 3


def test_scaling_down_waits_for_the_highest_recommendation_of_the_window() -> None:
    brakes = Brakes(1, 10, BEHAVIOR)
    assert brakes.allow(0.0, 8, 8) == 8
    assert brakes.allow(15.0, 8, 6) == 8
    assert brakes.allow(299.0, 8, 1) == 8
    assert brakes.allow(301.0, 8, 1) == 6  # the 8 has left the window, the 6 has not
    assert brakes.allow(316.0, 6, 1) == 4  # the 6 too; half of the 8 that there were a minute ago may go
    assert brakes.allow(331.0, 4, 1) == 4
    assert brakes.allow(377.0, 4, 1) == 2


def test_the_number_at_the_start_counts_as_a_recommendation() -> None:
    brakes = Brakes(1, 10, BEHAVIOR)
    assert brakes.allow(0.0, 4, 1) == 4
    assert brakes.allow(299.0, 4, 1) == 4
    assert brakes.allow(300.0, 4, 1) == 2


def test_a_window_for_scaling_up_takes_the_lowest_recommendation() -> None:
    slow = Behavior(up=Direction(60.0, ()), down=Direction(0.0, ()))
    brakes = Brakes(1, 10, slow)
    assert brakes.allow(0.0, 1, 1) == 1
    assert brakes.allow(30.0, 1, 5) == 1
    assert brakes.allow(61.0, 1, 7) == 5


def test_what_was_added_may_go_again_but_counts_against_the_next_addition() -> None:
    brakes = Brakes(1, 100, Behavior(up=Direction(0.0, (Policy("Pods", 4, 15.0),)), down=Direction(0.0, ())))
    assert brakes.allow(0.0, 4, 8) == 8
    assert brakes.allow(5.0, 8, 6) == 6
    assert brakes.allow(10.0, 6, 20) == 8  # the period began with 4, so that 8 is the limit


def test_the_charts_values_are_read_as_they_are_written() -> None:
    document = {
        "scaleUp": {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]},
        "scaleDown": {"policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}]},
    }
    found = read_behavior(document)
    assert found.up == Direction(0.0, (Policy("Pods", 4, 15.0),))
    assert found.down == BEHAVIOR.down  # Kubernetes' default of 300 s


# Autoscalers --------------------------------------------------------------------------------------------------------


def keda(least: int = 0, **target: float) -> tuple[Callable[..., int], Callable[..., int]]:
    scaler = KedaAutoscaler(BacklogTarget(**target), least, 10, FREE)
    poll, sync = scaler.rounds
    return poll.decide, sync.decide


def test_keda_starts_the_first_pod_at_its_poll_and_leaves_the_rest_to_the_autoscaler() -> None:
    poll, sync = keda()
    busy = Look(jobs=5000, seconds=100.0)
    assert sync(0.0, 0, busy) == 0
    assert poll(10.0, 0, busy) == 1
    assert sync(15.0, 1, busy) == 10  # by jobs
    assert sync(30.0, 1, Look(jobs=10, seconds=31.0)) == 7  # by seconds


def test_keda_takes_the_last_pods_after_the_cooldown() -> None:
    poll, sync = keda()
    assert poll(10.0, 3, Look(jobs=1)) == 3
    assert sync(15.0, 3, Look()) == 1
    assert poll(300.0, 1, Look()) == 1
    assert poll(310.0, 1, Look()) == 0


def test_keda_keeps_the_least() -> None:
    poll, _ = keda(least=2)
    assert poll(1000.0, 2, Look()) == 2
    assert poll(1000.0, 0, Look()) == 2


def test_the_simulated_backlog_is_in_seconds_of_work_and_keda_scales_by_it() -> None:
    # One pod does 100 jobs a second; 250 come. At most 100 jobs' worth of seconds may wait for each pod.
    target = BacklogTarget(seconds=1.0, jobs=1e9)
    arrivals = steady(250.0, 120.0).arrivals(np.random.default_rng(1))
    outcome = simulate(
        Plan(Cost(0.01, 0.0, overhead=0.0), varying(5.0), max_rows=1),
        arrivals,
        KedaAutoscaler(target, 1, 10, BEHAVIOR),
        seed=1,
    )
    at_15 = [wanted for at, wanted, _ in outcome.replicas if at == 15.0]
    assert at_15 == [5]  # 150 jobs a second more than are done make over 20 s of work; 4 pods may be added
    assert outcome.waits[-1] < 1.0


def test_keda_keeps_a_pool_that_keeps_up() -> None:
    # 40 jobs a second need 2.03 busy workers in full batches: three pods at 80%.
    arrivals = steady(40.0, 1800.0).arrivals(np.random.default_rng(1))
    plan = Plan(Cost(0.05, 0.05), varying(20.0))

    def pods(**target: float) -> set[int]:
        outcome = simulate(plan, arrivals, KedaAutoscaler(BacklogTarget(**target), 1, 10, BEHAVIOR), seed=1)
        return {wanted for at, wanted, _ in outcome.replicas if at > 600}

    assert pods() <= {3}
    assert len(pods(busy=1e9)) > 1  # by its backlog alone it goes up and down


def test_cpu_scales_up_a_busy_pool_and_down_an_idle_one() -> None:
    trace = Trace((0.0, 300.0), (150.0, 0.0001), 1200.0)
    arrivals = np.append(trace.arrivals(np.random.default_rng(1)), 1190.0)
    scaler = CpuAutoscaler(CpuTarget(80.0, 1.0), 1, 6, BEHAVIOR)
    outcome = simulate(Plan(Cost(0.01, 0.0, overhead=0.0), varying(5.0), max_rows=1), arrivals, scaler, seed=1)
    assert outcome.most_replicas() == 3  # two would do, but are fully busy while there is a backlog
    assert outcome.replicas[-1][1] == 1


# Traffic and output -------------------------------------------------------------------------------------------------


def test_arrivals_follow_the_trace() -> None:
    trace = Trace((0.0, 100.0, 200.0), (10.0, 0.0, 50.0), 300.0)
    arrivals = trace.arrivals(np.random.default_rng(2))
    counts = np.histogram(arrivals, bins=[0, 100, 200, 300])[0]
    assert counts[1] == 0
    assert counts[0] == pytest.approx(1000, rel=0.1)
    assert counts[2] == pytest.approx(5000, rel=0.05)
    assert np.all(np.diff(arrivals) >= 0)
    gaps = np.diff(arrivals[arrivals > 200])
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.05)  # exponential


@pytest.mark.parametrize(
    ("shape", "rates"),
    [
        ("steady", [10, 10, 10, 10]),
        ("step", [10, 90, 90, 90]),
        ("spike", [10, 90, 10, 10]),
        ("diurnal", [10, 50, 90, 50]),
    ],
)
def test_shapes_go_from_the_rate_to_the_peak(shape: str, rates: list[float]) -> None:
    trace = make_trace(shape, 10.0, 90.0, 400.0)  # type: ignore[arg-type]  # a shape
    assert [trace.rate_at(second) for second in (1, 101, 201, 301)] == pytest.approx(rates, abs=1.0)
    assert trace.rate_at(400.0) == 0.0


def test_a_trace_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("second,rate\n0,10\n60,20\n90,5\n")
    assert read_trace(path) == Trace((0.0, 60.0, 90.0), (10.0, 20.0, 5.0), 120.0)


@pytest.mark.parametrize("text", ["", "0,10\n", "0,10\n0,20\n", "0,ten\n5,1\n", "0,1\n5\n", "0,1\n5,-1\n"])
def test_a_bad_trace_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(BenchmarkError, match=r"second|negative"):
        read_trace(path)


def test_a_run_is_cut_into_slices_that_add_up() -> None:
    arrivals = steady(50.0, 100.0).arrivals(np.random.default_rng(1))
    outcome = simulate(plan(0.01, 0.001), arrivals, Fixed(2), seed=1)
    cut = slices(outcome, 10)
    assert sum(one.rate * (one.end - one.start) for one in cut) == pytest.approx(len(arrivals))
    assert [one.wanted for one in cut] == pytest.approx([2.0] * 10)
    assert csv_text(outcome, 10).count("\n") == 11
    assert svg(outcome, 10).count("<polyline") == 5


def test_the_command_line_simulates_a_file_with_the_charts_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trace, table = tmp_path / "trace.csv", tmp_path / "run.csv"
    trace.write_text("0,20\n30,100\n60,20\n")
    options = ["--trace", str(trace), "--scaling", "keda", "--min", "0", "--csv", str(table), "--even"]
    monkeypatch.setattr("sys.argv", ["simulate", *options])
    assert main() == 0
    assert "4,200" in capsys.readouterr().out
    assert table.read_text().startswith("second,")


def test_the_command_line_refuses_zero_pods_on_cpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["simulate", "--scaling", "cpu", "--min", "0"])
    assert main() == 1
    assert "--min 0 needs --scaling keda" in capsys.readouterr().out


# The learnt cost ----------------------------------------------------------------------------------------------------


def answer(monkeypatch: pytest.MonkeyPatch, status: int, document: object) -> None:
    def get(url: str, timeout: float) -> httpx.Response:
        assert timeout
        return httpx.Response(status, json=document, request=httpx.Request("GET", url))

    monkeypatch.setattr(httpx, "get", get)


def test_the_cost_of_the_default_version_is_read_from_a_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = {"batch_seconds": 0.004, "row_seconds": 0.0002, "load_seconds": 1.0, "bytes": 1}
    versions = [{"version": "1"}, {"version": "2", "cost": cost}]
    answer(monkeypatch, 200, {"default": "2", "model_version_status": versions})
    assert read_cost("http://gateway/", "m") == (0.004, 0.0002)
    with pytest.raises(BenchmarkError, match="m 1 has no learnt cost yet"):
        read_cost("http://gateway", "m", "1")
    with pytest.raises(BenchmarkError, match="knows no version '3'"):
        read_cost("http://gateway", "m", "3")


def test_a_gateway_that_does_not_know_the_model_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, 404, {"error": "no such model"})
    with pytest.raises(BenchmarkError, match="http://gateway/v1/models/m answered 404"):
        read_cost("http://gateway", "m")
