-- End the jobs of one claim: results, registries, times to live, and one grouped reply per gateway.
--
-- ARGV: queue, execution id, worker, time as RQ writes it, time the batch began and ended (Unix),
--       then FIELDS values a job:
--       id, "finished" or "failed", head (of the reply), payload (JSON), RQ's form of it (base64), or ''.
-- A job whose lease is no longer this execution's is left alone (fencing). A job that became kept while it ran, and
-- whose payload did not come in RQ's form, stays leased and is named in the answer: call again with that form.
-- Returns {finished, failed, stale, canceled, then ids to send again}.
local FIELDS = 5
local FIRST = 7
local queue, execution, worker, written_now = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local wip, ledger = 'rq:wip:' .. queue, 'muleteer:ledger:' .. queue
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1000000

local out = {0, 0, 0, 0}
local replies = {}

local function reply(reply_to, element)
  if string.find(reply_to, ',', 1, true) then
    for gateway in string.gmatch(reply_to, '[^,]+') do
      reply(gateway, element)
    end
  elseif reply_to ~= '' then
    local list = replies[reply_to]
    if not list then
      list = {}
      replies[reply_to] = list
    end
    list[#list + 1] = element
  end
end

local function store(key, id, status, head, payload, rq_form, ttl)
  local stream, registry = 'rq:results:' .. id, 'rq:' .. status .. ':' .. queue
  redis.call('HSET', key, 'status', status, 'ended_at', written_now, 'timing', head)
  if status == 'finished' then
    redis.call('HDEL', key, 'input', 'error')
    redis.call('XADD', stream, 'MAXLEN', '10', '*', 'type', '1', 'worker_name', worker, 'return_value', rq_form,
      'execution_id', execution, 'execution_started_at', ARGV[5], 'execution_ended_at', ARGV[6])
  else
    redis.call('HSET', key, 'error', payload, 'dead', '1')
    redis.call('XADD', stream, 'MAXLEN', '10', '*', 'type', '2', 'worker_name', worker, 'exc_string', rq_form,
      'execution_id', execution, 'execution_started_at', ARGV[5], 'execution_ended_at', ARGV[6])
  end
  redis.call('EXPIRE', stream, ttl)
  redis.call('EXPIRE', key, ttl)
  redis.call('ZADD', registry, now + ttl, id)
end

for at = FIRST, #ARGV, FIELDS do
  local id, status, head, payload, rq_form = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local key, member = 'rq:job:' .. id, id .. ':' .. execution
  local job = redis.call('HMGET', key, 'status', 'keep', 'reply_to', 'result_ttl', 'failure_ttl', 'callback',
    'client')
  if job[2] == '1' and rq_form == '' and job[1] == 'started' and redis.call('ZSCORE', wip, member) then
    out[#out + 1] = id
  elseif redis.call('ZREM', wip, member) == 0 then
    out[3] = out[3] + 1
  elseif job[1] ~= 'started' then
    out[4] = out[4] + 1
  else
    if job[2] == '1' then
      store(key, id, status, head, payload, rq_form, job[status == 'finished' and 4 or 5])
      if job[6] then
        redis.call('ZADD', 'muleteer:callbacks', now, id)
      end
    else
      redis.call('DEL', key)
    end
    if job[7] then
      redis.call('ZREM', 'muleteer:running:' .. job[7], id)
    end
    reply(job[3] or '', id .. ' ' .. status .. ' ' .. head .. '\n' .. payload)
    local n = status == 'finished' and 1 or 2
    out[n] = out[n] + 1
  end
end

for n, name in ipairs({'finished', 'failed'}) do
  if out[n] > 0 then
    redis.call('HINCRBY', ledger, name, out[n])
  end
end

for gateway, elements in pairs(replies) do
  local list = 'muleteer:replies:' .. gateway
  for first = 1, #elements, 1000 do
    redis.call('RPUSH', list, unpack(elements, first, math.min(first + 999, #elements)))
  end
  redis.call('EXPIRE', list, 60)
end

return out
