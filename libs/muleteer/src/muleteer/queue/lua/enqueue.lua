-- Enqueue every job of one event-loop tick, and wake as many idle workers as there is work for.
--
-- ARGV: time as RQ writes it, '1' to register the jobs' queues with RQ (now and then is enough), number of kinds of job,
--       then KIND_FIELDS values a kind, then JOB_FIELDS values a job (see producer.py, `NewJob`):
--       id, number of its kind, input, rows, extra, rest (JSON of what few jobs have, or '').
-- Returns {} when all went well, else {index, code, detail, ...} for each job that is not a plain success:
--   "same"     the idempotency key belongs to job `detail`, with the same body
--   "conflict" the idempotency key belongs to job `detail`, with another body
--   "full"     the queue holds `detail` jobs, which is its limit
--   "rows"     the queue holds `detail` instances, and with this job's it would be over its limit
--   "rate"     the client is over its rate: it may try again in `detail` seconds
--   "busy"     the client has `detail` jobs under way, which is its limit
local KIND_FIELDS = 15
local JOB_FIELDS = 6
local LONGEST_JOB = 604800 -- seconds after which a job that never ended stops counting for its client
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1000000

local created_at, register = ARGV[1], ARGV[2] == '1'
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

-- What jobs have in common, read once.
local function read_kind(at)
  local kind = {
    queue = ARGV[at], model = ARGV[at + 1], version = ARGV[at + 2], pool = ARGV[at + 3], reply_to = ARGV[at + 4],
    keep = ARGV[at + 5], timeout = ARGV[at + 7], result_ttl = ARGV[at + 8], failure_ttl = ARGV[at + 9],
    max_jobs = tonumber(ARGV[at + 10]), max_rows = tonumber(ARGV[at + 11]) or math.huge,
    lane = ARGV[at + 12], client = ARGV[at + 13], limited = ARGV[at + 14] ~= '', rate = 0, burst = 0, most = 0,
    enqueued = string.format('%.6f', now), expires_at = '',
  }
  if ARGV[at + 6] ~= '' then
    kind.expires_at = string.format('%.3f', now + tonumber(ARGV[at + 6]))
  end
  if kind.limited then
    local rate, burst, most = string.match(ARGV[at + 14], '^(%S+) (%S+) (%S+)$')
    kind.rate, kind.burst, kind.most = tonumber(rate), tonumber(burst), tonumber(most)
  end
  kind.batch = class_of(kind.queue, kind.lane) == 'batch'
  kind.state = queue_state(kind.queue)
  return kind
end

-- Whether a job may enter; if not, the answer is written.
local function may_enter(index, id, kind, rows, rest)
  local state = kind.state
  -- A call that is repeated after a lost connection must not enqueue twice.
  if rest.again and redis.call('EXISTS', 'rq:job:' .. id) == 1 then
    return false
  end
  -- The key first: who repeats a request gets its job, however full the queue is.
  if rest.key and not is_key_free(index, id, rest.key, rest.digest) then
    return false
  end
  if state.jobs >= kind.max_jobs then
    answer(index, 'full', state.jobs)
    return false
  end
  if state.rows > 0 and state.rows + rows > kind.max_rows then
    answer(index, 'rows', state.rows)
    return false
  end
  local reason, detail
  if kind.limited then
    reason, detail = exceeded(kind.client, kind.rate, kind.burst, kind.most)
  end
  if reason then
    answer(index, reason, detail)
    return false
  end
  return true
end

local function add(id, kind, input, rows, extra, rest)
  local job_key, state, lane = 'rq:job:' .. id, kind.state, kind.lane
  if rest.key then
    redis.call('HSET', rest.key, 'job', id, 'digest', rest.digest)
    redis.call('EXPIRE', rest.key, kind.result_ttl)
  end
  redis.call('HSET', job_key,
    'created_at', created_at, 'enqueued_at', created_at, 'status', 'queued', 'origin', kind.queue,
    'data', '["muleteer_worker.stock.predict", null, [], {}]',
    'description', 'predict ' .. kind.queue, 'timeout', kind.timeout,
    'result_ttl', kind.result_ttl, 'failure_ttl', kind.failure_ttl,
    'input', input, 'model', kind.model, 'version', kind.version, 'rows', rows,
    'reply_to', kind.reply_to, 'keep', kind.keep, 'enqueued', kind.enqueued, 'expires_at', kind.expires_at,
    'extra', extra)
  if rest.callback and rest.callback ~= '' then
    redis.call('HSET', job_key, 'callback', rest.callback)
  end
  if kind.most > 0 then
    redis.call('HSET', job_key, 'client', kind.client)
    redis.call('ZADD', 'muleteer:running:' .. kind.client, now + LONGEST_JOB, id)
    redis.call('EXPIRE', 'muleteer:running:' .. kind.client, LONGEST_JOB)
  end
  if lane ~= kind.queue then
    redis.call('HSET', job_key, 'lane', lane)
    state.new_laned = state.new_laned + 1
  end
  state.jobs, state.new_jobs, state.rows = state.jobs + 1, state.new_jobs + 1, state.rows + rows
  if kind.batch then
    state.new_batch_rows = state.new_batch_rows + rows
  else
    state.new_rows = state.new_rows + rows
  end
  local ids = pushed[lane]
  if not ids then
    ids = {queue = kind.queue}
    pushed[lane] = ids
  end
  ids[#ids + 1] = id
  bells[kind.pool] = (bells[kind.pool] or 0) + 1
end

local kinds, first_job = {}, 4 + tonumber(ARGV[3]) * KIND_FIELDS
for at = 4, first_job - 1, KIND_FIELDS do
  kinds[#kinds + 1] = read_kind(at)
end
local plain, index = {}, 0
for at = first_job, #ARGV, JOB_FIELDS do
  index = index + 1
  local id, kind, rows, rest = ARGV[at], kinds[tonumber(ARGV[at + 1])], tonumber(ARGV[at + 3]), ARGV[at + 5]
  rest = rest == '' and plain or cjson.decode(rest)
  if may_enter(index, id, kind, rows, rest) then
    add(id, kind, ARGV[at + 2], rows, ARGV[at + 4], rest)
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
