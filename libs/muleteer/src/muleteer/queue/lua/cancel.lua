-- Cancel a job that has not ended: a queued one leaves the queue, a running one loses its result.
-- ARGV: id, time as RQ writes it. Returns the status it had, or false when there is no such job.
local id = ARGV[1]
local key = 'rq:job:' .. id
local job = redis.call('HMGET', key, 'status', 'origin', 'reply_to', 'callback', 'result_ttl', 'lane', 'rows',
  'client')
local status, queue = job[1], job[2]
if not status then
  return false
end
if status ~= 'queued' and status ~= 'started' then
  return status
end
local ttl = tonumber(job[5] or '3600')
local now = redis.call('TIME')
redis.call('HSET', key, 'status', 'canceled', 'ended_at', ARGV[2])
redis.call('HDEL', key, 'input')
redis.call('EXPIRE', key, ttl)
redis.call('ZADD', 'rq:canceled:' .. queue, tonumber(now[1]) + ttl, id)
local ledger = 'muleteer:ledger:' .. queue
redis.call('HINCRBY', ledger, 'canceled', 1)
if job[8] then
  redis.call('ZREM', 'muleteer:running:' .. job[8], id)
end
if status == 'queued' then
  local lane = job[6] and job[6] ~= '' and job[6] or queue
  local class = string.match(string.sub(lane, #queue + 2), '^[^:]+') or 'interactive'
  if redis.call('LREM', 'rq:queue:' .. lane, 1, id) == 1 and lane ~= queue then
    redis.call('HINCRBY', ledger, 'laned', -1)
    if redis.call('EXISTS', 'rq:queue:' .. lane) == 0 then
      redis.call('ZREM', 'muleteer:lanes:' .. queue .. ':' .. class, lane)
      redis.call('SREM', 'rq:queues', 'rq:queue:' .. lane)
    end
  end
  redis.call('HINCRBY', ledger, class == 'batch' and 'batch_rows' or 'rows', -tonumber(job[7] or '1'))
end
if job[4] then
  redis.call('ZADD', 'muleteer:callbacks', tonumber(now[1]), id)
end
for gateway in string.gmatch(job[3] or '', '[^,]+') do
  local list = 'muleteer:replies:' .. gateway
  redis.call('RPUSH', list, id .. ' canceled 0 0 0 0\n')
  redis.call('EXPIRE', list, 60)
end
return status
