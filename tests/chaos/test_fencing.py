"""A worker that slept through its lease: what it brings afterwards is not taken."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from muleteer.queue.connection import connect
from support.metrics import counted
from support.models import write_catalog, write_version
from support.services import Service, System
from support.waiting import wait_until

HELD = """
    import os
    import time
    from pathlib import Path

    DOORS = Path({doors!r})

    class Model:
        def predict(self, instances):
            (DOORS / f"in-{{os.getpid()}}").touch()
            while not (DOORS / f"open-{{os.getpid()}}").exists():
                time.sleep(0.01)
            return [{{"echo": i["text"], "by": os.getpid()}} for i in instances]
"""


class Doors:
    """Holds every predict call until its process's door is opened."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def close_all(self) -> None:
        """Forget who was in, and hold everyone again."""
        for file in self.folder.iterdir():
            file.unlink()

    def inside(self) -> set[int]:
        """Return the processes that are, or were, in a predict call."""
        return {int(file.name.removeprefix("in-")) for file in self.folder.glob("in-*")}

    def enter(self, but: frozenset[int] = frozenset()) -> int:
        """Return the process that is in a predict call and not among ``but``, once there is one."""
        return next(iter(wait_until(lambda: self.inside() - but, 30, "a worker predicts")))

    def open(self, pid: int) -> None:
        (self.folder / f"open-{pid}").touch()


@pytest.fixture(scope="module")
def all_doors(tmp_path_factory: pytest.TempPathFactory) -> Doors:
    return Doors(tmp_path_factory.mktemp("fencing") / "doors")


@pytest.fixture
def doors(all_doors: Doors) -> Doors:
    all_doors.close_all()
    return all_doors


@pytest.fixture(scope="module")
def system(all_doors: Doors) -> Iterator[System]:
    folder = all_doors.folder.parent
    write_version(folder / "models", "held", code=HELD.format(doors=str(all_doors.folder)))
    catalog = write_catalog(folder / "catalog.yaml", {"held": {"versions": {"1": {}}, "timeout": 60}})
    with System(folder, catalog) as running:
        running.add_gateway()
        running.add_worker(MULETEER_LEASE_SECONDS="1")
        running.add_worker(MULETEER_LEASE_SECONDS="1")
        yield running.wait_ready()


def pod_of(system: System, pid: int) -> Service:
    return next(pod for pod in system.workers if pid in [child.pid for child in pod.children()])


def submit(system: System) -> str:
    body = {"instances": [{"text": "once"}]}
    answer = httpx.post(f"{system.url}/v1/models/held:predict", json=body, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202
    return str(answer.json()["id"])


def document(system: System, job: str, wait: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{system.url}/v1/jobs/{job}?wait={wait}", timeout=60).json()
    return found


@pytest.mark.parametrize("wakes", ["while another predicts", "after another has answered"])
def test_a_stopped_worker_that_wakes_after_its_lease_does_not_overwrite_the_answer(
    system: System, doors: Doors, wakes: str
) -> None:
    outcomes = ("finished", "stale")
    before = {outcome: ended(system, outcome) for outcome in outcomes} | {"redelivered": redelivered(system)}
    job = submit(system)
    sleeper = doors.enter()
    slept_through = pod_of(system, sleeper)
    psutil.Process(sleeper).suspend()
    other = doors.enter(but=frozenset({sleeper}))
    assert pod_of(system, other) is not slept_through
    doors.open(sleeper)
    if wakes == "while another predicts":
        _wake(system, sleeper, before["stale"])
        assert document(system, job)["status"] == "started"
        doors.open(other)
    else:
        doors.open(other)
        answered = document(system, job, wait=30)
        _wake(system, sleeper, before["stale"])
        assert document(system, job) == answered
    found = document(system, job, wait=30)
    assert (found["status"], found["deliveries"]) == ("finished", 1)
    assert found["result"]["predictions"] == [{"echo": "once", "by": other}]
    with connect(system.valkey.url) as connection:
        assert connection.xlen(f"rq:results:{job}") == 1
        wait_until(lambda: not connection.exists("rq:wip:held.1"), 10, "no lease is left")
    wait_until(lambda: ended(system, "finished") == before["finished"] + 1, 10, "the answer is counted, once")
    assert ended(system, "stale") == before["stale"] + 1
    assert redelivered(system) == before["redelivered"] + 1


def _wake(system: System, pid: int, stale: float) -> None:
    """Let a stopped worker go on, and wait until it has brought what nobody wants any more."""
    psutil.Process(pid).resume()
    wait_until(lambda: ended(system, "stale") > stale, 20, "the stale finish is counted")


def ended(system: System, outcome: str) -> float:
    return sum(counted(pod, "muleteer_jobs_total", outcome=outcome) for pod in system.workers)


def redelivered(system: System) -> float:
    return sum(counted(pod, "muleteer_jobs_redelivered_total") for pod in system.workers)
