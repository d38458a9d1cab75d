"""Whatever happens in whatever order: every accepted job ends once, and every answer is its request's."""

from pathlib import Path

import pytest

from support.chaos.invariants import PROBES
from support.chaos.plan import KINDS, plan
from support.chaos.round import Appendfsync, report, run_round


@pytest.mark.timeout(0)
async def test_chaos(tmp_path: Path, appendfsync: Appendfsync, seed: int, seconds: float) -> None:
    book = await run_round(tmp_path, appendfsync, seed, seconds)
    if book.violations:
        pytest.fail(report(book, seed, seconds), pytrace=False)
    # Nobody was kept from calling: a round in which little was asked proves little.
    assert len(book.promises) > seconds
    assert len(book.answered) > PROBES + seconds
    print(dict(sorted(book.seen.items())), "lost:", len(book.lost))  # noqa: T201 - what -s is for


def test_a_seed_gives_the_same_faults_every_time_and_another_seed_gives_others() -> None:
    assert plan(7, 60) == plan(7, 60)
    assert plan(7, 60) != plan(8, 60)
    assert plan(7, 30) == plan(7, 60)[: len(plan(7, 30))]


def test_a_schedule_of_a_minute_has_faults_of_every_kind() -> None:
    for seed in range(20):
        assert {fault.kind for fault in plan(seed, 60)} == set(KINDS)
