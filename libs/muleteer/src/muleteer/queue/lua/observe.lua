-- What a gateway shows of queues, pools and versions, in one call.
-- ARGV: number of queues, their names, number of pools, their names, then model names.
-- Returns {for each queue: {queued, running, seconds the oldest has waited, rows of the interactive class and of the batch
--            class, jobs accepted, finished, failed, canceled, expired, then the cost: a, b, load seconds, bytes},
--          for each pool: names of live workers, for each model: {field, value, ...}}.
-- A model's fields are version|pool|worker; those of workers that are gone are removed here.
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1000000
local queues = tonumber(ARGV[1])
local pools = tonumber(ARGV[2 + queues])
local out = {{}, {}, {}}

-- Seconds that a lane's oldest job has waited, and how many it holds.
local function wait_in(lane)
  local list = 'rq:queue:' .. lane
  local head = redis.call('LINDEX', list, 0)
  local enqueued = head and tonumber(redis.call('HGET', 'rq:job:' .. head, 'enqueued') or '')
  return enqueued and math.max(0, now - enqueued) or 0, head and redis.call('LLEN', list) or 0
end

for n = 1, queues do
  local queue = ARGV[1 + n]
  local oldest, queued = wait_in(queue)
  for _, class in ipairs({'interactive', 'batch'}) do
    for _, lane in ipairs(redis.call('ZRANGE', 'muleteer:lanes:' .. queue .. ':' .. class, 0, -1)) do
      if lane ~= queue then
        local waited, jobs = wait_in(lane)
        oldest, queued = math.max(oldest, waited), queued + jobs
      end
    end
  end
  local state = {queued, redis.call('ZCARD', 'rq:wip:' .. queue), string.format('%.3f', oldest)}
  local ledger = redis.call('HMGET', 'muleteer:ledger:' .. queue, 'rows', 'batch_rows', 'accepted', 'finished', 'failed',
    'canceled', 'expired')
  for at = 1, 7 do
    state[#state + 1] = ledger[at] or '0'
  end
  local cost = redis.call('HMGET', 'muleteer:cost:' .. queue, 'a', 'b', 'load_seconds', 'bytes')
  for at = 1, 4 do
    state[#state + 1] = cost[at] or ''
  end
  out[1][n] = state
end
for n = 1, pools do
  local key = 'muleteer:workers:' .. ARGV[2 + queues + n]
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  out[2][n] = redis.call('ZRANGE', key, 0, -1)
end
for n = 3 + queues + pools, #ARGV do
  local key = 'muleteer:versions:' .. ARGV[n]
  local reports = redis.call('HGETALL', key)
  local alive = {}
  for at = 1, #reports, 2 do
    local pool, worker = string.match(reports[at], '^[^|]*|([^|]*)|(.*)$')
    local ends = pool and redis.call('ZSCORE', 'muleteer:workers:' .. pool, worker)
    if ends and tonumber(ends) > now then
      alive[#alive + 1] = reports[at]
      alive[#alive + 1] = reports[at + 1]
    else
      redis.call('HDEL', key, reports[at])
    end
  end
  out[3][#out[3] + 1] = alive
end
return out
