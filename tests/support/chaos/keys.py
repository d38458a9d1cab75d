"""Which keys may be in Redis when nothing runs, and for how long."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import redis

from support.chaos.book import ENDS
from support.chaos.model import FAILURE_TTL, RESULT_TTL

FOREVER = -1
REPLIES_TTL = 60
COST_TTL = 2_592_000
WISH_TTL = 600


@dataclass(frozen=True)
class Allowed:
    """A kind of key that may be left: the longest time to live (seconds), FOREVER for one that needs none."""

    pattern: str
    longest_ttl: int

    def is_for(self, key: str) -> bool:
        return re.fullmatch(self.pattern, key) is not None


ALLOWED = (
    # Jobs that have ended and their results, as long as somebody may fetch them.
    Allowed(r"rq:job:[0-9a-f]{32}", FAILURE_TTL),
    Allowed(r"rq:results:[0-9a-f]{32}", FAILURE_TTL),
    Allowed(r"muleteer:idempotency:[0-9a-f]{64}", RESULT_TTL),
    # One for each queue: registries, whose entries have a time of their own (see _stale_entries), and totals.
    Allowed(r"rq:(finished|failed|canceled):[^:]+", FOREVER),
    Allowed(r"muleteer:ledger:[^:]+", FOREVER),
    Allowed(r"muleteer:cost:[^:]+", COST_TTL),
    # One for each gateway, pool or model, or one at all.
    Allowed(r"muleteer:replies:[0-9a-f]+", REPLIES_TTL),
    Allowed(r"muleteer:workers:[^:]+", FOREVER),
    Allowed(r"muleteer:bell:[^:]+", FOREVER),
    Allowed(r"muleteer:wanted:[^:]+", WISH_TTL),
    Allowed(r"muleteer:versions:[^:]+", FOREVER),
    Allowed(r"rq:queues", FOREVER),
)
"""Not among them: ``rq:wip:*``, lanes (``rq:queue:*``) and their rings (``muleteer:lanes:*``), which empty out."""


def left_over(connection: redis.Redis, workers: int) -> list[str]:
    """Return what should not be in Redis while nothing runs; ``workers`` are alive."""
    wrong = []
    for raw in connection.scan_iter(count=1000):
        key = raw.decode()
        allowed = next((one for one in ALLOWED if one.is_for(key)), None)
        ttl = connection.ttl(key)
        if ttl == -2:  # it has just run out
            continue
        if allowed is None:
            wrong.append(f"{key} ({connection.type(key).decode()}) should not be there")
        elif allowed.longest_ttl != FOREVER and not 0 <= ttl <= allowed.longest_ttl:
            wrong.append(f"{key} lives for {ttl} s, at most {allowed.longest_ttl} s are right")
        elif key.startswith("rq:job:"):
            status = connection.hget(key, "status")
            if status is not None and status.decode() not in ENDS:
                wrong.append(f"{key} has not ended: {status.decode()}")
        elif key.startswith("muleteer:bell:") and connection.llen(key) > workers:
            wrong.append(f"{key} holds {connection.llen(key)} tokens for {workers} workers")
        elif key.startswith(("rq:finished:", "rq:failed:", "rq:canceled:")):
            wrong += _stale_entries(connection, key)
    return wrong


def _stale_entries(connection: redis.Redis, registry: str) -> Iterator[str]:
    """Yield what is wrong in a registry: entries past their time that no reaper has taken out, or that never end."""
    now = float(connection.time()[0])
    for member, ends in connection.zscan_iter(registry):
        if not now - 5 <= ends <= now + FAILURE_TTL + 1:
            yield f"{registry} holds {member.decode()} for {ends - now:.0f} s more"
