-- Take a batch of waiting jobs of one queue under a lease.
--
-- ARGV: execution id, worker, lease seconds, guard seconds, RQ's form of the refusal (base64), pool, number of
--       queues, then FIELDS values a queue: name, most rows, most deliveries, predicted seconds of a batch and of each row
--       in it (0 0 while nothing is known), share of the batch class (0 to 1).
-- The time is the server's: the call may have been sent long before it runs (behind a blocking pop).
-- Queues are tried in the order given. Returns false when none had anything, else
--   {queue, expired, canceled, refused, 1 if some of the queues still holds jobs else 0, then for each job: id, input, rows, deliveries, seconds waited, keep, extra}.
--
-- A queue's jobs wait in lanes: one for each class (interactive, batch) and client, each a list of its own. The list of
-- the queue itself is the nameless clients' interactive lane; while no other lane holds jobs it is all there is to look
-- at. A ring (sorted set) per class holds its lanes by the rows that they were given: the lane with the fewest is next.
local FIELDS = 6
local GRACE = 5 -- seconds past its deadline after which a job has nobody left who would wait for it or keep it
local execution, worker = ARGV[1], ARGV[2]
local lease, guard, refusal, pool, queues = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], ARGV[6], tonumber(ARGV[7])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000

-- Return a Unix time as RQ writes it: 2026-01-31T12:00:00.000000Z. Days to date after Howard Hinnant's civil_from_days
-- (howardhinnant.github.io/date_algorithms.html).
local function timestamp(seconds, microseconds)
  local floor = math.floor
  local z = floor(seconds / 86400) + 719468
  local era = floor(z / 146097)
  local doe = z - era * 146097
  local yoe = floor((doe - floor(doe / 1460) + floor(doe / 36524) - floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + floor(yoe / 4) - floor(yoe / 100))
  local mp = floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%06dZ', year, month, doy - floor((153 * mp + 2) / 5) + 1,
    floor(seconds / 3600) % 24, floor(seconds / 60) % 60, seconds % 60, microseconds)
end
local written_now = timestamp(tonumber(clock[1]), tonumber(clock[2]))
local REDELIVERED_BATCH = 8

-- A job that a lost worker held comes back in small batches, then alone, so that one fatal input cannot take
-- the same neighbours down again and again.
local function batch_class(deliveries, max_deliveries)
  if deliveries == 0 then return 0 end
  if deliveries == 1 and max_deliveries > 2 then return 1 end
  return 2
end

local function notify(id, key, status)
  for gateway in string.gmatch(redis.call('HGET', key, 'reply_to') or '', '[^,]+') do
    local list = 'muleteer:replies:' .. gateway
    redis.call('RPUSH', list, id .. ' ' .. status .. '\n')
    redis.call('EXPIRE', list, 60)
  end
end

-- RQ features that a batching worker cannot honour; also any job that is not a prediction.
local function refuse(queue, id, key)
  local ttl = tonumber(redis.call('HGET', key, 'failure_ttl') or '') or 604800
  redis.call('HSET', key, 'status', 'failed', 'ended_at', written_now,
    'error', '{"type":"NotAPrediction","message":"Queue ' .. queue ..
      ' takes Muleteer predictions only: enqueue through the gateway, or use another queue."}')
  redis.call('XADD', 'rq:results:' .. id, 'MAXLEN', '10', '*', 'type', '2', 'worker_name', worker, 'exc_string', refusal)
  redis.call('EXPIRE', 'rq:results:' .. id, ttl)
  redis.call('ZADD', 'rq:failed:' .. queue, now + ttl, id)
  redis.call('EXPIRE', key, ttl)
end

-- Leave a client's jobs under way, for jobs that its limit counts.
local function release(id, key)
  local client = redis.call('HGET', key, 'client')
  if client then
    redis.call('ZREM', 'muleteer:running:' .. client, id)
  end
end

-- Whether a job with so many rows and this deadline may join the batch. Its predicted time must stay within the tightest
-- deadline in it; one that cannot be met anyhow binds nobody.
local function fits(batch, rows, deadline)
  if #batch.leases == 0 then
    return true
  end
  local ends = now + batch.seconds + batch.row_seconds * (batch.rows + rows)
  local alone = now + batch.seconds + batch.row_seconds * rows
  return batch.rows + rows <= batch.max_rows and ends <= batch.deadline and (alone > deadline or ends <= deadline)
end

