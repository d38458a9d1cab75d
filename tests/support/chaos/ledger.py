"""The books of each model version: accepted = finished + failed + canceled + expired + what is queued or runs."""

from collections import Counter, defaultdict

import redis
from prometheus_client.parser import text_string_to_metric_families

from support.chaos.model import NAME, VERSIONS

LEDGER_MAY_BE_ABSENT = True
"""Until every part keeps the ledger: then this goes, and with it the lines that ask for it."""

METRIC = "muleteer_jobs_accounted_total"
ENDED = ("finished", "failed", "canceled", "expired")

# Everything in one step: the ledger, jobs in lanes, jobs in hand. A lease of a job that was canceled while it ran is
# no running job.
LOOK = """
local q = ARGV[1]
local function jobs(ids, status)
  local n = 0
  for _, id in ipairs(ids) do
    if redis.call('HGET', 'rq:job:' .. id, 'status') == status then n = n + 1 end
  end
  return n
end
local lanes = {['rq:queue:' .. q] = true}
local empty = 0
for _, class in ipairs({'interactive', 'batch'}) do
  for _, lane in ipairs(redis.call('ZRANGE', 'muleteer:lanes:' .. q .. ':' .. class, 0, -1)) do
    lanes[lane] = true
    if redis.call('LLEN', lane) == 0 then empty = empty + 1 end
  end
end
local queued = 0
for lane in pairs(lanes) do
  queued = queued + jobs(redis.call('LRANGE', lane, 0, -1), 'queued')
end
local held = {}
for _, member in ipairs(redis.call('ZRANGE', 'rq:wip:' .. q, 0, -1)) do
  held[#held + 1] = string.match(member, '^(.*):[^:]+$')
end
return {queued, jobs(held, 'started'), empty, redis.call('HGETALL', 'muleteer:ledger:' .. q)}
"""


def off_balance(connection: redis.Redis) -> list[str]:
    """Return what does not add up at this moment, and lanes that are in a ring without jobs."""
    wrong = []
    for version in VERSIONS:
        queue = f"{NAME}.{version}"
        queued, running, empty, flat = connection.eval(LOOK, 0, queue)
        ledger = {name.decode(): int(value) for name, value in zip(flat[::2], flat[1::2], strict=True)}
        if empty:
            wrong.append(f"{queue}: {empty} lanes are in a ring without jobs")
        if not ledger and LEDGER_MAY_BE_ABSENT:
            continue
        ended = sum(ledger.get(name, 0) for name in ENDED)
        if ledger.get("accepted", 0) != ended + queued + running:
            wrong.append(f"{queue}: {ledger} does not add up with {queued} queued and {running} running")
        if not queued and ledger.get("rows", 0):
            wrong.append(f"{queue}: {ledger['rows']} rows are queued in no job")
    return wrong


def accounts(metrics: str) -> dict[str, Counter[str]]:
    """Return what a gateway's metrics say of each version: jobs by event."""
    out: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.name == METRIC and sample.labels["model"] == NAME:
                out[sample.labels["version"]][sample.labels["event"]] += int(sample.value)
    return dict(out)


def misaccounted(metrics: str, seen: dict[str, Counter[str]]) -> list[str]:
    """Return what is wrong in a gateway's accounts once all is quiet; ``seen`` is what callers know of, at least."""
    found = accounts(metrics)
    if not found and LEDGER_MAY_BE_ABSENT:
        return []
    wrong = []
    for version in sorted({*found, *seen}):
        account = found.get(version, Counter())
        if account["accepted"] != sum(account[name] for name in ENDED):
            wrong.append(f"version {version}: accepted is not finished + failed + canceled + expired: {account}")
        wrong += [
            f"version {version}: {event} is {account[event]}, but callers know of {number}"
            for event, number in seen.get(version, Counter()).items()
            if account[event] < number
        ]
    return wrong
