"""Which versions a process holds under a memory budget."""

from typing import Any

import pytest

from muleteer.queue.residency import Demand
from muleteer_worker.budget import (
    BACKLOG_BATCHES,
    MIN_RESIDENT_SECONDS,
    STARVING_SECONDS,
    UNKNOWN_LOAD_SECONDS,
    UNUSED_SECONDS,
    Account,
    Choice,
    Held,
    Wish,
    decide,
    is_ours,
    patience,
)


def held(queue: str, size: int, **changes: Any) -> Held:
    """Return a version that has had its time and is idle."""
    fields: dict[str, Any] = {"served": 1, "resident_seconds": 60.0, "idle_seconds": 10.0}
    return Held(queue, size, **(fields | changes))


OLD, NEW = held("old", 40, idle_seconds=20.0), held("new", 40, idle_seconds=5.0)
PINNED = held("pinned", 60, pinned=True, idle_seconds=99.0)
YOUNG = MIN_RESIDENT_SECONDS - 0.1
STARVED = STARVING_SECONDS + 0.1

CHOICES: list[tuple[str, list[Held], list[Wish], Choice]] = [
    ("nothing is asked for", [OLD], [], Choice()),
    ("there is room", [OLD], [Wish("a", 60, 0)], Choice("a")),
    ("the oldest wish first", [], [Wish("a", 10, 1), Wish("b", 10, 2)], Choice("b")),
    ("the least recently used goes", [NEW, OLD], [Wish("a", 50, 0)], Choice("a", ("old",))),
    ("as many go as are needed", [NEW, OLD], [Wish("a", 100, 0)], Choice("a", ("old", "new"))),
    (
        "one that a larger one has made needless stays",
        [held("small", 10, idle_seconds=30), held("large", 80)],
        [Wish("a", 85, 0)],
        Choice("a", ("large",)),
    ),
    ("pinned ones stay, however idle", [PINNED, held("o", 40)], [Wish("a", 30, 0)], Choice("a", ("o",))),
    ("pinned ones leave no room", [PINNED], [Wish("a", 41, 0)], Choice(refused=("a",))),
    ("the next is served", [PINNED], [Wish("a", 41, 9), Wish("b", 40, 0)], Choice("b", refused=("a",))),
    ("a claimed one stays", [held("o", 90, in_hand=True)], [Wish("a", 20, STARVED)], Choice()),
    ("a young one stays", [held("o", 90, resident_seconds=YOUNG)], [Wish("a", 20, STARVED)], Choice()),
    ("one whose load took long stays long", [held("o", 90, load_seconds=61)], [Wish("a", 20, STARVED)], Choice()),
    ("one that has served nothing stays", [held("o", 90, served=0, resident_seconds=9)], [Wish("a", 20, 9)], Choice()),
    (
        "one that nobody came for goes",
        [held("o", 90, served=0, resident_seconds=UNUSED_SECONDS)],
        [Wish("a", 20, 0)],
        Choice("a", ("o",)),
    ),
    ("one with jobs stays", [held("o", 90, waiting=True)], [Wish("a", 20, 1)], Choice()),
    ("they take turns", [held("o", 90, waiting=True)], [Wish("a", 20, STARVED)], Choice("a", ("o",))),
    (
        "idle ones go before those with jobs",
        [held("o", 50, waiting=True, idle_seconds=50), NEW],
        [Wish("a", 20, STARVED)],
        Choice("a", ("new",)),
    ),
    ("no younger wish overtakes", [held("o", 60, in_hand=True)], [Wish("a", 70, 2), Wish("b", 10, 1)], Choice()),
    ("too large a one goes alone", [], [Wish("a", 101, 0)], Choice("a", (), alone=True)),
    ("too large a one clears the house", [NEW, OLD], [Wish("a", 101, 0)], Choice("a", ("old", "new"), alone=True)),
    ("too large a one waits for the house", [held("o", 9, in_hand=True), OLD], [Wish("a", 101, 0)], Choice()),
    ("too much is resident", [NEW, OLD, held("more", 40, idle_seconds=1)], [], Choice(evict=("old",))),
    ("too large a one stays while it is alone", [held("o", 150)], [], Choice()),
    ("too large a one leaves with pinned ones", [held("o", 50), PINNED], [], Choice(evict=("o",))),
    ("too large a one makes room for the next", [held("o", 150)], [Wish("a", 10, 0)], Choice("a", ("o",))),
]


