"""The books of each model version: accepted = finished + failed + canceled + expired + what is queued or runs."""

from collections import Counter, defaultdict

import redis
from prometheus_client.parser import text_string_to_metric_families

from support.chaos.model import NAME, VERSIONS

METRIC = "muleteer_jobs_accounted_total"
ENDED = ("finished", "failed", "canceled", "expired")
READ = ("accepted", *ENDED, "rows", "batch_rows")

# Everything in one step: the ledger, jobs in lanes, jobs in hand. A lease of a job that was canceled while it ran is
# no running job.
LOOK = """
local q = ARGV[1]
local function jobs(ids, status)
  local n, rows = 0, 0
  for _, id in ipairs(ids) do
    local job = redis.call('HMGET', 'rq:job:' .. id, 'status', 'rows')
    if job[1] == status then
      n, rows = n + 1, rows + tonumber(job[2])
    end
  end
  return n, rows
end
local lanes = {[q] = true}
local empty = 0
for _, class in ipairs({'interactive', 'batch'}) do
  for _, lane in ipairs(redis.call('ZRANGE', 'muleteer:lanes:' .. q .. ':' .. class, 0, -1)) do
    lanes[lane] = true
    if redis.call('LLEN', 'rq:queue:' .. lane) == 0 then empty = empty + 1 end
  end
end
local queued, rows = 0, 0
for lane in pairs(lanes) do
  local its, of_them = jobs(redis.call('LRANGE', 'rq:queue:' .. lane, 0, -1), 'queued')
  queued, rows = queued + its, rows + of_them
end
local held = {}
for _, member in ipairs(redis.call('ZRANGE', 'rq:wip:' .. q, 0, -1)) do
  held[#held + 1] = string.match(member, '^(.*):[^:]+$')
end
local running = jobs(held, 'started')
return {queued, rows, running, empty, unpack(redis.call('HMGET', 'muleteer:ledger:' .. q, unpack(ARGV, 2)))}
"""


def off_balance(connection: redis.Redis) -> list[str]:
    """Return what does not add up at this moment, and lanes that are in a ring without jobs."""
    wrong = []
    for version in VERSIONS:
        queue = f"{NAME}.{version}"
        queued, rows, running, empty, *values = connection.eval(LOOK, 0, queue, *READ)
        ledger = {name: int(value or 0) for name, value in zip(READ, values, strict=True)}
        if empty:
            wrong.append(f"{queue}: {empty} lanes are in a ring without jobs")
        if ledger["accepted"] != sum(ledger[name] for name in ENDED) + queued + running:
            wrong.append(f"{queue}: {ledger} does not add up with {queued} queued and {running} running")
        if ledger["rows"] + ledger["batch_rows"] != rows:
            wrong.append(f"{queue}: {ledger}, but {rows} rows are queued")
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
