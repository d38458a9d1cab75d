-- What is asked for of versions that a worker does not hold, and which of those that it holds have jobs waiting.
--
-- ARGV: pool, worker, '1' if the bell has woken it for nothing, seconds that a note of a holder or of a load lasts,
--       number of queues it holds, of queues it loads, of queues it wants to know of in any case, these queues, then
--       the other queues that it does not hold.
-- Also notes that the worker still holds and loads these, and rings the bell again for jobs that another worker holds
-- the version of: this one has taken their token.
-- Returns {{for each queue it holds: 1 if jobs wait, else 0}, {for each queue that is asked for: name, jobs, rows,
--          seconds the oldest waits, other live holders, seconds another live worker loads it or '', bytes or '',
--          load seconds or ''}}.
local LANES = 16 -- at most so many lanes of a ring are looked into
local WISH_SECONDS = 300 -- a gateway's wish for a version is forgotten after this
local pool, worker, woken, lasts = ARGV[1], ARGV[2], ARGV[3] == '1', tonumber(ARGV[4])
local held, loads, sure = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local FIRST = 8
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1000000

local function lanes_of(queue)
  local lanes = {queue}
  for _, kind in ipairs({'interactive', 'batch'}) do
    for _, lane in ipairs(redis.call('ZRANGE', 'muleteer:lanes:' .. queue .. ':' .. kind, 0, LANES - 1)) do
      if lane ~= queue then
        lanes[#lanes + 1] = lane
      end
    end
  end
  return lanes
end

-- Returns jobs that wait, and the seconds that the oldest of them does.
local function waiting(queue)
  local jobs, oldest = 0, 0
  for _, lane in ipairs(lanes_of(queue)) do
    local list = 'rq:queue:' .. lane
    local length = redis.call('LLEN', list)
    if length > 0 then
      jobs = jobs + length
      local enqueued = tonumber(redis.call('HGET', 'rq:job:' .. redis.call('LINDEX', list, 0), 'enqueued') or '')
      oldest = math.max(oldest, now - (enqueued or now))
    end
  end
  return jobs, oldest
end

local function is_alive(name)
  local ends = redis.call('ZSCORE', 'muleteer:workers:' .. pool, name)
  return ends and tonumber(ends) > now
end

local function count_holders(queue)
  local key, count = 'muleteer:holders:' .. queue, 0
  for _, name in ipairs(redis.call('SMEMBERS', key)) do
    if name ~= worker then
      if is_alive(name) then
        count = count + 1
      else
        redis.call('SREM', key, name)
      end
    end
  end
  return count
end

local function seconds_loading(queue)
  local since, name = string.match(redis.call('GET', 'muleteer:loading:' .. queue) or '', '^(%S+) (.+)$')
  if name and name ~= worker and is_alive(name) then
    return string.format('%.3f', math.max(0, now - tonumber(since)))
  end
  return ''
end

local function seconds_wanted(queue)
  local key = 'muleteer:wanted:' .. pool
  local since = tonumber(redis.call('HGET', key, queue) or '')
  if since and now - since > WISH_SECONDS then
    redis.call('HDEL', key, queue)
    since = nil
  end
  return since and math.max(0, now - since)
end

local out = {{}, {}}
for n = FIRST, FIRST + held - 1 do
  local key = 'muleteer:holders:' .. ARGV[n]
  redis.call('HDEL', 'muleteer:wanted:' .. pool, ARGV[n])
  redis.call('SADD', key, worker)
  redis.call('EXPIRE', key, lasts)
  out[1][#out[1] + 1] = waiting(ARGV[n]) > 0 and 1 or 0
end
for n = FIRST + held, FIRST + held + loads - 1 do
  local key = 'muleteer:loading:' .. ARGV[n]
  if string.match(redis.call('GET', key) or '', '^%S+ (.+)$') == worker then
    redis.call('EXPIRE', key, lasts)
  end
end
local ring = false
for n = FIRST + held + loads, #ARGV do
  local queue = ARGV[n]
  local jobs, oldest = waiting(queue)
  local wanted = seconds_wanted(queue)
  if jobs > 0 or wanted or n < FIRST + held + loads + sure then
    local rows = redis.call('HMGET', 'muleteer:ledger:' .. queue, 'rows', 'batch_rows')
    rows = math.max(jobs, tonumber(rows[1] or '0') + tonumber(rows[2] or '0'))
    local cost = redis.call('HMGET', 'muleteer:cost:' .. queue, 'bytes', 'load_seconds')
    local holders = count_holders(queue)
    ring = ring or jobs > 0 and holders > 0
    out[2][#out[2] + 1] = {queue, jobs, rows, string.format('%.3f', math.max(oldest, wanted or 0)), holders,
      seconds_loading(queue), cost[1] or '', cost[2] or ''}
  end
end
local bell = 'muleteer:bell:' .. pool
if woken and ring and redis.call('LLEN', bell) == 0 then
  redis.call('RPUSH', bell, '')
end
return out
