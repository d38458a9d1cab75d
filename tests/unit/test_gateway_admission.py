"""What is refused at the door and what is not, by what the load says."""

from typing import Any

import pytest

from muleteer.catalog.model import ModelEntry
from muleteer.errors import OverloadedError
from muleteer.queue.cost import Cost
from muleteer.queue.jobs import QueueState
from muleteer.queue.producer import ClientLimits, NewJob, Refusal
from muleteer_gateway.admission import Admission
from muleteer_gateway.load import Load, Service
from muleteer_gateway.prefer import SYNC, Preference
from muleteer_gateway.served import ServedModel, ServedVersion
from muleteer_gateway.signature import Signature
from support.producing import QUEUE, new_job

ASYNC = Preference("async")
WAIT_2 = Preference("wait", 2.0)
EITHER = Preference("wait", 2.0, respond_async=True)
TENTH = Cost(0.0, 0.1)


class Door:
    """An admission that knows of one queue: so many rows of a tenth of a second each before the next job."""

    def __init__(self, rows: int, cost: Cost | None = TENTH, workers: int = 1, **service: Any) -> None:
        self.wishes: list[tuple[str, str]] = []
        load = Load(lambda: 100.0)
        known = Service(QUEUE, "cpu", workers, 10, 100.0, 0.2, **service)
        load.see([known], {QUEUE: QueueState(rows, rows=rows, cost=cost)}, {"cpu": ["w"] * workers})
        self.admission = Admission(load, lambda pool, queue: self.wishes.append((pool, queue)))

    def refusal(self, prefer: Preference = SYNC, limits: dict[str, Any] | None = None) -> OverloadedError | None:
        return self.admission.refusal(job(prefer), served(limits), prefer)


def job(prefer: Preference = SYNC, **changes: Any) -> NewJob:
    return new_job(job_class="batch" if prefer.mode == "async" else "interactive", **changes)


def served(limits: dict[str, Any] | None = None) -> ServedVersion:
    entry = ModelEntry.model_validate({"versions": {"1": {}}, "timeout": 5.0, "limits": limits or {}})
    return ServedVersion("m", "1", entry, QUEUE, b"1", None, None, "", Signature())


@pytest.mark.parametrize(
    ("rows", "prefer", "reason"),
    [
        (10, SYNC, None),
        (100, SYNC, "deadline"),
        (10, WAIT_2, None),
        (30, WAIT_2, "deadline"),
        (30, EITHER, None),
        (1000, ASYNC, None),
    ],
)
def test_who_would_wait_longer_than_it_does_is_refused(rows: int, prefer: Preference, reason: str | None) -> None:
    found = Door(rows).refusal(prefer)
    assert (found.extra["reason"] if found else None) == reason


def test_a_refusal_says_when_to_come_back_and_how_long_the_queue_is() -> None:
    found = Door(100).refusal()
    assert found is not None
    assert found.retry_after == pytest.approx(10 + 1 - 5)  # ten seconds before it, a batch of its own, five of patience
    assert found.extra["queue_seconds"] == 10


@pytest.mark.parametrize("prefer", [SYNC, ASYNC, EITHER])
def test_a_queue_over_its_seconds_refuses_everybody(prefer: Preference) -> None:
    found = Door(40).refusal(prefer, {"max_queue_seconds": 3})
    assert found is not None
    assert (found.extra["reason"], found.retry_after) == ("queue_seconds", pytest.approx(1.0))


@pytest.mark.parametrize("door", [Door(500, cost=None), Door(500, workers=0)], ids=["no cost", "no worker"])
def test_where_nothing_is_known_nothing_is_refused(door: Door) -> None:
    assert door.refusal() is None
    assert door.admission.eta_seconds(job()) is None


def test_a_job_with_nothing_before_it_is_never_refused_whatever_it_costs() -> None:
    assert Door(0, Cost(100.0, 0.0)).refusal() is None


def test_a_version_that_loads_longer_than_the_caller_waits_is_refused_and_loaded() -> None:
    door = Door(0, cost=None, load_seconds=8.0)
    found = door.refusal()
    assert found is not None
    assert (found.extra["reason"], found.retry_after) == ("loading", 8.0)
    assert door.wishes == [("cpu", QUEUE)]


def test_who_has_the_time_waits_for_the_load() -> None:
    door = Door(0, cost=None, load_seconds=3.0)
    assert door.refusal() is None
    assert door.refusal(ASYNC) is None
    assert door.refusal(EITHER) is None
    assert door.wishes == []


@pytest.mark.parametrize(
    ("refusal", "status", "reason", "said"),
    [
        (Refusal("rate", "2.5"), 429, "rate", "over its limit of 7 requests a second"),
        (Refusal("busy", "9"), 429, "concurrency", "has 9 jobs queued or running"),
        (Refusal("rows", "40"), 503, "queue_rows", "40 instances wait (limits.max_queue_rows: 50)"),
        (Refusal("full", "60"), 503, "queue_full", "60 jobs wait (limits.max_queue_jobs)"),
    ],
)
def test_what_redis_refuses_is_explained(refusal: Refusal, status: int, reason: str, said: str) -> None:
    limited = job(limits=ClientLimits(rate=7))
    found = Door(60).admission.explain(limited, refusal, served({"max_queue_rows": 50, "max_queue_jobs": 60}))
    assert (found.status, found.extra["reason"]) == (status, reason)
    assert said in found.message
    assert found.retry_after is not None
    assert found.retry_after >= 1


def test_a_load_that_is_under_way_counts_for_what_is_left_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("muleteer_gateway.served.time.time", lambda: 1000.0)

    def seconds(*reports: dict[str, Any]) -> float:
        model = ServedModel("m", served().entry, {"1": served()})
        model.take_reports({"1": list(reports)})
        return model.seconds_to_load("1", 8.0)

    assert seconds({"state": "cold"}) == 8.0
    assert seconds({"state": "cold"}, {"state": "loading", "at": 995.0}) == 3.0
    assert seconds({"state": "loading", "at": 900.0}) == pytest.approx(0.1)
    assert seconds({"state": "failed"}) == 0
    assert seconds({"state": "ready"}, {"state": "cold"}) == 0
