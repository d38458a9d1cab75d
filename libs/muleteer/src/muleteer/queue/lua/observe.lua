-- What a gateway shows of queues, pools and versions, in one call.
-- ARGV: number of queues, their names, number of pools, their names, then model names.
-- Returns {for each queue: {queued, running, seconds the oldest has waited, jobs, rows, seconds of predict},
--          for each pool: names of live workers, for each model: {field, value, ...}}.
-- A model's fields are version|pool|worker; those of workers that are gone are removed here.
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1000000
local queues = tonumber(ARGV[1])
local pools = tonumber(ARGV[2 + queues])
local out = {{}, {}, {}}
for n = 1, queues do
  local queue = ARGV[1 + n]
  local list = 'rq:queue:' .. queue
  local oldest = 0
  local head = redis.call('LINDEX', list, 0)
  if head then
    local enqueued = tonumber(redis.call('HGET', 'rq:job:' .. head, 'enqueued') or '')
    oldest = enqueued and math.max(0, now - enqueued) or 0
  end
  local stats = redis.call('HMGET', 'muleteer:stats:' .. queue, 'jobs', 'rows', 'seconds')
  out[1][n] = {redis.call('LLEN', list), redis.call('ZCARD', 'rq:wip:' .. queue), string.format('%.3f', oldest),
    stats[1] or '0', stats[2] or '0', stats[3] or '0'}
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
