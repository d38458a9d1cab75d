-- Enqueue every job of one event-loop tick, and wake as many idle workers as there is work for.
--
-- ARGV: number of jobs, '1' to register their queues with RQ (now and then is enough), then FIELDS values a job
--       (see producer.py, `NewJob.arguments`).
-- Returns {} when all went well, else {index, code, detail, ...} for each job that is not a plain success:
--   "same"     the idempotency key belongs to job `detail`, with the same body
--   "conflict" the idempotency key belongs to job `detail`, with another body
--   "full"     the queue holds `detail` jobs, which is its limit
local FIELDS = 20
local FIRST = 3
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1000000

local register = ARGV[2] == '1'
local answers = {}
local lengths = {} -- queue -> jobs it holds
local pushed = {}  -- queue -> ids to push
local bells = {}   -- pool -> number of new jobs

local function answer(index, code, detail)
  answers[#answers + 1] = index
  answers[#answers + 1] = code
  answers[#answers + 1] = tostring(detail)
end

-- True when the key is free, or this job's own; else the answer is written.
local function is_key_free(index, id, key, digest)
  local taken = redis.call('HMGET', key, 'job', 'digest')
  if taken[1] and taken[1] ~= id and redis.call('EXISTS', 'rq:job:' .. taken[1]) == 1 then
    answer(index, taken[2] == digest and 'same' or 'conflict', taken[1])
    return false
  end
  return true
end

for index = 1, tonumber(ARGV[1]) do
  local at = FIRST + (index - 1) * FIELDS
  local id, queue, model, version, pool = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local input, rows, reply_to, keep, wait_limit = ARGV[at + 5], ARGV[at + 6], ARGV[at + 7], ARGV[at + 8], ARGV[at + 9]
  local created_at, timeout, result_ttl, failure_ttl = ARGV[at + 10], ARGV[at + 11], ARGV[at + 12], ARGV[at + 13]
  local max_queue, key, digest, again, extra = ARGV[at + 14], ARGV[at + 15], ARGV[at + 16], ARGV[at + 17], ARGV[at + 18]
  local callback = ARGV[at + 19]
  local job_key = 'rq:job:' .. id

  local length = lengths[queue]
  if not length then
    length = redis.call('LLEN', 'rq:queue:' .. queue)
    if register then
      redis.call('SADD', 'rq:queues', 'rq:queue:' .. queue)
    end
    lengths[queue] = length
    pushed[queue] = {}
  end

  -- A call that is repeated after a lost connection must not enqueue twice.
  local fresh = again == '' or redis.call('EXISTS', job_key) == 0
  -- The key first: who repeats a request gets its job, however full the queue is.
  if fresh and key ~= '' and not is_key_free(index, id, key, digest) then
    fresh = false
  elseif fresh and length >= tonumber(max_queue) then
    answer(index, 'full', length)
    fresh = false
  end
  if fresh then
    if key ~= '' then
      redis.call('HSET', key, 'job', id, 'digest', digest)
      redis.call('EXPIRE', key, result_ttl)
    end
    redis.call('HSET', job_key,
      'created_at', created_at, 'enqueued_at', created_at, 'status', 'queued', 'origin', queue,
      'data', '["muleteer_worker.stock.predict", null, [], {}]',
      'description', 'predict ' .. queue, 'timeout', timeout,
      'result_ttl', result_ttl, 'failure_ttl', failure_ttl,
      'input', input, 'model', model, 'version', version, 'rows', rows,
      'reply_to', reply_to, 'keep', keep, 'enqueued', string.format('%.6f', now),
      'expires_at', wait_limit == '' and '' or string.format('%.3f', now + tonumber(wait_limit)),
      'extra', extra)
    if callback ~= '' then
      redis.call('HSET', job_key, 'callback', callback)
    end
    lengths[queue] = length + 1
    local ids = pushed[queue]
    ids[#ids + 1] = id
    bells[pool] = (bells[pool] or 0) + 1
  end
end

for queue, ids in pairs(pushed) do
  for first = 1, #ids, 1000 do
    redis.call('RPUSH', 'rq:queue:' .. queue, unpack(ids, first, math.min(first + 999, #ids)))
  end
end

-- No more tokens than workers: a token carries nothing, it only ends one worker's sleep.
for pool, count in pairs(bells) do
  local bell = 'muleteer:bell:' .. pool
  local wanted = 1 - redis.call('LLEN', bell)
  if count > 1 then
    wanted = math.max(wanted, math.min(count, redis.call('ZCARD', 'muleteer:workers:' .. pool) - 1 + wanted))
  end
  for _ = 1, wanted do
    redis.call('RPUSH', bell, '')
  end
end

return answers
