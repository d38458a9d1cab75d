-- Take a batch of waiting jobs of one queue under a lease.
--
-- ARGV: execution id, worker, lease seconds, guard seconds, RQ's form of the refusal (base64), pool, number of
--       queues, then for each queue: name, most rows, most deliveries.
-- The time is the server's: the call may have been sent long before it runs (behind a blocking pop).
-- Queues are tried in the order given. Returns false when none had anything, else
--   {queue, expired, canceled, refused, 1 if some of the queues still holds jobs else 0, then for each job: id, input, rows, deliveries, seconds waited, keep, extra}.
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

local function notify(reply_to, id, status)
  for gateway in string.gmatch(reply_to or '', '[^,]+') do
    local list = 'muleteer:replies:' .. gateway
    redis.call('RPUSH', list, id .. ' ' .. status .. '\n')
    redis.call('EXPIRE', list, 60)
  end
end

-- RQ features that a batching worker cannot honour; also any job that is not a prediction.
local function refuse(queue, id, key, failure_ttl)
  local ttl = tonumber(failure_ttl or '') or 604800
  redis.call('HSET', key, 'status', 'failed', 'ended_at', written_now,
    'error', '{"type":"NotAPrediction","message":"Queue ' .. queue ..
      ' takes Muleteer predictions only: enqueue through the gateway, or use another queue."}')
  redis.call('XADD', 'rq:results:' .. id, 'MAXLEN', '10', '*', 'type', '2', 'worker_name', worker, 'exc_string', refusal)
  redis.call('EXPIRE', 'rq:results:' .. id, ttl)
  redis.call('ZADD', 'rq:failed:' .. queue, now + ttl, id)
  redis.call('EXPIRE', key, ttl)
end

local function claim_from(queue, max_rows, max_deliveries)
  local list = 'rq:queue:' .. queue
  local ids = redis.call('LPOP', list, max_rows)
  if not ids then
    return false
  end
  local out = {queue, 0, 0, 0, 0}
  local leases = {}
  local rows_taken, looked_at, class = 0, 0, nil
  for _, id in ipairs(ids) do
    local key = 'rq:job:' .. id
    local job = redis.call('HMGET', key, 'status', 'input', 'rows', 'deliveries', 'expires_at', 'keep', 'enqueued',
      'dead', 'extra', 'reply_to', 'failure_ttl')
    local status, input, rows = job[1], job[2], tonumber(job[3] or '1')
    local deliveries = tonumber(job[4] or '0')
    if status == 'queued' and not input then
      refuse(queue, id, key, job[11])
      out[4] = out[4] + 1
    elseif status == 'queued' and not job[8] and (tonumber(job[5] or '') or now) < now then
      redis.call('DEL', key)
      notify(job[10], id, 'expired')
      out[2] = out[2] + 1
    elseif status == 'queued' then
      if job[8] then -- a dead letter that `rq requeue` revived
        redis.call('PERSIST', key)
        redis.call('HDEL', key, 'dead', 'deliveries', 'error', 'expires_at')
        deliveries = 0
      end
      local its_class = batch_class(deliveries, max_deliveries)
      class = class or its_class
      if its_class ~= class
        or rows_taken > 0 and rows_taken + rows > max_rows
        or class == 1 and #leases / 2 >= REDELIVERED_BATCH
        or class == 2 and #leases > 0 then
        break
      end
      redis.call('HSET', key, 'status', 'started', 'started_at', written_now, 'worker_name', worker)
      leases[#leases + 1] = now + lease + guard
      leases[#leases + 1] = id .. ':' .. execution
      rows_taken = rows_taken + rows
      local at = #out
      out[at + 1] = id
      out[at + 2] = input
      out[at + 3] = rows
      out[at + 4] = deliveries
      out[at + 5] = string.format('%.6f', now - tonumber(job[7] or now))
      out[at + 6] = job[6] or ''
      out[at + 7] = job[9] or ''
    elseif status == 'canceled' then
      out[3] = out[3] + 1
    end -- anything else (gone, started, ended) is a stray entry: drop it
    looked_at = looked_at + 1
  end
  for n = #ids, looked_at + 1, -1 do
    redis.call('LPUSH', list, ids[n])
  end
  for first = 1, #leases, 2000 do
    redis.call('ZADD', 'rq:wip:' .. queue, unpack(leases, first, math.min(first + 1999, #leases)))
  end
  return out
end

for n = 1, queues do
  local out = claim_from(ARGV[5 + 3 * n], tonumber(ARGV[6 + 3 * n]), tonumber(ARGV[7 + 3 * n]))
  if out then
    for m = 1, queues do
      if redis.call('LLEN', 'rq:queue:' .. ARGV[5 + 3 * m]) > 0 then
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
