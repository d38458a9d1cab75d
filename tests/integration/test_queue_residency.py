"""What workers of a pool tell each other of the versions they hold."""

import time

import pytest
import redis

from muleteer.embedded import EmbeddedValkey
from muleteer.queue.connection import connect
from muleteer.queue.consumer import Consumer
from muleteer.queue.residency import LoadNote, Look, PoolResidency
from support.producing import QUEUE, gateway_side, new_job

WANTED = "muleteer:wanted:default"
LOADING = f"muleteer:loading:{QUEUE}"
HOLDERS = f"muleteer:holders:{QUEUE}"
COST = f"muleteer:cost:{QUEUE}"


def member(valkey: EmbeddedValkey, name: str, *, alive: bool = True) -> PoolResidency:
    if alive:
        Consumer(connect(valkey.url), "default", name).heartbeat()
    return PoolResidency(connect(valkey.url), "default", name)


def put(connection: redis.Redis, lane: str, job: str, ago: float) -> None:
    """Put a job into a lane as the queue's Lua does."""
    connection.hset(f"rq:job:{job}", "enqueued", time.time() - ago)
    connection.rpush(f"rq:queue:{lane}", job)
    kind = lane.removeprefix(f"{QUEUE}:").partition(":")[0]
    if lane != QUEUE:
        connection.zadd(f"muleteer:lanes:{QUEUE}:{kind}", {lane: 0})


async def test_a_version_without_jobs_is_not_asked_for(valkey: EmbeddedValkey) -> None:
    one = member(valkey, "w1")
    assert one.look([], [QUEUE]) == Look(frozenset(), {})
    async with gateway_side(valkey.url) as side:
        await side.enqueue(new_job(), new_job())
    asked = one.look([], [QUEUE]).demand[QUEUE]
    assert (asked.jobs, asked.holders, asked.loading_seconds) == (2, 0, None)
    assert 0 <= asked.waited < 10


def test_jobs_of_all_lanes_ask_for_a_version(valkey: EmbeddedValkey, connection: redis.Redis) -> None:
    one = member(valkey, "w1")
    put(connection, f"{QUEUE}:batch:somebody", "a", 50)
    asked = one.look([], [QUEUE]).demand[QUEUE]
    assert (asked.jobs, round(asked.waited)) == (1, 50)
    put(connection, f"{QUEUE}:interactive:another", "b", 90)
    put(connection, QUEUE, "c", 10)
    connection.zadd(f"muleteer:lanes:{QUEUE}:interactive", {QUEUE: 0})
    asked = one.look([], [QUEUE]).demand[QUEUE]
    assert (asked.jobs, round(asked.waited)) == (3, 90)
    connection.hset(f"muleteer:ledger:{QUEUE}", mapping={"rows": 30, "batch_rows": 4})
    assert one.look([], [QUEUE]).demand[QUEUE].rows == 34
    assert one.look([QUEUE], []).waiting == {QUEUE}


def test_a_gateways_wish_counts_like_a_job_until_it_is_old(valkey: EmbeddedValkey, connection: redis.Redis) -> None:
    one = member(valkey, "w1")
    connection.hset(WANTED, QUEUE, time.time() - 7)
    assert round(one.look([], [QUEUE]).demand[QUEUE].waited) == 7
    connection.hset(WANTED, QUEUE, time.time() - 301)
    assert one.look([], [QUEUE]).demand == {}
    assert not connection.hexists(WANTED, QUEUE)


def test_a_load_fulfils_the_wish_and_is_known_to_the_others(valkey: EmbeddedValkey, connection: redis.Redis) -> None:
    one, two = member(valkey, "w1"), member(valkey, "w2")
    connection.hset(WANTED, QUEUE, time.time())
    assert one.begin_load(QUEUE, 10)
    one.end_loads([LoadNote(QUEUE, 1.5, 4096, exact=True)], holds=True)
    assert not connection.hexists(WANTED, QUEUE)
    assert not connection.exists(LOADING)
    asked = two.look([], [], sure=[QUEUE]).demand[QUEUE]
    assert (asked.holders, asked.bytes, asked.load_seconds) == (1, 4096, 1.5)
    one.let_go([QUEUE])
    assert two.look([], [], sure=[QUEUE]).demand[QUEUE].holders == 0


@pytest.mark.parametrize(("known", "exact", "left"), [(None, False, 9), (5, False, 5), (5, True, 9)])
def test_a_measure_with_libraries_in_it_does_not_replace_another(
    valkey: EmbeddedValkey, connection: redis.Redis, known: int | None, exact: bool, left: int
) -> None:
    if known is not None:
        connection.hset(COST, "bytes", known)
    member(valkey, "w1").end_loads([LoadNote(QUEUE, 1.0, 9, exact=exact)], holds=False)
    assert int(connection.hget(COST, "bytes") or 0) == left
    assert connection.hget(COST, "load_seconds") == b"1.000"
    assert not connection.exists(HOLDERS)


def test_one_worker_loads_at_a_time(valkey: EmbeddedValkey, connection: redis.Redis) -> None:
    one, two, three = member(valkey, "w1"), member(valkey, "w2"), member(valkey, "w3")
    assert one.begin_load(QUEUE, 10)
    assert not two.begin_load(QUEUE, 10)
    connection.hset(WANTED, QUEUE, time.time())
    assert two.look([], [QUEUE]).demand[QUEUE].loading_seconds is not None
    assert one.look([], [QUEUE]).demand[QUEUE].loading_seconds is None
    # It takes too long: one more joins, and only one.
    connection.set(LOADING, f"{time.time() - 11:.3f} w1")
    assert two.begin_load(QUEUE, 10)
    assert not three.begin_load(QUEUE, 10)
    one.end_loads([LoadNote(QUEUE, None)], holds=True)
    assert connection.exists(LOADING)  # it is the other's now
    two.end_loads([LoadNote(QUEUE, None)], holds=True)
    assert three.begin_load(QUEUE, 10)
    assert 0 < int(connection.ttl(LOADING)) <= 600


def test_a_dead_worker_neither_loads_nor_holds(valkey: EmbeddedValkey, connection: redis.Redis) -> None:
    dead, one = member(valkey, "dead", alive=False), member(valkey, "w1")
    dead.look([QUEUE], [])
    assert dead.begin_load(QUEUE, 1000)
    asked = one.look([], [], sure=[QUEUE]).demand[QUEUE]
    assert (asked.holders, asked.loading_seconds) == (0, None)
    assert connection.scard(HOLDERS) == 0
    assert one.begin_load(QUEUE, 1000)


def test_a_token_for_another_worker_is_passed_on(valkey: EmbeddedValkey, connection: redis.Redis) -> None:
    one, two = member(valkey, "w1"), member(valkey, "w2")
    bell = "muleteer:bell:default"
    put(connection, QUEUE, "a", 0)
    two.look([], [QUEUE], woken=True)
    assert connection.llen(bell) == 0  # nobody holds it
    one.look([QUEUE], [])
    two.look([], [QUEUE])
    assert connection.llen(bell) == 0  # no token was taken
    for _ in range(3):
        two.look([], [QUEUE], woken=True)
    assert connection.llen(bell) == 1
