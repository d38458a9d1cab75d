-- Enqueue every job of one event-loop tick, and wake as many idle workers as there is work for.
--
-- ARGV: number of jobs, '1' to register their queues with RQ (now and then is enough), then FIELDS values a job
--       (see producer.py, `NewJob.arguments`).
-- Returns {} when all went well, else {index, code, detail, ...} for each job that is not a plain success:
--   "same"     the idempotency key belongs to job `detail`, with the same body
--   "conflict" the idempotency key belongs to job `detail`, with another body
--   "full"     the queue holds `detail` jobs, which is its limit
--   "rows"     the queue holds `detail` instances, and with this job's it would be over its limit
--   "rate"     the client is over its rate: it may try again in `detail` seconds
--   "busy"     the client has `detail` jobs under way, which is its limit
local FIELDS = 24
local FIRST = 3
local LONGEST_JOB = 604800 -- seconds after which a job that never ended stops counting for its client
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1000000

local register = ARGV[2] == '1'
local answers = {}
local queues = {}  -- queue -> what it holds, and what is new of it (see queue_state)
local pushed = {}  -- lane -> ids to push
local bells = {}   -- pool -> number of new jobs
local buckets = {} -- client -> {tokens, rate, burst}

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

local function queue_state(queue)
  local state = queues[queue]
  if not state then
    local known = redis.call('HMGET', 'muleteer:ledger:' .. queue, 'laned', 'rows', 'batch_rows')
    state = {
      jobs = redis.call('LLEN', 'rq:queue:' .. queue) + math.max(0, tonumber(known[1] or '0')),
      rows = math.max(0, tonumber(known[2] or '0')) + math.max(0, tonumber(known[3] or '0')),
      new_jobs = 0, new_rows = 0, new_batch_rows = 0, new_laned = 0,
    }
    if register then
      redis.call('SADD', 'rq:queues', 'rq:queue:' .. queue)
    end
    queues[queue] = state
  end
  return state
end

-- Which class a lane is of; the queue's own list is the nameless clients' interactive one.
local function class_of(queue, lane)
  return string.match(string.sub(lane, #queue + 2), '^[^:]+') or 'interactive'
end

-- What a client is refused for, or nothing. Limits of 0 are none.
local function exceeded(client, rate, burst, most)
  if most > 0 then
    local key = 'muleteer:running:' .. client
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
    local running = redis.call('ZCARD', key)
    if running >= most then
      return 'busy', running
    end
  end
  if rate > 0 then
    local bucket = buckets[client]
    if not bucket then
      local known = redis.call('HMGET', 'muleteer:rate:' .. client, 'tokens', 'at')
      local passed = math.max(0, now - (tonumber(known[2] or '') or now))
      bucket = {tokens = math.min(burst, (tonumber(known[1] or '') or burst) + passed * rate), rate = rate, burst = burst}
      buckets[client] = bucket
    end
    if bucket.tokens < 1 then
      return 'rate', string.format('%.3f', (1 - bucket.tokens) / rate)
    end
    bucket.tokens = bucket.tokens - 1
  end
end

for index = 1, tonumber(ARGV[1]) do
  local at = FIRST + (index - 1) * FIELDS
  local id, queue, model, version, pool = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local input, rows, reply_to, keep, wait_limit = ARGV[at + 5], ARGV[at + 6], ARGV[at + 7], ARGV[at + 8], ARGV[at + 9]
  local created_at, timeout, result_ttl, failure_ttl = ARGV[at + 10], ARGV[at + 11], ARGV[at + 12], ARGV[at + 13]
  local max_queue, key, digest, again, extra = ARGV[at + 14], ARGV[at + 15], ARGV[at + 16], ARGV[at + 17], ARGV[at + 18]
  local callback, lane, client, limits = ARGV[at + 19], ARGV[at + 20], ARGV[at + 21], ARGV[at + 22]
  local max_rows, most_under_way = ARGV[at + 23], 0
  local job_key = 'rq:job:' .. id
  local state = queue_state(queue)

  -- A call that is repeated after a lost connection must not enqueue twice.
  local fresh = again == '' or redis.call('EXISTS', job_key) == 0
  -- The key first: who repeats a request gets its job, however full the queue is.
  if fresh and key ~= '' and not is_key_free(index, id, key, digest) then
    fresh = false
  elseif fresh and state.jobs >= tonumber(max_queue) then
    answer(index, 'full', state.jobs)
    fresh = false
  elseif fresh and max_rows ~= '' and state.rows > 0 and state.rows + tonumber(rows) > tonumber(max_rows) then
    answer(index, 'rows', state.rows)
    fresh = false
  elseif fresh and limits ~= '' then
    local rate, burst, most = string.match(limits, '^(%S+) (%S+) (%S+)$')
    most_under_way = tonumber(most)
    local reason, detail = exceeded(client, tonumber(rate), tonumber(burst), most_under_way)
    if reason then
      answer(index, reason, detail)
      fresh = false
    end
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
    if most_under_way > 0 then
      redis.call('HSET', job_key, 'client', client)
      redis.call('ZADD', 'muleteer:running:' .. client, now + LONGEST_JOB, id)
      redis.call('EXPIRE', 'muleteer:running:' .. client, LONGEST_JOB)
    end
    state.jobs, state.new_jobs = state.jobs + 1, state.new_jobs + 1
    state.rows = state.rows + tonumber(rows)
    if lane ~= queue then
      redis.call('HSET', job_key, 'lane', lane)
      state.new_laned = state.new_laned + 1
    end
    if class_of(queue, lane) == 'batch' then
      state.new_batch_rows = state.new_batch_rows + tonumber(rows)
    else
      state.new_rows = state.new_rows + tonumber(rows)
    end
    local ids = pushed[lane]
    if not ids then
      ids = {queue = queue}
      pushed[lane] = ids
    end
    ids[#ids + 1] = id
    bells[pool] = (bells[pool] or 0) + 1
  end
end

-- A lane that had no job enters its ring where the others are: idleness earns no credit.
local function enter_ring(queue, lane)
  local ring = 'muleteer:lanes:' .. queue .. ':' .. class_of(queue, lane)
  local first = redis.call('ZRANGE', ring, 0, 0, 'WITHSCORES')
  if redis.call('ZADD', ring, 'NX', first[2] or 0, lane) == 1 then
    redis.call('SADD', 'rq:queues', 'rq:queue:' .. lane)
  end
end

for lane, ids in pairs(pushed) do
  for first = 1, #ids, 1000 do
    redis.call('RPUSH', 'rq:queue:' .. lane, unpack(ids, first, math.min(first + 999, #ids)))
  end
  if lane ~= ids.queue then
    enter_ring(ids.queue, lane)
  end
end

for queue, state in pairs(queues) do
  if state.new_jobs > 0 then
    local ledger = 'muleteer:ledger:' .. queue
    redis.call('HINCRBY', ledger, 'accepted', state.new_jobs)
    if state.new_rows > 0 then
      redis.call('HINCRBY', ledger, 'rows', state.new_rows)
    end
    if state.new_batch_rows > 0 then
      redis.call('HINCRBY', ledger, 'batch_rows', state.new_batch_rows)
    end
    if state.new_laned > 0 then
      redis.call('HINCRBY', ledger, 'laned', state.new_laned)
    end
  end
end

for client, bucket in pairs(buckets) do
  local key = 'muleteer:rate:' .. client
  redis.call('HSET', key, 'tokens', string.format('%.6f', bucket.tokens), 'at', string.format('%.6f', now))
  redis.call('EXPIRE', key, math.ceil(bucket.burst / bucket.rate) + 1)
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