local function add(batch, id, job, rows, deliveries)
  redis.call('HSET', 'rq:job:' .. id, 'status', 'started', 'started_at', written_now, 'worker_name', worker)
  batch.leases[#batch.leases + 1] = now + lease + guard
  batch.leases[#batch.leases + 1] = id .. ':' .. execution
  batch.rows = batch.rows + rows
  local out = batch.out
  local at = #out
  out[at + 1] = id
  out[at + 2] = job[2]
  out[at + 3] = rows
  out[at + 4] = deliveries
  out[at + 5] = string.format('%.6f', now - tonumber(job[7] or now))
  out[at + 6] = job[6] or ''
  out[at + 7] = job[9] or ''
end

-- A dead letter that `rq requeue` revived: it was accounted for as failed, now it is accepted anew.
local function revive(batch, key)
  redis.call('PERSIST', key)
  redis.call('HDEL', key, 'dead', 'deliveries', 'error', 'expires_at', 'lane', 'client')
  redis.call('HINCRBY', batch.ledger, 'accepted', 1)
end

-- Take jobs of one lane, about `most` rows of them. Returns how many rows left the lane, and how many jobs.
local function take(batch, lane, most)
  local list, out = 'rq:queue:' .. lane, batch.out
  local ids = redis.call('LPOP', list, most)
  if not ids then
    return 0, 0
  end
  local gone, before, looked_at = 0, batch.rows, 0
  for _, id in ipairs(ids) do
    local key = 'rq:job:' .. id
    local job = redis.call('HMGET', key, 'status', 'input', 'rows', 'deliveries', 'expires_at', 'keep', 'enqueued',
      'dead', 'extra')
    local status, rows = job[1], tonumber(job[3] or '1')
    local deliveries, deadline = tonumber(job[4] or '0'), tonumber(job[5] or '') or math.huge
    if status == 'queued' and not job[2] then
      refuse(batch.queue, id, key)
      out[4] = out[4] + 1
    elseif status == 'queued' and not job[8] and deadline + GRACE < now then
      release(id, key)
      notify(id, key, 'expired')
      redis.call('DEL', key)
      out[2] = out[2] + 1
      gone = gone + rows
    elseif status == 'queued' then
      if job[8] then
        revive(batch, key)
        deliveries, deadline = 0, math.huge
      end
      local class = batch_class(deliveries, batch.max_deliveries)
      batch.class = batch.class or class
      if class ~= batch.class
        or not fits(batch, rows, deadline)
        or class == 1 and #batch.leases / 2 >= REDELIVERED_BATCH
        or class == 2 and #batch.leases > 0 then
        batch.closed = true
        break
      end
      if deadline >= now + batch.seconds + batch.row_seconds * (batch.rows + rows) then
        batch.deadline = math.min(batch.deadline, deadline)
      end
      add(batch, id, job, rows, deliveries)
      gone = gone + (job[8] and 0 or rows)
    elseif status == 'canceled' then -- by RQ's own tools, which do not know its lane
      release(id, key)
      redis.call('HINCRBY', batch.ledger, 'canceled', 1)
      out[3] = out[3] + 1
      gone = gone + rows
    end -- anything else (gone, started, ended) is a stray entry: drop it
    looked_at = looked_at + 1
    if batch.rows - before >= most then
      break
    end
  end
  for n = #ids, looked_at + 1, -1 do
    redis.call('LPUSH', list, ids[n])
  end
  return gone, looked_at
end

-- Serve the lanes of one class in turn until so many rows are taken, the batch is closed or nothing waits.
local function serve(batch, class, most)
  if batch.closed or most <= 0 then
    return
  end
  local ring = 'muleteer:lanes:' .. batch.queue .. ':' .. class
  local stop = batch.rows + most
  local first = redis.call('ZRANGE', ring, 0, 0, 'WITHSCORES')
  if class == 'interactive' then
    if not first[1] then
      batch.gone = batch.gone + take(batch, batch.queue, most)
      return
    elseif redis.call('EXISTS', 'rq:queue:' .. batch.queue) == 1 then
      redis.call('ZADD', ring, 'NX', first[2], batch.queue)
    end
  end
  local turn = math.ceil(most / math.max(1, redis.call('ZCARD', ring)))
  while batch.rows < stop and not batch.closed do
    local lane = redis.call('ZRANGE', ring, 0, 0)[1]
    if not lane then
      return
    end
    local before = batch.rows
    local gone, jobs = take(batch, lane, math.min(turn, stop - batch.rows))
    if class == 'batch' then
      batch.gone_batch = batch.gone_batch + gone
    else
      batch.gone = batch.gone + gone
    end
    if lane ~= batch.queue then
      batch.laned = batch.laned + jobs
    end
    if redis.call('EXISTS', 'rq:queue:' .. lane) == 0 then
      redis.call('ZREM', ring, lane)
      if lane ~= batch.queue then
        redis.call('SREM', 'rq:queues', 'rq:queue:' .. lane)
      end
    else
      redis.call('ZINCRBY', ring, batch.rows - before, lane)
    end
  end
end

-- Serve both classes: interactive first, and the batch class its share of the rows, which adds up while it is below one.
local function serve_classes(batch, max_rows, share)
  local lanes = 'muleteer:lanes:' .. batch.queue
  if redis.call('EXISTS', lanes .. ':batch') == 0
    or redis.call('EXISTS', 'rq:queue:' .. batch.queue, lanes .. ':interactive') == 0 then
    serve(batch, 'interactive', max_rows)
    serve(batch, 'batch', max_rows - batch.rows)
    return
  end
  local credit = (tonumber(redis.call('HGET', batch.ledger, 'credit') or '') or 0) + max_rows * share
  local due = math.min(max_rows, math.floor(credit))
  serve(batch, 'interactive', max_rows - due)
  local before = batch.rows
  serve(batch, 'batch', max_rows - before)
  local given = batch.rows - before
  serve(batch, 'interactive', max_rows - batch.rows)
  redis.call('HSET', batch.ledger, 'credit', string.format('%.3f', math.max(0, math.min(max_rows, credit - given))))
end

local function holds_jobs(queue)
  local lanes = 'muleteer:lanes:' .. queue
  return redis.call('EXISTS', 'rq:queue:' .. queue, lanes .. ':interactive', lanes .. ':batch') > 0
end

-- Write what the batch took into the queue's ledger. Jobs that RQ's own tools took away are found out here: a queue
-- without a job has no rows.
local function account(batch)
  local out, ledger = batch.out, batch.ledger
  if out[2] > 0 then
    redis.call('HINCRBY', ledger, 'expired', out[2])
  end
  if out[4] > 0 then
    redis.call('HINCRBY', ledger, 'accepted', out[4])
    redis.call('HINCRBY', ledger, 'failed', out[4])
  end
  local left = 0
  for name, taken in pairs({rows = batch.gone, batch_rows = batch.gone_batch, laned = batch.laned}) do
    if taken > 0 then
      left = math.max(left, math.abs(redis.call('HINCRBY', ledger, name, -taken)))
    end
  end
  if left > 0 and not holds_jobs(batch.queue) then
    redis.call('HSET', ledger, 'rows', 0, 'batch_rows', 0, 'laned', 0)
  end
end

local function claim_from(at)
  local queue, max_rows, lanes = ARGV[at], tonumber(ARGV[at + 1]), 'muleteer:lanes:' .. ARGV[at]
  local batch = {
    queue = queue, ledger = 'muleteer:ledger:' .. queue, out = {queue, 0, 0, 0, 0}, leases = {}, rows = 0,
    max_rows = max_rows, max_deliveries = tonumber(ARGV[at + 2]), seconds = tonumber(ARGV[at + 3]),
    row_seconds = tonumber(ARGV[at + 4]), deadline = math.huge, gone = 0, gone_batch = 0, laned = 0,
  }
  local looked_at = 0
  if redis.call('EXISTS', lanes .. ':interactive', lanes .. ':batch') == 0 then
    batch.gone, looked_at = take(batch, queue, max_rows)
    if looked_at == 0 then
      return false
    end
  else
    serve_classes(batch, max_rows, tonumber(ARGV[at + 5]))
  end
  local leases = batch.leases
  for first = 1, #leases, 2000 do
    redis.call('ZADD', 'rq:wip:' .. queue, unpack(leases, first, math.min(first + 1999, #leases)))
  end
  account(batch)
  return batch.out
end

for n = 1, queues do
  local out = claim_from(8 + (n - 1) * FIELDS)
  if out then
    for m = 1, queues do
      if holds_jobs(ARGV[8 + (m - 1) * FIELDS]) then
        out[5] = 1
        -- This worker took the token of jobs that it leaves behind: another one may sleep and could take them.
        local bell = 'muleteer:bell:' .. pool
        if redis.call('LLEN', bell) == 0 then
          redis.call('RPUSH', bell, '')
        end
        break
      end
    end
    return out
  end
end
return false