@pytest.mark.parametrize(
    ("versions", "wishes", "choice"), [row[1:] for row in CHOICES], ids=[row[0] for row in CHOICES]
)
def test_room_is_made_for_who_waits_longest(versions: list[Held], wishes: list[Wish], choice: Choice) -> None:
    assert decide(100, versions, wishes) == choice


def demand(**changes: Any) -> Demand:
    fields: dict[str, Any] = {
        "jobs": 1,
        "rows": 1,
        "waited": 0.0,
        "holders": 0,
        "loading_seconds": None,
        "bytes": None,
        "load_seconds": 2.0,
    }
    return Demand(**(fields | changes))


@pytest.mark.parametrize(
    ("asked", "ours"),
    [
        (demand(), True),
        (demand(waited=100.0), True),
        (demand(holders=1), False),
        (demand(holders=1, waited=5.9), False),
        (demand(holders=1, waited=6.1), True),
        (demand(holders=1, rows=BACKLOG_BATCHES * 64), False),
        (demand(holders=1, rows=BACKLOG_BATCHES * 64 + 1), True),
        (demand(holders=2, rows=BACKLOG_BATCHES * 64 + 1), False),
        (demand(loading_seconds=5.9, waited=100.0), False),
        (demand(loading_seconds=6.1), True),
    ],
)
def test_one_process_of_a_pool_loads_a_version_and_others_join_when_that_is_too_slow(asked: Demand, ours: bool) -> None:
    assert is_ours(asked, 64) is ours


def test_patience_is_a_few_times_the_load_and_never_nothing() -> None:
    assert patience(demand(load_seconds=None)) == 3 * UNKNOWN_LOAD_SECONDS
    assert patience(demand(load_seconds=0.001)) == 3 * MIN_RESIDENT_SECONDS
    assert patience(demand(load_seconds=20.0)) == 60


def test_the_artifact_is_the_guess_until_a_version_was_loaded() -> None:
    account = Account()
    assert account.expected("a", 10) == 10
    assert account.loaded("a", 30, exact=True, artifact_bytes=10) == 30
    assert account.expected("a", 10) == 30


def test_where_nothing_can_be_measured_the_guess_stays() -> None:
    account = Account()
    assert account.loaded("a", None, exact=False, artifact_bytes=10) == 10
    assert account.sizes == {}


def test_memory_that_one_version_leaves_behind_and_another_uses_counts_for_that() -> None:
    account = Account()
    account.loaded("a", 30, exact=True, artifact_bytes=0)
    account.unloaded(30, 5, exact=True)
    assert account.residue == 25
    assert account.loaded("a", 12, exact=True, artifact_bytes=0) == 30
    assert account.residue == 7
    assert account.loaded("b", 10, exact=True, artifact_bytes=20) == 17
    assert account.residue == 0


def test_libraries_that_a_load_imported_are_told_from_the_version_by_its_next_load() -> None:
    account = Account()
    assert account.loaded("a", 120, exact=False, artifact_bytes=1) == 120
    account.unloaded(120, 2, exact=False)
    assert account.residue == 0
    assert account.loaded("a", 2, exact=True, artifact_bytes=1) == 2
    assert account.expected("a", 1) == 2


def test_libraries_do_not_count_with_a_version_that_was_measured_before() -> None:
    account = Account({"a": 2})
    assert account.loaded("a", 120, exact=False, artifact_bytes=1) == 2
    assert account.expected("a", 1) == 2
