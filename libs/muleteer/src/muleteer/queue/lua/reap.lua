-- Give back jobs whose worker is lost: to the head of the queue, or, past the last delivery, to the failed registry.
--
-- ARGV: guard seconds, time as RQ writes it, 1 if this counts as a lost delivery else 0, number of workers, their
--       names (none: whoever's lease has expired),
--       then for each queue: name, pool, most deliveries, error (JSON), error in RQ's form (base64).
-- With worker names, only leases of these workers are given back, expired or not (a parent that saw its child die).
-- Returns for each queue: name, requeued, dead.
local EXECUTION_PREFIX = 'mt-'
local guard, written_now, lost, named = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local workers = {}
for n = 1, named do
  workers[ARGV[4 + n]] = true
end
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1000000

local function notify(reply_to, id, error)
  for gateway in string.gmatch(reply_to or '', '[^,]+') do
    local list = 'muleteer:replies:' .. gateway
    redis.call('RPUSH', list, id .. ' failed 0 0 0 0\n' .. error)
    redis.call('EXPIRE', list, 60)
  end
end

local function bury(queue, id, key, job, error, rq_form)
  local ttl, stream = tonumber(job[3] or '604800'), 'rq:results:' .. id
  redis.call('HSET', key, 'status', 'failed', 'ended_at', written_now, 'error', error, 'dead', '1', 'keep', '1')
  redis.call('XADD', stream, 'MAXLEN', '10', '*', 'type', '2', 'worker_name', job[5] or '', 'exc_string', rq_form)
  redis.call('EXPIRE', stream, ttl)
  redis.call('EXPIRE', key, ttl)
  redis.call('ZADD', 'rq:failed:' .. queue, now + ttl, id)
  if job[6] then
    redis.call('ZADD', 'muleteer:callbacks', now, id)
  end
  if job[8] then
    redis.call('ZREM', 'muleteer:running:' .. job[8], id)
  end
  redis.call('HINCRBY', 'muleteer:ledger:' .. queue, 'failed', 1)
  notify(job[4], id, error)
end

local function is_lost(member, score)
  local execution = string.match(member, ':([^:]+)$') or ''
  local ours = string.sub(execution, 1, #EXECUTION_PREFIX) == EXECUTION_PREFIX
  if named > 0 then
    local worker = string.match(string.sub(execution, #EXECUTION_PREFIX + 1), '^(.*)%.%d+$')
    return ours and workers[worker or ''] or false
  end
  return score - (ours and guard or 0) <= now
end

local function reap(queue, max_deliveries, error, rq_form)
  local wip = 'rq:wip:' .. queue
  local top = named > 0 and '+inf' or now + guard
  local found = redis.call('ZRANGEBYSCORE', wip, '-inf', top, 'WITHSCORES')
  local requeued, dead, rows = {}, 0, 0
  for n = 1, #found, 2 do
    local member = found[n]
    if is_lost(member, tonumber(found[n + 1])) then
      local id = string.match(member, '^(.*):[^:]+$')
      local key = 'rq:job:' .. id
      local job = redis.call('HMGET', key, 'status', 'deliveries', 'failure_ttl', 'reply_to', 'worker_name',
        'callback', 'rows', 'client')
      redis.call('ZREM', wip, member)
      if job[1] == 'started' then
        local deliveries = tonumber(job[2] or '0') + lost
        if lost > 0 then
          redis.call('HSET', key, 'deliveries', deliveries)
        end
        if lost > 0 and deliveries >= max_deliveries then
          bury(queue, id, key, job, error, rq_form)
          dead = dead + 1
        else
          -- At the head of the queue itself, whatever lane it came from: it has waited longest.
          redis.call('HSET', key, 'status', 'queued', 'started_at', '', 'worker_name', '', 'lane', '')
          rows = rows + tonumber(job[7] or '1')
          requeued[#requeued + 1] = id
        end
      end
    end
  end
  for n = #requeued, 1, -1 do
    redis.call('LPUSH', 'rq:queue:' .. queue, requeued[n])
  end
  if rows > 0 then
    redis.call('HINCRBY', 'muleteer:ledger:' .. queue, 'rows', rows)
  end
  return #requeued, dead
end

-- A stock worker that died between RQ's move to its intermediate list and its first heartbeat leaves the job there.
local function sweep_intermediate(queue)
  local list = 'rq:queue:' .. queue .. ':intermediate'
  local swept = 0
  for _, id in ipairs(redis.call('LRANGE', list, 0, -1)) do
    local seen = list .. ':first_seen:' .. id
    local since = tonumber(redis.call('GET', seen) or '')
    if not since then
      redis.call('SET', seen, string.format('%.3f', now), 'EX', 86400)
    elseif now - since > 60 then
      redis.call('LREM', list, 1, id)
      redis.call('DEL', seen)
      if redis.call('HGET', 'rq:job:' .. id, 'status') == 'queued' then
        redis.call('LPUSH', 'rq:queue:' .. queue, id)
        swept = swept + 1
      end
    end
  end
  return swept
end

local function ring(pool, count)
  local bell = 'muleteer:bell:' .. pool
  local wanted = math.min(count, redis.call('ZCARD', 'muleteer:workers:' .. pool) - redis.call('LLEN', bell))
  for _ = 1, wanted do
    redis.call('RPUSH', bell, '')
  end
end

local out = {}
for at = 5 + named, #ARGV, 5 do
  local queue = ARGV[at]
  local requeued, dead = reap(queue, tonumber(ARGV[at + 2]), ARGV[at + 3], ARGV[at + 4])
  if named == 0 then
    requeued = requeued + sweep_intermediate(queue)
    for _, registry in ipairs({'rq:finished:', 'rq:failed:', 'rq:canceled:'}) do
      redis.call('ZREMRANGEBYSCORE', registry .. queue, 0, now)
    end
  end
  if requeued > 0 then
    ring(ARGV[at + 1], requeued)
  end
  out[#out + 1] = queue
  out[#out + 1] = requeued
  out[#out + 1] = dead
end
return out
